"""Orders of items."""

import math
from typing import Literal, Self

import torch
from torch import Tensor

from zoo.relaxations.distributions.base import (
    Enumerable,
    Recoupled,
    check_value,
    one_hot,
    one_or_nan,
)

LOW = -1e30
"""Stands for ``-inf`` where that would give ``inf - inf``: as impossible, without its NaN."""

MANY = 2**62
"""What a number of values is cut at where it is counted for each row."""


class Ranking(Recoupled, Enumerable):
    """An order of n items, drawn by ``softmax(logits)`` one after another without replacement: Plackett-Luce.

    A value is a permutation matrix, ``(..., n, n)``: the row is the place, the column the item, so that ``value @ x``
    puts ``x`` in order. A masked item has no place: its column is zero, and so are as many rows at the end. It is drawn
    by sorting ``logits + g``, Gumbel noise ``g``, in descending order.

    Relaxed by SoftSort or NeuralSort: rows that sum to one and whose largest entries are at different columns, which
    follow the permutation of the same scores as ``tau`` goes to zero. Columns sum to one only there. Where two scores
    are nearly equal, ``tau`` must be below their distance for the two to be told apart. Of exactly equal scores
    SoftSort has no gradient: what relaxes logits without noise (softmax, straight-through) does not leave equal ones;
    with NeuralSort it does.

    Not :class:`Linear`: sorting maximises a sum of ``scores`` times ranks, which has n entries, not one of scores times
    the matrix. So I-MLE does not serve it; the perturbed optimizer does.

    Args:
        logits: ``(batch, ..., n)``.
        mask: as for every :class:`Distribution`.
        dim: the dimension of the items; that of the places is put right before it.
        soft: how :meth:`relax` does it: ``softsort``, a softmax of ``-|s_[i] - s_j|``, or ``neuralsort``, a softmax of
            ``(n + 1 - 2 i) s_j - sum_l |s_j - s_l|``.

    Raises:
        ValueError: as :class:`Distribution`, and if ``soft`` is something else.
        ZooError: from ``entropy``, ``kl`` and ``enumerate_support``, which go through all orders, beyond eight items.

    Sources: Plackett 1975, "The analysis of permutations", and Yellott 1977, "The relationship between Luce's choice
    axiom, Thurstone's theory of comparative judgment, and the double exponential distribution" (the law and its noise);
    Prillo & Eisenschlos 2020, arXiv 2006.16038, eq. 3 (SoftSort); Grover et al. 2019, arXiv 1903.08850, eq. 5
    (NeuralSort).
    """

    value_dims = 2

    @classmethod
    def example(cls) -> Self:
        return cls(torch.tensor([[0.5, -0.3, 0.9]]))

    def __init__(
        self,
        logits: Tensor,
        mask: Tensor | None = None,
        *,
        dim: int = -1,
        soft: Literal["softsort", "neuralsort"] = "softsort",
    ) -> None:
        if soft not in ("softsort", "neuralsort"):
            raise ValueError(f"soft must be softsort or neuralsort, got {soft!r}")
        self.soft = soft
        super().__init__(logits, mask, dim=dim)

    # The law ------------------------------------------------------------------------------------------------------

    def _log_prob(self, value: Tensor) -> Tensor:
        """``-inf`` for what is not an order of the allowed items."""
        check_value(value, self, (*self.logits.shape[-1:], *self.logits.shape[-1:]))
        allowed = self.logits != -math.inf
        logits = torch.where(allowed, self.logits, 0.0)
        rows, columns = value.sum(-1), value.sum(-2)
        first = torch.arange(allowed.shape[-1], device=value.device) < allowed.sum(-1, keepdim=True)
        valid = ((value == 0) | (value == 1)).all(-1).all(-1)
        valid = valid & ((rows != 0) == first).all(-1) & (columns == allowed).all(-1)
        placed = (value * logits.unsqueeze(-2)).sum(-1).masked_fill(~first, LOW)
        log_p = (placed - log_remaining(placed)).masked_fill(~first, 0.0).sum(-1)
        return log_p.masked_fill(~valid, -math.inf) + zero_or_nan(self.logits.amax(-1))

    def cardinality(self) -> int | Tensor:
        n = self.logits.shape[-1]
        if self.mask is None:
            return math.factorial(n)
        table = [min(math.factorial(i), MANY) for i in range(n + 1)]
        return torch.tensor(table, device=self.mask.device)[self.mask.sum(-1)]

    def _support(self, index: Tensor) -> Tensor:
        # Lehmer's code: digit i of the number, of which there are as many as items left, is which of those comes next.
        logits = self.logits.detach()
        n, device = logits.shape[-1], logits.device
        factorials = torch.tensor([min(math.factorial(i), MANY) for i in range(n + 1)], device=device)
        if self.mask is not None:
            index = torch.where(index < factorials[self.mask.sum(-1)], index, 0)
        left = logits != -math.inf
        count = left.sum(-1)
        exists = index < factorials[count]  # else no order at all, which has no probability
        left = left & exists.unsqueeze(-1)
        rows = []
        for place in range(n):
            base = factorials[(count - 1 - place).clamp_min(0)]
            chosen = left & (left.cumsum(-1) == (index // base + 1).unsqueeze(-1))  # nothing once nothing is left
            index = index % base
            left = left & ~chosen
            rows.append(chosen)
        return torch.stack(rows, -2).to(logits.dtype)

    # Relaxed ------------------------------------------------------------------------------------------------------

    def relax(self, scores: Tensor, tau: Tensor | float) -> Tensor:
        if isinstance(tau, Tensor) and tau.dim():
            tau = tau.unsqueeze(-1)
        allowed = scores != -math.inf
        count = allowed.sum(-1, keepdim=True)
        place = torch.arange(scores.shape[-1], device=scores.device)
        some = torch.where(allowed, scores, 0.0)
        if self.soft == "softsort":
            ordered = scores.sort(-1, descending=True).values
            ordered = torch.where(place < count, ordered, 0.0)
            energy = -(ordered.unsqueeze(-1) - some.unsqueeze(-2)).abs()
        else:
            distance = (some.unsqueeze(-1) - some.unsqueeze(-2)).abs().masked_fill(~allowed.unsqueeze(-2), 0.0).sum(-1)
            factor = (count - 1 - 2 * place).unsqueeze(-1).to(scores.dtype)  # n + 1 - 2 i with places from zero
            energy = factor * some.unsqueeze(-2) - distance.unsqueeze(-2)
        soft = (energy / tau).masked_fill(~allowed.unsqueeze(-2), -math.inf).softmax(-1)
        return soft.masked_fill((place >= count).unsqueeze(-1) & (count > 0).unsqueeze(-1), 0.0)

    def harden(self, scores: Tensor) -> Tensor:
        scores = scores.detach()
        ordered, index = scores.sort(-1, descending=True)
        one = (ordered != -math.inf).to(scores.dtype) * one_or_nan(ordered[..., :1])
        square = scores.unsqueeze(-2).expand(*scores.shape, scores.shape[-1])
        return one_hot(index.unsqueeze(-1), square, one.unsqueeze(-1))

    # For estimators -----------------------------------------------------------------------------------------------

    def recouple(self, scores: Tensor) -> Tensor:
        """Given the order; see :func:`recouple_first`."""
        return recouple_first(self.logits, scores, scores.shape[-1])

    def log_prob_of(self, scores: Tensor) -> Tensor:
        return log_prob_of_first(self.logits, scores, scores.shape[-1])


# The first k of an order ----------------------------------------------------------------------------------------------


def log_remaining(placed: Tensor, rest: Tensor | None = None) -> Tensor:
    """Log-weight, ``(..., k)``, of all that is left when each of the first k is drawn.

    Args:
        placed: log-weights of the first k in their order, ``(..., k)``, with :data:`LOW` for ``-inf``.
        rest: log-weight of everything behind them, ``(..., 1)``.
    """
    k = placed.shape[-1]
    drawn = torch.ones(k, k, dtype=torch.bool, device=placed.device).tril(-1)  # an earlier one is no longer there
    # Neither logcumsumexp nor logaddexp: their second derivatives are NaN where a gradient is zero or a term far less.
    left = placed.unsqueeze(-2).masked_fill(drawn, LOW)
    if rest is not None:
        left = torch.cat([left, rest.unsqueeze(-2).expand(*left.shape[:-1], 1)], -1)
    return left.logsumexp(-1)


def split_first(logits: Tensor, scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The k largest ``scores``, their index, the log-weights there, and :func:`log_remaining`, each ``(..., k)``."""
    top, index = scores.detach().topk(k)
    lowered = logits.masked_fill(logits == -math.inf, LOW)
    placed = lowered.gather(-1, index)
    rest = None
    if k < logits.shape[-1]:
        rest = lowered.scatter(-1, index, LOW).logsumexp(-1, keepdim=True)
    return top, index, placed, log_remaining(placed, rest)


def log_prob_of_first(logits: Tensor, scores: Tensor, k: int) -> Tensor:
    """Plackett-Luce log-probability, ``(...)``, of the k largest ``scores`` in their order."""
    top, _, placed, log_z = split_first(logits, scores, k)
    log_p = (placed - log_z).masked_fill(top == -math.inf, 0.0)
    return log_p.sum(-1)


def recouple_first(logits: Tensor, scores: Tensor, k: int) -> Tensor:
    """``scores``, as a function of ``logits`` given which are the k largest, in their order.

    ``exp -scores`` are the times at which clocks with the rates ``w = exp(logits)`` ring. Given the order, the time
    between one of the first k and the next is an exponential with the rate ``Z`` of all that have not rung, and what
    comes later is memoryless: with exponentials ``E``

        exp -z_(i) = exp -z_(i-1) + E_i / Z_i    for the first k,      exp -z_j = exp -z_(k) + E_j / w_j    behind them.

    For k = 1 the formula of :meth:`Categorical.recouple`.

    Source: Maddison & Tarlow 2017, "Gumbel machinery"; Grathwohl et al. 2018, arXiv 1711.00123, appendix B.
    """
    z = scores.detach()
    top, index, _, log_z = split_first(logits, z, k)
    never = top == -math.inf
    top = top.masked_fill(never, LOW)
    before = torch.cat([torch.full_like(top[..., :1], math.inf), top[..., :-1]], -1)
    log_gap = log_of_difference(top, before) + log_z.detach() - log_z
    later = torch.ones(k, k, dtype=torch.bool, device=z.device).triu(1)
    log_time = log_gap.unsqueeze(-2).masked_fill(later, -math.inf).logsumexp(-1)
    moved = (-log_time).masked_fill(never, -math.inf)
    if k == z.shape[-1]:
        return torch.zeros_like(z).scatter(-1, index, moved)
    impossible = z == -math.inf
    logits = logits.masked_fill(impossible, 0.0)
    share = log_of_difference(z.masked_fill(impossible, 0.0), top[..., -1:]) + logits.detach() - logits
    behind = -torch.stack(torch.broadcast_tensors(share, log_time[..., -1:])).logsumexp(0)
    return behind.masked_fill(impossible, -math.inf).scatter(-1, index, moved)


def log_of_difference(z: Tensor, larger: Tensor) -> Tensor:
    """``log(exp -z - exp -larger)``, finite where the two are equal."""
    return torch.log1p(-(z - larger).exp().clamp_max(1 - 2.0**-24)) - z


def zero_or_nan(x: Tensor) -> Tensor:
    """0 where ``x`` is finite, else NaN."""
    return x.detach() * 0
