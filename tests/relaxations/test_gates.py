"""Gates: the law of :class:`Bernoulli`, and what is particular about its relaxations."""

import math

import pytest
import torch
from scipy import stats

from tests.relaxations.checks import path  # noqa: F401 (a fixture)
from zoo.relaxations import Bernoulli, GumbelSoftmax, STGumbelSoftmax
from zoo.relaxations.noise import Noise

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

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
    @pytest.mark.usefixtures("path")
    def test_samples_follow_bernoulli(self, dtype):
        logits = LOGITS[1:5].to(dtype)
        draws = Bernoulli(logits.expand(100_000, -1)).sample()
        assert draws.dtype == dtype and ((draws == 0) | (draws == 1)).all()
        assert bernoulli_p_value(draws, logits.float().sigmoid()) > 1e-4

    @pytest.mark.parametrize("tau", [0.1, 1.0, 3.0])
    @pytest.mark.parametrize("cls", [GumbelSoftmax, STGumbelSoftmax])
    def test_training_draws_follow_bernoulli_once_rounded(self, tau, cls):
        logits = LOGITS[1:5]
        draws = cls(tau=tau)(Bernoulli(logits.expand(100_000, -1)))
        assert bernoulli_p_value(draws > 0.5, logits.sigmoid()) > 1e-4

    @pytest.mark.usefixtures("path")
    def test_rare_gates_open_as_often_as_they_should(self):
        """A uniform number of 24 bits would open a gate of odds 1e-9 once in 2^24."""
        draws = Bernoulli(torch.full((2_000_000,), math.log(2e-5))).sample()
        assert stats.binomtest(int(draws.sum()), len(draws), 2e-5 / (1 + 2e-5)).pvalue > 1e-4
        assert Bernoulli(torch.full((1_000_000,), -40.0)).sample().sum() == 0

    def test_soft_draws_have_the_binary_concrete_density(self):
        """Kolmogorov-Smirnov at 1e-4 against P(X < x) = sigmoid(tau logit(x) - logits), from inverting the draw."""
        draws = GumbelSoftmax(tau=0.7)(Bernoulli(torch.full((20_000,), 0.4))).double()
        result = stats.kstest(draws, lambda x: torch.sigmoid(0.7 * torch.logit(torch.as_tensor(x)) - 0.4).numpy())
        assert result.pvalue > 1e-4


class TestProbabilities:
    def test_mode_log_prob_and_entropy(self):
        logits = torch.randn(16, 3, 5) * 3
        ours, reference = Bernoulli(logits), torch.distributions.Bernoulli(logits=logits)
        value = ours.sample()
        assert torch.equal(ours.mode(), (logits > 0).float())
        torch.testing.assert_close(ours.log_prob(value), reference.log_prob(value))
        torch.testing.assert_close(ours.entropy(), reference.entropy())

    def test_log_prob_sums_to_one_and_is_differentiable_in_both(self):
        logits = LOGITS.clone().requires_grad_()
        law = Bernoulli(logits)
        total = sum(law.log_prob(torch.full_like(logits, v)).exp() for v in (0.0, 1.0))
        torch.testing.assert_close(total, torch.ones(6))
        value = torch.ones(6, requires_grad=True)
        gradients = torch.autograd.grad(law.log_prob(value).sum(), (logits, value))
        torch.testing.assert_close(gradients[0], 1 - LOGITS.sigmoid())
        torch.testing.assert_close(gradients[1], LOGITS, atol=1e-5, rtol=1e-5)

    def test_extreme_logits(self):
        logits = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4], requires_grad=True)
        law = Bernoulli(logits)
        entropy, log_p = law.entropy(), law.log_prob(torch.ones(5))
        far = 51 * math.exp(-50)  # d exp(-d) + exp(-d) to first order
        torch.testing.assert_close(entropy, torch.tensor([0.0, far, math.log(2), far, 0.0]), atol=0, rtol=1e-5)
        small = -math.exp(-50)
        torch.testing.assert_close(log_p, torch.tensor([-1e4, -50, -math.log(2), small, 0.0]), atol=0, rtol=1e-5)
        for value in (entropy, log_p):
            assert torch.autograd.grad(value.sum(), logits, retain_graph=True)[0].isfinite().all()

    def test_masked_gates_are_certainly_closed(self):
        logits = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        law = Bernoulli(logits, torch.tensor([True, False, False]))
        log_p, entropy = law.log_prob(torch.tensor([1.0, 0.0, 1.0])), law.entropy()
        assert log_p[1] == 0 and log_p[2] == -math.inf
        assert entropy[0] > 0 and (entropy[1:] == 0).all()
        assert torch.equal(law.mode(), torch.tensor([1.0, 0.0, 0.0])) and (law.sample((100,))[:, 1:] == 0).all()
        for value in (log_p[:2], entropy):
            (gradient,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
            assert gradient[0] != 0 and (gradient[1:] == 0).all()
        assert Bernoulli(logits, torch.zeros(3, dtype=torch.bool)).sample().sum() == 0  # all of a row may be masked

    def test_a_logit_of_minus_infinity_never_opens_and_one_of_infinity_is_no_gate(self):
        law = Bernoulli(torch.tensor([-math.inf, math.inf, math.nan]))
        for value in (law.sample(), law.mode(), law.rsample(0.5), law.marginals()):
            assert value[0] == 0 and value[1:].isnan().all()


class TestGradient:
    @pytest.mark.parametrize("tau", [0.1, 0.7, 2.0])
    @pytest.mark.parametrize("cls", [GumbelSoftmax, STGumbelSoftmax])
    def test_value_and_gradient_are_the_formula(self, tau, cls):
        """x = 1 / (1 + exp(-(logits + l) / tau)) and dx = x (1 - x) / tau, written out in float64."""
        logits, weight = torch.randn(50, 4, requires_grad=True), torch.randn(50, 4)
        noise = Noise(torch.Generator().manual_seed(3))
        logistic = (noise.gumbel(logits) - noise.gumbel(logits)).double()
        draw = cls(tau=tau)(Bernoulli(logits), noise=Noise(torch.Generator().manual_seed(3)))
        perturbed = logits.detach().double() + logistic
        soft = 1 / (1 + (-perturbed / tau).exp())
        expected = (perturbed > 0).float() if cls.hard else soft.float()
        torch.testing.assert_close(draw, expected, atol=0 if cls.hard else 1e-6, rtol=0 if cls.hard else 1e-5)
        (gradient,) = torch.autograd.grad((draw * weight).sum(), logits)
        torch.testing.assert_close(gradient, (soft * (1 - soft) / tau * weight).float(), atol=1e-5, rtol=1e-4)

    def test_soft_goes_to_hard_as_tau_goes_to_zero(self):
        law, errors = Bernoulli(torch.randn(1000)), []
        for tau in (1.0, 0.1, 0.01, 1e-3):
            soft, hard = (
                cls(tau=tau)(law, noise=Noise(torch.Generator().manual_seed(5)))
                for cls in (GumbelSoftmax, STGumbelSoftmax)
            )
            errors.append((soft - hard).abs().mean().item())
        assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3

    @pytest.mark.parametrize("cls", [GumbelSoftmax, STGumbelSoftmax])
    def test_training_opens_the_right_gates(self, cls):
        """Which five of ten features add up to a signal of twelve values."""
        features, right = torch.randn(10, 12), torch.tensor([1.0, 0.0] * 5)
        logits, relaxation = torch.zeros(10, requires_grad=True), cls(tau=0.5)
        optimiser = torch.optim.Adam([logits], lr=0.05)
        for _ in range(200):
            law = Bernoulli(logits.expand(32, -1))
            loss = relaxation.expectation(lambda draw: ((draw(law) - right) @ features).square().sum(-1))  # noqa: B023
            optimiser.zero_grad()
            loss.mean().backward()
            optimiser.step()
        assert torch.equal(Bernoulli(logits).mode(), right)


@pytest.mark.parametrize(
    "logits, mask, message",
    [
        (torch.zeros(2, 3, dtype=torch.int64), None, "floating-point"),
        (torch.zeros(2, 3), torch.ones(2, 3), "boolean"),
        (torch.zeros(2, 3), torch.ones(4, 2, 3, dtype=torch.bool), "broadcast"),
        (torch.zeros(2, 3), torch.ones(2, dtype=torch.bool), "broadcast"),
    ],
)
def test_wrong_input_is_an_error(logits, mask, message):
    with pytest.raises(ValueError, match=message):
        Bernoulli(logits, mask)
