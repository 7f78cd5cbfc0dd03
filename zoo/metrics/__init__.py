"""torchmetrics classes that torchmetrics does not have."""

from zoo.metrics.code_statistics import CodeStatistics

__all__ = ["CodeStatistics"]
