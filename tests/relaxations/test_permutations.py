import builtins
import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.relaxations.checks import compile_and_change_tau, finite_gradient, repeats_with_its_seed
from zoo.config import from_config, to_config
from zoo.errors import ZooError
from zoo.relaxations.functional import sample_gumbel
from zoo.relaxations.permutations import GumbelSinkhorn

LOGITS = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.8, 0.0], [-0.5, 1.0, 0.3]])


def all_permutations(n: int) -> torch.Tensor:
    """Every permutation matrix, ``(n!, n, n)``."""
    return torch.stack([torch.eye(n)[list(p)] for p in permutations(range(n))])


def count(draws: torch.Tensor) -> torch.Tensor:
    """How often each permutation occurs in ``(draws, n, n)``."""
    matrices = all_permutations(draws.shape[-1])
    which = torch.einsum("bij,pij->bp", draws.float(), matrices) == draws.shape[-1]
    assert (which.sum(-1) == 1).all()
    return which.sum(0)


def simulate(logits: torch.Tensor, draws: int) -> np.ndarray:
    """Counts of perturb-and-MAP permutations with numpy's own noise, by comparing all of them."""
    noisy = logits.double().numpy() + np.random.default_rng(11).gumbel(size=(draws, *logits.shape))
    best = np.einsum("bij,pij->bp", noisy, all_permutations(len(logits)).numpy()).argmax(-1)
    return np.bincount(best, minlength=math.factorial(len(logits)))


class TestSampling:
    """Chi-squared at significance 1e-4: with fixed seeds a pass is for ever."""

    @pytest.mark.parametrize("training, hard, tau", [(True, True, 0.2), (True, True, 3.0), (False, False, 1.0)])
    def test_draws_follow_perturb_and_map(self, training, hard, tau):
        draws = GumbelSinkhorn(tau=tau, hard=hard).train(training)(LOGITS.expand(20_000, -1, -1))
        table = np.stack([count(draws).numpy(), simulate(LOGITS, 200_000)])
        assert stats.chi2_contingency(table).pvalue > 1e-4

    def test_the_law_is_not_gibbs(self):
        """So that nobody adds its log_prob: at 1e-9 the two differ."""
        gibbs = torch.einsum("ij,pij->p", LOGITS, all_permutations(3)).softmax(0).double()
        observed = simulate(LOGITS, 200_000)
        assert stats.chisquare(observed, gibbs * observed.sum() / gibbs.sum()).pvalue < 1e-9

    def test_equal_logits_make_every_permutation_equally_likely(self):
        assert stats.chisquare(count(GumbelSinkhorn().eval()(torch.zeros(20_000, 3, 3)))).pvalue > 1e-4

    def test_of_two_the_law_is_logistic_in_closed_form(self):
        """P(identity) = P(s + g1 + g2 > g3 + g4): the difference of two logistic variables, by quadrature."""
        logits = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
        x = torch.linspace(-60, 60, 200_001, dtype=torch.float64)
        p = torch.trapezoid(torch.sigmoid(x + 1.5) * torch.sigmoid(x) * torch.sigmoid(-x), x).item()
        observed = count(GumbelSinkhorn().eval()(logits.expand(20_000, -1, -1)))
        assert stats.binomtest(int(observed[0]), 20_000, p).pvalue > 1e-4

    @pytest.mark.parametrize("training", [True, False])
    def test_seed_repeats_draws(self, training):
        assert repeats_with_its_seed(GumbelSinkhorn(hard=False).train(training), torch.randn(64, 2, 5, 5))

    def test_mode_is_the_best_of_all_permutations(self):
        logits = torch.randn(20, 4, 4)
        matrices = all_permutations(4)
        best = torch.einsum("bij,pij->bp", logits, matrices).argmax(-1)
        assert torch.equal(GumbelSinkhorn().mode(logits), matrices[best])

    def test_masked_mode_is_the_best_of_those_allowed(self):
        logits, mask = torch.randn(20, 4, 4), torch.rand(20, 4, 4) < 0.7
        mask |= torch.eye(4, dtype=torch.bool)
        matrices = all_permutations(4)
        scores = torch.einsum("bij,pij->bp", logits, matrices)
        forbidden = torch.einsum("bij,pij->bp", (~mask).float(), matrices) > 0
        best = scores.masked_fill(forbidden, -math.inf).argmax(-1)
        assert torch.equal(GumbelSinkhorn().mode(logits, mask), matrices[best])


@given(
    rows=st.integers(1, 4),
    n=st.integers(1, 6),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    tau=st.sampled_from([1e-3, 0.1, 1.0, 30.0, 1e3]),
    iterations=st.sampled_from([1, 20]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    masked=st.booleans(),
    hard=st.booleans(),
    training=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_draw_is_finite_with_columns_that_sum_to_one(
    rows, n, scale, tau, iterations, dtype, masked, hard, training, seed
):
    torch.manual_seed(seed)
    shape = (rows, 2, n, n)
    logits = (scale * (2 * torch.rand(shape) - 1)).to(dtype).requires_grad_()
    mask = None
    if masked:
        some = torch.eye(n, dtype=torch.bool)[torch.rand(rows, 2, n).argsort(-1)]
        mask = (torch.rand(shape) < 0.4) | some
    draw = GumbelSinkhorn(tau=tau, iterations=iterations, hard=hard).train(training)(logits, mask)
    assert draw.shape == logits.shape and draw.dtype == dtype
    assert ((draw >= 0) & (draw <= 1)).all()
    torch.testing.assert_close(draw.float().sum(-2), torch.ones(rows, 2, n), atol=0.02, rtol=0)
    if hard or not training:
        assert ((draw == 0) | (draw == 1)).all() and (draw.sum(-1) == 1).all() and (draw.sum(-2) == 1).all()
    elif scale <= 1 and tau >= 1 and iterations == 20 and not masked:
        torch.testing.assert_close(draw.float().sum(-1), torch.ones(rows, 2, n), atol=0.05, rtol=0)
    if masked:
        assert (draw[~mask] == 0).all()
    assert draw.requires_grad == training
    if training:
        assert finite_gradient(draw, logits, mask)


def sinkhorn(perturbed: torch.Tensor, tau: float, iterations: int) -> torch.Tensor:
    """As in the paper, naively in float64: rows, then columns."""
    x = (perturbed / tau).exp()
    for _ in range(iterations):
        x = x / x.sum(-1, keepdim=True)
        x = x / x.sum(-2, keepdim=True)
    return x


class TestGradient:
    @pytest.mark.parametrize("tau, iterations", [(0.5, 1), (1.0, 20), (2.0, 5)])
    @pytest.mark.parametrize("hard", [True, False])
    @pytest.mark.parametrize("masked", [True, False])
    def test_value_and_gradient_are_the_formula(self, tau, iterations, hard, masked):
        logits, weight = torch.randn(20, 4, 4, requires_grad=True), torch.randn(20, 4, 4)
        mask = (torch.rand(20, 4, 4) < 0.7) | torch.eye(4, dtype=torch.bool) if masked else None
        torch.manual_seed(3)
        noise = sample_gumbel(torch.empty(20, 4, 4)).double()
        reference = logits.detach().double().requires_grad_()
        perturbed = reference + noise
        soft = sinkhorn(perturbed if mask is None else perturbed.masked_fill(~mask, -math.inf), tau, iterations)
        torch.manual_seed(3)
        draw = GumbelSinkhorn(tau=tau, iterations=iterations, hard=hard)(logits, mask)
        if hard:
            assert ((draw == 0) | (draw == 1)).all()
        else:
            torch.testing.assert_close(draw, soft.float(), atol=1e-5, rtol=1e-4)
        (gradient,) = torch.autograd.grad((draw * weight).sum(), logits)
        (expected,) = torch.autograd.grad((soft * weight).sum(), reference)
        torch.testing.assert_close(gradient, expected.float(), atol=1e-5, rtol=1e-3)

    def test_soft_goes_to_hard_as_tau_goes_to_zero_with_iterations_enough(self):
        logits = torch.randn(200, 4, 4)
        errors = []
        for tau in (3.0, 1.0, 0.1, 0.01):
            torch.manual_seed(5)
            soft = GumbelSinkhorn(tau=tau, iterations=1000, hard=False)(logits)
            torch.manual_seed(5)
            errors.append((soft - GumbelSinkhorn()(logits)).abs().mean().item())
        assert errors == sorted(errors, reverse=True) and errors[-1] < 0.01

    @pytest.mark.parametrize("hard", [True, False])
    def test_mean_gradient_is_a_descent_direction(self, hard):
        """Of the expected cost, which the same 4,000 noises estimate before and after the step."""
        weight = torch.randn(3, 3)

        def cost(z):
            return ((z * weight).sum((-1, -2)) - 0.7).square()

        batch = LOGITS.expand(4_000, -1, -1).clone().requires_grad_()
        relaxation = GumbelSinkhorn(hard=hard)
        gradient = torch.autograd.grad(relaxation.expectation(lambda draw: cost(draw(batch))).sum(), batch)[0].mean(0)
        means = []
        for step in (0.0, 0.5):
            torch.manual_seed(9)
            means.append(cost(relaxation.sample(batch.detach() - step * gradient)).mean())
        assert means[1] < means[0]

    @pytest.mark.parametrize("hard", [True, False])
    @pytest.mark.parametrize("tau", [0.3, 1.0, 3.0])
    def test_training_sorts_numbers(self, hard, tau):
        numbers = torch.tensor([0.3, -1.2, 2.0, 0.9, -0.4])
        target = numbers.sort().values
        logits = torch.zeros(5, 5, requires_grad=True)
        relaxation = GumbelSinkhorn(tau=tau, hard=hard)
        optimiser = torch.optim.Adam([logits], lr=0.1)
        for _ in range(100):
            batch = logits.expand(16, -1, -1)
            loss = relaxation.expectation(lambda draw: (draw(batch) @ numbers - target).square().sum(-1))  # noqa: B023
            optimiser.zero_grad()
            loss.mean().backward()
            optimiser.step()
        assert torch.equal(relaxation.mode(logits) @ numbers, target)


class TestRefusals:
    @pytest.mark.parametrize(
        "mask",
        [
            [[True, True, True], [False, False, False], [True, True, True]],
            [[True, False, False], [True, False, False], [True, True, True]],  # two items for one place
        ],
    )
    @pytest.mark.parametrize("hard", [True, False])
    def test_a_mask_without_a_permutation_is_an_error(self, mask, hard):
        relaxation = GumbelSinkhorn(hard=hard)
        for call in (relaxation, GumbelSinkhorn(hard=hard).eval(), relaxation.sample, relaxation.mode):
            with pytest.raises(ValueError, match="allows no permutation"):
                call(torch.zeros(2, 3, 3), torch.tensor(mask))
            with pytest.raises(ValueError, match="allows no permutation"):
                call(torch.zeros(2, 3, 3), torch.stack([torch.ones(3, 3, dtype=torch.bool), torch.tensor(mask)]))

    def test_a_mask_of_columns_broadcasts(self):
        with pytest.raises(ValueError, match="allows no permutation"):
            GumbelSinkhorn()(torch.zeros(2, 3, 3), torch.tensor([True, True, False]))
        assert GumbelSinkhorn()(torch.zeros(2, 3, 3), torch.tensor([True, True, True])).sum() == 6

    @pytest.mark.parametrize(
        "logits, mask, message",
        [
            (torch.zeros(2, 3, 3, dtype=torch.int64), None, "floating-point"),
            (torch.zeros(3), None, "n, n"),
            (torch.zeros(2, 3), None, "n, n"),
            (torch.zeros(2, 0, 0), None, "n, n"),
            (torch.full((2, 3, 3), math.nan), None, "NaN"),
            (torch.full((2, 3, 3), math.inf), None, "inf"),
            (torch.zeros(2, 3, 3), torch.ones(3, 3), "boolean"),
            (torch.zeros(2, 3, 3), torch.ones(4, 2, 3, 3, dtype=torch.bool), "broadcast"),
        ],
    )
    def test_wrong_input_is_an_error(self, logits, mask, message):
        with pytest.raises(ValueError, match=message):
            GumbelSinkhorn()(logits, mask)

    def test_constructor_checks_its_numbers(self):
        with pytest.raises(ValueError, match="iterations"):
            GumbelSinkhorn(iterations=0)
        with pytest.raises(ValueError, match="tau"):
            GumbelSinkhorn(tau=-1.0)

    def test_there_is_no_log_prob_and_no_entropy(self):
        relaxation = GumbelSinkhorn()
        with pytest.raises(ZooError, match="no closed form"):
            relaxation.log_prob(LOGITS, torch.eye(3))
        with pytest.raises(ZooError, match="no closed form"):
            relaxation.entropy(LOGITS)

    def test_without_scipy_the_relaxed_form_works_and_the_rest_says_what_to_install(self, monkeypatch):
        def no_scipy(name, *args, **kwargs):
            if name.startswith("scipy"):
                raise ImportError(name)
            return real(name, *args, **kwargs)

        real = builtins.__import__
        monkeypatch.setattr(builtins, "__import__", no_scipy)
        relaxation = GumbelSinkhorn(hard=False)
        assert relaxation(LOGITS).isfinite().all()
        for call in (GumbelSinkhorn(), relaxation.eval(), relaxation.mode):
            with pytest.raises(ZooError, match=r"discrete-latent-zoo\[permutations\]"):
                call(LOGITS)


def test_configuration_and_state_travel():
    relaxation = from_config(to_config(GumbelSinkhorn(tau=0.3, iterations=5, hard=False)))
    assert relaxation.arguments == {"tau": 0.3, "iterations": 5, "hard": False}
    relaxation.tau.fill_(0.25)
    other = GumbelSinkhorn()
    other.load_state_dict(relaxation.state_dict())
    assert other.tau == 0.25


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("hard", [True, False])
def test_compiles_without_graph_break_and_without_recompile_when_tau_changes(masked, hard):
    logits = torch.randn(4, 3, 3, requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, True, True], [False, True, True]]) if masked else None
    compiled, draw = compile_and_change_tau(GumbelSinkhorn(iterations=3, hard=hard), logits, mask)
    torch.testing.assert_close(draw.sum(-2), torch.ones(4, 3))
    if masked:
        assert (draw[:, ~mask] == 0).all() and (logits.grad[:, ~mask] == 0).all()
        forbidden = torch.tensor([[True, False, False], [True, False, False], [True, True, True]])
        with torch._dynamo.config.patch(error_on_recompile=True), pytest.raises(ValueError, match="no permutation"):
            compiled(logits, forbidden)


def test_exports():
    exported = torch.export.export(GumbelSinkhorn().eval(), (torch.randn(2, 3, 3),)).module()
    order = torch.eye(3)[[2, 0, 1]]
    assert torch.equal(exported(50 * order.expand(2, 3, 3)), order.expand(2, 3, 3))
