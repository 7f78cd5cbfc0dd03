"""Callbacks of the Trainer."""

from zoo.callbacks.log_metrics import LogMetrics
from zoo.callbacks.pictures import Pictures, save_curves
from zoo.callbacks.seed_each_batch import SeedEachBatch
from zoo.callbacks.tau_annealing import TauAnnealing

__all__ = ["LogMetrics", "Pictures", "SeedEachBatch", "TauAnnealing", "save_curves"]
