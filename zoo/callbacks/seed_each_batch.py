"""Reproducible noise, wherever a run was stopped."""

from typing import Any

from lightning import Callback, LightningModule, Trainer

from zoo.relaxations.splitting import split_noise
from zoo.seeding import STEP, TEST, TRAIN, VALIDATE, seed_default_generators

STREAM = 0  # ends the key of the noise; another number would be other noise than that of all recorded results


class SeedEachBatch(Callback):
    """Seeds the default generators at each batch from (seed, stage, epoch, batch index).

    The epoch and the batch index, not the global step: that one repeats under gradient accumulation. The seed is the
    same on every rank: relaxations take the noise of their part of the batch, so that it differs from rank to rank and
    does not depend on their number (:mod:`zoo.relaxations.splitting`). What else draws from the default generators,
    such as dropout, draws alike on every rank.

    Args:
        seed: of the run, not negative.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        seed_default_generators(self.seed, TRAIN, STEP, trainer.current_epoch, batch_idx, STREAM)
        split_noise(trainer.global_rank, trainer.world_size)

    def on_train_batch_end(self, *_: Any) -> None:
        split_noise()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        seed_default_generators(self.seed, VALIDATE, STEP, batch_idx, STREAM)
        split_noise(trainer.global_rank, trainer.world_size)

    def on_validation_batch_end(self, *_: Any) -> None:
        split_noise()

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        seed_default_generators(self.seed, TEST, STEP, batch_idx, STREAM)
        split_noise(trainer.global_rank, trainer.world_size)

    def on_test_batch_end(self, *_: Any) -> None:
        split_noise()
