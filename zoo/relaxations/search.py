"""Sequences from a model that is asked for one step after another: the most probable ones, or samples.

Whatever gives the logits of the next choice can be searched, a :data:`Step`: a language model, a policy, a pointer.

- :func:`sample` draws sequences independently, of whatever :func:`truncated` leaves: ``temperature``, ``top_k``,
  ``top_p``; with ``top_k=1`` greedily.
- :func:`beam_search` keeps the k most probable beginnings.
- :func:`stochastic_beam_search` draws k *different* sequences, as if drawn one by one without replacement. It is a beam
  search for sequences with Gumbel noise, where Gumbel noise and no other is right; :meth:`Found.estimate` gives
  unbiased estimates of expectations from them.

Source: Kool, van Hoof & Welling 2019, "Stochastic Beams and Where to Find Them", arXiv 1903.06059.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from zoo.relaxations.noise import DEFAULT, Noise

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""``step(tokens, state)`` -> the logits of the next token, ``(rows, vocabulary)``, and the next state.

``tokens`` are the last ones, int64 ``(rows,)``; a state is nested tensors whose first dimension is the rows.
"""

Adjust = Callable[[Tensor], Tensor]
"""Logits to logits, ``(rows, vocabulary)``: what is searched or drawn is the law that these give."""


@dataclass(frozen=True)
class Found:
    """Sequences that were found.

    Attributes:
        tokens: int64 ``(batch, k, steps)``; what follows an ``end`` is ``end``.
        log_prob: of each, float64 ``(batch, k)``; -inf where there are not as many as k, and then at the end.
        scores: by which they are in order, from the largest: the log-probability, or the perturbed one.
        threshold: the score of the best one that was left out, float64 ``(batch,)``; -inf where none was, and of a beam
            search without noise.
    """

    tokens: Tensor
    log_prob: Tensor
    scores: Tensor
    threshold: Tensor

    def log_weights(self) -> Tensor:
        """Logarithm of ``p / q`` for sequences of a stochastic beam search, ``(batch, k)``.

        ``q = P(perturbed log-probability > threshold) = 1 - exp(-exp(log p - threshold))``.
        """
        excess = self.log_prob - self.threshold.unsqueeze(-1)
        log_q = torch.where(excess > 4.0, torch.log1p(-torch.exp(-excess.exp())), log_expm1_neg(excess))
        weights = self.log_prob - torch.where(self.threshold.unsqueeze(-1) == -math.inf, 0.0, log_q)
        return torch.where(self.log_prob == -math.inf, -math.inf, weights)

    def estimate(self, values: Tensor, *, normalized: bool = False) -> Tensor:
        """An estimate of ``E[value]`` over all sequences, ``(batch,)``, from a stochastic beam search.

        Unbiased: ``sum_i p_i / q_i f_i`` (equation 13 of the paper); ``normalized`` divides by the sum of the weights,
        which costs a bias that vanishes with k and saves much variance (equation 15).

        Args:
            values: of each sequence, ``(batch, k)``; those of sequences that do not exist do not count.
        """
        weights = self.log_weights().exp()
        if normalized:
            weights = weights / weights.sum(-1, keepdim=True)
        return torch.where(weights == 0, 0.0, weights * values).sum(-1)


def log_expm1_neg(x: Tensor) -> Tensor:
    """``log(1 - exp(-e^x))`` for x that is not large: without cancellation where ``e^x`` is small."""
    return torch.expm1(-x.clamp_max(4.0).exp()).neg().log()


def truncated(*, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Adjust:
    """What leaves of a law its likelier part.

    Args:
        temperature: by which logits are divided.
        top_k: so many of the largest are left.
        top_p: of the most probable so many are left as have this probability together, at least one: the nucleus
            (Holtzman et al. 2020, arXiv 1904.09751).

    Raises:
        ValueError: if a number is out of range.
    """
    if not (temperature > 0 and (top_k is None or top_k >= 1) and (top_p is None or 0 < top_p <= 1)):
        raise ValueError(f"need temperature > 0, top_k >= 1 and top_p in (0, 1], got {temperature}, {top_k}, {top_p}")

    def adjust(logits: Tensor) -> Tensor:
        logits = logits / temperature
        if top_k is not None and top_k < logits.shape[-1]:
            logits = logits.masked_fill(logits < logits.topk(top_k).values[..., -1:], -math.inf)
        if top_p is not None:
            log_p, order = logits.log_softmax(-1).sort(-1, descending=True)
            p = log_p.exp()
            before = p.cumsum(-1) - p
            out = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= top_p)
            logits = logits.masked_fill(out, -math.inf)
        return logits

    return adjust


@torch.no_grad()
def sample(
    step: Step,
    tokens: Tensor,
    state: Any,
    *,
    steps: int,
    adjust: Adjust | None = None,
    end: int | None = None,
    noise: Noise = DEFAULT,
) -> Found:
    """A sequence for each row, drawn from the law, ``k = 1``.

    Args:
        step: the model.
        tokens: what comes before, int64 ``(batch,)``.
        state: after all before those.
        steps: how many tokens.
        adjust: of the law; see :func:`truncated`.
        end: the token after which a sequence has ended; None if there is none.
        noise: source of random numbers.

    Raises:
        ValueError: as :func:`beam_search`.
    """
    check(tokens, steps, 1)
    log_prob = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
    drawn: list[Tensor] = []
    for _ in range(steps):
        logits, state = step(tokens, state)
        log_p = adjusted(logits, adjust)
        log_p = ended(log_p, tokens, end) if drawn else log_p
        tokens = (log_p + noise.gumbel(log_p)).argmax(-1)
        log_prob = log_prob + log_p.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        drawn.append(tokens)
    log_prob = log_prob.unsqueeze(1)
    return Found(torch.stack(drawn, -1).unsqueeze(1), log_prob, log_prob, torch.full_like(log_prob[:, 0], -math.inf))


@torch.no_grad()
def beam_search(
    step: Step, tokens: Tensor, state: Any, *, k: int, steps: int, adjust: Adjust | None = None, end: int | None = None
) -> Found:
    """The k most probable sequences, as far as each beginning of theirs is among the k most probable of its length.

    Args:
        step: the model.
        tokens: what comes before, int64 ``(batch,)``.
        state: after all before those.
        k: how many.
        steps: tokens of a sequence.
        adjust: of the law; see :func:`truncated`.
        end: the token after which a sequence has ended; None if there is none.

    Raises:
        ValueError: if ``k`` or ``steps`` is less than 1, or ``tokens`` are not int64 ``(batch,)``.
    """
    return _beams(step, tokens, state, k, steps, adjust, end, None)


@torch.no_grad()
def stochastic_beam_search(
    step: Step,
    tokens: Tensor,
    state: Any,
    *,
    k: int,
    steps: int,
    adjust: Adjust | None = None,
    end: int | None = None,
    noise: Noise = DEFAULT,
) -> Found:
    """k different sequences, drawn without replacement: the largest of all log-probabilities with Gumbel noise.

    The largest of a node's children is as large as the node: so it goes down the tree from its root, and looks at no
    more than ``k + 1`` nodes of each length. One more than k is kept, whose score is the threshold of the estimates.

    Args:
        step, tokens, state, k, steps, adjust, end: as :func:`beam_search`.
        noise: source of random numbers.

    Raises:
        ValueError: as :func:`beam_search`.
    """
    return _beams(step, tokens, state, k, steps, adjust, end, noise)


def _beams(
    step: Step,
    tokens: Tensor,
    state: Any,
    k: int,
    steps: int,
    adjust: Adjust | None,
    end: int | None,
    noise: Noise | None,
) -> Found:
    check(tokens, steps, k)
    batch, device = len(tokens), tokens.device
    width = 1
    log_prob = torch.zeros(batch, 1, dtype=torch.float64, device=device)
    scores = torch.zeros_like(log_prob)
    if noise is not None:
        scores = noise.gumbel(scores)
    threshold = torch.full_like(log_prob[:, 0], -math.inf)
    drawn = torch.zeros(batch, 1, 0, dtype=torch.int64, device=device)
    for _ in range(steps):
        logits, state = step(tokens, state)
        log_p = adjusted(logits, adjust)
        log_p = ended(log_p, tokens, end) if drawn.shape[-1] else log_p
        vocabulary = log_p.shape[-1]
        below = log_prob.unsqueeze(-1) + log_p.view(batch, width, vocabulary)
        if noise is None:
            above = below
        else:
            perturbed = below + noise.gumbel(below)
            above = given_largest(perturbed, scores.unsqueeze(-1))
        kept = min(k + (noise is not None), width * vocabulary)  # one more for the threshold
        scores, index = above.flatten(1).topk(kept)
        parent, tokens = index // vocabulary, index % vocabulary
        log_prob = below.flatten(1).gather(1, index)
        drawn = torch.cat(
            [drawn.gather(1, parent.unsqueeze(-1).expand(-1, -1, drawn.shape[-1])), tokens[..., None]], -1
        )
        rows = (parent + width * torch.arange(batch, device=device).unsqueeze(1)).flatten()
        state, width = tree_map(lambda value, rows=rows: value[rows], state), kept
        tokens = tokens.flatten()
    if width > k:
        threshold = scores[:, k]
    gone = scores == -math.inf
    return Found(drawn[:, :k], log_prob.masked_fill(gone, -math.inf)[:, :k], scores[:, :k], threshold)


def given_largest(perturbed: Tensor, largest: Tensor) -> Tensor:
    """Perturbed log-probabilities ``(..., n)``, given that the largest of a row is ``largest``, ``(..., 1)``.

    Each stays as probable as it is given that; the order stays. Without loss of digits by appendix B.3 of the paper.
    """
    top = perturbed.amax(-1, keepdim=True)
    gap = (perturbed - top).nan_to_num(-math.inf, neginf=-math.inf)  # of a row that cannot be at all
    v = largest - perturbed + log1m_exp(gap)
    value = largest - v.clamp_min(0.0) - torch.log1p(torch.exp(-v.abs()))
    value = torch.where(gap == 0, largest, value)
    return torch.where((perturbed == -math.inf) | (largest == -math.inf), -math.inf, value)


def log1m_exp(x: Tensor) -> Tensor:
    """``log(1 - e^x)`` of ``x <= 0``."""
    return torch.where(x > -math.log(2), torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))


def adjusted(logits: Tensor, adjust: Adjust | None) -> Tensor:
    """Log-probabilities in double precision, ``(rows, vocabulary)``."""
    return (adjust(logits) if adjust else logits).double().log_softmax(-1)


def ended(log_p: Tensor, tokens: Tensor, end: int | None) -> Tensor:
    """``log_p`` where a sequence goes on; where it has ended, ``end`` for certain."""
    if end is None:
        return log_p
    only = torch.full_like(log_p[0], -math.inf)
    only[end] = 0.0
    return torch.where((tokens == end).unsqueeze(-1), only, log_p)


def check(tokens: Tensor, steps: int, k: int) -> None:
    if k < 1 or steps < 1:
        raise ValueError(f"need k >= 1 and steps >= 1, got {k}, {steps}")
    if tokens.dim() != 1 or tokens.dtype != torch.int64:
        raise ValueError(f"tokens must be int64 (batch,), got {tokens.dtype} {tuple(tokens.shape)}")
