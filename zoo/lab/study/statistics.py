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
        spread: standard deviation of the differences.
    """

    mean: float
    low: float
    high: float
    bca_low: float
    bca_high: float
    p: float
    margin: float
    n: int
    spread: float

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
        return Contrast(mean, -math.inf, math.inf, -math.inf, math.inf, 1.0, margin, n, math.inf)
    if spread < 1e-12:
        p = 1.0 if abs(mean - margin) < 1e-12 else min(1.0, 2 * 0.5**n)
        return Contrast(mean, mean, mean, mean, mean, p, margin, n, 0.0)
    half = float(stats.t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
    p = float(stats.ttest_1samp(d, margin).pvalue)
    boot = stats.bootstrap((d,), np.mean, method="BCa", n_resamples=4999, rng=np.random.default_rng(0), vectorized=True)
    low, high = (float(value) for value in boot.confidence_interval)
    return Contrast(mean, mean - half, mean + half, low, high, p, margin, n, spread)


def seeds_needed(found: Contrast, level: float) -> int | None:
    """Pairs at which a t test of this ``level`` tells the mean from the margin, if mean and spread stay what they are.

    So many decide it about as likely as not, since the true mean is as likely nearer as further.

    Returns:
        the number, at most 100,000; None where no number would do.
    """
    stats = scipy_stats()
    distance = abs(found.mean - found.margin)
    if not math.isfinite(found.spread) or distance == 0:
        return None
    if found.spread < 1e-12:
        return max(found.n, math.ceil(math.log2(2 / level)))
    needed = found.n
    while (
        needed < MOST_SEEDS and float(stats.t.isf(level / 2, needed - 1)) * found.spread / math.sqrt(needed) >= distance
    ):
        needed = min(MOST_SEEDS, math.ceil(needed * 1.05) + 1)
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
