"""torchmetrics classes that torchmetrics does not have."""

from zoo.metrics.code_statistics import CodeStatistics
from zoo.metrics.returns import EpisodeReturns
from zoo.metrics.solutions import AreaRatio, ExactMatch, KendallTau, OptimalityGap, Validity
from zoo.metrics.speakers import SpeakerStatistics

__all__ = [
    "AreaRatio",
    "CodeStatistics",
    "EpisodeReturns",
    "ExactMatch",
    "KendallTau",
    "OptimalityGap",
    "SpeakerStatistics",
    "Validity",
]
