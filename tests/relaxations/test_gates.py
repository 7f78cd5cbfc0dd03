import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from zoo.relaxations.gates import BinaryConcrete

from tests.relaxations.checks import compile_and_change_tau, finite_gradient, repeats_with_its_seed
from zoo.config import from_config, to_config
from zoo.relaxations.functional import sample_gumbel

LOGITS = torch.tensor([-4.0, -1.0, 0.0, 0.3, 2.0, 6.0])


def bernoulli_p_value(draws: torch.Tensor, probabilities: torch.Tensor) -> float:
    """Chi-squared of all 2^n states of n gates together: their marginals and their independence."""
    n = draws.shape[-1]
    states = (draws.long() * 2 ** torch.arange(n)).sum(-1)
    bits = torch.arange(2**n).unsqueeze(-1).bitwise_and(2 ** torch.arange(n)) > 0
    expected = torch.where(bits, probabilities.double(), 1 - probabilities.double()).prod(-1) * len(draws)
    return stats.chisquare(torch.bincount(states, minlength=2**n), expected).pvalue


class TestSampling:
    """Chi-squared at significance 1e-4: with fixed seeds a pass is for ever."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_eval_draws_follow_bernoulli(self, dtype):
        logits = LOGITS[1:5].to(dtype)
        for hard in (True, False):
            draws = BinaryConcrete(hard=hard).eval()(logits.expand(100_000, -1))
            assert draws.dtype == dtype and ((draws == 0) | (draws == 1)).all()
            assert bernoulli_p_value(draws, logits.float().sigmoid()) > 1e-4

    @pytest.mark.parametrize("tau", [0.1, 1.0, 3.0])
    @pytest.mark.parametrize("hard", [True, False])
    def test_training_draws_follow_bernoulli_once_rounded(self, tau, hard):
        logits = LOGITS[1:5]
        draws = BinaryConcrete(tau=tau, hard=hard)(logits.expand(100_000, -1))
        assert bernoulli_p_value(draws > 0.5, logits.sigmoid()) > 1e-4

    def test_rare_gates_open_as_often_as_they_should(self):
        """A uniform number of 24 bits would open a gate of odds 1e-9 once in 2^24."""
        draws = BinaryConcrete().eval()(torch.full((2_000_000,), math.log(2e-5)))
        assert stats.binomtest(int(draws.sum()), len(draws), 2e-5 / (1 + 2e-5)).pvalue > 1e-4
        assert BinaryConcrete().eval()(torch.full((1_000_000,), -40.0)).sum() == 0

    def test_soft_draws_have_the_binary_concrete_density(self):
        """Kolmogorov-Smirnov at 1e-4 against P(X < x) = sigmoid(tau logit(x) - logits), from inverting the draw."""
        draws = BinaryConcrete(tau=0.7, hard=False)(torch.full((20_000,), 0.4)).double()
        result = stats.kstest(draws, lambda x: torch.sigmoid(0.7 * torch.logit(torch.as_tensor(x)) - 0.4).numpy())
        assert result.pvalue > 1e-4

    @pytest.mark.parametrize("training", [True, False])
    def test_seed_repeats_draws(self, training):
        assert repeats_with_its_seed(BinaryConcrete(hard=False).train(training), torch.randn(64, 3, 5))


class TestProbabilities:
    def test_mode_log_prob_and_entropy(self):
        relaxation = BinaryConcrete()
        logits = torch.randn(16, 3, 5) * 3
        reference = torch.distributions.Bernoulli(logits=logits)
        value = relaxation.sample(logits)
        assert torch.equal(relaxation.mode(logits), (logits > 0).float())
        torch.testing.assert_close(relaxation.log_prob(logits, value), reference.log_prob(value))
        torch.testing.assert_close(relaxation.entropy(logits), reference.entropy())

    def test_log_prob_sums_to_one_and_is_differentiable_in_both(self):
        logits = LOGITS.clone().requires_grad_()
        relaxation = BinaryConcrete()
        total = sum(relaxation.log_prob(logits, torch.full_like(logits, v)).exp() for v in (0.0, 1.0))
        torch.testing.assert_close(total, torch.ones(6))
        value = torch.ones(6, requires_grad=True)
        gradients = torch.autograd.grad(relaxation.log_prob(logits, value).sum(), (logits, value))
        torch.testing.assert_close(gradients[0], 1 - LOGITS.sigmoid())
        torch.testing.assert_close(gradients[1], LOGITS, atol=1e-5, rtol=1e-5)

    def test_extreme_logits(self):
        logits = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4], requires_grad=True)
        relaxation = BinaryConcrete()
        entropy = relaxation.entropy(logits)
        far = 51 * math.exp(-50)  # d exp(-d) + exp(-d) to first order
        torch.testing.assert_close(entropy, torch.tensor([0.0, far, math.log(2), far, 0.0]), atol=0, rtol=1e-5)
        log_p = relaxation.log_prob(logits, torch.ones(5))
        small = -math.exp(-50)
        torch.testing.assert_close(log_p, torch.tensor([-1e4, -50, -math.log(2), small, 0.0]), atol=0, rtol=1e-5)
        for value in (entropy, log_p):
            assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()

    def test_masked_gates_are_certainly_closed(self):
        relaxation = BinaryConcrete()
        logits = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        mask = torch.tensor([True, False, False])
        log_p = relaxation.log_prob(logits, torch.tensor([1.0, 0.0, 1.0]), mask)
        assert log_p[1] == 0 and log_p[2] == -math.inf
        entropy = relaxation.entropy(logits, mask)
        assert entropy[0] > 0 and (entropy[1:] == 0).all()
        assert torch.equal(relaxation.mode(logits, mask), torch.tensor([1.0, 0.0, 0.0]))
        for value in (log_p[:2], entropy):
            (gradient,) = torch.autograd.grad(value.sum(), logits)
            assert gradient[0] != 0 and (gradient[1:] == 0).all()


@given(
    shape=st.lists(st.integers(1, 5), max_size=4),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    tau=st.sampled_from([1e-3, 0.1, 1.0, 30.0, 1e3]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    masked=st.booleans(),
    hard=st.booleans(),
    training=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_draw_is_finite_and_in_range(shape, scale, tau, dtype, masked, hard, training, seed):
    torch.manual_seed(seed)
    logits = (scale * (2 * torch.rand(shape) - 1)).to(dtype).requires_grad_()
    mask = torch.rand(shape) < 0.5 if masked else None
    draw = BinaryConcrete(tau=tau, hard=hard).train(training)(logits, mask)
    assert draw.shape == logits.shape and draw.dtype == dtype
    assert ((draw >= 0) & (draw <= 1)).all()
    if hard or not training:
        assert ((draw == 0) | (draw == 1)).all()
    if masked:
        assert (draw[~mask] == 0).all()
    assert draw.requires_grad == training
    if training:
        assert finite_gradient(draw, logits, mask)


class TestGradient:
    @pytest.mark.parametrize("tau", [0.1, 0.7, 2.0])
    @pytest.mark.parametrize("hard", [True, False])
    def test_value_and_gradient_are_the_formula(self, tau, hard):
        """x = 1 / (1 + exp(-(logits + l) / tau)) and dx = x (1 - x) / tau, written out in float64."""
        logits = torch.randn(50, 4, requires_grad=True)
        weight = torch.randn(50, 4)
        torch.manual_seed(3)
        noise = (sample_gumbel(torch.empty(50, 4)) - sample_gumbel(torch.empty(50, 4))).double()
        torch.manual_seed(3)
        draw = BinaryConcrete(tau=tau, hard=hard)(logits)
        perturbed = logits.detach().double() + noise
        soft = 1 / (1 + (-perturbed / tau).exp())
        expected = (perturbed > 0).float() if hard else soft.float()
        torch.testing.assert_close(draw, expected, atol=0 if hard else 1e-6, rtol=0 if hard else 1e-5)
        (gradient,) = torch.autograd.grad((draw * weight).sum(), logits)
        torch.testing.assert_close(gradient, (soft * (1 - soft) / tau * weight).float(), atol=1e-5, rtol=1e-4)

    def test_soft_goes_to_hard_as_tau_goes_to_zero(self):
        logits = torch.randn(1000)
        errors = []
        for tau in (1.0, 0.1, 0.01, 1e-3):
            torch.manual_seed(5)
            soft = BinaryConcrete(tau=tau, hard=False)(logits)
            torch.manual_seed(5)
            errors.append((soft - BinaryConcrete(tau=tau)(logits)).abs().mean().item())
        assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3

    @pytest.mark.parametrize("hard", [True, False])
    def test_mean_gradient_is_a_descent_direction(self, hard):
        """Of the exact expected cost, by enumeration of the gates."""
        weight = torch.tensor([1.0, -2.0, 0.5])

        def cost(z):
            return ((z * weight).sum(-1) - 0.7).square()

        start = torch.tensor([0.3, 0.5, -0.8])
        values = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
        relaxation = BinaryConcrete(tau=0.5, hard=hard)

        def expected(logits):
            return (relaxation.log_prob(logits.expand(8, -1), values).sum(-1).exp() * cost(values)).sum()

        batch = start.expand(20_000, -1).clone().requires_grad_()
        loss = relaxation.expectation(lambda draw: cost(draw(batch)))
        gradient = torch.autograd.grad(loss.sum(), batch)[0].mean(0)
        assert expected(start - 0.1 * gradient) < expected(start)
        if hard:
            assert (loss.mean() - expected(start)).abs() < 4.5 * loss.std() / math.sqrt(len(batch))

    @pytest.mark.parametrize("hard", [True, False])
    def test_training_opens_the_right_gates(self, hard):
        """Which five of ten features add up to a signal of twelve values."""
        features = torch.randn(10, 12)
        right = torch.tensor([1.0, 0.0] * 5)
        logits = torch.zeros(10, requires_grad=True)
        relaxation = BinaryConcrete(tau=0.5, hard=hard)
        optimiser = torch.optim.Adam([logits], lr=0.05)
        for _ in range(200):
            batch = logits.expand(32, -1)
            loss = relaxation.expectation(lambda draw: ((draw(batch) - right) @ features).square().sum(-1))  # noqa: B023
            optimiser.zero_grad()
            loss.mean().backward()
            optimiser.step()
        assert torch.equal(relaxation.mode(logits), right)


class TestRefusals:
    @pytest.mark.parametrize(
        "logits, mask, message",
        [
            (torch.zeros(2, 3, dtype=torch.int64), None, "floating-point"),
            (torch.zeros(2, 3), torch.ones(2, 3), "boolean"),
            (torch.zeros(2, 3), torch.ones(4, 2, 3, dtype=torch.bool), "broadcast"),
            (torch.zeros(2, 3), torch.ones(2, dtype=torch.bool), "broadcast"),
        ],
    )
    def test_wrong_input_is_an_error(self, logits, mask, message):
        relaxation = BinaryConcrete()
        for call in (relaxation, BinaryConcrete().eval(), relaxation.sample, relaxation.mode, relaxation.entropy):
            with pytest.raises(ValueError, match=message):
                call(logits, mask)

    @pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf])
    def test_tau_must_be_positive_and_finite(self, tau):
        with pytest.raises(ValueError, match="tau"):
            BinaryConcrete(tau=tau)


def test_configuration_and_state_travel():
    relaxation = from_config(to_config(BinaryConcrete(tau=0.3, hard=False)))
    assert relaxation.arguments == {"tau": 0.3, "hard": False} and relaxation.hard is False
    relaxation.tau.fill_(0.25)
    other = BinaryConcrete()
    other.load_state_dict(relaxation.state_dict())
    assert other.tau == 0.25 and other.hard


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("hard", [True, False])
def test_compiles_without_graph_break_and_without_recompile_when_tau_changes(masked, hard):
    logits = torch.randn(4, 3, 5, requires_grad=True)
    mask = torch.tensor([True, True, False, True, True]) if masked else None
    _, draw = compile_and_change_tau(BinaryConcrete(hard=hard), logits, mask)
    assert ((draw >= 0) & (draw <= 1)).all()
    if masked:
        assert (draw[..., 2] == 0).all() and (logits.grad[..., 2] == 0).all()


def test_exports():
    exported = torch.export.export(BinaryConcrete().eval(), (torch.randn(4, 3),)).module()
    assert torch.equal(exported(torch.tensor([50.0, -50.0, 50.0]).expand(4, 3))[0], torch.tensor([1.0, 0.0, 1.0]))
