"""Metrics of solutions against their definitions."""

import pytest
import torch
from scipy import stats

from zoo.models.pointer_net.metrics import AreaRatio, ExactMatch, KendallTau, OptimalityGap, Validity


def test_gaps_are_means_of_ratios_over_what_is_known():
    metric = OptimalityGap()
    metric.update(torch.tensor([1.1, 3.0]), torch.tensor([1.0, 2.0]))
    metric.update(torch.tensor([5.0, 0.0]), torch.tensor([torch.nan, 0.0]))
    assert metric.compute() == pytest.approx((10 + 50 + 0) / 3, abs=1e-4)
    metric.reset()
    metric.update(torch.tensor([-9.0]), torch.tensor([-10.0]))  # of what is to be large
    assert metric.compute() == pytest.approx(10, abs=1e-4)


def test_kendall_tau_is_that_of_scipy():
    values = torch.stack([torch.randperm(9) for _ in range(5)]).float()
    metric = KendallTau()
    metric.update(values)
    expected = sum(stats.kendalltau(range(9), row.numpy()).statistic for row in values) / 5
    assert metric.compute() == pytest.approx(expected, abs=1e-6)


def test_shares():
    for metric, arguments in (
        (ExactMatch(), (torch.tensor([[1, 2], [1, 3]]), torch.tensor([[1, 2], [1, 2]]))),
        (AreaRatio(), (torch.tensor([1.0, 0.0]), torch.tensor([1.0, 3.0]))),
        (Validity(), (torch.tensor([[True, False]]),)),
    ):
        metric.update(*arguments)
        assert metric.compute() == 0.5
