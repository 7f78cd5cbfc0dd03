"""Returns of episodes."""

import numpy as np
import pytest
import torch
from scipy import stats

from zoo.data.environments.returns import EpisodeReturns, bootstrap_interval, interquartile_mean


@pytest.mark.parametrize("n", [4, 20, 100])
def test_interquartile_mean_is_the_trimmed_mean(n):
    values = torch.randn(3, n)
    assert torch.allclose(interquartile_mean(values), torch.tensor(stats.trim_mean(values.numpy(), 0.25, axis=1)))


def test_where_a_quarter_is_no_whole_number_values_count_in_part():
    assert interquartile_mean(torch.tensor([0.0, 1.0, 5.0])).item() == pytest.approx((0.25 * 0 + 1 + 0.25 * 5) / 1.5)
    assert interquartile_mean(torch.tensor([3.0])).item() == 3.0


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (interquartile_mean, lambda x, axis: stats.trim_mean(x, 0.25, axis=axis)),
        (lambda values: values.mean(-1), np.mean),
    ],
)
def test_the_interval_is_that_of_scipy(ours, theirs):
    values = torch.randn(50) * 10
    low, high = bootstrap_interval(values, statistic=ours)
    expected = stats.bootstrap((values.numpy(),), theirs, method="percentile", rng=0).confidence_interval
    width = expected.high - expected.low
    assert np.allclose([low, high], [expected.low, expected.high], atol=0.1 * width)


def test_episodes_are_gathered():
    metric = EpisodeReturns()
    metric.update(torch.tensor([1.0, 2.0]), torch.tensor([10, 20]))
    metric.update(torch.tensor([6.0]), torch.tensor([30]))
    values = metric.compute()
    assert values["return"] == 3 and values["length"] == 20
    assert values["return_iqm_low"] <= values["return_iqm"] <= values["return_iqm_high"]
