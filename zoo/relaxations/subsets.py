"""Subsets of a given size."""

import math
from functools import lru_cache
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations.base import Relaxation, fill_masked
from zoo.relaxations.functional import sample_gumbel, straight_through

LIMIT = 4096
"""The most subsets that a probability or an entropy enumerates."""

_NEVER = -1e30  # stands for -inf in float64: just as impossible, but without its NaN gradients


class GumbelTopK(Relaxation):
    """``k`` of ``n`` items without replacement: the ``k`` largest of ``logits + g`` with Gumbel noise ``g``.

    ``logits`` is ``(batch, ..., n)``; a draw is k-hot of the same shape. The law of the set is that of ``k``
    successive draws from ``softmax(logits)``, each without the items already chosen (Plackett-Luce). The
    relaxed k-hot is a sum of ``k`` softmaxes with temperature ``tau``, each over scores from which those
    before it have taken their choice: ``a <- a + log(1 - softmax(a / tau))``, from ``a = logits + g``. It
    sums to ``k``, and goes to the k-hot with the same noise as ``tau`` goes to zero; away from there an entry
    may exceed 1.

    Biased for the discrete objective, soft or hard; the variance rises as ``tau`` goes to zero. One program
    run. Works for tau in about [0.3, 3]: the higher, the more the later softmaxes choose the same items again;
    far below 0.1 a row with near-ties may have gradients of the order ``tau ** -k``, beyond the range of float16.

    Args:
        k: size of the subset.
        tau: temperature.
        hard: whether a draw in training mode is exactly k-hot, with the gradient of the relaxed one.

    Raises:
        ValueError: if ``k`` is less than 1 or ``tau`` is not a positive finite number; from every method, if
            a row has fewer than ``k`` allowed entries, or a shape or dtype is wrong.

    Sources: Kool et al. 2019, arXiv 1903.06059, the Gumbel-top-k trick (sampling); Xie and Ermon 2019, arXiv
    1901.10517, algorithm 2 (relaxation).
    """

    def __init__(self, *, k: int, tau: float = 0.5, hard: bool = True) -> None:
        super().__init__(tau=tau)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        self.k = k
        self.hard = hard

    def relax(self, logits: Tensor) -> Tensor:
        perturbed = logits + sample_gumbel(logits)
        soft = self._relaxed_k_hot(perturbed)
        return straight_through(self._k_hot(perturbed.detach()), soft) if self.hard else soft

    def forward(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        if not self.training:
            return self.sample(logits, mask)
        return self.relax(self._mask(logits, mask)).to(logits.dtype)

    @torch.no_grad()
    def sample(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """An exact sample as k-hot, ``(..., n)``, without gradient."""
        logits_ = self._mask(logits, mask)
        return self._k_hot(logits_ + sample_gumbel(logits_)).to(logits.dtype)

    @torch.no_grad()
    def mode(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """The most probable set, that of the ``k`` largest logits, as k-hot ``(..., n)``, without gradient."""
        return self._k_hot(self._mask(logits, mask)).to(logits.dtype)

    def log_prob(self, logits: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probability of the set that the k-hot ``value`` stands for, in any order, float32, ``(...)``.

        Exact, by a sum over the subsets of ``value``. Differentiable in ``logits``. A set with a masked
        entry has ``-inf``.

        Raises:
            ValueError: if a row of ``value`` is not k-hot.
            ZooError: if ``k`` is more than 12.
        """
        logits_ = self._mask(logits, mask)
        self._check_limit(self.k, "The log-probability")
        chosen = value.expand_as(logits_) == 1
        _require((chosen.sum(-1) == self.k).all() & (value == chosen).all(), f"value must be k-hot with k = {self.k}")
        scores = logits_.double().clamp_min(_NEVER)
        items = scores.gather(-1, chosen.double().topk(self.k).indices)
        rest = scores.masked_fill(chosen, _NEVER).logsumexp(-1, keepdim=True)
        log_p = _log_prob_of_sets(items, rest, self.k).squeeze(-1)
        return log_p.masked_fill(log_p < _NEVER / 2, -math.inf).float()

    def entropy(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """Entropy of the set in nats, float32, ``(...)``, by a sum over all sets.

        Raises:
            ZooError: if there are more than 4096 sets of up to ``k`` items.
        """
        logits_ = self._mask(logits, mask)
        self._check_limit(logits_.shape[-1], "The entropy")
        scores = logits_.double().clamp_min(_NEVER)
        log_p = _log_prob_of_sets(scores, torch.full_like(scores[..., :1], _NEVER), self.k)
        return -(log_p.exp() * log_p).sum(-1).float()

    def _mask(self, logits: Tensor, mask: Tensor | None) -> Tensor:
        if logits.dim() == 0 or logits.shape[-1] < self.k:
            raise ValueError(f"logits must be (..., n) with n >= k = {self.k}, got shape {tuple(logits.shape)}")
        logits_ = fill_masked(logits, mask)
        if mask is not None:
            enough = (mask.expand_as(logits).sum(-1) >= self.k).all()
            _require(enough, f"a row of the mask allows fewer than k = {self.k} choices")
        return logits_

    def _check_limit(self, items: int, what: str) -> None:
        subsets = sum(math.comb(items, size) for size in range(self.k + 1))
        if subsets > LIMIT:
            raise ZooError(
                f"{what} of a set of {self.k} would take a sum over {subsets:.2g} subsets of {items} items, over the "
                f"limit of {LIMIT}: use a smaller k or fewer items"
            )

    def _k_hot(self, scores: Tensor) -> Tensor:
        return torch.zeros_like(scores).scatter_(-1, scores.topk(self.k).indices, 1.0)

    def _relaxed_k_hot(self, scores: Tensor) -> Tensor:
        log_p = (scores / self.tau).log_softmax(-1)
        total = log_p.exp()
        for _ in range(self.k - 1):
            scores = scores + _log_not(log_p)
            log_p = (scores / self.tau).log_softmax(-1)
            total = total + log_p.exp()
        return total


def _log_not(log_p: Tensor) -> Tensor:
    """``log(1 - p)`` of probabilities that sum to one, also where ``p`` rounds to one."""
    top = log_p.argmax(-1, keepdim=True)
    others = log_p.scatter(-1, top, -math.inf)
    return torch.log1p(-others.exp()).scatter(-1, top, others.logsumexp(-1, keepdim=True))


def _require(condition: Tensor, message: str) -> None:
    if torch.compiler.is_compiling():  # a Python branch on data would break the graph
        torch._assert_async(condition, message)
    elif not condition:
        raise ValueError(message)


def _log_prob_of_sets(scores: Tensor, rest: Tensor, k: int) -> Tensor:
    """Log-probability of every set of ``k`` items to be the first ``k`` drawn, in lexicographic order.

    With ``w = exp(scores)`` and ``W(A)`` the weight of all items outside ``A``, the probability that the
    first draws are the set ``A`` in any order is

        P(A) = sum over i in A of P(A - i) w_i / W(A - i),    P(empty set) = 1.

    Inclusion-exclusion gives the same in one sum, but of alternating terms that cancel; these are positive.

    Args:
        scores: log-weights of the items, ``(..., items)``.
        rest: log-weight of everything else, ``(..., 1)``.

    Returns:
        ``(..., number of sets)``.
    """
    log_p = torch.zeros_like(rest)
    for layer in _lattice(scores.shape[-1], k):
        inside, last, before = (torch.from_numpy(index).to(scores.device) for index in layer)
        outside = scores.unsqueeze(-2).masked_fill(inside, _NEVER).logsumexp(-1)
        conditional = log_p - torch.logaddexp(outside, rest)
        log_p = (conditional[..., before] + scores[..., last]).logsumexp(-1)
    return log_p


@lru_cache(maxsize=16)
def _lattice(items: int, k: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each size from 1 to ``k``, how the sets of that size come from those of one item less.

    In numpy: a tensor made under ``torch.inference_mode`` and kept here would break a later backward pass.

    Returns:
        For each size: which items the smaller sets have, ``(smaller sets, items)``; the item drawn last,
        ``(sets, size)``; and the index of the smaller set before it, ``(sets, size)``.
    """
    layers = []
    smaller: list[tuple[int, ...]] = [()]
    for size in range(1, k + 1):
        position = {subset: i for i, subset in enumerate(smaller)}
        inside = np.zeros((len(smaller), items), dtype=bool)
        for i, subset in enumerate(smaller):
            inside[i, list(subset)] = True
        sets = list(combinations(range(items), size))
        before = [[position[s[:i] + s[i + 1 :]] for i in range(size)] for s in sets]
        layers.append((inside, np.array(sets), np.array(before)))
        smaller = sets
    return layers
