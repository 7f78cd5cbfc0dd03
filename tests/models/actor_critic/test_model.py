"""The actor-critic: its objective against formulas, and every relaxation in it."""

import pytest
import torch
from torch.nn import functional as F

import tests.toys  # noqa: F401  (registers them)
import zoo
from zoo.data.environments.experience import Seen
from zoo.data.environments.replay import Transitions
from zoo.data.environments.trial import Trial
from zoo.models.actor_critic import ActorCritic, Critic, Policy
from zoo.relaxations import RELAXATIONS, Exact, Softmax, STGumbelSoftmax
from zoo.training import AdamW

BATCH = 6


HEADS = pytest.mark.parametrize("head", ["linear", "concatenated"])


def make(*, observation=(4,), actions=(3,), relaxation=None, critic=None, policy=None, **arguments) -> ActorCritic:
    spaces = {"observation": list(observation), "actions": list(actions), "hidden": [16, 16]}
    model = ActorCritic(
        policy=Policy(**spaces, **(policy or {})),
        critic=Critic(**spaces, **(critic or {})),
        relaxation=relaxation or STGumbelSoftmax(),
        optimizer=AdamW(),
        **arguments,
    )
    torch.nn.init.normal_(model.policy.layers[-2].weight)  # far from uniform
    for parameter in model.target_critic.parameters():
        parameter.data.mul_(1.1)
    return model.train()


def transitions(observation=(4,), actions=(3,)) -> Transitions:
    return Transitions(
        observation=torch.randn(BATCH, *observation),
        action=torch.stack([torch.randint(n, (BATCH,)) for n in actions], 1),
        reward=torch.randn(BATCH),
        discount=torch.tensor([0.9, 0.0, 0.9, 0.0, 0.9, 0.9]),
        following=torch.randn(BATCH, *observation),
    )


def gradient(model: ActorCritic, loss: torch.Tensor) -> torch.Tensor:
    grads = torch.autograd.grad(loss, list(model.policy.parameters()))
    return torch.cat([grad.flatten() for grad in grads])


# The objective --------------------------------------------------------------------------------------------------------


@HEADS
def test_exact_is_discrete_soft_actor_critic(head):
    """Christodoulou 2019, eq. 12, and its gradient; arXiv 1910.07207."""
    model = make(critic={"head": head}, relaxation=Exact(), entropy_weight=0.3)
    observation = torch.randn(BATCH, 4)
    p = model.policy(observation).softmax(-1)[:, 0]
    q = torch.stack(
        [
            model.critic(observation, F.one_hot(torch.full((BATCH, 1, 1), a), 3).float())[:, :, 0].amin(0)
            for a in range(3)
        ],
        1,
    ).detach()
    expected = (p * (0.3 * p.log() - q)).sum(1)
    loss = model.actor_terms(observation)["actor_loss"]
    assert torch.allclose(loss, expected, atol=1e-5)
    assert torch.allclose(gradient(model, loss.mean()), gradient(model, expected.mean()), atol=1e-6)


@HEADS
def test_targets_are_soft_values_and_stop_at_terminations(head):
    """Christodoulou 2019, eq. 10, with the discount of each transition."""
    model, batch = make(critic={"head": head}, entropy_weight=0.3), transitions()
    with torch.no_grad():
        p = model.policy(batch.following).softmax(-1)[:, 0]
        every = torch.eye(3).view(1, 3, 1, 3)
        q = model.target_critic(batch.following, every).amin(0)
        target = batch.reward + batch.discount * (p * (q - 0.3 * p.log())).sum(1)
    chosen = model.critic(batch.observation, F.one_hot(batch.action, 3).float().unsqueeze(1)).squeeze(2)
    assert torch.allclose(model.targets(batch), target, atol=1e-5)
    terms = model.critic_terms(batch.observation, batch.action, target)
    assert torch.allclose(terms["critic_loss"], ((chosen - target) ** 2).sum(0), atol=1e-5)
    assert torch.equal(target[batch.discount == 0], batch.reward[batch.discount == 0])


@HEADS
def test_the_actor_does_not_train_the_critic_nor_the_critic_the_actor(head):
    model, batch = make(critic={"head": head}), transitions()
    model.actor_terms(batch.observation)["actor_loss"].mean().backward()
    assert all(parameter.grad is None for parameter in model.critic.parameters())
    assert all(parameter.requires_grad for parameter in model.critic.parameters())
    model.zero_grad()
    model.critic_terms(batch.observation, batch.action, model.targets(batch))["critic_loss"].mean().backward()
    assert all(parameter.grad is None for parameter in model.policy.parameters())
    assert all(parameter.grad is not None for parameter in model.critic.parameters())
    assert all(parameter.grad is None for parameter in model.target_critic.parameters())


@pytest.mark.parametrize("name", RELAXATIONS)
@pytest.mark.parametrize("actions", [(3,), (2, 4, 3)])
def test_every_relaxation_runs(name, actions):
    model = make(relaxation=RELAXATIONS[name](), actions=actions)
    batch = transitions(actions=actions)
    for _ in range(2):  # some learn from the first call
        loss = model.actor_terms(batch.observation)["actor_loss"].mean()
        target = model.targets(batch)
        loss = loss + model.critic_terms(batch.observation, batch.action, target)["critic_loss"].mean()
    assert torch.isfinite(loss) and gradient(model, loss).norm() > 0
    assert all(value.isfinite() for value in model.diagnose(batch.observation).values())


@pytest.mark.parametrize("name", [name for name in sorted(RELAXATIONS) if RELAXATIONS[name].unbiased])
@HEADS
def test_unbiased_relaxations_have_the_gradient_of_the_exact_one(head, name):
    model = make(critic={"head": head}, relaxation=RELAXATIONS[name](), observation=(2,))
    observation = torch.randn(1, 2).expand(4000, -1)
    exact = make(critic={"head": head}, relaxation=Exact(), observation=(2,))
    exact.load_state_dict(model.state_dict(), strict=False)
    expected = gradient(exact, exact.actor_terms(observation)["actor_loss"].mean())
    means = [gradient(model, model.actor_terms(observation)["actor_loss"].mean()) for _ in range(20)]
    mean = torch.stack(means[5:]).mean(0)  # the first ones settle the baselines
    assert F.cosine_similarity(mean, expected, dim=0) > 0.98


def test_with_a_head_linear_in_the_action_a_softmax_is_exact():
    soft = make(relaxation=Softmax(), critic={"head": "linear", "members": 1})
    exact = make(relaxation=Exact(), critic={"head": "linear", "members": 1})
    exact.load_state_dict(soft.state_dict())
    observation = torch.randn(BATCH, 4)
    first, second = (gradient(model, model.actor_terms(observation)["actor_loss"].sum()) for model in (soft, exact))
    assert torch.allclose(first, second, atol=1e-5)
    values = soft.diagnose(observation)
    assert values["type_gap"] < 1e-5 and values["gradient_bias"] < 1e-4 and values["gradient_cosine"] > 0.9999
    assert make(critic={"head": "concatenated"}).diagnose(observation)["type_gap"] > 1e-4


# Several choices ------------------------------------------------------------------------------------------------------


def test_smaller_choices_never_use_what_only_the_largest_has():
    model = make(actions=(2, 4, 3))
    assert model.mask.tolist() == [[True, True, False, False], [True] * 4, [True, True, True, False]]
    with torch.no_grad():
        model.policy.layers[-2].bias.add_(torch.tensor([[0, 0, 9, 9], [0] * 4, [0, 0, 0, 9.0]]).flatten())
    observation = torch.randn(1000, 4)
    for mode in (True, False):
        actions = model.act(observation, mode=mode)
        assert actions.shape == (1000, 3) and (actions < torch.tensor([2, 4, 3])).all()
    assert model.every_action.shape == (1, 24, 3, 4) and (model.every_action.sum(-1) == 1).all()
    probability = model.probabilities(model.policy(observation).masked_fill(~model.mask, -torch.inf))
    assert torch.allclose(probability.sum(1), torch.ones(1000))


def test_where_actions_are_too_many_a_target_averages_samples():
    model = make(actions=(5, 5, 5))
    assert model.every_action is None and model.diagnose(torch.randn(BATCH, 4)) == {}
    observation = torch.randn(1, 4).expand(2000, -1)
    value = model.soft_value(observation)
    assert value.shape == (2000,) and 0 < value.std() < 1


@pytest.mark.parametrize("head", ["concatenated", "linear"])
@pytest.mark.parametrize("observation", [(4,), (10, 10, 4)])
def test_the_critic_rates_many_actions_at_once_as_one_by_one(head, observation):
    model = make(observation=observation, actions=(2, 3), critic={"head": head})
    x = torch.randn(BATCH, *observation)
    together = model.critic(x, model.every_action)
    alone = [model.critic(x, action.expand(BATCH, 1, -1, -1)) for action in model.every_action[0].unsqueeze(1)]
    assert together.shape == (2, BATCH, 6) and torch.allclose(together, torch.cat(alone, 2), atol=1e-5)
    assert not torch.allclose(together[0], together[1])


# Acting ---------------------------------------------------------------------------------------------------------------


def test_actions_follow_the_policy():
    model = make()
    observation = torch.randn(1, 4)
    p = model(observation).softmax(-1)[0, 0]
    counts = model.act(observation.expand(20_000, -1)).flatten().bincount(minlength=3) / 20_000
    assert torch.allclose(counts, p, atol=0.02)
    assert model.act(observation, mode=True).item() == p.argmax()


def test_bytes_are_scaled():
    model = make(observation=(6, 5, 3))
    assert model.observe(torch.full((1, 6, 5, 3), 255, dtype=torch.uint8)).max() == 1
    assert model.act(torch.zeros(2, 6, 5, 3, dtype=torch.uint8)).shape == (2, 1)


def test_observations_are_normalised_by_what_was_explored():
    model = make(observation=(2,), normalize=True)
    seen = torch.randn(60, 2) * torch.tensor([3.0, 0.1]) + torch.tensor([5.0, -1.0])
    for part in seen.split(20):
        model.explore(Seen(part, None, torch.zeros(20, dtype=torch.bool), range(20)))
    model.act(torch.zeros(100, 2))  # an evaluation leaves the statistics alone
    assert model.normalizer.count == 60
    assert torch.allclose(model.normalizer.mean, seen.mean(0), atol=1e-5)
    assert torch.allclose(model.normalizer.variance, seen.var(0, correction=0), rtol=1e-4)
    x = model.observe(seen)
    assert torch.allclose(x.mean(0), torch.zeros(2), atol=1e-4) and torch.allclose(x.std(0), torch.ones(2), atol=0.02)
    assert model.observe(torch.full((1, 2), 1e6)).tolist() == [[10.0, 10.0]]
    batch = transitions(observation=(2,))  # what is learned from is seen in the same way
    expected = batch.reward + batch.discount * model.soft_value(model.normalizer(batch.following))
    assert torch.equal(model.targets(batch), expected)


def test_parts_of_a_batch_have_the_targets_of_the_whole():
    model, batch = make(), transitions()
    whole = model.targets(batch)
    parts = [model.targets(part) for part in batch.split(4)]
    assert [len(part) for part in parts] == [4, 2] and torch.allclose(torch.cat(parts), whole, atol=1e-5)


def test_a_film_is_made_where_it_can_be():
    model = make(observation=(4,), actions=(2,))
    assert len(model.films(Trial("CartPole-v1", [0]))["episode"]) > 1
    assert make(observation=(2,), actions=(2,)).films(Trial("Toy/Ending-v0", [0])) == {}


def test_round_trip(tmp_path):
    model = make(actions=(2, 4, 3)).eval()
    again = zoo.from_pretrained(zoo.save_pretrained(model, tmp_path / "actor_critic.test"))
    observation = torch.randn(BATCH, 4)
    assert torch.equal(again(observation), model(observation))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"updates": 0}, "updates >= 1"),
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"target_rate": 0.0}, "target_rate"),
        ({"entropy_weight": -1.0}, "entropy_weight >= 0"),
        ({"target_entropy": 1.5}, "target_entropy"),
        ({"target_entropy": 0.5, "entropy_weight": 0.0}, "more than 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm"),
        ({"critic_lr": 0.0}, "critic_lr must be positive"),
        ({"critic_entropy_weight": -1.0}, "critic_entropy_weight"),
    ],
)
def test_numbers_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
