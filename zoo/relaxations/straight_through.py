"""Straight-through estimators that need no Gumbel noise."""

from typing import Any

from torch import Tensor

from zoo.relaxations import eager
from zoo.relaxations.base import InEval, Pathwise, Tempered
from zoo.relaxations.distributions import OneOfK, Relaxable
from zoo.relaxations.distributions.categorical import needs_gradient
from zoo.relaxations.noise import Noise


class StraightThrough(Pathwise, Tempered):
    """An exact sample forward, ``softmax(logits / tau)`` backward.

    At ``tau = 1`` the gradient of a categorical choice or a gate is a first-order approximation of the exact one: right
    for a program linear in the draw. One program run.

    Sources: Bengio et al. 2013, arXiv 1308.3432; Liu et al. 2023, arXiv 2304.08612, eq. 4.
    """

    needs = (Relaxable,)

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return sample_straight_through(distribution, self.temperature_for(distribution), noise)


class GappedST(Pathwise, Tempered):
    """An exact sample ``D`` forward, a softmax of logits in which ``D`` leads by ``gap`` backward.

    What Gumbel noise given its winner does at random is done by a deterministic shift: the logit of ``D`` is raised to
    the largest one, the others are lowered to at least ``gap`` below it. Biased, with the low variance of
    straight-through. One program run. Works for tau in about [0.5, 1].

    Args:
        tau: temperature of the backward pass.
        gap: at least 0; 1 in the paper.

    Raises:
        ValueError: if ``gap`` is negative.

    Source: Fan et al. 2022, arXiv 2206.07235, eq. 9 and 10.
    """

    needs = (OneOfK,)

    def __init__(self, *, tau: float | Tensor = 0.7, gap: float = 1.0, in_eval: InEval | None = None) -> None:
        super().__init__(tau=tau, in_eval=in_eval)
        if not gap >= 0:
            raise ValueError(f"gap must be at least 0, got {gap}")
        self.gap = gap

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return gapped_st(distribution, self.temperature_for(distribution), noise, self.gap)


class ReinMax(Pathwise, Tempered):
    """An exact sample ``D`` forward, a second-order accurate gradient backward.

    The backward pass is Heun's method where straight-through is Euler's. With ``p = softmax(logits)``,
    ``q = softmax(logits / tau)`` and ``p1 = (D + q) / 2`` the Jacobian of the draw is

        2 J(p1) - J(p) / 2,    J(p) = diag(p) - p p',

    which at ``tau = 1`` is ``(J(p) + (D - p)(D - p)') / 2`` and exact for a program quadratic in the draw. One program
    run. The authors use tau in [1, 1.5].

    Source: Liu et al. 2023, arXiv 2304.08612, eq. 6 and algorithm 2.
    """

    needs = (OneOfK,)
    learns_tau = False
    short_way = eager.short_reinmax

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return reinmax(distribution, self.temperature_for(distribution), noise)


def sample_straight_through(distribution: Any, tau: Tensor | float, noise: Noise) -> Tensor:
    return eager.straight_through(distribution._sample(noise), distribution.relax(distribution.logits, tau))


def gapped_st(distribution: OneOfK, tau: Tensor | float, noise: Noise, gap: float) -> Tensor:
    choice, tau = one_of_k(distribution, tau)
    fixed = choice.logits.detach()
    hard = choice._sample(noise)
    largest = fixed.amax(-1, keepdim=True)
    raised = (largest - fixed).masked_fill(hard == 0, 0.0)
    lowered = (fixed + gap - largest).clamp_min(0.0).masked_fill(hard == 1, 0.0)
    return distribution.from_one_hot(
        eager.straight_through(hard, ((choice.logits + raised - lowered) / tau).softmax(-1))
    )


def reinmax(distribution: OneOfK, tau: Tensor | float, noise: Noise) -> Tensor:
    choice, tau = one_of_k(distribution, tau)
    hard, index, p = choice.sample_with_index(noise)
    if not eager.plain() and not needs_gradient(tau):
        return distribution.from_one_hot(eager.reinmax(choice.logits, p, index, hard, tau))
    surrogate = eager.reinmax_surrogate(choice.logits, hard, tau)
    return distribution.from_one_hot(eager.straight_through(hard, surrogate))


def one_of_k(distribution: OneOfK, tau: Tensor | float) -> tuple[Any, Tensor | float]:
    """``distribution`` as a categorical, and a temperature laid out as its logits."""
    choice = distribution.as_categorical()
    more = choice.logits.dim() - distribution.logits.dim()
    if isinstance(tau, Tensor) and tau.dim():
        tau = tau.reshape(*tau.shape, *[1] * more)
    return choice, tau
