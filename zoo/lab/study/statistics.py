"""What is concluded from scores that are paired by seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from zoo.errors import ZooError

Verdict = Literal["yes", "no", "not decided"]
MOST_SEEDS = 100_000


def scipy_stats() -> Any:
    """The module ``scipy.stats``.

    Raises:
        ZooError: if scipy is not installed.
    """
    try:
        import scipy.stats
    except ImportError as error:
        raise ZooError("the study needs scipy: pip install 'discrete-latent-zoo[study]'") from error
    return scipy.stats


@dataclass(frozen=True)
class Contrast:
    """How much better one thing is than another: differences of scores of the same seeds, positive where it is.

    Attributes:
        mean: of the differences.
        low, high: 95% t interval.
        bca_low, bca_high: 95% bootstrap interval, bias-corrected and accelerated, over seeds: a check of the other.
        p: two-sided, of a mean that equals the margin.
        margin: what a difference has to exceed to be worth a word.
        n: pairs.
        needed: pairs that would decide it if mean and spread stay, None where it is decided at 95%.
    """

    mean: float
    low: float
    high: float
    bca_low: float
    bca_high: float
    p: float
    margin: float
    n: int
    needed: int | None

    def verdict(self, p: float, alpha: float = 0.05) -> Verdict:
        """``yes``: better by more than the margin; ``no``: not by as much; by ``p``, adjusted for all contrasts."""
        if p > alpha:
            return "not decided"
        return "yes" if self.mean > self.margin else "no"


def contrast(better: Sequence[float], than: Sequence[float], margin: float) -> Contrast:
    """Of scores, lower is better, in the same order of seeds.

    Where all differences are the same there is no spread to judge by; then only a difference of another size than the
    margin is certain, and as certain as the seeds are many: by the rule of three, a share of ``1 - 3 / n`` of them.

    Raises:
        ValueError: if the lengths differ, or there are fewer than two.
    """
    stats = scipy_stats()
    d = np.asarray(than, dtype=float) - np.asarray(better, dtype=float)
    n = len(d)
    if len(better) != len(than) or n < 2:
        raise ValueError(f"need two pairs or more, got {len(better)} and {len(than)} scores")
    mean, spread = float(d.mean()), float(d.std(ddof=1))
    if not math.isfinite(mean) or not math.isfinite(spread):
        return Contrast(mean, -math.inf, math.inf, -math.inf, math.inf, 1.0, margin, n, None)
    if spread < 1e-12:
        p = 1.0 if abs(mean - margin) < 1e-12 else min(1.0, 2 * 0.5**n)
        return Contrast(mean, mean, mean, mean, mean, p, margin, n, None)
    half = float(stats.t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
    p = float(stats.ttest_1samp(d, margin).pvalue)
    boot = stats.bootstrap((d,), np.mean, method="BCa", n_resamples=4999, rng=np.random.default_rng(0), vectorized=True)
    low, high = (float(value) for value in boot.confidence_interval)
    return Contrast(mean, mean - half, mean + half, low, high, p, margin, n, seeds_needed(mean, spread, margin, n))


def seeds_needed(mean: float, spread: float, margin: float, n: int) -> int | None:
    """Pairs at which a 95% interval around ``mean`` leaves the margin out; None if ``n`` are enough."""
    stats = scipy_stats()
    distance = abs(mean - margin)
    if distance > float(stats.t.ppf(0.975, n - 1)) * spread / math.sqrt(n):
        return None
    needed = n
    while needed < MOST_SEEDS and float(stats.t.ppf(0.975, needed - 1)) * spread / math.sqrt(needed) >= distance:
        needed = math.ceil(needed * 1.1) + 1
    return needed


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted by Holm's step-down method: each is to be compared with alpha.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted


def expected_best(chosen_by: Sequence[float], score: Sequence[float], trials: int) -> float:
    """The expected ``score`` of the best setting by ``chosen_by`` among ``trials`` random ones; lower is better.

    Exact, over all subsets of that size of what was tried (Dodge et al. 2019, arXiv 1909.03004, without replacement).

    Raises:
        ValueError: if ``trials`` is not between 1 and the number of settings.
    """
    n = len(score)
    if not 1 <= trials <= n or len(chosen_by) != n:
        raise ValueError(f"need 1 <= trials <= {n} settings, got {trials}")
    order = sorted(range(n), key=lambda i: math.inf if math.isnan(chosen_by[i]) else chosen_by[i])
    ways = math.comb(n, trials)
    return sum(
        score[i] * math.comb(n - 1 - rank, trials - 1) / ways for rank, i in enumerate(order) if n - rank >= trials
    )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95% t interval."""
    v = np.asarray(values, dtype=float)
    if len(v) < 2:
        return float(v.mean()), math.inf
    return float(v.mean()), float(scipy_stats().t.ppf(0.975, len(v) - 1)) * float(v.std(ddof=1)) / math.sqrt(len(v))
