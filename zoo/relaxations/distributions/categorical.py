"""One of K categories."""

import math

import torch
from torch import Tensor

from zoo.relaxations import eager
from zoo.relaxations.distributions.base import (
    Distribution,
    Gibbs,
    Linear,
    OneOfK,
    Recoupled,
    check_value,
    choose_noise,
    divergence,
    one_hot,
    one_or_nan,
    require_kind,
    tempered_for,
)
from zoo.relaxations.noise import Noise

UNITS = 2.0**30  # of probability, in which a cumulative distribution is inverted


class Categorical(Recoupled, Linear, OneOfK, Gibbs):
    """One of K: a one-hot value with the probabilities ``softmax(logits)``.

    Relaxed by Gumbel-softmax, whose law is the concrete distribution; its density is :meth:`relaxed_log_prob`.

    Args:
        logits: ``(batch, ..., categories)``.
        mask: as for every :class:`Distribution`.
        dim: the dimension of the categories.
        unimix: share, in [0, 1), of the uniform law over what is allowed that is mixed in: no probability is less than
            ``unimix / K``, which keeps a KL divergence finite and exploration alive (Hafner et al. 2023, arXiv
            2301.04104, section "Robust predictions", where it is 0.01).

    Raises:
        ValueError: as :class:`Distribution`, and if ``unimix`` is outside [0, 1).
    """

    def __init__(self, logits: Tensor, mask: Tensor | None = None, *, dim: int = -1, unimix: float = 0.0) -> None:
        super().__init__(logits, mask, dim=dim)
        if unimix:
            if not 0 <= unimix < 1:
                raise ValueError(f"unimix must be in [0, 1), got {unimix}")
            log_p = self.logits.log_softmax(-1)
            allowed = self.logits != -math.inf
            floor = torch.where(allowed, math.log(unimix) - allowed.sum(-1, keepdim=True).to(log_p).log(), -math.inf)
            mixed = torch.logaddexp(eager.finite(log_p) + math.log1p(-unimix), floor)
            self.logits = mixed.masked_fill(~allowed, -math.inf)

    # The law ------------------------------------------------------------------------------------------------------

    def _sample(self, noise: Noise) -> Tensor:
        hard, _, _ = self.sample_with_index(noise)
        return hard

    def sample_index(self, *, generator: torch.Generator | None = None, noise: Noise | None = None) -> Tensor:
        """:meth:`sample` as indices, int64 ``(batch, ...)``; any index where no choice is allowed."""
        with torch.no_grad():
            return self._index(choose_noise(generator, noise))[1].squeeze(-1)

    def sample_with_index(self, noise: Noise) -> tuple[Tensor, Tensor, Tensor | None]:
        """An exact sample, its index ``(batch, ..., 1)``, and, where they were computed, the probabilities.

        By inverting the cumulative distribution: one random number a choice, where Gumbel noise takes one a category.
        """
        top, index, p = self._index(noise)
        return one_hot(index, self.logits.detach(), one_or_nan(top)), index, p

    def _index(self, noise: Noise) -> tuple[Tensor, Tensor, Tensor | None]:
        """What is finite where a choice is, an index drawn, and, where they were computed, the probabilities."""
        logits = self.logits.detach()
        if few(self, 1.0, noise):
            return *eager.perturbed(logits, noise.generator).max(-1, keepdim=True), None
        if not eager.pays(logits, noise.parts):
            return *(logits + noise.gumbel(logits, self.batch_dim)).max(-1, keepdim=True), None
        p = eager.softmax_(logits.clone(memory_format=torch.contiguous_format))
        return p[..., :1], invert(p, noise, self.batch_dim), p

    def _mode(self) -> Tensor:
        return self.harden(self.logits.detach())

    def _log_prob(self, value: Tensor) -> Tensor:
        """Of a one-hot ``value``; linear in it, so that of a soft one it is the mean."""
        check_value(value, self, self.logits.shape[-1:])
        log_p = self.logits.log_softmax(-1)
        if self.mask is None and not eager.plain():
            return torch.where(value == 0, 0.0, value * log_p).sum(-1)  # a logit of -inf times zero
        never = log_p == -math.inf
        inside = (value * log_p.masked_fill(never, 0.0)).sum(-1)
        return inside.masked_fill(((value != 0) & never).any(-1), -math.inf)

    def entropy(self) -> Tensor:
        log_p = self.logits.log_softmax(-1)
        return -(log_p.exp() * eager.finite(log_p)).sum(-1)

    def kl(self, other: Distribution) -> Tensor:
        require_kind(self, other)
        return divergence(self.logits.log_softmax(-1), other.logits.log_softmax(-1), -1)

    def cardinality(self) -> int | Tensor:
        return self.logits.shape[-1] if self.mask is None else self.mask.sum(-1)

    def _support(self, index: Tensor) -> Tensor:
        if self.mask is None:
            return one_hot(index.unsqueeze(-1), self.logits.detach())
        allowed_first = (~self.mask).sort(dim=-1, stable=True).indices
        index = torch.where(index < self.mask.sum(-1), index, 0)
        return one_hot(allowed_first.gather(-1, index.unsqueeze(-1)), self.logits.detach())

    # Relaxed ------------------------------------------------------------------------------------------------------

    def relax(self, scores: Tensor, tau: Tensor | float) -> Tensor:
        if eager.pays(scores) and not needs_gradient(tau):
            return eager.softmax(scores, tau, scores.detach().clone(memory_format=torch.contiguous_format))
        return torch.softmax(eager.scaled(scores, tau), -1)

    def relax_(self, scores: Tensor, tau: Tensor | float) -> Tensor:
        if eager.pays(scores) and not needs_gradient(tau):
            return eager.softmax(scores, tau, scores.detach())
        return torch.softmax(eager.scaled(scores, tau), -1)

    def harden(self, scores: Tensor) -> Tensor:
        scores = scores.detach()
        top, index = scores.max(-1, keepdim=True)
        return one_hot(index, scores, one_or_nan(top))

    def through(self, scores: Tensor, soft: Tensor) -> Tensor:
        if eager.plain() or soft.shape[-1] == 1 or soft.numel() >= eager.WORTH:
            return super().through(scores, soft)
        return eager.harden_into(soft, scores)

    def rsample(
        self,
        tau: Tensor | float,
        *,
        log: bool = False,
        generator: torch.Generator | None = None,
        noise: Noise | None = None,
    ) -> Tensor:
        """A relaxed sample ``softmax((logits + g) / tau)``, differentiable; with ``log`` its logarithm.

        In log space a relaxed sample keeps its digits however near it is to a corner.
        """
        law, tau = tempered_for(self, tau)
        scores = law.perturb(choose_noise(generator, noise)) / tau
        return self.place(scores.log_softmax(-1) if log else scores.softmax(-1))

    def relaxed_log_prob(self, value: Tensor, tau: Tensor | float, *, log: bool = False) -> Tensor:
        """Log-density, ``(batch, ...)``, of a relaxed sample ``value`` on the simplex; with ``log`` of its logarithm.

        Source: Maddison et al. 2017, arXiv 1611.00712, eq. 10 and, in log space, appendix C.3.2, eq. 25.
        """
        value, tau = self.unplace(value), tempered_for(self, tau)[1]
        allowed = self.logits != -math.inf
        log_y = value if log else value.log()
        logits, log_y = eager.finite(self.logits), torch.where(allowed, log_y, 0.0)
        scores = torch.where(allowed, logits - tau * log_y, -math.inf)
        count = allowed.sum(-1)
        tau = torch.as_tensor(tau, dtype=logits.dtype, device=logits.device)
        log_tau = tau.log().squeeze(-1) if tau.dim() else tau.log()
        density = torch.lgamma(count.to(logits)) + (count - 1) * log_tau
        density = density + eager.finite(scores).sum(-1) - count * scores.logsumexp(-1)
        return density if log else density - log_y.sum(-1)

    # For estimators -----------------------------------------------------------------------------------------------

    def recouple(self, scores: Tensor) -> Tensor:
        """Given that ``i`` has won, ``z_i = log Z - log E`` and, below it, ``z_j = -log(E_j / exp t_j + exp -z_i)``.

        Source: Maddison & Tarlow 2017, "Gumbel machinery"; Tucker et al. 2017, arXiv 1703.07370, appendix C.
        """
        z = scores.detach()
        top, index = z.max(-1, keepdim=True)
        log_z = self.logits.logsumexp(-1, keepdim=True)
        moved = log_z + (top - log_z.detach())  # equal to top
        logits = eager.finite(self.logits)
        share = torch.log1p(-(z - top).exp().clamp_max(1 - 2.0**-24)) - z  # log(exp -z_j - exp -top)
        others = -torch.logaddexp(share + logits.detach() - logits, -moved)
        won = torch.zeros_like(z, dtype=torch.bool).scatter(-1, index, True)
        return torch.where(won, moved, others).masked_fill(z == -math.inf, -math.inf)

    def log_prob_of(self, scores: Tensor) -> Tensor:
        return self._log_prob(self.harden(scores))

    def as_categorical(self) -> "Categorical":
        return self

    def from_one_hot(self, value: Tensor) -> Tensor:
        return value

    def marginals(self) -> Tensor:
        return self.relax(self.logits, 1.0)


def invert(p: Tensor, noise: Noise, batch_dim: int = 0) -> Tensor:
    """A sample ``(..., 1)`` of the probabilities ``p``, which sum to one, by inverting their cumulative distribution.

    In integers, of 2^-30 each: unlike that of floats, their cumulative sum is exact, in any order. What rounding down
    has left of each probability is less than one of them. So one more is added for each category, and in the rare rows
    that come to lie there, this choice is repeated with what is left and, for what is too much, from the beginning;
    both at once, in double precision. Every probability is right wherever it stands in its row, and an entry of
    probability zero is never chosen.
    """
    p = p.detach()
    categories = p.shape[-1]
    scaled = p * UNITS
    whole = scaled.view(torch.int32).copy_(scaled) if scaled.dtype == torch.float32 else scaled.to(torch.int32)
    cumulative = torch.cumsum(whole, -1, dtype=torch.int32, out=whole)
    total = cumulative[..., -1:]
    threshold = noise.bits(total.shape, p.device, batch_dim).double().mul_(2.0**-62) * (total + categories)
    index = torch.searchsorted(cumulative, threshold.to(torch.int32), right=True).clamp_max_(categories - 1)
    beyond = threshold - total
    if (beyond >= 0).any():
        rows = (beyond >= 0).squeeze(-1)
        exact = p[rows].double()
        left = (exact * UNITS).frac()
        law = left + (categories - left.sum(-1, keepdim=True)) * exact / exact.sum(-1, keepdim=True)
        index[rows] = torch.searchsorted(law.cumsum(-1), beyond[rows], right=True).clamp_max_(categories - 1)
    return index


def needs_gradient(tau: Tensor | float) -> bool:
    """Whether a temperature is to be learned: the fast paths take it as given."""
    return isinstance(tau, Tensor) and (tau.requires_grad or tau.dim() > 0)


def few(distribution: Distribution, tau: Tensor | float, noise: Noise) -> bool:
    """Whether a Gumbel draw is of so few numbers that it is made by the fewest calls."""
    return (
        type(distribution) is Categorical
        and type(tau) is float
        and type(noise) is Noise
        and eager.few(distribution.logits)
    )


def categorical(x: Tensor | Distribution, mask: Tensor | None = None, dim: int = -1) -> Distribution:
    """``x`` if it is a distribution, else the categorical that it is the logits of.

    Raises:
        TypeError: for a distribution together with a mask or a dimension.
    """
    if isinstance(x, Distribution):
        if mask is not None:
            raise TypeError(f"a mask belongs to the distribution: {type(x).__name__}(logits, ..., mask=mask)")
        if dim != -1:
            raise TypeError(f"a dimension belongs to the distribution: {type(x).__name__}(logits, ..., dim={dim})")
        return x
    return Categorical(x, mask, dim=dim)
