"""What the benchmarks of this folder share: the Trainer that ``scripts/train.py`` builds, with a clock in it."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningDataModule
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from zoo.config import from_config
from zoo.data import sources
from zoo.training import callbacks
from zoo.training.checkpointing import ResumeCheckpoints
from zoo.training.loggers import CSVLogger
from zoo.training.trainer import build_trainer


class Clock(Callback):
    """Times batches without set-up and tear-down, and without the first ones, which may have to wait for data.

    Args:
        now: a clock, in seconds.
        warm_up: batches before it starts.
        enough: seconds after which it ends the training, or null.

    Attributes:
        batches: that were timed.
        seconds: that they took, what an accelerator had still to do included.
    """

    def __init__(
        self, now: Callable[[], float] = time.perf_counter, *, warm_up: int = 1, enough: float | None = None
    ) -> None:
        self.now, self.warm_up, self.enough = now, warm_up, enough
        self.batches, self.seconds, self.start = -warm_up, 0.0, 0.0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.batches += 1
        if self.batches == 0:
            wait()
            self.start = self.now()
        elif self.batches > 0 and self.enough is not None and self.now() - self.start > self.enough:
            trainer.should_stop = True

    def on_train_end(self, *_: object) -> None:
        wait()
        self.seconds = self.now() - self.start


def wait() -> None:
    """Until an accelerator has done what it was given to do."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def trainer_seconds(
    config: dict[str, Any],
    data: LightningDataModule | None = None,
    now: Callable[[], float] = time.perf_counter,
    *,
    warm_up: int = 1,
    enough: float | None = None,
) -> float:
    """Seconds a training batch takes through the Trainer, callbacks, checkpoints and CSV logger included.

    Args:
        config: as :func:`train`.
        data: in place of the one in ``config``.
        now, warm_up, enough: as :class:`Clock`.

    Raises:
        ValueError: if the training ended before anything was timed.
    """
    clock = Clock(now, warm_up=warm_up, enough=enough)
    train(config, [clock], data)
    if clock.batches < 1:
        raise ValueError(f"the training ended after {clock.batches + warm_up} batches, and {warm_up} are not timed")
    return clock.seconds / clock.batches


def train(config: dict[str, Any], more: list[Callback], data: LightningDataModule | None = None) -> None:
    """Train as ``config`` says, in a folder that is deleted, with ``more`` callbacks."""
    with tempfile.TemporaryDirectory() as folder:
        parts = [
            callbacks.SeedEachBatch(config["seed"]),
            *([from_config(config["annealing"])] if config.get("annealing") else []),
            callbacks.LogMetrics(),
            ResumeCheckpoints(Path(folder), every_n_steps=config["checkpoint_every_n_steps"]),
            *more,
        ]
        logger = CSVLogger(Path(folder) / "metrics.csv")
        trainer = build_trainer(config["trainer"], parts, logger=[logger], default_root_dir=folder)
        model = from_config(config["model"])
        if config["compile"]:
            model.compile_networks()
        trainer.fit(model, data or from_config(config["data"]), weights_only=True)


def torchvision_batches(config: dict[str, Any], batch_size: int) -> DataLoader:
    """MNIST, binarised on the fly, as reference implementations feed their models."""
    binarize = transforms.Compose([transforms.ToTensor(), torch.bernoulli])
    root = sources.data_root(config["data"]["root"])
    return DataLoader(datasets.MNIST(str(root), train=True, transform=binarize), batch_size=batch_size, shuffle=True)


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
