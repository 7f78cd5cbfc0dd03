"""What surrounds the Trainer: the base of all models, their optimiser, run folders, checkpoints, loggers, callbacks."""

from zoo.training.module import ZooModule
from zoo.training.optim import AdamW
from zoo.training.remembered import Remembered

__all__ = ["AdamW", "Remembered", "ZooModule"]
