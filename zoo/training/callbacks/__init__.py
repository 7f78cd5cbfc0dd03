"""Callbacks of the Trainer."""

from zoo.training.callbacks.keep_config import KeepConfig
from zoo.training.callbacks.log_metrics import LogMetrics
from zoo.training.callbacks.pictures import Pictures, save_curves
from zoo.training.callbacks.seed_each_batch import SeedEachBatch
from zoo.training.callbacks.tau_annealing import TauAnnealing

__all__ = ["KeepConfig", "LogMetrics", "Pictures", "SeedEachBatch", "TauAnnealing", "save_curves"]
