"""What is concluded from scores: against scipy, by brute force, and by simulation of what the intervals promise."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from zoo.lab.study.statistics import contrast, expected_best, holm, interval, seeds_needed


def test_a_contrast_is_the_paired_t_test():
    g = np.random.default_rng(0)
    a, b = g.normal(size=10), g.normal(0.5, size=10)
    found, theirs = contrast(a, b, 0.2), stats.ttest_rel(b - 0.2, a)
    assert found.p == pytest.approx(theirs.pvalue)
    low, high = stats.ttest_rel(b, a).confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.mean == pytest.approx(np.mean(b - a)) and found.n == 10
    assert found.low < found.bca_low < found.mean < found.bca_high < found.high  # the bootstrap is the narrower one


@pytest.mark.parametrize("skewed", [False, True])
def test_intervals_cover_what_they_say(skewed):
    """At n = 10: 95% where the differences are normal, not far below where they are skewed."""
    g = np.random.default_rng(1)
    drawn = g.gamma(4.0, size=(4000, 10)) - 4.0 if skewed else g.normal(size=(4000, 10))
    half = stats.t.ppf(0.975, 9) * drawn.std(axis=1, ddof=1) / 10**0.5
    assert [interval(row)[1] for row in drawn[:50]] == pytest.approx(half[:50])
    covered = (abs(drawn.mean(axis=1)) <= half).mean()
    assert covered == pytest.approx(0.95, abs=0.01) if not skewed else covered > 0.92


def test_a_verdict_is_wrong_as_rarely_as_alpha_allows():
    """Where the truth lies at the margin neither yes nor no is right."""
    g = np.random.default_rng(2)
    drawn = g.normal(0.3, 1.0, size=(4000, 10))
    p = stats.ttest_1samp(drawn, 0.3, axis=1).pvalue
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.01)
    one = contrast(np.zeros(10), drawn[0], 0.3)
    assert one.p == pytest.approx(p[0]) and one.verdict(1.0) == "not decided"
    assert contrast(np.zeros(10), drawn[0] + 5, 0.3).verdict(0.01) == "yes"
    assert contrast(np.zeros(10), drawn[0] - 5, 0.3).verdict(0.01) == "no"


def test_holm_holds_the_family():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    g = np.random.default_rng(3)
    wrong = [min(holm(g.random(20).tolist())) < 0.05 for _ in range(3000)]
    assert np.mean(wrong) <= 0.06


def test_the_expected_best_is_the_mean_over_all_subsets():
    g = np.random.default_rng(4)
    by, score = g.random(7), g.random(7)
    for m in range(1, 8):
        every = [score[min(chosen, key=lambda i: by[i])] for chosen in itertools.combinations(range(7), m)]
        assert expected_best(by, score, m) == pytest.approx(np.mean(every))
    with pytest.raises(ValueError, match="need 1 <= trials <= 7"):
        expected_best(by, score, 8)


@pytest.mark.parametrize("level", [0.05, 0.0005])
def test_the_seeds_that_would_decide(level):
    found = replace(contrast([0.0, 0.2, 0.1], [0.1, 0.8, 0.3], 0.1), mean=0.3, spread=1.0, n=10)
    needed = seeds_needed(found, level)

    def half(n):
        return stats.t.isf(level / 2, n - 1) / n**0.5

    assert needed > 10 and half(needed) < 0.2 < half(needed / 1.2)
    assert seeds_needed(replace(found, mean=10.0), level) == 10  # which it decides already
    assert seeds_needed(replace(found, mean=0.1), level) is None
    assert seeds_needed(replace(found, mean=0.1001), level) == 100_000  # at most
    same = contrast([0.0] * 3, [1.0] * 3, 0.1)
    assert 2 * 0.5 ** seeds_needed(same, level) <= level < 2 * 0.5 ** (seeds_needed(same, level) - 1)


def test_without_any_spread():
    same = contrast([0.0] * 10, [0.0] * 10, 0.1)
    assert same.verdict(same.p) == "no" and (same.low, same.high) == (0.0, 0.0)
    few = contrast([0.0] * 3, [1.0] * 3, 0.1)
    assert few.verdict(few.p) == "not decided"  # three seeds that agree are not enough
    at = contrast([0.0] * 10, [0.1] * 10, 0.1)
    assert at.p == 1.0
    with pytest.raises(ValueError, match="two pairs"):
        contrast([1.0], [1.0], 0.1)


def test_what_is_not_finite_decides_nothing():
    assert contrast([1.0, 2.0, float("nan")], [2.0, 3.0, 4.0], 0.1).p == 1.0
