"""The tokenizer: its objective by hand, its codes and back, its prior against enumeration, its file."""

import itertools
import math

import pytest
import torch

import zoo
from zoo.config import Trust, from_config, to_config
from zoo.errors import ZooError
from zoo.models.tokenizer import CodeTransformer, GridDecoder, GridEncoder, Tokenizer
from zoo.models.tokenizer.metrics import CodeUse
from zoo.relaxations import BSQ, FSQ, LFQ, VQ, CodebookQuantizer, GumbelSoftmax, ReinMax, ResidualQuantizer
from zoo.training import AdamW

NETS = {"features": 8, "shape": [3, 8, 8], "channels": 4}
QUANTIZERS = {
    "codebook": lambda: CodebookQuantizer(width=4, codes=6),
    "residual": lambda: ResidualQuantizer(depth=2, width=4, codes=6),
    "fsq": lambda: FSQ(levels=[3, 2]),
    "lfq": lambda: LFQ(bits=3),
    "bsq": lambda: BSQ(bits=3),
}


def make(quantizer="codebook", relaxation=None, **arguments) -> Tokenizer:
    defaults = {
        "encoder": GridEncoder(**NETS),
        "decoder": GridDecoder(**NETS),
        "quantizer": QUANTIZERS[quantizer](),
        "relaxation": relaxation or VQ(),
        "optimizer": AdamW(),
        "shape": [3, 8, 8],
        "prior_width": 8,
        "prior_layers": 1,
    }
    return Tokenizer(**(defaults | arguments))


@pytest.fixture
def x():
    return torch.rand(5, 3, 8, 8)


def step(model: Tokenizer, x: torch.Tensor) -> dict[str, torch.Tensor]:
    values = model.training_step((x, None), 0)
    values["loss"].backward()
    model.on_after_backward()
    return values


@pytest.mark.parametrize("name", QUANTIZERS)
def test_the_loss_is_what_its_parts_say(x, name):
    model = make(name)
    points = model.points(x)
    codes = model.quantizer.encode(points)
    images = model.images(model.quantizer.decode(codes))
    distortion = (x - images).square().sum((1, 2, 3)) / (2 * 0.1**2)
    expected = distortion + model.quantizer.penalty(points) - model.prior.log_prob(codes.flatten(1))
    torch.testing.assert_close(model.training_step((x, None), 0)["loss"], expected.mean())


def test_the_prior_sends_nothing_back(x):
    """The gradients of the tokenizer are those that it has without a prior."""
    with_prior = make()
    without = make(prior_layers=0)
    without.load_state_dict({k: v for k, v in with_prior.state_dict().items() if not k.startswith("prior.")})
    step(with_prior, x)
    step(without, x)
    for name, parameter in without.named_parameters():
        other = dict(with_prior.named_parameters())[name]
        assert (parameter.grad is None) == (other.grad is None)
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, other.grad)
    assert all(p.grad is not None for p in with_prior.prior.parameters())


@pytest.mark.parametrize("relaxation", [VQ, GumbelSoftmax, ReinMax])
def test_all_that_is_to_be_learned_has_a_gradient(x, relaxation):
    model = make(relaxation=relaxation(), quantizer="codebook")
    step(model, x)
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


@pytest.mark.parametrize("name", QUANTIZERS)
def test_codes_and_back(x, name):
    model = make(name).eval()
    codes = model.encode(x)
    assert codes.shape == (5, 2, 2, model.quantizer.depth) and codes.dtype == torch.int64
    torch.testing.assert_close(model.decode(codes), model.reconstruct(x))
    assert model.bits == pytest.approx(4 * model.quantizer.depth * math.log2(model.quantizer.codes))
    for wrong in (codes.int(), codes[:, :1], codes + model.quantizer.codes):
        with pytest.raises(ValueError, match="codes must be"):
            model.decode(wrong)
    samples = model.sample(3, temperature=0.7)
    assert samples.shape == (3, 3, 8, 8) and samples.min() >= 0 and samples.max() <= 1


def test_what_the_test_reports(x):
    model = make("fsq").eval()
    values = model.test_step((x, None), 0)
    codes = model.encode(x)
    torch.testing.assert_close(values["mse"], (x - model.reconstruct(x)).square().mean())
    torch.testing.assert_close(values["rate"], -model.prior.log_prob(codes.flatten(1)).mean() / math.log(2))
    use = model.code_use.compute()
    assert use["utilisation"] == len(codes.unique()) / 6
    share = codes.flatten().bincount(minlength=6) / codes.numel()
    torch.testing.assert_close(use["perplexity"], torch.special.entr(share).sum().exp())


def test_code_use_of_several_codebooks_is_their_mean():
    use = CodeUse(2, 3)
    use.update(torch.tensor([[[0, 2], [1, 2]]]))
    use.update(torch.tensor([[[0, 2], [1, 2]]]))
    values = use.compute()
    assert values["utilisation"] == pytest.approx(0.5) and values["perplexity"] == pytest.approx(1.5)


def test_the_prior_is_a_probability_and_sees_only_what_comes_before():
    prior = CodeTransformer(places=3, codes=2, width=8, layers=2, heads=2)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    everything = torch.tensor(list(itertools.product(range(2), repeat=3)))
    log_p = prior.log_prob(everything).detach()
    assert log_p.exp().sum() == pytest.approx(1, abs=1e-5)
    logits = prior(everything)
    assert torch.allclose(logits[0, 0], logits[7, 0]) and torch.allclose(logits[2, 1], logits[3, 1])
    assert not torch.allclose(logits[0, 1], logits[7, 1])
    drawn = prior.sample(20_000)
    share = (drawn @ torch.tensor([4, 2, 1])).bincount(minlength=8) / len(drawn)
    error = (log_p.exp() * (1 - log_p.exp()) / len(drawn)).sqrt()
    assert ((share - log_p.exp()).abs() < 5 * error).all()
    cold = prior.sample(50, temperature=1e-4)
    assert len(cold.unique(dim=0)) == 1


def test_a_few_steps_learn(x):
    torch.manual_seed(1)
    model = make(noise=0.3)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    x = x[:, :, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        losses.append(step(model, x)["loss"].item())
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("name", QUANTIZERS)
def test_saved_and_loaded_and_exported(tmp_path, x, name):
    model = make(name)
    step(model, x)
    folder = zoo.save_pretrained(model, tmp_path / "tokenizer.test", data={"_target_": "zoo.data.CIFAR10"})
    again = zoo.from_pretrained(folder)
    assert to_config(again) == to_config(model) and not again.training
    assert torch.equal(again.encode(x), model.encode(x))
    torch.testing.assert_close(again(x), model.eval()(x))
    if name in ("codebook", "fsq"):
        program = torch.export.load(zoo.export(folder, tmp_path / "t.pt2")).module()
        torch.testing.assert_close(program(x), again(x))


def test_networks_that_do_not_fit(x):
    with pytest.raises(ValueError, match="the decoder makes an image of"):
        make(decoder=GridDecoder(**(NETS | {"halvings": 1})))
    with pytest.raises(ValueError, match="multiples of 4"):
        GridEncoder(shape=[3, 30, 30])
    with pytest.raises(ValueError, match="must give"):
        make(encoder=torch.nn.Flatten())
    with pytest.raises(ZooError, match=r"images of 3x8x8 \(channels, height, width\), and got 1x8x8"):
        make()(x[:, :1])
    with pytest.raises(ZooError, match="without a prior"):
        make(prior_layers=0).sample(1)
    with pytest.raises(ZooError, match="noise"):
        from_config(to_config(make()) | {"noise": 0.0}, trust=Trust())


def test_pictures_are_in_colour(x):
    figures = make().eval().pictures((x, None))
    assert set(figures) == {"reconstructions", "codes", "samples"}
    shown = figures["reconstructions"].axes[0].images[0].get_array()
    assert shown.shape[2] == 3
    assert torch.allclose(torch.from_numpy(shown[2:10, 2:10].copy()).permute(2, 0, 1).float(), x[0], atol=1e-6)
