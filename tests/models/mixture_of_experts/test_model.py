"""The mixture of experts: where examples go, what that costs, and what the layer does with it."""

import pytest
import torch
import torch.nn.functional as F

import zoo
from zoo.config import to_config
from zoo.models.experts import imbalance, limited, routes
from zoo.models.mixture_of_experts import Experts, MixtureOfExperts, Router
from zoo.relaxations import RLOO, Exact, GumbelSoftmax, Reinforce, ReinMax, Softmax, STGumbelSoftmax
from zoo.training import AdamW


def make(relaxation=None, **options) -> MixtureOfExperts:
    return MixtureOfExperts(
        experts=Experts(features=6, outputs=3, experts=4, hidden=5),
        router=Router(features=6, experts=4),
        relaxation=relaxation or ReinMax(),
        optimizer=AdamW(),
        shape=[2, 3],
        **options,
    )


@pytest.mark.parametrize("k", [1, 2])
def test_an_example_is_seen_by_its_experts_alone(k):
    model = make(STGumbelSoftmax(), k=k).eval()
    x = torch.randn(7, 2, 3)
    prediction, route = model(x)
    assert (route.sum(1) == k).all() and set(route.unique().tolist()) == {0.0, 1.0}
    for i in range(7):
        said = [
            (x[i].flatten() @ model.experts.grow[e] + model.experts.grow_bias[e, 0]).relu() @ model.experts.shrink[e]
            + model.experts.shrink_bias[e, 0]
            for e in route[i].nonzero()[:, 0].tolist()
        ]
        torch.testing.assert_close(torch.stack(said).mean(0).log_softmax(-1), prediction[i])
    torch.testing.assert_close(
        model.experts.sparse(x.flatten(1), route / k), model.experts(x.flatten(1), route / k), atol=1e-6, rtol=1e-5
    )


def test_the_objective_is_the_expectation_over_experts():
    model = make(Exact(), balance=0.0)
    x, y = torch.randn(5, 2, 3), torch.randint(3, (5,))
    p = model.router(x.flatten(1)).softmax(-1)
    costs = torch.stack(
        [
            F.cross_entropy(model.experts(x.flatten(1), torch.eye(4)[e].expand(5, -1)), y, reduction="none")
            for e in range(4)
        ],
        1,
    )
    torch.testing.assert_close(model.training_step((x, y), 0)["loss"], (p * costs).sum(1).mean())


@pytest.mark.parametrize("relaxation", [ReinMax(), Softmax(), RLOO(samples=2), STGumbelSoftmax()])
def test_every_router_learns(relaxation):
    for more in ({}, {"balance": 0.0}, *([{"k": 2}] if not isinstance(relaxation, ReinMax) else [])):
        model = make(relaxation, **more)
        model.training_step((torch.randn(16, 2, 3), torch.randint(3, (16,))), 0)["loss"].backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize("k", [1, 2])
def test_noisy_top_k_learns_too(k):
    model = make(STGumbelSoftmax(), routing="noisy_top_k", k=k)
    model.training_step((torch.randn(16, 2, 3), torch.randint(3, (16,))), 0)["loss"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert "nothing is drawn" in MixtureOfExperts.without_effect(to_config(model))


def test_an_expert_that_is_full_takes_no_more():
    weights = torch.tensor([[1, 0, 0, 0]] * 5 + [[0, 1, 0, 0]] * 3).float()
    kept = limited(weights, weights, 1, 1.0)
    assert kept.sum(0).tolist() == [2, 2, 0, 0] and kept[:2, 0].tolist() == [1, 1] and kept[5:7, 1].tolist() == [1, 1]
    assert torch.equal(limited(weights, weights, 1, None), weights)


def test_the_balance_loss_is_least_where_all_is_even():
    even = torch.eye(4).repeat(2, 1)
    assert imbalance(torch.zeros(8, 4), even, 1).mean().item() == pytest.approx(1.0)
    one = torch.eye(4)[:1].repeat(8, 1)
    assert imbalance(50 * one, one, 1).mean().item() == pytest.approx(4.0)
    logits = torch.zeros(8, 4, requires_grad=True)
    imbalance(logits, one, 1).mean().backward()
    assert (logits.grad[:, 0] > 0).all() and (logits.grad[:, 1:] < 0).all()  # away from the one that has all


ESTIMATORS = [Softmax(), GumbelSoftmax(), STGumbelSoftmax(), ReinMax(), Reinforce(), RLOO(samples=3), Exact()]


@pytest.mark.parametrize("relaxation", ESTIMATORS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("dead", [False, True])
def test_the_balance_loss_says_the_same_by_every_estimator(relaxation, dead):
    """A relaxed weight of 0.01 is not an example that went there."""
    torch.manual_seed(0)
    model = make(relaxation, balance=1.0)
    final = model.router.layers[-1]
    with torch.no_grad():
        final.weight.mul_(0.01)
        final.bias.copy_(torch.tensor([5.0 * dead, 0.0, 0.0, 0.0]))
    values = model.training_step((torch.randn(4000, 2, 3), torch.randint(3, (4000,))), 0)
    assert values["balance"].item() == pytest.approx(4 * 0.98**2 if dead else 1.0, rel=0.1)
    (gradient,) = torch.autograd.grad(values["loss"], final.bias)
    assert not dead or gradient[0] > 0


@pytest.mark.parametrize("relaxation", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_room_is_for_what_goes_to_an_expert(relaxation):
    """With twice the even share and even logits nearly all finds room."""
    torch.manual_seed(0)
    model = make(relaxation)
    found = []

    def program(draw):
        found.append(draw(routes(torch.zeros(400, 4), 1)))
        return torch.zeros(400)

    model.expected_cost(program)
    for weights in found:
        weights = weights.detach().flatten(0, -2)[:400]
        even = torch.eye(4).repeat(100, 1) if isinstance(relaxation, Exact) else weights  # it tells all, one by one
        assert limited(even, even, 1, 2.0).sum() > 0.95 * even.sum()


def test_noisy_top_k_counts_examples():
    model = make(STGumbelSoftmax(), routing="noisy_top_k", k=2, capacity=1.0)
    weights = 2 * torch.tensor([[0.7, 0.3, 0.0, 0.0]]).repeat(8, 1)
    assert (model.kept(weights) > 0).sum(0).tolist() == [4, 4, 0, 0]


def test_it_is_loaded_as_it_was_saved(tmp_path):
    model = make()
    loaded = zoo.from_pretrained(zoo.save_pretrained(model, tmp_path / "mixture_of_experts.test"))
    torch.testing.assert_close(loaded(loaded.example_input_array), model.eval()(model.example_input_array))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"k": 5}, "k=5 of 4 experts"),
        ({"k": 0}, "k=0 of 4"),
        ({"capacity": 0.0}, "capacity > 0"),
        ({"balance": -1.0}, "balance"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
    with pytest.raises(ValueError, match="the router has 5 outputs for 4 experts"):
        MixtureOfExperts(
            experts=Experts(features=6, outputs=3, experts=4, hidden=5),
            router=Router(features=6, experts=5),
            relaxation=ReinMax(),
            optimizer=AdamW(),
            shape=[2, 3],
        )
    with pytest.raises(ValueError, match="hidden must"):
        Router(features=3, hidden=-1)
    with pytest.raises(ValueError, match="experts must be at least 1"):
        Experts(features=3, outputs=2, experts=0)
