"""The exact expectation, against an enumeration that is written out."""

import copy
import math

import pytest
import torch

from tests.relaxations.enumeration import CASES, DEPENDENT, exact
from zoo.errors import ZooError
from zoo.relaxations import Bernoulli, Categorical, Exact

MASK = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0]], dtype=torch.bool).unsqueeze(1)


@pytest.mark.parametrize("case", CASES + DEPENDENT, ids=repr)
def test_value_and_gradient(case):
    value, gradient = exact(case)
    batch = case.start.expand(3, *case.start.shape).clone().requires_grad_()
    loss = Exact().expectation(lambda draw: case.program(draw, batch))
    torch.testing.assert_close(loss, value.expand(3), atol=1e-5, rtol=1e-5)
    (ours,) = torch.autograd.grad(loss.sum(), batch)
    torch.testing.assert_close(ours, gradient.expand_as(ours), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("case", [CASES[1], CASES[2], CASES[3], DEPENDENT[0]], ids=repr)
def test_second_derivatives_and_transforms(case):
    def loss(start):
        return Exact().expectation(lambda draw: case.program(draw, start.unsqueeze(0))).sum()

    _, gradient = exact(case)
    torch.testing.assert_close(torch.func.grad(loss)(case.start), gradient, atol=1e-5, rtol=1e-4)
    if case.name != "masked" and not case.dependent:
        many = torch.stack([case.start, case.start * 0.5])
        mapped = torch.func.vmap(torch.func.grad(loss))(many)
        torch.testing.assert_close(mapped[0], gradient, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mapped[1], torch.func.grad(loss)(many[1]), atol=1e-5, rtol=1e-4)
    twice = torch.func.jacrev(torch.func.grad(loss))(case.start)
    assert torch.allclose(twice, torch.autograd.functional.hessian(loss, case.start), atol=1e-4)


def test_vmap_over_masks_says_what_it_cannot_do():
    def loss(logits, mask):
        return Exact().expectation(lambda draw: (draw(logits, mask) * torch.arange(4.0)).sum(-1)).sum()

    logits, mask = torch.randn(2, 3, 4), MASK[:, 0]
    with pytest.raises(ZooError, match=r"how many values a mask leaves.*vmap"):
        torch.func.vmap(loss)(logits, mask.expand(2, 3, 4))
    with pytest.raises(ZooError, match=r"how many values a mask leaves.*vmap"):
        torch.func.vmap(torch.func.grad(loss))(logits, mask.expand(2, 3, 4))
    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None))(logits, mask)
    torch.testing.assert_close(gradients[1], torch.func.grad(loss)(logits[1], mask))


def test_rows_with_different_numbers_of_choices():
    logits, weight = torch.randn(3, 2, 4, requires_grad=True), torch.randn(2, 4)
    p = logits.masked_fill(~MASK, -math.inf).softmax(-1)
    expected = (p * weight).sum((1, 2)) + (p[:, 0] * weight[0]).sum(-1) * (p[:, 1] * weight[1]).sum(-1)
    runs = []

    def program(draw):
        z = draw(logits, MASK)
        runs.append(z)
        each = (z * weight).sum(-1)
        return each.sum(-1) + each.prod(-1)

    actual = Exact(limit=16).expectation(program)
    torch.testing.assert_close(actual, expected)
    gradients = [torch.autograd.grad(value.sum(), logits)[0] for value in (actual, expected)]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)
    assert (gradients[0][~MASK.expand_as(logits)] == 0).all()
    assert len(runs) == 16  # as many as the row with the most has


def test_only_what_a_mask_allows_is_enumerated():
    logits, mask = torch.randn(2, 30), torch.zeros(2, 30, dtype=torch.bool)
    mask[0, [3, 7]] = mask[1, [0, 29]] = True
    assert Exact(limit=2).expectation(lambda draw: draw(logits, mask)[:, 3]).shape == (2,)
    with pytest.raises(ZooError, match="at least 3 combinations, over the limit of 2"):
        mask[0, 5] = True
        Exact(limit=2).expectation(lambda draw: draw(logits, mask)[:, 3])


def test_too_many_combinations_are_refused_before_any_cost_is_computed():
    def program(draw):
        draw(torch.zeros(2, 3, 9, 10))
        raise AssertionError("the program went on")

    with pytest.raises(ZooError, match=r"combinations, over the limit of .*rloo"):
        Exact().expectation(program)
    with pytest.raises(ZooError, match="combinations"):  # not those of 30 replicas
        Exact().expectation(lambda draw: draw(torch.zeros(2, 30, 10)).sum((1, 2)))
    with pytest.raises(ZooError, match="combinations"):  # of two draws together
        Exact(limit=8).expectation(lambda draw: draw(torch.zeros(2, 3))[:, 0] + draw(torch.zeros(2, 3))[:, 0])
    with pytest.raises(ValueError, match="limit"):
        Exact(limit=0)


def test_replicas_go_through_their_values_side_by_side():
    runs, logits = [], torch.randn(2, 5, 3)

    def program(draw):
        runs.append(True)
        return draw(logits)[..., 0]

    loss = Exact(limit=3).expectation(program)
    torch.testing.assert_close(loss, logits.softmax(-1)[..., 0].mean(1))
    assert len(runs) == 4  # one to learn of replicas


def test_auxiliary_values_are_exact_too():
    logits = torch.randn(3, 4, requires_grad=True)

    def program(draw):
        z = draw(logits, MASK[:, 0])
        return z @ torch.arange(4.0), {"z": z, "index": z.argmax(-1), "odd": torch.where(z[:, :1] == 1, torch.inf, 0.0)}

    loss, auxiliary = Exact().expectation(program)
    p = logits.masked_fill(~MASK[:, 0], -math.inf).softmax(-1)
    torch.testing.assert_close(auxiliary["z"], p.detach())
    torch.testing.assert_close(auxiliary["index"], (p @ torch.arange(4.0)).detach())
    torch.testing.assert_close(auxiliary["odd"].squeeze(1), torch.tensor([torch.inf, 0.0, 0.0]))
    assert loss.requires_grad and not auxiliary["z"].requires_grad
    torch.testing.assert_close(loss, p @ torch.arange(4.0))


def test_a_cost_that_is_not_finite_where_it_cannot_come_does_not_matter():
    logits = torch.tensor([[0.0, 1.0, -torch.inf]], requires_grad=True)
    loss = Exact().expectation(lambda draw: 1 / (1 - draw(logits)[:, 2]))
    assert loss == 1
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions(dtype):
    logits = torch.randn(5, 2, 3, dtype=dtype, requires_grad=True)
    loss = Exact().expectation(lambda draw: draw(logits)[:, 0, 0].float())
    torch.testing.assert_close(loss, logits.softmax(-1)[:, 0, 0], atol=1e-2, rtol=1e-2, check_dtype=False)
    loss.sum().backward()
    assert logits.grad.dtype == dtype


def test_programs_at_the_edge():
    parameter = torch.ones((), requires_grad=True)
    loss = Exact().expectation(lambda draw: parameter * torch.ones(5))  # without a draw
    assert torch.equal(loss, torch.ones(5)) and loss.requires_grad
    for make in (Categorical, Bernoulli):
        empty = torch.zeros(0, 3, requires_grad=True)
        assert Exact().expectation(lambda draw: draw(make(empty)).sum(-1)).shape == (0,)  # noqa: B023
        masked = make(empty, mask=torch.ones(0, 3, dtype=torch.bool))
        assert Exact().expectation(lambda draw: draw(masked).sum(-1)).shape == (0,)  # noqa: B023
        none = torch.zeros(4, 0, 3)
        assert torch.equal(Exact().expectation(lambda draw: draw(make(none)).sum((1, 2))), torch.zeros(4))  # noqa: B023
        masked_none = make(none, mask=torch.ones(4, 0, 3, dtype=torch.bool))
        assert torch.equal(Exact().expectation(lambda draw: draw(masked_none).sum((1, 2))), torch.zeros(4))  # noqa: B023
    with pytest.raises(ValueError, match="all draws must begin with the dimensions of the cost"):
        Exact().expectation(lambda draw: draw(torch.zeros(3, 2))[:1, 0])


def test_draws_of_different_shapes_and_kinds():
    first, second = torch.randn(4, 2, 3), torch.randn(4, 2)
    loss = Exact().expectation(lambda draw: draw(first)[:, :, 0].sum(1) * draw(Bernoulli(second)).sum(1))
    torch.testing.assert_close(loss, first.softmax(-1)[..., 0].sum(1) * second.sigmoid().sum(1))


def test_it_has_no_state_and_draws_nothing():
    relaxation = Exact()
    before, state = torch.get_rng_state(), copy.deepcopy(relaxation.state_dict())
    relaxation.expectation(lambda draw: draw(torch.zeros(2, 3))[:, 0])
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(state[name], value) for name, value in relaxation.state_dict().items())


def test_a_distribution_that_forgets_a_value_is_refused():
    class Forgetful(Categorical):
        def cardinality(self) -> int:
            return self.logits.shape[-1] - 1

    with pytest.raises(ZooError, match=r"probability of 0\.75"):
        Exact().expectation(lambda draw: draw(Forgetful(torch.zeros(1, 4))).sum(-1))
