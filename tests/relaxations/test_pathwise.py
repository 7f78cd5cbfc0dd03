"""What each pathwise estimator is: its formula, its bias, its variance."""

import math

import entmax
import pytest
import torch
from scipy import stats
from torch import Tensor

from tests.relaxations.checks import path  # noqa: F401 (a fixture)
from zoo.errors import ZooError
from zoo.relaxations import (
    AIMLE,
    IGR,
    IMLE,
    Categorical,
    DecoupledSTGumbel,
    Entmax15,
    Exact,
    GappedST,
    GaussianSoftmax,
    GumbelRao,
    GumbelSoftmax,
    PerturbedOptimizer,
    ReinMax,
    ReinMaxCV,
    ReinMaxRao,
    Relaxation,
    Simple,
    Softmax,
    Sparsemax,
    STArgmax,
    STGumbelSoftmax,
    StraightThrough,
    UniformSoftmax,
)
from zoo.relaxations.gumbel_rao import conditional_gumbel
from zoo.relaxations.noise import DEFAULT, Noise

LOGITS = torch.tensor([[0.5, -0.3, 1.0, -1.5], [0.0, 0.2, -0.4, 0.8]])
COUPLING = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))


def cost(z: Tensor) -> Tensor:
    """Coupled, of degree three."""
    flat = z.flatten(1)
    return torch.einsum("bi,ij,bj->b", flat, COUPLING, flat) * (1 + flat[:, 0]) + 3


def gradients(relaxation: Relaxation, draws: int = 100_000) -> Tensor:
    """Single-draw gradients ``(draws, 2, 4)``."""
    batch = LOGITS.expand(draws, -1, -1).clone().requires_grad_()
    loss = relaxation.expectation(lambda draw: cost(draw(batch)))
    return torch.autograd.grad(loss.sum(), batch)[0]


def variance(gradient: Tensor) -> float:
    return gradient.var(0).sum().item()


def jacobian_transposed(relaxation: Relaxation, logits: Tensor, slope: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The draw, and what it makes of the gradient ``slope``."""
    logits = logits.clone().requires_grad_()
    draw = relaxation(logits, noise=Noise(torch.Generator().manual_seed(seed)))
    return draw.detach(), torch.autograd.grad((draw * slope).sum(), logits)[0]


def softmax_slope(p: Tensor, slope: Tensor) -> Tensor:
    """``slope`` through the Jacobian of a softmax at its value ``p``."""
    return p * (slope - (p * slope).sum(-1, keepdim=True))


# The formulas ---------------------------------------------------------------------------------------------------------


LAYOUTS = {
    "contiguous": lambda: torch.randn(4, 3, 7),
    "transposed": lambda: torch.randn(7, 3, 4).transpose(0, 2),
    "strided": lambda: torch.randn(4, 3, 14)[..., ::2],
    "expanded rows": lambda: torch.randn(7).expand(4, 3, 7),
    "expanded categories": lambda: torch.randn(4, 3, 1).expand(4, 3, 7),
    "one row": lambda: torch.randn(7),
    "one category": lambda: torch.randn(4, 3, 1),
    "empty batch": lambda: torch.randn(0, 3, 7),
    "many categories": lambda: torch.randn(2, 1000),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tau", [0.3, 1.0, 1.5])
@pytest.mark.usefixtures("path")
def test_value_and_gradient_are_those_of_the_textbook(layout, tau):
    """Whatever the layout of the logits, which are left alone; the noise of soft draws is found from their value."""
    logits = LAYOUTS[layout]()
    mask = torch.ones(logits.shape, dtype=torch.bool)
    if logits.shape[-1] > 1 and logits.numel():
        mask[..., 1] = False
    inside = logits.masked_fill(~mask, -math.inf)
    before, slope = logits.clone(), torch.randn(logits.shape)
    p, q = inside.softmax(-1), (inside / tau).softmax(-1)
    for cls in (Softmax, STArgmax, GumbelSoftmax, StraightThrough, ReinMax, Simple):
        layer = cls() if cls is Simple else cls(tau=tau)
        leaf = logits.detach().requires_grad_()
        value = layer(leaf, mask)
        (gradient,) = torch.autograd.grad((value * slope).sum(), leaf)
        value, hard = value.detach(), (value.detach() == value.detach().amax(-1, keepdim=True)).float()
        if cls in (Softmax, GumbelSoftmax):
            torch.testing.assert_close(value, q if cls is Softmax else value)
            expected = softmax_slope(value, slope) / tau
        elif cls is ReinMax:
            p1 = (hard + q) / 2
            expected = 2 * softmax_slope(p1, slope) - softmax_slope(p, slope) / 2
        else:
            expected = softmax_slope(p if cls is Simple else q, slope) / (1 if cls is Simple else tau)
        if cls.hard:
            assert torch.equal(value, hard)
        torch.testing.assert_close(gradient, expected, atol=1e-5 / tau, rtol=1e-5)
        assert torch.equal(logits, before) and (value[~mask] == 0).all() and (gradient[~mask] == 0).all()


def test_gapped_straight_through_is_a_softmax_in_which_the_draw_leads():
    logits, slope = torch.randn(500, 5), torch.randn(500, 5)
    draw, gradient = jacobian_transposed(GappedST(tau=0.6, gap=1.0), logits, slope)
    shifted = logits.clone()
    for row, hard in zip(shifted, draw.bool()):
        largest = row.max().clone()
        row[hard] = largest
        row[~hard] = torch.minimum(row[~hard], largest - 1.0)
    expected = softmax_slope((shifted / 0.6).softmax(-1), slope) / 0.6
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("tau", [0.7, 1.0, 1.5])
def test_reinmax_agrees_with_the_authors_algorithm(tau):
    """Algorithm 2 of arXiv 2304.08612, written as in the paper."""
    start, weight = torch.randn(8, 3, 5), torch.randn(8, 3, 5)
    draw, gradient = jacobian_transposed(ReinMax(tau=tau), start, weight)
    theirs = start.clone().requires_grad_()
    p0 = theirs.softmax(-1)
    p1 = (draw + (theirs / tau).softmax(-1)) / 2
    p1 = ((p1.log() - theirs).detach() + theirs).softmax(-1)
    (reference,) = torch.autograd.grad(((2 * p1 - p0 / 2) * weight).sum(), theirs)
    torch.testing.assert_close(gradient, reference, atol=1e-6, rtol=1e-5)


def test_reinmax_cv_without_a_weight_is_reinmax():
    logits, slope = torch.randn(200, 5), torch.randn(200, 5)
    draw, gradient = jacobian_transposed(ReinMaxCV(eta=0.0), logits, slope)
    reference, expected = jacobian_transposed(ReinMax(), logits, slope)
    assert torch.equal(draw, reference)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


def test_decoupled_straight_through_is_st_gumbel_softmax_at_its_backward_temperature():
    logits, slope = torch.randn(200, 5), torch.randn(200, 5)
    draw, gradient = jacobian_transposed(DecoupledSTGumbel(backward_tau=0.4), logits, slope)
    reference, expected = jacobian_transposed(STGumbelSoftmax(tau=0.4), logits, slope)
    assert torch.equal(draw, reference)
    torch.testing.assert_close(gradient, expected)


def test_igr_is_the_softmax_plus_plus_of_a_gaussian():
    logits = torch.randn(1000, 5)
    y = IGR(tau=0.4, sigma=1.3)(logits, noise=Noise(torch.Generator().manual_seed(1)))
    drawn = torch.randn(1000, 5, generator=torch.Generator().manual_seed(1))
    powers = ((logits[:, :-1] - logits[:, -1:] + 1.3 * drawn[:, :-1]) / 0.4).exp()
    torch.testing.assert_close(y[:, :-1], powers / (powers.sum(-1, keepdim=True) + 1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("relaxation, reference", [(Sparsemax, entmax.sparsemax), (Entmax15, entmax.entmax15)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_sparse_maps_are_those_of_the_library_entmax(relaxation, reference, scale, offset):
    logits, weight = scale * torch.randn(200, 3, 9), torch.randn(200, 3, 9)
    logits = (logits + offset) - offset  # what float32 leaves of it
    ours, theirs = (logits + offset).requires_grad_(), logits.clone().requires_grad_()
    p, q = relaxation(tau=0.7)(ours), reference(theirs / 0.7, dim=-1)
    torch.testing.assert_close(p, q, atol=2e-5 if not offset else 2e-3, rtol=0)
    gradients = [torch.autograd.grad((x * weight).sum(), at)[0] for x, at in ((p, ours), (q, theirs))]
    same_support = ((p > 0) == (q > 0)).all(-1)  # an entry at the threshold may fall on either side
    assert same_support.float().mean() > 0.95
    torch.testing.assert_close(*(g[same_support] for g in gradients), atol=1e-3 if not offset else 5e-2, rtol=1e-3)
    p = relaxation()(torch.tensor([3.0, 2.9, 0.0, -5.0]) + offset)
    assert (p[:2] > 0).all() and (p[2:] == 0).all() and abs(p.sum() - 1) < 1e-5


def test_controls_have_the_variance_of_gumbel_noise():
    """Soft values near the corner of a single category are its noise, up to the others'."""
    for cls in (GumbelSoftmax, GaussianSoftmax, UniformSoftmax):
        y = cls(tau=1.0)(torch.zeros(200_000, 2))
        difference = torch.logit(y[:, 0].double())  # of two noises
        assert abs(difference.var() - math.pi**2 / 3) < 0.05


# Gumbel noise given its winner ----------------------------------------------------------------------------------------


def test_conditional_gumbels_have_their_winner_and_are_the_unconditional_ones_on_average():
    """Kolmogorov-Smirnov at 1e-4 of each entry against rejection sampling."""
    logits = LOGITS[0]
    free = logits - torch.empty(400_000, 4).exponential_().log()
    for winner in range(4):
        one_hot = torch.eye(4)[winner]
        conditional = conditional_gumbel(logits, one_hot, 20_000, DEFAULT)
        assert (conditional.argmax(-1) == winner).all()
        accepted = free[free.argmax(-1) == winner][:20_000]
        for ours, theirs in zip(conditional.T, accepted.T):
            assert stats.ks_2samp(ours, theirs).pvalue > 1e-4


def test_conditional_gumbels_leave_masked_entries_out():
    logits = torch.tensor([0.0, -torch.inf, 1.0])
    drawn = conditional_gumbel(logits, torch.tensor([0.0, 0.0, 1.0]), 100, DEFAULT)
    assert (drawn[:, 1] == -torch.inf).all() and drawn[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_gumbel_rao_has_the_mean_of_st_gumbel_softmax_and_less_variance(tau):
    rao = gradients(GumbelRao(tau=tau, samples=20), 50_000)
    plain = gradients(STGumbelSoftmax(tau=tau), 200_000)
    error = (rao.var(0) / len(rao) + plain.var(0) / len(plain)).sqrt()
    assert ((rao.mean(0) - plain.mean(0)).abs() <= 4.5 * error).all()
    assert variance(rao) < 0.9 * variance(plain)


def test_reinmax_rao_tends_to_the_formula_with_the_expected_jacobian():
    """With many samples, against the Jacobian estimated from unconditional noise by rejection, at one draw."""
    logits, slope = LOGITS[0], torch.tensor([1.0, -2.0, 0.5, 3.0])
    draw, gradient = jacobian_transposed(ReinMaxRao(tau=0.8, samples=20_000), logits, slope)
    p = logits.softmax(-1)
    free = ((draw + p) / 2).log() - torch.empty(1_000_000, 4).exponential_().log()
    accepted = free[free.argmax(-1) == draw.argmax()]
    samples = softmax_slope((accepted / 0.8).softmax(-1), slope) / 0.8
    second = 2 * samples.mean(0) - softmax_slope(p, slope) / 2
    error = 2 * samples.std(0) * math.sqrt(1 / len(samples) + 1 / 20_000)
    assert ((gradient - second).abs() <= 4.5 * error + 1e-4).all()


# Bias and variance ----------------------------------------------------------------------------------------------------


def test_variances_are_in_their_order():
    assert variance(gradients(GappedST(tau=0.5))) < variance(gradients(STGumbelSoftmax(tau=0.5)))
    assert variance(gradients(ReinMaxRao(), 50_000)) < variance(gradients(ReinMax(), 50_000))


def test_reinmax_is_less_biased_than_straight_through():
    exact = gradients(Exact(), 1)[0]
    bias = {cls: (gradients(cls(), 200_000).mean(0) - exact).norm() for cls in (ReinMax, StraightThrough)}
    assert bias[ReinMax] < 0.8 * bias[StraightThrough]


def test_straight_through_is_exact_for_a_linear_program_and_reinmax_for_a_quadratic_one():
    start, weight, matrix = torch.randn(1, 4), torch.randn(4), torch.randn(4, 4)
    programs = {
        StraightThrough: lambda z: (z[:, 0] * weight).sum(-1),
        ReinMax: lambda z: torch.einsum("bi,ij,bj->b", z[:, 0], matrix, z[:, 0]),
    }
    for cls, program in programs.items():
        found = []
        for relaxation, n in ((cls(), 200_000), (Exact(), 1)):
            batch = start.expand(n, 1, 4).clone().requires_grad_()
            loss = relaxation.expectation(lambda draw: program(draw(batch)))  # noqa: B023
            found.append(torch.autograd.grad(loss.sum(), batch)[0])
        error = found[0].std(0) / math.sqrt(len(found[0]))
        assert ((found[0].mean(0) - found[1][0]).abs() <= 4.5 * error + 1e-5).all()


# Implicit maximum-likelihood estimation -------------------------------------------------------------------------------


def test_imle_does_not_depend_on_the_scale_of_the_cost():
    logits, slope = torch.randn(500, 4), torch.randn(500, 4)
    first, second = (jacobian_transposed(IMLE(), logits, scale * slope)[1] / scale for scale in (1.0, 1e-3))
    assert first.abs().sum() > 0
    torch.testing.assert_close(first, second)


def test_imle_points_to_where_the_cost_is_lower():
    logits, slope = torch.zeros(1000, 3), torch.tensor([1.0, 0.0, 0.0])
    draw, gradient = jacobian_transposed(IMLE(strength=0.5), logits, slope)
    changed = gradient.abs().sum(-1) > 0
    assert 0 < changed.float().mean() < draw[:, 0].mean()  # only draws of the expensive choice ever change
    assert (gradient[changed][:, 0] == 2).all() and (gradient[changed].sum(-1) == 0).all()


def test_aimle_finds_the_strength_at_which_enough_choices_change():
    layer = AIMLE(target=0.3, step=0.02)
    logits = torch.randn(500, 4, requires_grad=True)
    for _ in range(300):
        slope = torch.randn(500, 4)
        (gradient,) = torch.autograd.grad((layer(logits) * slope).sum(), logits)
    assert abs((gradient != 0).any(-1).float().mean() - 0.3) < 0.08 and layer.strength != 1.0
    before = layer.strength.clone()
    torch.func.grad(lambda x: layer(x, noise=DEFAULT).sum())(logits.detach())
    layer(logits)  # no backward pass
    assert layer.strength == before


@pytest.mark.parametrize("layer", [DecoupledSTGumbel(tau=3.0), IMLE(tau=3.0), AIMLE(tau=3.0)])
def test_scaled_noise_draws_from_tempered_logits(layer):
    expected = (LOGITS[0] / 3).softmax(-1).double() * 100_000
    torch.testing.assert_close(layer.law(Categorical(LOGITS[0])).logits, LOGITS[0] / 3)
    for training in (True, False):
        draws = layer.train(training)(LOGITS[0].expand(100_000, -1)).sum(0)
        assert stats.chisquare(draws.double(), expected).pvalue > 1e-4


def test_a_perturbed_optimizer_has_the_derivative_of_its_expectation():
    """Of a linear cost, against differences with common numbers."""
    logits, weight = LOGITS[0], torch.tensor([1.0, -2.0, 0.5, 3.0])
    layer = PerturbedOptimizer(samples=20, sigma=0.7)
    batch = logits.expand(20_000, -1).clone().requires_grad_()
    (gradient,) = torch.autograd.grad((layer(batch) * weight).sum(), batch)
    noise = 0.7 * torch.randn(2_000_000, 4)
    step = 0.05
    for k in range(4):
        move = step * torch.eye(4)[k]
        up, down = (weight[(logits + m + noise).argmax(-1)] for m in (move, -move))
        difference = (up - down) / (2 * step)
        error = math.sqrt(gradient[:, k].var() / len(gradient) + difference.var() / len(difference))
        assert abs(gradient[:, k].mean() - difference.mean()) < 4.5 * error + 2e-3


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
        (AIMLE, {"target": 1.0}),
        (PerturbedOptimizer, {"samples": 0}),
        (PerturbedOptimizer, {"sigma": 0.0}),
    ],
)
def test_constructors_check_their_numbers(cls, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        cls(**arguments)


def test_imle_with_gaussian_noise_is_a_control():
    """Of two categories one wins with the probability of a difference of Gaussians of variance pi^2 / 6 each."""
    layer = IMLE(noise_law="gaussian", in_eval="sample").eval()
    logits = torch.tensor([1.0, 0.0]).expand(20_000, 2)
    share = layer(logits)[:, 0].mean().item()
    expected = torch.distributions.Normal(0.0, math.pi / 3**0.5).cdf(torch.tensor(1.0)).item()
    assert abs(share - expected) < 4.5 * (expected * (1 - expected) / 20_000) ** 0.5
    with pytest.raises(ZooError, match="no closed form"):
        layer.law(Categorical(logits))
    with pytest.raises(ValueError, match="noise_law must be"):
        IMLE(noise_law="box")
