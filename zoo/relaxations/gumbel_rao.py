"""Gumbel noise given its winner, and the estimators that average over it."""

from typing import Any

import torch
from torch import Tensor

from zoo.relaxations import eager
from zoo.relaxations.base import InEval, Pathwise, Tempered
from zoo.relaxations.distributions import OneOfK
from zoo.relaxations.noise import Noise
from zoo.relaxations.straight_through import one_of_k


class GumbelRao(Pathwise, Tempered):
    """An exact sample ``D`` forward; backward the mean Gumbel-softmax over k noises that have ``D`` as their winner.

    The Rao-Blackwellised straight-through Gumbel-softmax: the same bias, less variance, at the price of k softmaxes
    instead of one. One program run. Works for tau in about [0.1, 1]: with the noise averaged out, lower
    temperatures, with less bias, become usable.

    Args:
        tau: temperature of the backward pass.
        samples: k.

    Raises:
        ValueError: if ``samples`` is less than 1.

    Source: Paulus et al. 2021, arXiv 2010.04838, eq. 12.
    """

    needs = (OneOfK,)

    def __init__(self, *, tau: float | Tensor = 0.5, samples: int = 10, in_eval: InEval | None = None) -> None:
        super().__init__(tau=tau, in_eval=in_eval)
        self.samples = check_samples(samples)

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return gumbel_rao(distribution, self.temperature_for(distribution), noise, self.samples)


class ReinMaxRao(Pathwise, Tempered):
    """ReinMax with its Jacobian at ``p1`` replaced by the Gumbel-Rao estimate there.

    With ``p1 = (D + p) / 2`` the Jacobian of the draw is ``2 J_GR(log p1) - J(p) / 2``, where ``J_GR`` averages the
    Gumbel-softmax Jacobian over k noises that have ``D`` as their winner. Less variance than ReinMax and, at tau of
    about 1, more bias: the second-order accuracy is traded. One program run.

    Args:
        tau: temperature of ``J_GR``; about 1.
        samples: k.

    Raises:
        ValueError: if ``samples`` is less than 1.

    Source: Wang & Bui 2026, arXiv 2603.08257, eq. 17 (with the second term at the logits, as in the authors' code).
    """

    needs = (OneOfK,)
    learns_tau = False

    def __init__(self, *, tau: float | Tensor = 1.0, samples: int = 10, in_eval: InEval | None = None) -> None:
        super().__init__(tau=tau, in_eval=in_eval)
        self.samples = check_samples(samples)

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return reinmax_rao(distribution, self.temperature_for(distribution), noise, self.samples)


class ReinMaxCV(Pathwise, Tempered):
    """ReinMax minus ``eta`` times a Gumbel-softmax Jacobian at ``p1``, plus ``eta`` times its Gumbel-Rao estimate.

    The Gumbel-softmax term has the noise that drew ``D``, the Gumbel-Rao term noise that has ``D`` as its winner at
    ``log p1``. The two laws differ, so the difference is not zero in its mean and moves the bias as well as the
    variance; the gradient lab shows by how much. One program run.

    Args:
        tau: temperature of the two terms; about 1.
        eta: weight of the control variate.
        samples: of the Gumbel-Rao term.

    Raises:
        ValueError: if ``samples`` is less than 1.

    Source: Wang & Bui 2026, arXiv 2603.08257, eq. 18 (with ReinMax's factor 2, as in the authors' code).
    """

    needs = (OneOfK,)
    learns_tau = False

    def __init__(
        self, *, tau: float | Tensor = 1.0, eta: float = 0.5, samples: int = 10, in_eval: InEval | None = None
    ) -> None:
        super().__init__(tau=tau, in_eval=in_eval)
        self.eta = eta
        self.samples = check_samples(samples)

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return reinmax_cv(distribution, self.temperature_for(distribution), noise, self.samples, self.eta)


def gumbel_rao(distribution: OneOfK, tau: Tensor | float, noise: Noise, samples: int) -> Tensor:
    choice, tau = one_of_k(distribution, tau)
    hard = choice._sample(noise)
    surrogate = mean_gumbel_softmax(choice.logits, hard, tau, samples, noise, choice.batch_dim)
    return distribution.from_one_hot(eager.straight_through(hard, surrogate))


def reinmax_rao(distribution: OneOfK, tau: Tensor | float, noise: Noise, samples: int) -> Tensor:
    choice, tau = one_of_k(distribution, tau)
    hard = choice._sample(noise)
    at_p1 = mean_gumbel_softmax(halfway(hard, choice.logits), hard, tau, samples, noise, choice.batch_dim)
    return distribution.from_one_hot(eager.straight_through(hard, 2 * at_p1 - choice.logits.softmax(-1) / 2))


def reinmax_cv(distribution: OneOfK, tau: Tensor | float, noise: Noise, samples: int, eta: float) -> Tensor:
    choice, tau = one_of_k(distribution, tau)
    logits, batch_dim = choice.logits, choice.batch_dim
    hard = choice._sample(noise)
    log_p1 = halfway(hard, logits)
    fixed = logits.detach()
    drawn = conditional_gumbel(fixed, hard, 1, noise, batch_dim)[0] - eager.finite(fixed)
    gumbel_softmax = ((log_p1 + drawn) / tau).softmax(-1)
    rao = mean_gumbel_softmax(log_p1, hard, tau, samples, noise, batch_dim)
    reinmax = 2 * log_p1.softmax(-1) - logits.softmax(-1) / 2
    return distribution.from_one_hot(eager.straight_through(hard, reinmax + eta * (rao - gumbel_softmax)))


def check_samples(samples: int) -> int:
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    return samples


def halfway(hard: Tensor, logits: Tensor) -> Tensor:
    """``log((D + p) / 2)`` in value, with the gradient of ``logits``: where ReinMax takes its second slope."""
    fixed = logits.detach()
    log_p1 = ((hard + fixed.softmax(-1)) / 2).log()
    return log_p1 + (eager.finite(logits) - eager.finite(fixed))


def conditional_gumbel(logits: Tensor, winner: Tensor, samples: int, noise: Noise, batch_dim: int = 0) -> Tensor:
    """Draws of ``logits + g``, ``(samples, ..., categories)``, given that one-hot ``winner`` is their arg max.

    The maximum is Gumbel with location ``log Z``, whoever wins; below it the others are independent, truncated
    Gumbels: ``-log(exp(-(t_j + g_j)) + exp(-maximum))``.

    Source: Maddison & Tarlow 2017, "Gumbel machinery"; Paulus et al. 2021, arXiv 2010.04838, section 3.1.
    """
    free = logits + noise.gumbel(logits.expand(samples, *logits.shape), batch_dim + 1)
    top = logits.logsumexp(-1, keepdim=True) + noise.gumbel(free[..., :1], batch_dim + 1)
    return torch.where(winner != 0, top, -torch.logaddexp(-free, -top))


def mean_gumbel_softmax(
    logits: Tensor, winner: Tensor, tau: Tensor | float, samples: int, noise: Noise, batch_dim: int = 0
) -> Tensor:
    """The mean over ``samples`` conditional noises of ``softmax((logits + g) / tau)``, differentiable in ``logits``."""
    with torch.no_grad():
        perturbed = conditional_gumbel(logits.detach(), winner, samples, noise, batch_dim)
    gradient_path = eager.finite(logits) - eager.finite(logits.detach())  # zero in value
    return ((perturbed + gradient_path) / tau).softmax(-1).mean(0)
