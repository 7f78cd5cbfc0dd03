"""Straight-through estimators that need no Gumbel noise."""

import math

from torch import Tensor

from zoo.relaxations.base import Relaxation, one_hot_like, sample_one_hot, straight_through


class StraightThrough(Relaxation):
    """An exact sample forward, ``softmax(logits / tau)`` backward.

    At ``tau = 1`` the gradient is a first-order approximation of the exact one: right for a program
    linear in the draw. One program run.

    Sources: Bengio et al. 2013, arXiv 1308.3432; Liu et al. 2023, arXiv 2304.08612, eq. 4.
    """

    def relax(self, logits: Tensor) -> Tensor:
        return straight_through(sample_one_hot(logits), (logits / self.tau).softmax(-1))


class STArgmax(Relaxation):
    """One-hot ``argmax(logits)`` forward, ``softmax(logits / tau)`` backward; deterministic.

    It optimises the cost of the mode, not the expectation: no exploration, and an entropy of the
    choice that nothing but another term of the loss holds up. One program run.
    """

    stochastic = False

    def relax(self, logits: Tensor) -> Tensor:
        hard = one_hot_like(logits.detach().argmax(-1), logits.detach())
        return straight_through(hard, (logits / self.tau).softmax(-1))


class ReinMax(Relaxation):
    """An exact sample ``D`` forward, a second-order accurate gradient backward.

    The backward pass is Heun's method where straight-through is Euler's. With ``p = softmax(logits)``
    and ``p1 = (D + softmax(logits / tau)) / 2`` the Jacobian of the draw is

        2 J(p1) - J(p) / 2,    J(p) = diag(p) - p p',

    which at ``tau = 1`` is ``(J(p) + (D - p)(D - p)') / 2`` and exact for a program quadratic in the
    draw. One program run. The authors use tau in [1, 1.5].

    Source: Liu et al. 2023, arXiv 2304.08612, eq. 6 and algorithm 2.
    """

    def relax(self, logits: Tensor) -> Tensor:
        fixed = logits.detach()
        hard = sample_one_hot(fixed)
        p = fixed.softmax(-1)
        p1 = (hard + (fixed / self.tau).softmax(-1)) / 2
        return straight_through(hard, 2 * _softmax_tangent(p1, logits) - _softmax_tangent(p, logits) / 2)


def _softmax_tangent(p: Tensor, logits: Tensor) -> Tensor:
    """A function linear in ``logits`` whose Jacobian is that of a softmax at the value ``p``."""
    logits = logits.masked_fill(logits == -math.inf, 0.0)
    return p * (logits - (p * logits).sum(-1, keepdim=True))
