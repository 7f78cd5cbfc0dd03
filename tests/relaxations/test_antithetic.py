"""DisARM and ARM. What they refuse is in ``test_following``."""

import copy
import pickle

import pytest
import torch
from torch import nn

from tests.relaxations.enumeration import CASES, MASK, check_unbiased, exact, sampled
from zoo.errors import ZooError
from zoo.relaxations import ARM, RLOO, Bernoulli, DisARM
from zoo.relaxations.distributions import Distribution

BOTH = pytest.mark.parametrize("make", [DisARM, ARM])
WEIGHT = torch.tensor([1.0, -2.0, 0.7])


@BOTH
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_the_mean_is_exact(make, case):
    check_unbiased(make(), case)


@pytest.mark.parametrize("gates", [False, True])
def test_disarm_of_two_values_is_the_published_formula(gates):
    phi = torch.randn(10_000, 3)
    logits = (phi if gates else torch.stack([phi, torch.zeros_like(phi)], -1)).requires_grad_()

    def f(z):
        return ((z if gates else z[..., 0]) @ WEIGHT + 0.3) ** 2

    torch.manual_seed(3)
    loss = DisARM().expectation(lambda draw: f(draw(Bernoulli(logits) if gates else logits)))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    torch.manual_seed(3)
    phi = phi.detach()
    u = torch.rand(10_000, 3, 1)[..., 0]
    b, b2 = (u < phi.sigmoid()).float(), (1 - u < phi.sigmoid()).float()
    costs = (b @ WEIGHT + 0.3) ** 2, (b2 @ WEIGHT + 0.3) ** 2
    expected = (costs[0] - costs[1])[:, None] / 2 * (-1) ** b2 * (b != b2) * phi.abs().sigmoid()
    torch.testing.assert_close(loss, (costs[0] + costs[1]) / 2)
    torch.testing.assert_close(gradient if gates else gradient[..., 0], expected, atol=1e-4, rtol=1e-4)
    if not gates:
        torch.testing.assert_close(gradient[..., 1], -expected, atol=1e-4, rtol=1e-4)


def test_disarm_has_less_variance_than_arm_and_than_two_runs_of_rloo():
    def variance(relaxation):
        return sampled(relaxation, CASES[1], 20_000)[1].var(0).sum()

    disarm = variance(DisARM())
    assert disarm < variance(ARM()) and disarm < variance(RLOO(samples=2))


# Programs -------------------------------------------------------------------------------------------------------------


@BOTH
def test_the_programs_own_gradient_is_that_of_both_runs(make):
    parameter, logits, seen = torch.ones((), requires_grad=True), torch.zeros(4, 3, requires_grad=True), []

    def program(draw):
        seen.append(draw(logits)[:, 0])
        return parameter * seen[-1]

    (gradient,) = torch.autograd.grad(make().expectation(program).sum(), parameter)
    assert gradient == (seen[0] + seen[1]).sum() / 2


@BOTH
def test_auxiliary_values_are_averaged(make):
    logits, seen = torch.randn(8, 3, requires_grad=True), []

    def program(draw):
        seen.append(draw(logits))
        return seen[-1] @ WEIGHT, [seen[-1]]

    loss, auxiliary = make().expectation(program)
    assert loss.shape == (8,)
    torch.testing.assert_close(auxiliary, [(seen[0] + seen[1]) / 2])


@BOTH
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions(make, dtype):
    logits = torch.randn(50, 2, 3, dtype=dtype, requires_grad=True)
    loss = make().expectation(lambda draw: (draw(logits).float() @ WEIGHT).prod(-1))
    loss.sum().backward()
    assert logits.grad.dtype == dtype and logits.grad.isfinite().all()


@BOTH
def test_programs_at_the_edge(make):
    relaxation, parameter = make(), torch.ones((), requires_grad=True)
    loss = relaxation.expectation(lambda draw: parameter * torch.ones(5))  # without a draw
    assert torch.autograd.grad(loss.sum(), parameter)[0] == 5
    empty = torch.zeros(0, 3, requires_grad=True)
    assert relaxation.expectation(lambda draw: draw(empty) @ WEIGHT).shape == (0,)
    logits = torch.randn(5, 3, requires_grad=True)
    loss = relaxation.expectation(lambda draw: (draw(logits), torch.ones(5) * 2)[1])  # which the draw does not reach
    assert torch.autograd.grad(loss.sum(), logits)[0].abs().sum() == 0
    with torch.no_grad():
        assert not relaxation.expectation(lambda draw: draw(logits) @ WEIGHT).requires_grad
    one = torch.randn(5, 1, requires_grad=True)
    loss = relaxation.expectation(lambda draw: draw(one)[:, 0])  # a choice of one
    assert torch.equal(loss, torch.ones(5)) and torch.autograd.grad(loss.sum(), one)[0].abs().sum() == 0


@BOTH
def test_masked_entries_have_a_gradient_of_zero(make):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 0.0, 0.0]], requires_grad=True)
    for mask in (MASK, torch.tensor([[True, True, False], [False, False, True]])):
        loss = make().expectation(
            lambda draw: draw(logits, mask) @ WEIGHT + draw(Bernoulli(logits, mask)).sum(-1)  # noqa: B023
        )
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert gradient.isfinite().all() and (gradient[~mask.expand(2, 3)] == 0).all()


@BOTH
@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_a_cost_that_is_not_finite_spoils_its_own_row_alone(make, bad):
    logits = torch.randn(4, 3, requires_grad=True)
    loss = make().expectation(lambda draw: draw(logits) @ WEIGHT + torch.tensor([0.0, bad, 0.0, 0.0]))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient[[0, 2, 3]].isfinite().all()


@BOTH
def test_a_second_run_with_other_draws_is_refused_by_name(make):
    dropout, logits = nn.Dropout(0.5), torch.randn(8, 3, requires_grad=True)
    relaxation = make()
    with pytest.raises(ZooError, match=r"the second time draw 0 had other logits or another mask.*dropout"):
        relaxation.expectation(lambda draw: draw(dropout(logits)) @ WEIGHT)
    counts = []

    def fewer(draw):
        counts.append(True)
        return sum(draw(logits) @ WEIGHT for _ in range(3 - len(counts)))

    with pytest.raises(ZooError, match="asked for 1 draws in place of 2"):
        relaxation.expectation(fewer)


@BOTH
def test_what_is_not_one_of_k_is_refused_before_any_work(make):
    class Opaque(Distribution):
        def _sample(self, noise):
            raise AssertionError("it was drawn")

        _mode = _sample

    with pytest.raises(ZooError, match=f"{make.__name__} does not serve Opaque: it needs a choice of one among K"):
        make().expectation(lambda draw: draw(Opaque(torch.zeros(2, 3))) @ WEIGHT)
    logits = torch.zeros(2, 1, 3, requires_grad=True)
    with pytest.raises(ValueError, match="all draws must begin with the dimensions of the cost"):
        make().expectation(lambda draw: draw(logits).sum(-1).expand(-1, 4))
    with pytest.raises(ValueError, match="one cost per example"):
        make().expectation(lambda draw: draw(logits))


@BOTH
def test_copies_and_pickles(make):
    relaxation = make()
    sampled(relaxation, CASES[0], 100)
    for other in (copy.deepcopy(relaxation), pickle.loads(pickle.dumps(relaxation))):
        sampled(other, CASES[0], 100)


# Transforms -----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_torch_func_takes_the_same_gradient(make, case):
    def loss(logits):
        torch.manual_seed(1)
        return make().expectation(lambda draw: case.program(draw, logits)).sum()

    batch = torch.randn(5, *case.start.shape)
    transformed = torch.func.grad(loss)(batch)
    (plain,) = torch.autograd.grad(loss(batch.requires_grad_()), batch)
    torch.testing.assert_close(transformed, plain)


@BOTH
@pytest.mark.parametrize("case", [CASES[2], CASES[4]], ids=repr)
def test_vmap_over_seeds_and_logits(make, case):
    def gradient(logits):
        return torch.func.grad(lambda x: make().expectation(lambda draw: case.program(draw, x)).sum())(logits)

    many = case.start.expand(100, 50, -1)
    mapped = torch.func.vmap(gradient, randomness="different")(many).flatten(0, 1)
    error = mapped.std(0) / len(mapped) ** 0.5
    assert ((mapped.mean(0) - exact(case)[1]).abs() <= 4.5 * error).all()
    same = torch.func.vmap(gradient, randomness="same")(many[:3])
    torch.testing.assert_close(same[0], same[1])


@BOTH
def test_second_derivatives_are_refused(make):
    def loss(logits):
        return make().expectation(lambda draw: (draw(logits) @ WEIGHT) ** 2).sum()

    logits = torch.randn(8, 3, requires_grad=True)
    (first,) = torch.autograd.grad(loss(logits), logits, create_graph=True)
    with pytest.raises(ZooError, match=f"{make.__name__} estimates no second derivative"):
        first.sum().backward()
    with pytest.raises(ZooError, match="no second derivative"):
        torch.func.grad(lambda x: torch.func.grad(loss)(x).sum())(logits.detach())
