"""Sparse softmaxes: maps onto the simplex that reach its faces.

Written out, and not taken from the library ``entmax``, since that breaks the graph of ``torch.compile``.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from zoo.relaxations import eager
from zoo.relaxations.base import Pathwise, Tempered
from zoo.relaxations.distributions import Categorical, Distribution, OneOfK
from zoo.relaxations.noise import Noise
from zoo.relaxations.straight_through import one_of_k

LOWEST = -10.0
"""Below the maximum by this much an entry is zero in any case."""

CERTAIN = 1e30
"""The log-odds of a gate that is always open."""


class _Sparse(Pathwise, Tempered):
    stochastic = False
    hard = False
    needs = (OneOfK,)
    alpha: ClassVar[float]

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return entmax(distribution, self.temperature_for(distribution), self.alpha)

    def soft(self, distribution: Distribution) -> Tensor:
        return self.pathwise(distribution, self.noise)

    def law(self, distribution: Any) -> Distribution:
        """The categorical with the probabilities of the blend: what it rules out is never drawn."""
        choice, tau = one_of_k(distribution, self.temperature_for(distribution))
        p = entmax(choice, tau, self.alpha)
        if not isinstance(distribution, Categorical):
            return distribution.with_logits((p[..., 0] / p[..., 1]).log().clamp_max(CERTAIN))
        return distribution.with_logits(torch.where(p > 0, p, 0.0).log())


class Sparsemax(_Sparse):
    """``sparsemax(logits / tau)``, deterministic: the Euclidean projection onto the simplex.

    Entries far enough below the largest are exactly zero, with zero gradient. Like softmax it does not sample: the
    program sees a blend, only of fewer choices. One program run. Works for tau in about [0.5, 3]; below, most rows are
    one-hot and have no gradient.

    Source: Martins & Astudillo 2016, arXiv 1602.02068, algorithm 1; the Jacobian is eq. 11.
    """

    alpha = 2.0


class Entmax15(_Sparse):
    """``entmax(logits / tau)`` with alpha = 1.5, deterministic: between softmax and sparsemax.

    Everything said of :class:`Sparsemax` holds, with fewer zeros.

    Source: Peters et al. 2019, arXiv 1905.05702, algorithm 2; the Jacobian is proposition 2.
    """

    alpha = 1.5


def entmax(distribution: OneOfK, tau: Tensor | float, alpha: float) -> Tensor:
    choice, tau = one_of_k(distribution, tau)
    scaled = choice.logits / tau
    scaled = scaled - scaled.detach().amax(-1, keepdim=True)  # of which the maps do not depend
    value = _sparsemax(scaled) if alpha == 2 else _entmax15(scaled)
    return distribution.from_one_hot(value)


def _sparsemax(scaled: Tensor) -> Tensor:
    z = scaled.detach().clamp_min(LOWEST)
    ordered = z.sort(-1, descending=True).values
    count = torch.arange(1, z.shape[-1] + 1, device=z.device)
    excess = ordered.cumsum(-1) - 1
    size = (count * ordered > excess).sum(-1, keepdim=True).clamp_min(1)  # of NaN only
    p = (z - excess.gather(-1, size - 1) / size).clamp_min(0.0)
    # The projection is linear where its support is: with the support fixed, a second derivative is zero, as it is.
    support = (p > 0).to(p)
    inside = support * eager.finite(scaled)
    shift = (inside.sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True)
    return inside - support * shift + (p - p)


def _entmax15(scaled: Tensor) -> Tensor:
    z = scaled.detach().clamp_min(LOWEST) / 2
    ordered = z.sort(-1, descending=True).values
    count = torch.arange(1, z.shape[-1] + 1, device=z.device)
    mean = ordered.cumsum(-1) / count
    scatter = (ordered**2).cumsum(-1) - count * mean**2
    threshold = mean - ((1 - scatter) / count).clamp_min(0.0).sqrt()
    size = (threshold <= ordered).sum(-1, keepdim=True).clamp_min(1)  # of NaN only
    fixed = (z - threshold.gather(-1, size - 1)).clamp_min(0.0)
    # With its support fixed the threshold is the root of a quadratic, differentiable any number of times.
    support = (fixed > 0).to(fixed)
    half = eager.finite(scaled) / 2 * support
    n = support.sum(-1, keepdim=True)
    middle = half.sum(-1, keepdim=True) / n
    spread = (half**2).sum(-1, keepdim=True) - n * middle**2
    root = support * (half - middle + ((1 - spread) / n).clamp_min(2.0**-60).sqrt())
    return root**2 + (fixed - fixed)
