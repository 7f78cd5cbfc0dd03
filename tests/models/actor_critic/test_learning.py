"""What can be switched on in the actor-critic's learning, against formulas one step at a time."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tests.models.actor_critic.test_model import HEADS, gradient, make, transitions
from zoo.data.environments.replay import Path, Transitions
from zoo.models.actor_critic import ActorCritic, RunningNorm
from zoo.relaxations import Exact, Softmax
from zoo.training import AdamW

GAMMA, STEPS = 0.9, 4


def path() -> Transitions:
    """Three transitions of 1, 3 and 4 steps; the second ends in a termination."""
    counts = torch.tensor([1, 3, 4])
    inside = torch.arange(STEPS) < counts.unsqueeze(1)
    observation = torch.randn(3, STEPS, 4)
    for i, m in enumerate(counts.tolist()):
        observation[i, m - 1 :] = observation[i, m - 1]
    reward = torch.randn(3, STEPS)
    return Transitions(
        observation=torch.randn(3, 4),
        action=torch.randint(3, (3, 1)),
        reward=(reward * inside * GAMMA ** torch.arange(STEPS)).sum(1),
        discount=GAMMA**counts * torch.tensor([1.0, 0.0, 1.0]),
        following=observation[:, -1],
        path=Path(
            reward=reward,
            inside=inside,
            observation=observation,
            action=torch.randint(3, (3, STEPS, 1)),
            log_prob=torch.randn(3, STEPS) - 1,
            mask=None,
            gamma=GAMMA,
        ),
    )


@pytest.mark.parametrize("correction", [False, True])
@pytest.mark.parametrize("weight", [None, 0.0])
@HEADS
def test_returns_know_what_lies_between(head, correction, weight):
    """Soft Retrace (Munos et al. 2016, eq. 3 and 4) and n-step returns with entropies, one step at a time."""
    switches = {"path_entropy": not correction, "correction": correction, "critic_entropy_weight": weight}
    model = make(critic={"head": head}, entropy_weight=0.3, **switches)
    batch, alpha = path(), 0.3 if weight is None else weight
    between = batch.path
    for i in range(3):
        m = int(between.inside[i].sum())
        target = model.soft_value(between.observation[i, m - 1 : m])[0] * (batch.discount[i] > 0)
        for j in reversed(range(m - 1)):
            x, a = between.observation[i, j : j + 1], between.action[i, j : j + 1]
            p = model.policy(x).softmax(-1)[0, 0]
            ahead = between.reward[i, j + 1] + GAMMA * target
            if correction:
                q = model.target_critic(x, F.one_hot(a, 3).float().unsqueeze(1)).min()
                c = min(1.0, (p[a.item()].log() - between.log_prob[i, j]).exp().item())
                target = model.soft_value(x)[0] + c * (ahead - q)
            else:
                target = ahead - alpha * (p * p.log()).sum()
        expected = between.reward[i, 0] + GAMMA * target
        assert model.targets(batch)[i].item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("correction", [False, True])
@pytest.mark.parametrize("actions", [(3,), (2, 3), (5, 5, 5, 5)])
def test_what_a_linear_critic_made_once_is_as_good_as_asking_again(actions, correction, monkeypatch):
    """Of one choice, of several that can be enumerated, and of too many, where actions are drawn."""
    model = make(
        actions=actions,
        critic={"head": "linear"},
        entropy_weight=0.3,
        path_entropy=not correction,
        correction=correction,
    )
    batch = path()
    drawn = torch.stack([torch.randint(n, (3, STEPS)) for n in actions], 2)
    batch = replace(batch, path=replace(batch.path, action=drawn))

    def targets() -> torch.Tensor:
        torch.manual_seed(0)
        return model.targets(batch)

    once = targets()
    monkeypatch.setattr(type(model), "_table", lambda *args: None)
    assert torch.allclose(once, targets(), atol=1e-5)


def test_with_nothing_between_all_returns_are_the_same():
    batch = path()
    short = Path(**{**vars(batch.path), "inside": torch.arange(STEPS).expand(3, -1) < 1, "gamma": GAMMA})
    observation = short.observation[:, :1].expand(-1, STEPS, -1)
    short = Path(**{**vars(short), "observation": observation})
    one = Transitions(
        **{
            **{name: value for name, value in vars(batch).items() if name != "path"},
            "reward": short.reward[:, 0],
            "discount": GAMMA * (batch.discount > 0),
            "following": observation[:, 0],
        },
        path=short,
    )
    model = make(entropy_weight=0.3)
    plain = model.targets(one)
    for switch in ("path_entropy", "correction"):
        setattr(model, switch, True)
        assert torch.allclose(model.targets(one), plain, atol=1e-5)


def test_the_critics_may_have_an_entropy_weight_of_their_own():
    batch = transitions()
    model = make(entropy_weight=0.3, critic_entropy_weight=0.0)
    p = model.policy(batch.following).softmax(-1)[:, 0]
    q = model.target_critic(batch.following, model.every_action).amin(0)
    assert torch.allclose(model.targets(batch), batch.reward + batch.discount * (p * q).sum(1), atol=1e-5)
    assert model.actor_terms(batch.observation)["actor_loss"].std() > 0  # whose weight is still 0.3
    assert model.log_alpha.exp().item() == pytest.approx(0.3)


@HEADS
def test_twins_may_be_averaged_and_clipped(head):
    batch = transitions()
    model = make(critic={"head": head}, twins="mean", value_clip=0.01)
    x = torch.randn(6, 4)
    action = F.one_hot(batch.action, 3).float()
    q = model.critic(x, action.unsqueeze(1)).squeeze(2)
    assert torch.allclose(model.value(x, action), q.mean(0))
    target = torch.randn(6)
    old = model.target_critic(x, action.unsqueeze(1)).squeeze(2)
    clipped = old + (q - old).clamp(-0.01, 0.01)
    expected = torch.maximum((q - target) ** 2, (clipped - target) ** 2).sum(0)
    assert torch.allclose(model.critic_terms(x, batch.action, target)["critic_loss"], expected)
    assert not torch.allclose(expected, ((q - target) ** 2).sum(0))


def test_a_linear_critic_is_asked_once_for_both():
    model = make(critic={"head": "linear"}, relaxation=Exact(), observation=(4,))
    batch = transitions()
    target = model.targets(batch)
    together = model.terms(batch, target)
    observation = model.observe(batch.observation)
    apart = model.critic_terms(observation, batch.action, target) | model.actor_terms(observation)
    for name, value in apart.items():
        assert torch.allclose(together[name], value, atol=1e-6), name
    model.zero_grad()
    together["actor_loss"].mean().backward()
    assert all(parameter.grad is None for parameter in model.critic.parameters())


def test_each_part_has_its_own_learning_rate_and_alpha_no_decay(monkeypatch):
    monkeypatch.setattr(ActorCritic, "total_steps", 100.0)
    model = make(target_entropy=0.5, critic_lr=1e-4, entropy_lr=2e-3)
    model.optimizer = AdamW(lr=1e-3, weight_decay=0.1)
    groups = model.configure_optimizers()["optimizer"].param_groups
    by = {id(p): (g["initial_lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert {by[id(p)] for p in model.policy.parameters()} == {(1e-3, 0.1)}
    assert {by[id(p)] for p in model.critic.parameters()} == {(1e-4, 0.1)} and by[id(model.log_alpha)] == (2e-3, 0.0)
    assert len(by) == sum(p.requires_grad for p in model.parameters())
    plain = make()
    optimizer = plain.configure_optimizers()["optimizer"]
    expected = [p for p in plain.parameters() if p.requires_grad]  # as earlier versions had them, which runs resume
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in expected]


def test_critics_may_be_clipped_by_themselves():
    model, batch = make(critic_max_grad_norm=0.01, max_grad_norm=1e9), transitions()
    model.terms(batch, 1000 * model.targets(batch))["loss"].backward()
    before = torch.cat([p.grad.flatten() for p in model.policy.parameters()])
    model._clip(None)
    norm = torch.cat([p.grad.flatten() for p in model.critic.parameters()]).norm()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)
    assert torch.equal(before, torch.cat([p.grad.flatten() for p in model.policy.parameters()]))


# Masks, histories, parts ----------------------------------------------------------------------------------------------


def test_what_is_not_allowed_is_neither_chosen_nor_counted():
    model = make(relaxation=Softmax(), entropy_weight=0.3)
    batch = transitions()
    mask = torch.ones(6, 1, 3, dtype=torch.bool)
    mask[:, 0, 1] = False
    with torch.no_grad():
        model.policy.layers[-2].bias[1] += 20  # what the policy would choose
    for mode in (True, False):
        assert (model.act(batch.observation, mask, mode=mode) != 1).all()
    p = model.policy(batch.following)[:, 0, [0, 2]].softmax(-1)
    q = model.target_critic(batch.following, model.every_action).amin(0)[:, [0, 2]]
    assert torch.allclose(model.soft_value(batch.following, mask), (p * (q - 0.3 * p.log())).sum(1), atol=1e-4)
    terms = model.actor_terms(batch.observation, mask)
    p = model.policy(batch.observation)[:, 0, [0, 2]].softmax(-1)
    assert torch.allclose(terms["entropy"], -(p * p.log()).sum(1), atol=1e-5)
    assert math.isfinite(gradient(model, terms["actor_loss"].sum()).norm())
    assert model.diagnose(batch.observation, mask)["gradient_cosine"].isfinite()


def test_the_target_of_the_entropy_is_a_share_of_what_the_masks_leave():
    model = make(actions=(10, 3), target_entropy=0.5, entropy_weight=0.1)
    batch = transitions(actions=(10, 3))
    mask = model.mask.expand(6, 2, 10).clone()
    mask[:, 0, 2:] = False  # two of ten, and one of three in half of the batch
    mask[:3, 1, 1:] = False
    assert model.largest_entropy(None) == pytest.approx(math.log(30))
    expected = math.log(2) + math.log(3) / 2
    assert model.largest_entropy(mask).item() == pytest.approx(expected, rel=1e-5)
    batch = Transitions(**{**vars(batch), "mask": mask})
    terms = model.terms(batch, torch.zeros(6))
    terms["loss"].backward()
    excess = terms["entropy"].mean().item() - expected / 2
    assert model.log_alpha.grad.item() == pytest.approx(0.1 * excess, rel=1e-4)


@pytest.mark.parametrize("observation, memory", [((5, 4), 0), ((5, 4), 7), ((3, 10, 10, 2), 0), ((2, 40, 36, 1), 6)])
def test_histories_are_seen_whole(observation, memory):
    parts = {"memory": memory, "convolution": "atari" if observation[-2] == 36 else None}
    model = make(observation=observation, critic=parts, policy=parts, normalize=True)
    x = torch.randn(6, *observation).requires_grad_()
    (model.policy(x).sum() + model.critic(x, model.every_action).sum()).backward()
    assert (x.grad.flatten(2).abs().sum(-1) > 0).all()  # every frame of every history matters
    assert model.normalizer.mean.shape == observation[1:] and model.history == observation[0]
    model.terms(transitions(observation), torch.zeros(6))["loss"].backward()


def test_a_vector_with_a_picture_in_it_is_seen_in_parts():
    parts = {"parts": [(3,), (6, 5, 3), (2,)]}
    model = make(observation=(95,), policy=parts, critic=parts)
    assert model.spaces.parts == ((3,), (6, 5, 3), (2,)) and model(torch.randn(2, 95)).shape == (2, 1, 3)
    with pytest.raises(ValueError, match="are not those of observations"):
        make(observation=(95,), policy={"parts": [(3,)]})
    with pytest.raises(ValueError, match="only with a history"):
        make(observation=(95,), policy={"memory": 3})


# The normaliser -------------------------------------------------------------------------------------------------------


def test_what_was_constant_until_now_does_not_jump():
    norm = RunningNorm([2])
    for _ in range(100):
        norm.update(torch.stack([torch.zeros(40), torch.randn(40)], 1))
    assert norm(torch.tensor([[1.0, 0.0]]))[0, 0] == 1  # in an evaluation: nothing is known of its scale
    batch = torch.stack([torch.zeros(40), torch.randn(40)], 1)
    batch[0, 0] = 1.0
    norm.update(batch)
    assert norm(batch)[0, 0].item() == pytest.approx(5.0, rel=0.01)
    assert norm(batch)[:, 1].std().item() == pytest.approx(batch[:, 1].std().item(), rel=0.2)


def test_statistics_of_an_earlier_version_load():
    norm = RunningNorm([3])
    norm.update(torch.randn(50, 3))
    state = {name: value for name, value in norm.state_dict().items() if name != "largest"}
    again = RunningNorm([3])
    again.load_state_dict(state)
    x = torch.randn(10, 3)
    assert torch.allclose(again(x), (x - norm.mean) * (norm.variance + 1e-8).rsqrt())
