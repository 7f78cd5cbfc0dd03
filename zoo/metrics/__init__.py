"""torchmetrics classes that torchmetrics does not have."""

from zoo.metrics.code_statistics import CodeStatistics
from zoo.metrics.returns import EpisodeReturns
from zoo.metrics.speakers import SpeakerStatistics

__all__ = ["CodeStatistics", "EpisodeReturns", "SpeakerStatistics"]
