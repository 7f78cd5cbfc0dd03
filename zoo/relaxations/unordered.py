"""Samples without replacement: the unordered-set estimator."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.relaxations.base import InEval, Program, Relaxation, ScoredProgram, average, run, sum_like
from zoo.relaxations.control_variates import Replay
from zoo.relaxations.distributions import OneOfK
from zoo.relaxations.distributions.base import one_hot, one_or_nan
from zoo.relaxations.following import run_watched
from zoo.relaxations.noise import Noise
from zoo.relaxations.score_function import surrogate
from zoo.relaxations.search import log1m_exp, stochastic_beam_search

POINTS = 2**19  # of a grid for several values and rows that are in memory at once


class UnorderedSet(Relaxation):
    """A score function with k different samples, each weighted by how likely it is to be the first one of their set.

    With S the values drawn without replacement, in whatever order, the estimate is ``sum_{s in S} p(s) R(S, s) f(s)``
    and its gradient

        sum_{s in S} grad p(s) R(S, s) (f(s) - sum_{s' in S} p(s') R_s(S, s') f(s')),

    with the ratios of :func:`leave_one_out`. No value is drawn twice, so that costs are not computed twice; unbiased,
    and exact where S is all there is. The program may draw many times, one of K or gates; what all draws give together
    is one value. A draw must not depend on an earlier one, unless the program is a :class:`ScoredProgram` that knows
    how to draw ``distinct`` sequences. Where there are fewer than k values, all are drawn. At most k program runs.

    Args:
        samples: k, at least 2.

    Raises:
        ValueError: if ``samples`` is less than 2.
        ZooError: from ``expectation``, if a draw depends on an earlier one, or the logits differ from run to run.

    Source: Kool et al. 2020, "Estimating Gradients for Discrete Random Variables by Sampling without Replacement",
    arXiv 2002.06043, section 3: the unordered set estimator and the policy gradient with its built-in control variate.
    """

    unbiased = True
    dependent_draws = False
    needs = (OneOfK,)

    def __init__(self, *, samples: int = 4, in_eval: InEval | None = None) -> None:
        super().__init__(in_eval=in_eval)
        if not isinstance(samples, int) or samples < 2:
            raise ValueError(f"samples must be at least 2 (each is compared with another), got {samples}")
        self.samples = samples

    def estimate(self, program: Program, noise: Noise) -> tuple[Tensor, Any]:
        if isinstance(program, ScoredProgram) and program.distinct is not None:
            cost, log_prob, *auxiliary = program.distinct(self.samples)
            auxiliaries = [None if not auxiliary else [part[i] for part in auxiliary] for i in range(len(cost))]
        else:
            cost, log_prob, auxiliaries = self.runs(program, noise)
        missing = log_prob == -math.inf
        weights, others = (part.to(cost.dtype) for part in leave_one_out(log_prob.detach().double().movedim(0, -1)))
        baseline = (others @ cost.detach().movedim(0, -1).unsqueeze(-1)).squeeze(-1).movedim(-1, 0)
        weights = weights.movedim(-1, 0)
        each = weights * surrogate(cost, baseline, log_prob.masked_fill(missing, 0.0))
        return each.sum(0), average(auxiliaries, list(weights))

    def runs(self, program: Program, noise: Noise) -> tuple[Tensor, Tensor, list[Any]]:
        """Costs and log-probabilities of different values, ``(values, batch[, replicas])``, and their auxiliary values.

        The first run is of an independent sample, and shows what is drawn; those after it are of values drawn from what
        is left. A value that does not exist is the first once more, with a log-probability of -inf.
        """
        draws: list[_First] = []

        def draw(x: Any, mask: Tensor | None = None) -> Tensor:
            draws.append(_First(self.served(x, mask), noise))
            return draws[-1].value

        first, auxiliary = run_watched(program, draw, self, independent=True)
        costs, auxiliaries = [first], [auxiliary]
        log_probs = [total([each.log_prob(each.value) for each in draws], first)]
        index, exists = self.distinct(draws, first, noise)
        for i in range(1, exists.shape[-1]):
            values = [each.place(part[..., i, :]) for each, part in zip(draws, index)]
            replay = Replay(self, draws, values)
            cost, auxiliary = run(program, replay.draw)
            replay.check(cost, first)
            log_prob = total([each.log_prob(value) for each, value in zip(draws, values)], first)
            costs.append(cost)
            auxiliaries.append(auxiliary)
            log_probs.append(log_prob.masked_fill(~exists[..., i], -math.inf))
        return torch.stack(costs), torch.stack(log_probs), auxiliaries

    def distinct(self, draws: "Sequence[_First]", cost: Tensor, noise: Noise) -> tuple[list[Tensor], Tensor]:
        """What each draw is in each of the values, the first of which is known, and whether there is such a value.

        Returns:
            of each draw int64 ``(batch[, replicas], values, choices)``; boolean ``(batch[, replicas], values)``.
        """
        if not draws:
            return [], torch.ones(*cost.shape, 1, dtype=torch.bool, device=cost.device)
        logits = [choice for each in draws for choice in columns(each.logits, cost)]
        known = _AsKnown([choice for each in draws for choice in columns(each.noise, cost)], noise)
        rows, device = cost.numel(), cost.device
        place = iter(logits)

        def step(tokens: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
            return next(place)[row], row

        start = torch.zeros(rows, dtype=torch.int64, device=device)
        found = stochastic_beam_search(
            step, start, torch.arange(rows, device=device), k=self.samples, steps=len(logits), noise=known
        )
        exists = found.log_prob != -math.inf
        tokens = torch.where(exists.unsqueeze(-1), found.tokens, found.tokens[:, :1])
        sizes = [each.logits.shape[cost.dim() : -1].numel() for each in draws]
        parts = tokens.unflatten(0, cost.shape).split(sizes, -1)
        return list(parts), exists.unflatten(0, cost.shape)


def columns(values: Tensor, cost: Tensor) -> Sequence[Tensor]:
    """``values`` ``(batch[, replicas], ..., categories)`` of one choice after another, ``(rows, categories)`` each."""
    sum_like(values[..., 0], cost)
    return values.reshape(cost.numel(), -1, values.shape[-1]).unbind(1)


def total(log_probs: list[Tensor], cost: Tensor) -> Tensor:
    """The log-probability of all draws, of the shape of the costs."""
    return sum((sum_like(log_prob, cost) for log_prob in log_probs), torch.zeros_like(cost))


class _First:
    """A draw in the first run.

    Attributes:
        logits: as a categorical, ``(batch, ..., categories)``, without gradient.
        noise: of Gumbel, with which the first value is the largest.
        value: the first.
    """

    def __init__(self, distribution: Any, noise: Noise) -> None:
        self.distribution = distribution
        choice = distribution.as_categorical()
        self.logits = choice.logits.detach()
        self.noise = noise.gumbel(self.logits.double(), choice.batch_dim)
        self.one = one_or_nan(self.logits.logsumexp(-1, keepdim=True))
        self.value = self.place((self.logits + self.noise).argmax(-1))

    def place(self, index: Tensor) -> Tensor:
        """The value of the indices ``(batch, ..., choices)`` or in the shape of the choices."""
        hard = one_hot(index.reshape(*self.logits.shape[:-1], 1), self.logits, self.one)
        return self.distribution.place(self.distribution.from_one_hot(hard))

    def log_prob(self, value: Tensor) -> Tensor:
        return self.distribution.log_prob(value)


class _AsKnown(Noise):
    """Gumbel noise of a search whose first result is known: below the largest node of each length what made it so."""

    def __init__(self, known: list[Tensor], noise: Noise) -> None:
        super().__init__()
        self.known, self.noise = iter(known), noise

    def gumbel(self, like: Tensor, batch_dim: int = 0) -> Tensor:
        drawn = self.noise.gumbel(like, batch_dim)
        if like.dim() < 3:  # of the root
            return drawn
        return torch.cat([next(self.known).unsqueeze(1), drawn[:, 1:]], 1)


# The ratios -----------------------------------------------------------------------------------------------------------


def leave_one_out(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Leave-one-out ratios of a set S drawn without replacement, times the probabilities that they go with.

    With ``p_D(S)`` the probability that the first k draws from D without replacement are S, in whatever order:

        R(S, s) = p_{D - s}(S - s) / p_D(S),     R_s(S, s') = p_{D - s - s'}(S - s - s') / p_{D - s}(S - s),

    and ``R_s(S, s) = 1``. The values of S are the first k to arrive if each arrives after an exponential time with its
    probability as the rate. With ``x`` the arrival of the first one that is not in S, and ``r_s`` the odds of s against
    all those together,

        p_D(S) = int_0^oo exp(-x) prod_{s in S} (1 - exp(-r_s x)) dx

    (appendix B of the paper, with ``x = -log v``). Without s the integrand has lost its factor and is otherwise the
    same, so that one grid serves all ratios. In ``t = log x`` the integrand is analytic and falls off fast on both
    sides: the trapezoidal rule is then as good as exact.

    Args:
        log_p: log-probabilities of the values in S, float64 ``(..., k)``; -inf for one that does not exist.

    Returns:
        ``p(s) R(S, s)``, ``(..., k)``, whose sum is one in the mean, and ``p(s') R_s(S, s')`` as ``[s, s']``, ``(...,
        k, k)``, each row of which is; zero for what does not exist.
    """
    k = log_p.shape[-1]
    width = min(0.25, 0.65 / (k + 1) ** 0.5)  # the integrand is as narrow as 1 / sqrt(k + 1)
    end = math.log(k + 31 + 10 * (k + 1) ** 0.5)
    t = torch.arange(-28.0, end, width, dtype=log_p.dtype, device=log_p.device)
    rows = log_p.reshape(-1, k).split(max(1, POINTS // (k * len(t))))
    weights, others = (torch.cat(parts) for parts in zip(*[_leave_one_out(some, t) for some in rows]))
    return weights.view(log_p.shape), others.view(*log_p.shape, k)


def _leave_one_out(log_p: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Of some ``log_p`` ``(rows, k)``, by a grid of ``t``."""
    k = log_p.shape[-1]
    missing = log_p == -math.inf
    rest = log1m_exp(log_p.logsumexp(-1, keepdim=True).clamp_max(0.0))
    odds = (log_p - rest).masked_fill(missing, 0.0)
    clamped = odds.clamp_min(-300.0)  # below it factors are proportional to the odds
    middle = math.log(k + 1)

    def factor(t: Tensor | float) -> Tensor:
        """``1 - exp(-r x)`` of each value."""
        return -torch.expm1(-(clamped.unsqueeze(-1) + t).clamp_max(700.0).exp())

    about = factor(middle)
    factors = (factor(t) / about).masked_fill(missing.unsqueeze(-1), 1.0)  # (rows, k, t); nothing of them overflows
    whole = torch.exp(t - t.exp()) * factors.prod(-2)
    one_out = whole.unsqueeze(-2) / factors
    first, second = one_out.sum(-1), one_out @ factors.reciprocal().mT
    p = torch.exp(log_p - about.squeeze(-1).log() - (odds - clamped).nan_to_num(0.0))  # over the middle of its factor
    ratios = p.unsqueeze(-2) * second / first.unsqueeze(-1)
    own = torch.eye(k, dtype=torch.bool, device=log_p.device)
    return p * first / whole.sum(-1, keepdim=True), torch.where(own, log_p.exp().unsqueeze(-2), ratios)
