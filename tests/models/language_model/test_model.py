"""The language model: its networks against PyTorch's, its gates, its steps, and what it is compared with."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import zoo
from zoo.config import to_config
from zoo.errors import ZooError
from zoo.models.language_model import LanguageModel, Recurrent, Transformer, baselines
from zoo.models.language_model.model import Watch
from zoo.relaxations import RLOO, Bernoulli, STGumbelSoftmax, StraightThrough
from zoo.relaxations.noise import Noise
from zoo.relaxations.search import beam_search, stochastic_beam_search
from zoo.training import AdamW

SIZE = 7
TRANSFORMER = {"vocabulary": SIZE, "width": 8, "layers": 2, "heads": 2, "feedforward": 16, "context": 6}


def make(network="recurrent", **options) -> LanguageModel:
    nets = {
        "recurrent": lambda: Recurrent(vocabulary=SIZE, embedding=3, width=5, layers=2),
        "transformer": lambda: Transformer(**TRANSFORMER),
        "experts": lambda: Transformer(**TRANSFORMER, experts=4),
        "two experts": lambda: Transformer(**TRANSFORMER, experts=4, k=2),
    }
    given = {"relaxation": StraightThrough()} | options
    return LanguageModel(network=nets[network](), optimizer=AdamW(), vocabulary=SIZE, **given)


def test_gates_of_ones_own_that_are_sigmoids_make_it_pytorchs_lstm():
    network = make().network
    tokens = torch.randint(SIZE, (3, 9))
    state = tuple(torch.randn(3, 2, 5) for _ in range(2))
    torch.testing.assert_close(network(tokens, state, lambda law: law.logits.sigmoid()), network(tokens, state))


@pytest.mark.parametrize("gates", ["sigmoid", "hard"])
@pytest.mark.parametrize("network", ["recurrent", "transformer", "experts", "two experts"])
def test_one_step_after_another_is_the_whole(network, gates):
    if network != "recurrent" and gates == "hard":
        with pytest.raises(ValueError, match="Transformer has no gates"):
            make(network, gates=gates)
        return
    model = make(network, gates=gates).eval()
    tokens = torch.randint(SIZE, (3, 6))
    whole = model(tokens)
    state = model.network.begin(tokens)
    for i, token in enumerate(tokens.unbind(1)):
        logits, state = model.step(token, state)
        torch.testing.assert_close(logits.log_softmax(-1), whole[:, i])
    last, before = model.begin(tokens)
    torch.testing.assert_close(model.step(last, before)[0], logits)


def test_nothing_sees_what_comes_later():
    for network in ("recurrent", "transformer", "two experts"):
        model = make(network).eval()
        tokens = torch.randint(SIZE, (2, 6))
        other = tokens.clone()
        other[:, 3:] = (other[:, 3:] + 1) % SIZE
        torch.testing.assert_close(model(tokens)[:, :3], model(other)[:, :3])
        assert not torch.allclose(model(tokens)[:, 3:], model(other)[:, 3:])


@pytest.mark.parametrize("network", ["transformer", "experts"])
def test_a_transformer_attends_to_its_context_alone(network):
    """Each block passes on what is at most that far back: distances beyond it were never trained."""
    model = make(network).eval()
    tokens = torch.randint(SIZE, (2, 30))
    other = tokens.clone()
    other[:, 0] = (other[:, 0] + 1) % SIZE
    reach = 1 + TRANSFORMER["layers"] * (TRANSFORMER["context"] - 1)
    torch.testing.assert_close(model(tokens)[:, reach:], model(other)[:, reach:])
    assert not torch.allclose(model(tokens)[:, reach - 1], model(other)[:, reach - 1])


def test_a_context_beyond_what_is_trained_is_refused():
    model = make("transformer")
    model._trainer = SimpleNamespace(datamodule=SimpleNamespace(length=5))
    with pytest.raises(ZooError, match=r"context=6 is more than data\.length=5"):
        model.setup("fit")
    model._trainer = SimpleNamespace(datamodule=SimpleNamespace(length=6))
    model.setup("fit")
    model._trainer = SimpleNamespace(datamodule=SimpleNamespace(length=5))
    model.setup("test")


def test_only_what_counts_counts():
    model = make().eval()
    tokens = torch.randint(SIZE, (2, 7))
    scored = torch.tensor([[0, 0, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0]], dtype=torch.bool)
    loss, _ = model.expected(tokens, scored)
    log_p = model(tokens[:, :-1]).gather(-1, tokens[:, 1:, None])[..., 0]
    torch.testing.assert_close(loss, torch.stack([-log_p[0, 2:5].mean(), -log_p[1, 0]]))


def test_hard_gates_are_open_or_closed_and_learn_by_the_layer():
    tokens, scored = torch.randint(SIZE, (4, 7)), torch.ones(4, 6, dtype=torch.bool)
    for relaxation in (StraightThrough(), STGumbelSoftmax(), RLOO(samples=3)):
        model = make(gates="hard", relaxation=relaxation)
        loss, values = model.expected(tokens, scored)
        closed = values["closed"]
        loss.mean().backward()
        assert loss.shape == (4,) and ((closed > 0.05) & (closed < 0.95)).all()
        assert all(parameter.grad.abs().sum() > 0 for parameter in model.network.parameters())
    model.eval()
    assert set(model.choose(Bernoulli(torch.randn(1, 50))).unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(*(model.expected(tokens, scored)[0] for _ in range(2)))  # no noise any more


@pytest.mark.parametrize("network", ["experts", "two experts"])
def test_each_token_is_seen_by_its_experts_alone(network):
    """In the dense sum of training, and by the experts that were chosen, one after another."""
    model, k = make(network), 2 if network == "two experts" else 1
    block, x, seen = model.network.blocks[0], torch.randn(3, 5, 8), []
    choose = Watch(lambda law: seen.append(law.mode()) or seen[-1])
    dense = block(x, choose)
    assert seen[0].shape == (3, 5, 4) and (seen[0].sum(-1) == k).all()
    sparse = block.eval()(x, choose)
    torch.testing.assert_close(sparse, dense)
    spoilt = seen[0][1, 2].argmin()
    with torch.no_grad():
        block.experts.shrink_bias[spoilt] += 1.0
    changed = (block(x, choose) - dense).abs().sum(-1) > 1e-6
    assert torch.equal(changed, seen[0][..., spoilt] == 1) and not changed[1, 2]


@pytest.mark.parametrize("network", ["experts", "two experts"])
def test_experts_learn_by_the_layer_and_are_counted(network):
    tokens, scored = torch.randint(SIZE, (4, 7)), torch.ones(4, 6, dtype=torch.bool)
    for relaxation in (StraightThrough(), STGumbelSoftmax(), RLOO(samples=3)):
        model = make(network, relaxation=relaxation, balance=0.1)
        loss, values = model.expected(tokens, scored)
        loss.mean().backward()
        assert (loss >= values["nats"]).all() and values["balance"].mean() > 0.5
        assert all(parameter.grad.abs().sum() > 0 for parameter in model.network.parameters())
    model = make(network, capacity=0.5).eval()
    model.expected(tokens, scored)
    room = math.ceil(0.5 * model.network.k * 24 / 4)
    assert (model.use.used <= room).all() and model.use.dropped[1] == 2 * 24 * model.network.k
    assert model.use.dropped[0] == model.use.dropped[1] - model.use.used.sum() > 0
    scores = model.use.report(SimpleNamespace(reduce=lambda value, reduce_op: value))
    assert 0 <= scores["least_used"] <= 0.25 <= scores["most_used"] <= 1 and 0.4 < scores["dropped"] < 1
    assert (model.use.used == 0).all()
    assert model.network.multiplications[0] < model.network.multiplications[1]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["two experts", "recurrent"])
def test_choices_are_exported(network, tmp_path):
    model = make(network, gates="hard" if network == "recurrent" else "sigmoid").eval()
    path, tokens = zoo.export(model, tmp_path / "model.pt2"), torch.randint(SIZE, (3, 8))
    torch.testing.assert_close(torch.export.load(path).module()(tokens), model(tokens))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"network": "transformer", "capacity": 1.0}, "Transformer has no experts"),
        ({"network": "experts", "capacity": 0.0}, "capacity > 0"),
        ({"network": "experts", "balance": -1.0}, "balance"),
    ],
)
def test_mistakes_with_experts(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
    with pytest.raises(ValueError, match="k=5 of 4 experts"):
        Transformer(**TRANSFORMER, experts=4, k=5)


def test_the_gradient_of_hard_gates_is_that_of_their_expectation():
    """Score function against enumeration, for one gate of a tiny network."""
    torch.manual_seed(1)
    model = LanguageModel(
        network=Recurrent(vocabulary=3, embedding=2, width=1),
        relaxation=RLOO(samples=2),
        optimizer=AdamW(),
        vocabulary=3,
        gates="hard",
    ).double()
    tokens, scored = torch.tensor([[0, 1, 2]]), torch.ones(1, 2, dtype=torch.bool)

    def enumerated():
        total = 0
        for choice in itertools.product(*[list(itertools.product((0.0, 1.0), repeat=3))] * 2):
            log_p, at = [], iter(choice)

            def gate(law, log_p=log_p, at=at):
                value = torch.tensor([next(at)], dtype=law.logits.dtype)
                log_p.append(law.log_prob(value).sum())
                return value

            logits, _ = model.network(tokens[:, :-1], model.network.begin(tokens), gate)
            total = total + torch.stack(log_p).sum().exp() * model.nats(logits, tokens[:, 1:], scored)[0]
        return total

    weight = model.network.lstm.bias_ih_l0
    exact = torch.autograd.grad(enumerated(), weight)[0]
    runs = 4000
    many, scores = tokens.expand(runs, -1), scored.expand(runs, -1)
    estimates = [torch.autograd.grad(model.expected(many, scores)[0].mean(), weight)[0] for _ in range(12)]
    estimates = torch.stack(estimates)
    error = estimates.std(0) / len(estimates) ** 0.5
    assert ((estimates.mean(0) - exact).abs() <= 5 * error + 1e-9).all()
    assert exact.abs().max() > 10 * error.max()


def test_noise_in_the_loss_is_in_training_alone():
    tokens, scored = torch.randint(SIZE, (64, 7)), torch.ones(64, 6, dtype=torch.bool)
    model = make(noise_in_loss=3.0)
    clean = make()
    clean.load_state_dict(model.state_dict())
    assert model.expected(tokens, scored)[0].mean() > clean.expected(tokens, scored)[0].mean() + 0.5
    torch.testing.assert_close(model.eval().expected(tokens, scored)[0], clean.eval().expected(tokens, scored)[0])


@pytest.mark.parametrize("network", ["recurrent", "transformer"])
def test_search_finds_what_enumeration_finds(network):
    """All sequences of length 5 over a vocabulary of three."""
    torch.manual_seed(3)
    model = make(network, gates="sigmoid").eval()
    table = model.network.head.bias.data
    table[3:] = -math.inf  # three tokens are left
    everything = torch.tensor(list(itertools.product(range(3), repeat=5)))
    prompt = torch.tensor([[0]])
    tokens = torch.cat([prompt.expand(len(everything), -1), everything], 1)
    log_p = model(tokens[:, :-1]).gather(-1, tokens[:, 1:, None])[..., 0].sum(-1).double()
    found = beam_search(model.step, *model.begin(prompt), k=243, steps=5)
    order = log_p.argsort(descending=True)
    torch.testing.assert_close(found.log_prob[0], log_p[order], atol=1e-5, rtol=1e-5)
    place = (found.tokens[0] * 3 ** torch.arange(4, -1, -1)).sum(-1)
    torch.testing.assert_close(log_p[place], found.log_prob[0], atol=1e-5, rtol=1e-5)
    value = torch.randn(243, generator=torch.Generator().manual_seed(0)).double()
    start, state = model.begin(prompt.expand(3000, -1))
    noise = Noise(torch.Generator().manual_seed(0))
    drawn = stochastic_beam_search(model.step, start, state, k=8, steps=5, noise=noise)
    estimate = drawn.estimate(value[(drawn.tokens * 3 ** torch.arange(4, -1, -1)).sum(-1)])
    deviation = (estimate.mean() - (log_p.exp() * value).sum()) / (estimate.std() / 3000**0.5)
    assert deviation.abs() < 4.5


def test_the_vocabulary_goes_with_the_weights(tmp_path):
    model = make()
    model.about["entries"], model.about["unit"] = list("abc\n:"), "word"
    loaded = zoo.from_pretrained(zoo.save_pretrained(model, tmp_path / "language_model.test"))
    assert loaded.about.known == model.about.known and to_config(loaded) == to_config(model)


def test_what_it_is_compared_with():
    """Witten-Bell by hand, and a compressor that has seen the text before."""
    train, test = np.array([0, 1, 0, 1, 0, 2]), np.array([0, 1, 2])
    # after 0: 1 twice and 2 once, so two kinds; the lower order: 0 three times, 1 twice, 2 once, of the last five
    p0 = {0: (2 + 3 / 3) / 8, 1: (2 + 3 / 3) / 8, 2: (1 + 3 / 3) / 8}
    after_0, after_1 = {1: (2 + 2 * p0[1]) / 5, 2: (1 + 2 * p0[2]) / 5}, {2: (0 + 1 * p0[2]) / 3}
    expected = -(math.log(after_0[1]) + math.log(after_1[2])) / 2
    assert baselines.ngram(train, test, 3, order=2) == pytest.approx(expected)
    g = np.random.default_rng(0)
    text = "".join(g.choice(list("abcdefgh"), 5000))
    assert baselines.compressor([text], [text]) < 0.05 * 5000 < 0.8 * baselines.compressor(["x"], [text])


@pytest.mark.parametrize(
    "network, options, message",
    [
        ("recurrent", {"noise_in_loss": -1.0}, "noise_in_loss >= 0"),
        ("recurrent", {"gates": "soft"}, None),
    ],
)
def test_mistakes(network, options, message):
    if message is None:
        with pytest.raises(ZooError, match="gates"):
            zoo.config.from_config({**to_config(make(network)), **options})
        return
    with pytest.raises(ValueError, match=message):
        make(network, **options)
    for wrong in ({"width": 0}, {"dropout": 1.0}):
        with pytest.raises(ValueError):
            Recurrent(vocabulary=4, **wrong)
    with pytest.raises(ValueError, match="heads"):
        Transformer(vocabulary=4, width=10, heads=3)


def test_the_loss_is_a_cross_entropy():
    model = make()
    logits, targets = torch.randn(2, 5, SIZE), torch.randint(SIZE, (2, 5))
    value = model.nats(logits, targets, torch.ones(2, 5, dtype=torch.bool))
    torch.testing.assert_close(value.mean(), F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
