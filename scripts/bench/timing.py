"""What the benchmarks of this folder share: the Trainer that ``scripts/train.py`` builds, with a clock in it."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import Callback, LightningDataModule

from zoo.config import from_config
from zoo.training import callbacks
from zoo.training.checkpointing import ResumeCheckpoints
from zoo.training.loggers import CSVLogger
from zoo.training.trainer import build_trainer


class Clock(Callback):
    """Times batches without set-up and tear-down, and without the first one, which may have to wait for data.

    Args:
        now: a clock, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if batch_idx == 0:
            self.batches, self.start = 0, self.now()
        else:
            self.batches += 1

    def on_train_end(self, *_: object) -> None:
        self.seconds = self.now() - self.start


def trainer_seconds(
    config: dict[str, Any], data: LightningDataModule | None = None, now: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds a training batch takes through the Trainer, callbacks, checkpoints and CSV logger included."""
    clock = Clock(now)
    train(config, [clock], data)
    return clock.seconds / clock.batches


def train(config: dict[str, Any], more: list[Callback], data: LightningDataModule | None = None) -> None:
    """Train as ``config`` says, in a folder that is deleted, with ``more`` callbacks."""
    with tempfile.TemporaryDirectory() as folder:
        parts = [
            callbacks.SeedEachBatch(config["seed"]),
            from_config(config["annealing"]),
            callbacks.LogMetrics(),
            ResumeCheckpoints(Path(folder), every_n_steps=config["checkpoint_every_n_steps"]),
            *more,
        ]
        logger = CSVLogger(Path(folder) / "metrics.csv")
        trainer = build_trainer(config["trainer"], parts, logger=[logger], default_root_dir=folder)
        trainer.fit(from_config(config["model"]), data or from_config(config["data"]), weights_only=True)


def in_turns(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each of ``ways`` returns in each of ``rounds``, so that a busy machine slows each down alike."""
    values: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, measure in ways.items():
            values[name].append(measure())
    return values


def print_ratios(rates: dict[str, list[float]], first: str, others: list[str]) -> None:
    """The ratio of the rates of ``first`` to those of each of ``others``: median, least and largest over rounds."""
    for name in others:
        ratios = [a / b for a, b in zip(rates[first], rates[name])]
        print(f"{first} / {name}: {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")
