"""Gates: independent choices between closed and open."""

import math
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.relaxations.distributions.base import (
    Distribution,
    Gibbs,
    Linear,
    OneOfK,
    Recoupled,
    choose_noise,
    one_or_nan,
    require_kind,
    tempered_for,
)
from zoo.relaxations.distributions.categorical import Categorical
from zoo.relaxations.noise import Noise


class Bernoulli(Recoupled, Linear, OneOfK, Gibbs):
    """Gates: each element of ``logits``, of any shape, is the log-odds of one that is 1 (open) or 0 (closed).

    Relaxed by the binary concrete distribution, ``sigmoid((logits + l) / tau)`` with logistic noise ``l``:
    Gumbel-softmax for two choices, in one logit.

    Args:
        logits: ``(batch, ...)``, log-odds of being open.
        mask: true where a gate may open. A masked gate is exactly zero; all of a row may be masked.

    Raises:
        ValueError: as :class:`Distribution`.

    Source: Maddison et al. 2017, arXiv 1611.00712, appendix B.
    """

    choice_dims = 0
    value_dims = 0

    @classmethod
    def example(cls) -> Self:
        return cls(torch.tensor([[0.5, -0.3, 0.9]]))

    def __init__(self, logits: Tensor, mask: Tensor | None = None, *, dim: int = -1) -> None:
        super().__init__(logits, mask, dim=dim)
        # A sigmoid would make a valid value of +inf. (What is always open has log-odds as large as one likes.)
        self.logits = self.logits.masked_fill(self.logits == math.inf, math.nan)

    def _enough(self, mask: Tensor) -> Tensor:
        return mask.new_ones(())

    # The law ------------------------------------------------------------------------------------------------------

    def _log_prob(self, value: Tensor) -> Tensor:
        never, logits = self._masked()
        log_p = value * F.logsigmoid(logits) + (1 - value) * F.logsigmoid(-logits)
        return log_p.masked_fill(never, 0.0).masked_fill(never & (value != 0), -math.inf)

    def entropy(self) -> Tensor:
        never, logits = self._masked()
        distance = logits.abs()  # no cancellation far from zero, where it is ~ d exp(-d)
        return (F.softplus(-distance) + distance * torch.sigmoid(-distance)).masked_fill(never, 0.0)

    def kl(self, other: Distribution) -> Tensor:
        require_kind(self, other)
        assert isinstance(other, Bernoulli)
        (never, logits), (others_never, others) = self._masked(), other._masked()
        opened = F.logsigmoid(logits) - F.logsigmoid(others)
        closed = F.logsigmoid(-logits) - F.logsigmoid(-others).masked_fill(others_never, 0.0)
        p = logits.sigmoid()
        both = (p * opened + (1 - p) * closed).masked_fill(others_never, math.inf)
        only_closed = -F.logsigmoid(-others).masked_fill(others_never, 0.0)
        return torch.where(never, only_closed, both)

    def _masked(self) -> tuple[Tensor, Tensor]:
        """Where a gate never opens, and the logits with 0 there."""
        never = self.logits == -math.inf
        return never, self.logits.masked_fill(never, 0.0)

    def cardinality(self) -> int | Tensor:
        return 2 if self.mask is None else 1 + self.mask.long()

    def _support(self, index: Tensor) -> Tensor:
        value = index.to(self.logits.dtype)
        return value if self.mask is None else value * self.mask

    # Relaxed ------------------------------------------------------------------------------------------------------

    def perturb(self, noise: Noise, law: str = "gumbel", scale: Tensor | float = 1.0) -> Tensor:
        """Scores: the logits plus ``scale`` times the difference of two noises, which for Gumbel noise is logistic."""
        draw = getattr(noise, law)
        return self.logits + scale * (draw(self.logits, self.batch_dim) - draw(self.logits, self.batch_dim))

    def relax(self, scores: Tensor, tau: Tensor | float) -> Tensor:
        return (scores / tau).sigmoid()

    def harden(self, scores: Tensor) -> Tensor:
        scores = scores.detach()
        return (scores > 0).to(scores.dtype) * one_or_nan(scores.clamp_min(0.0))

    def rsample(
        self,
        tau: Tensor | float,
        *,
        log: bool = False,
        generator: torch.Generator | None = None,
        noise: Noise | None = None,
    ) -> Tensor:
        """A relaxed gate ``sigmoid((logits + l) / tau)``, differentiable; with ``log`` its log-odds instead.

        Log-odds keep their digits however near the gate is to 0 or 1.
        """
        law, tau = tempered_for(self, tau)
        scores = law.perturb(choose_noise(generator, noise)) / tau
        return self.place(scores if log else scores.sigmoid())

    def relaxed_log_prob(self, value: Tensor, tau: Tensor | float, *, log: bool = False) -> Tensor:
        """Log-density, ``(batch, ...)``, of a relaxed gate ``value``; with ``log`` of log-odds. Masked gates have 0.

        Source: Maddison et al. 2017, arXiv 1611.00712, appendix B and C.3.1.
        """
        never, logits = self._masked()
        value, tau = self.unplace(value), tempered_for(self, tau)[1]
        odds = (value if log else torch.logit(value)).masked_fill(never, 0.0)
        scaled = tau * odds - logits
        density = (
            torch.as_tensor(tau, dtype=logits.dtype, device=logits.device).log() - scaled - 2 * F.softplus(-scaled)
        )
        if not log:
            density = density - F.logsigmoid(odds) - F.logsigmoid(-odds)
        return density.masked_fill(never, 0.0)

    # For estimators -----------------------------------------------------------------------------------------------

    def recouple(self, scores: Tensor) -> Tensor:
        """Given an open gate ``z = logit - log(p v / (1 - p v))``, ``v`` uniform; a closed one has all signs turned.

        Source: Tucker et al. 2017, arXiv 1703.07370, appendix C.
        """
        never, logits = self._masked()
        z = scores.detach().masked_fill(never, 0.0)
        opened = z > 0
        sign = torch.where(opened, 1.0, -1.0).to(z)
        log_p = F.logsigmoid(sign * logits)
        log_pv = F.logsigmoid(sign * (logits.detach() - z)) + (log_p - log_p.detach())
        moved = logits - sign * (log_pv - torch.log(-torch.expm1(log_pv)))
        return torch.where(never, scores.detach(), moved)

    def log_prob_of(self, scores: Tensor) -> Tensor:
        return self._log_prob(self.harden(scores).nan_to_num())

    def as_categorical(self) -> Categorical:
        """Open and closed, in this order, ``(batch, ..., 2)``."""
        pair = torch.stack([self.logits, torch.zeros_like(self.logits)], -1)
        twin = Categorical(pair)
        twin.batch_dim = self.batch_dim
        return twin

    def from_one_hot(self, value: Tensor) -> Tensor:
        opened, closed = value.unbind(-1)
        return opened + 0 * closed  # NaN where either is

    def marginals(self) -> Tensor:
        return self.logits.sigmoid()
