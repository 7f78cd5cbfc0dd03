"""Straight-through estimators that need no Gumbel noise."""

import torch
from torch import Tensor

from zoo.relaxations.base import Relaxation
from zoo.relaxations.functional import (
    one_hot_like,
    sample_index,
    sample_one_hot,
    softmax,
    straight_through,
    with_signature,
)


class StraightThrough(Relaxation):
    """An exact sample forward, ``softmax(logits / tau)`` backward.

    At ``tau = 1`` the gradient is a first-order approximation of the exact one: right for a program
    linear in the draw. One program run.

    Sources: Bengio et al. 2013, arXiv 1308.3432; Liu et al. 2023, arXiv 2304.08612, eq. 4.
    """

    def relax(self, logits: Tensor) -> Tensor:
        return straight_through(sample_one_hot(logits), softmax(logits, self.tau))


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

    The backward pass is Heun's method where straight-through is Euler's. With ``p = softmax(logits)``,
    ``q = softmax(logits / tau)`` and ``p1 = (D + q) / 2`` the Jacobian of the draw is

        2 J(p1) - J(p) / 2,    J(p) = diag(p) - p p',

    which at ``tau = 1`` is ``(J(p) + (D - p)(D - p)') / 2`` and exact for a program quadratic in the
    draw. One program run. The authors use tau in [1, 1.5].

    Source: Liu et al. 2023, arXiv 2304.08612, eq. 6 and algorithm 2.
    """

    def relax(self, logits: Tensor) -> Tensor:
        p = softmax(logits)
        return _ReinMax.apply(logits, p, softmax(logits, self.tau), sample_index(p))


class _ReinMax(torch.autograd.Function):
    """``D``, one-hot at ``index``, in value. A gradient ``g`` becomes, since ``D`` has a single entry,

        (2 J(p1) - J(p) / 2) g = q (g - (g_D + q'g) / 2) + D (g_D - q'g) / 2 - p (g - p'g) / 2

    where ``g_D = D'g`` and products of vectors without a prime are entry by entry: neither ``D`` nor ``p1`` is kept.
    ``p`` and ``q`` are arguments, with no gradient of their own, so that a second backward pass knows how they
    depend on ``logits``.
    """

    @staticmethod
    @with_signature
    def forward(logits: Tensor, p: Tensor, q: Tensor, index: Tensor) -> Tensor:
        return one_hot_like(index.squeeze(-1), p)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, None, None, None]:
        p, q, index = ctx.saved_tensors
        at_draw, mean_p = g.gather(-1, index), (p * g).sum(-1, keepdim=True)
        result = q * g
        mean_q = result.sum(-1, keepdim=True)
        result.addcmul_(q, at_draw + mean_q, value=-0.5).scatter_add_(-1, index, (at_draw - mean_q) / 2)
        return result.addcmul_(p, g, value=-0.5).addcmul_(p, mean_p, value=0.5), None, None, None
