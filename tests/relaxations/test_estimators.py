"""What each estimator promises beyond the common suite: its formula, its bias, its variance."""

import math

import pytest
import torch
from scipy import stats

from zoo.relaxations import (
    IGR,
    IMLE,
    DecoupledSTGumbel,
    GappedST,
    GumbelRao,
    ReinMax,
    ReinMaxCV,
    ReinMaxRao,
    Relaxation,
    STGumbelSoftmax,
    StraightThrough,
)
from zoo.relaxations.gumbel_rao import conditional_gumbel

LOGITS = torch.tensor([[0.5, -0.3, 1.0, -1.5], [0.0, 0.2, -0.4, 0.8]])
COUPLING = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))


def cost(z: torch.Tensor) -> torch.Tensor:
    """Coupled, of degree three."""
    flat = z.flatten(1)
    return torch.einsum("bi,ij,bj->b", flat, COUPLING, flat) * (1 + flat[:, 0]) + 3


def gradients(relaxation: Relaxation, draws: int = 200_000, batches: int = 1, cost=cost) -> torch.Tensor:
    """Single-draw gradients ``(draws, 2, 4)`` of the last of ``batches``."""
    for _ in range(batches):
        batch = LOGITS.expand(draws, -1, -1).clone().requires_grad_()
        loss = relaxation.expectation(lambda draw: cost(draw(batch)))  # noqa: B023
        (gradient,) = torch.autograd.grad(loss.sum(), batch)
    return gradient


def variance(gradient: torch.Tensor) -> float:
    return gradient.var(0).sum().item()


def jacobian_transposed(relaxation: Relaxation, logits: torch.Tensor, slope: torch.Tensor) -> tuple:
    """The draw, and what it makes of the gradient ``slope``."""
    logits = logits.clone().requires_grad_()
    draw = relaxation(logits)
    return draw.detach(), torch.autograd.grad((draw * slope).sum(), logits)[0]


# Gumbel noise given its winner ----------------------------------------------------------------------------------------


def test_conditional_gumbels_have_their_winner_and_are_the_unconditional_ones_on_average():
    """Kolmogorov-Smirnov at 1e-4 of each entry against rejection sampling."""
    logits = LOGITS[0]
    free = logits - torch.empty(400_000, 4).exponential_().log()
    for winner in range(4):
        one_hot = torch.eye(4)[winner]
        conditional = conditional_gumbel(logits, one_hot, 20_000)
        assert (conditional.argmax(-1) == winner).all()
        accepted = free[free.argmax(-1) == winner][:20_000]
        for ours, theirs in zip(conditional.T, accepted.T):
            assert stats.ks_2samp(ours, theirs).pvalue > 1e-4


def test_conditional_gumbels_leave_masked_entries_out():
    logits = torch.tensor([0.0, -torch.inf, 1.0])
    drawn = conditional_gumbel(logits, torch.tensor([0.0, 0.0, 1.0]), 100)
    assert (drawn[:, 1] == -torch.inf).all() and drawn[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_gumbel_rao_has_the_mean_of_st_gumbel_softmax_and_less_variance(tau):
    rao = gradients(GumbelRao(tau=tau, samples=20), 100_000)
    plain = gradients(STGumbelSoftmax(tau=tau), 400_000)
    error = (rao.var(0) / len(rao) + plain.var(0) / len(plain)).sqrt()
    assert ((rao.mean(0) - plain.mean(0)).abs() <= 4.5 * error).all()
    assert variance(rao) < 0.9 * variance(plain)


# The straight-through family ------------------------------------------------------------------------------------------


def test_gapped_straight_through_is_a_softmax_in_which_the_draw_leads():
    logits, slope = torch.randn(500, 5), torch.randn(500, 5)
    draw, gradient = jacobian_transposed(GappedST(tau=0.6, gap=1.0), logits, slope)
    shifted = logits.clone()
    for row, hard in zip(shifted, draw.bool()):
        largest = row.max().clone()
        row[hard] = largest
        row[~hard] = torch.minimum(row[~hard], largest - 1.0)
    p = (shifted / 0.6).softmax(-1)
    expected = p * (slope - (p * slope).sum(-1, keepdim=True)) / 0.6
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


def test_gapped_straight_through_has_less_variance_than_st_gumbel_softmax():
    assert variance(gradients(GappedST(tau=0.5))) < variance(gradients(STGumbelSoftmax(tau=0.5)))


def test_reinmax_rao_tends_to_the_formula_with_the_expected_jacobian():
    """With many samples, against the Jacobian estimated from unconditional noise by rejection, at one draw."""
    logits, slope = LOGITS[0], torch.tensor([1.0, -2.0, 0.5, 3.0])
    relaxation = ReinMaxRao(tau=0.8, samples=20_000)
    draw, gradient = jacobian_transposed(relaxation, logits, slope)
    p = logits.softmax(-1)
    p1 = (draw + p) / 2
    free = p1.log() - torch.empty(2_000_000, 4).exponential_().log()
    accepted = free[free.argmax(-1) == draw.argmax()]
    y = (accepted / 0.8).softmax(-1)
    samples = y * (slope - (y * slope).sum(-1, keepdim=True)) / 0.8
    second = 2 * samples.mean(0) - p * (slope - p @ slope) / 2
    error = 2 * samples.std(0) * math.sqrt(1 / len(samples) + 1 / 20_000)
    assert ((gradient - second).abs() <= 4.5 * error + 1e-4).all()


def test_reinmax_rao_has_less_variance_than_reinmax():
    assert variance(gradients(ReinMaxRao(), 50_000)) < variance(gradients(ReinMax(), 50_000))


def test_reinmax_cv_without_a_weight_is_reinmax():
    logits, slope = torch.randn(200, 5), torch.randn(200, 5)
    torch.manual_seed(0)
    draw, gradient = jacobian_transposed(ReinMaxCV(eta=0.0), logits, slope)
    torch.manual_seed(0)
    reference, expected = jacobian_transposed(ReinMax(), logits, slope)
    assert torch.equal(draw, reference)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-5)


def test_reinmax_is_less_biased_than_straight_through():
    batch = LOGITS.expand(1, -1, -1).clone().requires_grad_()
    p = batch.softmax(-1)
    eye = torch.eye(4)
    total = sum(
        p[0, 0, i] * p[0, 1, j] * cost(torch.stack([eye[i], eye[j]])[None])[0] for i in range(4) for j in range(4)
    )
    exact = torch.autograd.grad(total, batch)[0][0]
    bias = {cls: (gradients(cls()).mean(0) - exact).norm() for cls in (ReinMax, StraightThrough)}
    assert bias[ReinMax] < 0.8 * bias[StraightThrough]


def test_decoupled_straight_through_is_st_gumbel_softmax_at_its_backward_temperature():
    logits, slope = torch.randn(200, 5), torch.randn(200, 5)
    torch.manual_seed(0)
    draw, gradient = jacobian_transposed(DecoupledSTGumbel(backward_tau=0.4), logits, slope)
    torch.manual_seed(0)
    reference, expected = jacobian_transposed(STGumbelSoftmax(tau=0.4), logits, slope)
    assert torch.equal(draw, reference)
    torch.testing.assert_close(gradient, expected)


def test_imle_does_not_depend_on_the_scale_of_the_cost():
    logits, slope = torch.randn(500, 4), torch.randn(500, 4)
    gradients = []
    for scale in (1.0, 1e-3):
        torch.manual_seed(0)
        gradients.append(jacobian_transposed(IMLE(), logits, scale * slope)[1] / scale)
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("relaxation", [DecoupledSTGumbel(tau=3.0), IMLE(tau=3.0)])
def test_scaled_noise_draws_from_tempered_logits(relaxation):
    draws = relaxation(LOGITS[0].expand(100_000, -1)).sum(0)
    expected = (LOGITS[0] / 3).softmax(-1).double() * 100_000
    assert stats.chisquare(draws.double(), expected).pvalue > 1e-4


def test_igr_is_the_softmax_plus_plus_of_a_gaussian():
    logits = torch.randn(1000, 5)
    torch.manual_seed(1)
    y = IGR(tau=0.4, sigma=1.3)(logits)
    torch.manual_seed(1)
    gaussian = (logits[:, :-1] - logits[:, -1:]) + 1.3 * torch.randn_like(logits)[:, :-1]
    powers = (gaussian / 0.4).exp()
    torch.testing.assert_close(y[:, :-1], powers / (powers.sum(-1, keepdim=True) + 1), atol=1e-5, rtol=1e-4)


def test_imle_points_to_where_the_cost_is_lower():
    logits, slope = torch.zeros(1000, 3), torch.tensor([1.0, 0.0, 0.0])
    draw, gradient = jacobian_transposed(IMLE(strength=0.5), logits, slope)
    changed = gradient.abs().sum(-1) > 0
    assert 0 < changed.float().mean() < draw[:, 0].mean()  # only draws of the expensive choice ever change
    assert (gradient[changed][:, 0] == 2).all() and (gradient[changed].sum(-1) == 0).all()


# Constructors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cls, arguments",
    [
        (GumbelRao, {"samples": 0}),
        (ReinMaxRao, {"samples": 0}),
        (ReinMaxCV, {"samples": 0}),
        (GappedST, {"gap": -1.0}),
        (DecoupledSTGumbel, {"backward_tau": 0.0}),
        (IGR, {"sigma": 0.0}),
        (IMLE, {"strength": 0.0}),
    ],
)
def test_constructors_check_their_numbers(cls, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        cls(**arguments)
