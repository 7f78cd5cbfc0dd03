"""The world model: its parts against formulas one step at a time, and every relaxation in it."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

import tests.toys  # noqa: F401  (registers them)
import zoo
from zoo.data.environments.experience import Seen
from zoo.data.environments.replay import Sequences
from zoo.errors import ZooError
from zoo.models.actor_critic import Environments, spaces
from zoo.models.world_model import WorldModel
from zoo.models.world_model.nets import TwoHot, symexp, symlog
from zoo.relaxations import RELAXATIONS, Pathwise, STArgmax, StraightThrough
from zoo.training import AdamW

BATCH, LENGTH = 3, 5
PATHWISE = [name for name, kind in RELAXATIONS.items() if issubclass(kind, Pathwise)]


def make(*, observation=(4,), actions=(3,), relaxation=None, **arguments) -> WorldModel:
    sizes = {"latents": 2, "categories": 3, "memory": 6, "hidden": 8, "horizon": 4, "starts": 7, "bins": 11}
    model = WorldModel(
        observation=observation,
        actions=actions,
        relaxation=relaxation or StraightThrough(),
        optimizer=AdamW(),
        **sizes | arguments,
    ).train()
    torch.nn.init.normal_(model.actor[-1].weight)
    return model


def sequences(observation=(4,), actions=(3,)) -> Sequences:
    first = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    first[:, 0], first[1, 3] = True, True
    return Sequences(
        observation=torch.randn(BATCH, LENGTH, *observation),
        action=torch.stack([torch.randint(n, (BATCH, LENGTH)) for n in actions], -1),
        reward=torch.randn(BATCH, LENGTH),
        terminated=torch.rand(BATCH, LENGTH) < 0.2,
        first=first,
        mask=None,
    )


def test_numbers_of_any_size_go_there_and_back():
    x = torch.tensor([-3000.0, -1.0, 0.0, 0.3, 200.0])
    assert torch.allclose(symexp(symlog(x)), x, rtol=1e-4, atol=1e-6)
    bins = TwoHot(41)
    logits = torch.zeros(5, 41, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(500):
        optimizer.zero_grad()
        bins.loss(logits, x).sum().backward()
        optimizer.step()
    assert torch.allclose(bins.value(logits), x, rtol=0.02, atol=0.01)
    one = torch.full((1, 41), -50.0)
    one[0, 20] = 50.0
    assert bins.loss(one, torch.zeros(1)).item() == pytest.approx(0.0, abs=1e-5)  # zero is a bin


def test_returns_are_those_of_the_slow_formula():
    model = make(gamma=0.9, trace=0.8)
    rewards, going, values = torch.randn(4, 7), torch.rand(4, 7), torch.randn(5, 7)
    found, following = model.returns(rewards, going, values), values[4]
    for t in (3, 2, 1, 0):
        following = rewards[t] + 0.9 * going[t] * (0.2 * values[t + 1] + 0.8 * following)
        assert torch.allclose(found[t], following)


def test_an_episode_that_begins_forgets():
    model, batch = make(relaxation=STArgmax()), sequences()
    _, states = model.world_terms(batch)
    other = batch.observation.clone()
    other[:, 0] += 1.0
    _, changed = model.world_terms(Sequences(**{**vars(batch), "observation": other}))
    assert torch.equal(states[1, 3:], changed[1, 3:]) and not torch.equal(states[0, 3:], changed[0, 3:])


def test_acting_goes_through_the_states_that_were_learned():
    model, batch = make(relaxation=STArgmax()).eval(), sequences()
    model.train()
    memory, actions, states = torch.zeros(BATCH, model.memory_size), [], []
    for t in range(LENGTH):
        with torch.no_grad():
            action, law, memory = model.respond(batch.observation[:, t], None, memory, batch.first[:, t], mode=True)
        actions.append(action)
        states.append(memory[:, : 6 + 6])
        assert torch.equal(action, law.mode().argmax(-1))
    _, expected = model.world_terms(Sequences(**{**vars(batch), "action": torch.stack(actions, 1)}))
    assert torch.allclose(torch.stack(states, 1), expected, atol=1e-5)


def test_each_loss_trains_its_own_part():
    model, batch = make(), sequences()
    terms = model.terms(batch)
    (terms["actor_loss"].mean() + terms["critic_loss"].mean()).backward()
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"actor", "critic"}
    model.zero_grad()
    terms = model.terms(batch)
    sum(terms[name].mean() for name in ("observation_loss", "reward_loss", "end_loss", "kl_loss")).backward()
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"cell", "encoder", "posterior", "prior", "decoder", "reward", "going"}


@pytest.mark.parametrize("dynamics, representation", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_the_divergence_is_balanced_and_free_at_first(dynamics, representation):
    model = make(free_nats=0.0, dynamics=dynamics, representation=representation)
    model.world_terms(sequences())[0]["kl_loss"].sum().backward()
    moved = {name: getattr(model, name)[-1].weight.grad for name in ("prior", "posterior")}
    norms = {name: 0.0 if grad is None else grad.norm().item() for name, grad in moved.items()}
    assert (norms["prior"] > 0) == (dynamics > 0)
    # Of the last step alone: earlier latents reach the prior through the memory.
    model.zero_grad()
    free = make(free_nats=100.0)
    free.world_terms(sequences())[0]["kl_loss"].sum().backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in free.parameters())


@pytest.mark.parametrize("masks", [False, True])
def test_masks_are_kept_to_in_imagination(masks, caplog):
    model, batch = make(actions=(4, 3), masks=masks), sequences(actions=(4, 3))
    mask = torch.tensor([[0, 1, 1, 0], [1, 0, 1, 1]]).bool().expand(BATCH, LENGTH, 2, 4)
    batch = Sequences(**{**vars(batch), "mask": mask})
    model.spread.fill_(1.0)
    terms = model.terms(batch)
    assert ("model.masks=true" in caplog.text) != masks and ("mask_loss" in terms) == masks
    assert terms["entropy"][0].max() < math.log(4) + 1e-5 < 2 * math.log(4) - 1  # of two and two options at the start
    if masks:
        optimizer = torch.optim.Adam(model.allowing.parameters(), lr=0.05)
        for _ in range(100):
            optimizer.zero_grad()
            model.world_terms(batch)[0]["mask_loss"].mean().backward()
            optimizer.step()
    _, states = model.world_terms(batch)
    *_, actions, _, _, allowed = model.imagine(states[:, 0], mask[:, 0])
    expected = mask[0, 0] & model.mask
    assert (allowed[0] & model.mask).eq(expected).all() and not (actions[0] > expected).any()
    later = (allowed[1:] & model.mask).eq(expected).all()
    assert later == masks and (actions[1:] > expected).any() != masks
    law = model.policy(states[:, 0], mask[:, 0])
    assert (law.logits.softmax(-1) > 0).eq(expected).all()


def test_what_is_not_predicted_is_as_before():
    model, batch = make(actions=(3,)), sequences()
    assert model.expected_mask(torch.zeros(2, 12)) is None and model.imagine(torch.zeros(2, 12))[-1] is None
    assert not [name for name in model.state_dict() if name.startswith("allowing")]
    alone = make(actions=(3,), masks=True)  # at least one option, whatever is predicted
    torch.nn.init.constant_(alone.allowing[-1].bias, -9.0)
    assert alone.expected_mask(torch.randn(50, 12)).any(-1).all()
    assert alone.world_terms(batch)[0]["mask_loss"].shape == (BATCH, LENGTH)


def test_no_latent_is_impossible():
    model = make(unimix=0.3)
    law = model.latent(torch.tensor([[50.0, 0, 0, 0, 50.0, 0]]))
    assert torch.allclose(law.logits.softmax(-1)[0, 0], torch.tensor([0.8, 0.1, 0.1]), atol=1e-4)


@pytest.mark.parametrize("name", PATHWISE)
def test_every_pathwise_relaxation_trains_it(name):
    model = make(relaxation=RELAXATIONS[name](), actions=(2, 3))
    loss = model.terms(sequences(actions=(2, 3)))["loss"]
    loss.backward()
    assert torch.isfinite(loss) and model.encoder[0].weight.grad.norm() > 0


def test_others_are_refused_by_name():
    for name in set(RELAXATIONS) - set(PATHWISE):
        with pytest.raises(ValueError, match=f"{RELAXATIONS[name].__name__} cannot be used here"):
            make(relaxation=RELAXATIONS[name]())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"observation": (2, 4)}, "leave data.history=1"),
        ({"bins": 4}, "odd number of bins"),
        ({"gamma": 1.0}, "gamma in"),
        ({"actor_lr": 0.0}, "actor_lr"),
        ({"free_nats": -1.0}, "free_nats"),
    ],
)
def test_numbers_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize("env", ["Toy/Rooms-v0", "Toy/Nested-v0", "Toy/Picture-v0"])
def test_it_plays_wherever_its_vectors_fit(env, monkeypatch):
    found = spaces(env)
    model = make(observation=found.observation, actions=found.actions).eval()
    monkeypatch.setattr(WorldModel, "trainer", SimpleNamespace(datamodule=Environments(env=env)))
    model.setup("validate")
    assert model.evaluate(episodes=1, env=env)["length"] == 7
    with pytest.raises(ZooError, match="the model is for"):
        model.evaluate(episodes=1, env="CartPole-v1")


def test_it_is_saved_evaluated_and_remembers(tmp_path):
    model = make(actions=(2,)).eval()
    model.trained_on = {"env": "CartPole-v1"}
    again = zoo.from_pretrained(zoo.save_pretrained(model, tmp_path / "world_model.test"))
    scores = again.evaluate(episodes=3)
    assert scores == model.evaluate(episodes=3) and 5 < scores["length"] == scores["return"]
    action, state = again.predict([0.0, 0.1, 0.0, 0.1])
    later, state = again.predict([0.0, 0.1, 0.0, 0.1], state)
    assert action in (0, 1) and later in (0, 1) and state[1].shape == (1, model.memory_size)
    actions, state = again.predict(torch.zeros(3, 4), None)
    assert actions.shape == (3,)
    player = again.player(mode=True)
    seen = Seen(torch.randn(2, 4), None, torch.tensor([True, True]), [0, 5])
    player(seen)
    player(Seen(torch.randn(1, 4), None, torch.tensor([False]), [5]))
    assert player.memory.shape[0] == 6 and player.probabilities.shape == (1, 1, 2)
    masked = again.predict(torch.zeros(3, 4), action_masks=F.one_hot(torch.tensor([0, 1, 0]), 2))[0]
    assert masked.tolist() == [0, 1, 0]
