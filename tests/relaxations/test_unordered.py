"""The unordered-set estimator: its ratios against all orders, its estimates against all values."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.relaxations.enumeration import CASES, DEPENDENT, check_unbiased, exact
from zoo.errors import ZooError
from zoo.relaxations import RLOO, Bernoulli, ScoredProgram, Subset, UnorderedSet
from zoo.relaxations.unordered import leave_one_out

LOGITS = torch.tensor([0.5, -0.3, 1.0, -1.5])
COSTS = torch.tensor([1.0, 3.0, -2.0, 5.0])


# The ratios -----------------------------------------------------------------------------------------------------------


def p_set(p: list[float], chosen: list[int]) -> float:
    """The probability that ``chosen`` are drawn first without replacement, summed over all their orders."""
    total = 0.0
    for order in itertools.permutations(chosen):
        left, probability = math.fsum(p), 1.0
        for i in order:
            probability *= p[i] / left
            left -= p[i]
        total += probability
    return total


def without(p: list[float], *out: int) -> list[float]:
    return [0.0 if i in out else value for i, value in enumerate(p)]


@settings(max_examples=60)
@given(
    logits=st.lists(st.floats(-6, 6), min_size=2, max_size=7),
    k=st.integers(1, 5),
    nothing=st.integers(0, 2),
)
def test_ratios_are_those_of_all_orders(logits, k, nothing):
    p = torch.tensor(logits, dtype=torch.float64).softmax(0)
    k = min(k, len(p))
    log_p = torch.cat([p[:k].log(), torch.full((nothing,), -math.inf, dtype=torch.float64)])
    weights, others = leave_one_out(log_p)
    p, chosen = p.tolist(), list(range(k))
    for s in chosen:
        rest = [i for i in chosen if i != s]
        one_out = p_set(without(p, s), rest)
        assert weights[s].item() == pytest.approx(p[s] * one_out / p_set(p, chosen), rel=1e-7)
        for other in rest:
            two_out = p_set(without(p, s, other), [i for i in rest if i != other])
            assert others[s, other].item() == pytest.approx(p[other] * two_out / one_out, rel=1e-7)
        assert others[s, s].item() == pytest.approx(p[s])
    assert (weights[k:] == 0).all() and (others[:k, k:] == 0).all()


@pytest.mark.parametrize("k", [2, 7, 60])
@pytest.mark.parametrize("log_p", [-0.1, -5.0, -40.0, -3000.0])
def test_ratios_of_values_that_are_alike(k, log_p):
    """However improbable, as long sequences are; the probabilities of those that are all there is sum to one."""
    each = min(log_p, -math.log(k))
    weights, others = leave_one_out(torch.full((3, k), each, dtype=torch.float64))
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / k), rtol=1e-9, atol=0)
    share = (1 - math.exp(each)) / (k - 1)
    off = ~torch.eye(k, dtype=torch.bool)
    torch.testing.assert_close(others[:, off], torch.full_like(others[:, off], share), rtol=1e-9, atol=0)


def test_one_value_that_is_nearly_certain():
    log_p = torch.tensor([-1e-14, -40.0, -90.0, -math.inf], dtype=torch.float64)
    weights, others = leave_one_out(log_p)
    assert weights.isfinite().all() and others[:3].isfinite().all()
    assert weights[0].item() == pytest.approx(1.0) and weights[1] < 1e-13
    assert leave_one_out(torch.zeros(0, 4, dtype=torch.float64))[1].shape == (0, 4, 4)


# The estimates --------------------------------------------------------------------------------------------------------


def test_the_mean_is_exact():
    """More of this for each distribution is in the table of all relaxations."""
    check_unbiased(UnorderedSet(samples=3), CASES[3], 30_000)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=repr)
@pytest.mark.parametrize("samples", [2, 5])
def test_the_mean_is_exact_for_any_number_of_samples(case, samples):
    check_unbiased(UnorderedSet(samples=samples), case, 50_000)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_all_values_give_the_exact_expectation(case):
    value, gradient = exact(case)
    batch = case.start.expand(5, *case.start.shape).clone().requires_grad_()
    loss = UnorderedSet(samples=30).expectation(lambda draw: case.program(draw, batch))
    torch.testing.assert_close(loss.detach(), value.expand(5), rtol=1e-5, atol=1e-5)
    found = torch.autograd.grad(loss.sum(), batch)[0]
    torch.testing.assert_close(found, gradient.expand_as(found), rtol=1e-4, atol=1e-5)


def test_no_value_is_drawn_twice_and_the_program_runs_once_for_each():
    logits, drawn = LOGITS.expand(500, -1).clone().requires_grad_(), []
    mask = torch.tensor([True, True, True, False])

    def program(draw):
        drawn.append(draw(logits, mask))
        return drawn[-1] @ COSTS

    for samples in (2, 3, 9):
        drawn.clear()
        UnorderedSet(samples=samples).expectation(program)
        assert len(drawn) == min(samples, 3 + (samples > 3))
        assert torch.stack(drawn[:3]).sum(0).max() == 1
        assert all((each[:, 3] == 0).all() for each in drawn)
    first = drawn[0].mean(0)
    assert ((first - LOGITS.masked_fill(~mask, -math.inf).softmax(0)).abs() < 4.5 * 0.5 / 500**0.5).all()


@pytest.mark.parametrize("samples", [2, 3])
def test_less_variance_than_with_replacement(samples):
    """At the same number of samples; most where a few values have most of the probability."""
    found = []
    for relaxation in (UnorderedSet(samples=samples), RLOO(samples=samples)):
        logits = (2 * LOGITS).expand(10_000, -1).clone().requires_grad_()
        loss = relaxation.expectation(lambda draw: draw(logits) @ COSTS)  # noqa: B023
        found.append(torch.autograd.grad(loss.sum(), logits)[0].var(0).sum())
    assert found[0] < 0.7 * found[1]


def test_costs_of_their_own_gradient_and_auxiliary_values():
    parameter, logits = COSTS.clone().requires_grad_(), LOGITS.expand(7, -1)
    loss, auxiliary = UnorderedSet(samples=4).expectation(
        lambda draw: (lambda z: (z @ parameter, {"z": z, "index": z.argmax(-1)}))(draw(logits))
    )
    p = LOGITS.softmax(0)
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), parameter)[0], 7 * p)
    torch.testing.assert_close(auxiliary["z"], p.expand(7, -1))
    torch.testing.assert_close(auxiliary["index"], (p @ torch.arange(4.0)).expand(7), check_dtype=False)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", DEPENDENT, ids=repr)
def test_draws_that_depend_on_each_other_need_a_scored_program(case):
    batch = case.start.expand(3, -1).clone().requires_grad_()
    program = lambda draw: case.program(draw, batch)  # noqa: E731
    for each in (program, ScoredProgram(program, lambda: pytest.fail("it was sampled"))):
        with pytest.raises(ZooError, match=r"UnorderedSet cannot serve a program in which a draw depends .*use rloo"):
            UnorderedSet().expectation(each)


def test_what_it_cannot_serve_is_refused():
    with pytest.raises(ZooError, match="UnorderedSet does not serve Subset"):
        UnorderedSet().expectation(lambda draw: draw(Subset(LOGITS[None], 2)) @ COSTS)
    with pytest.raises(ValueError, match="samples must be at least 2"):
        UnorderedSet(samples=1)
    with pytest.raises(ZooError, match="takes no baseline"):
        UnorderedSet().expectation(lambda draw: draw(LOGITS[None]) @ COSTS, baseline=torch.zeros(1))
    gates = torch.zeros(2, 3, requires_grad=True)
    with pytest.raises(ZooError, match="other logits"):
        UnorderedSet().expectation(lambda draw: draw(Bernoulli(gates + torch.rand(2, 3))).sum(1))
