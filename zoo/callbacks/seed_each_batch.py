"""Reproducible noise, wherever a run was stopped."""

from typing import Any

from lightning import Callback, LightningModule, Trainer

from zoo.seeding import STEP, TEST, TRAIN, VALIDATE, seed_default_generators


class SeedEachBatch(Callback):
    """Seeds the default generators at each batch from (seed, stage, epoch, batch index, rank).

    The epoch and the batch index, not the global step: that one repeats under gradient accumulation.

    Args:
        seed: of the run, not negative.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        seed_default_generators(self.seed, TRAIN, STEP, trainer.current_epoch, batch_idx, trainer.global_rank)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        seed_default_generators(self.seed, VALIDATE, STEP, batch_idx, trainer.global_rank)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        seed_default_generators(self.seed, TEST, STEP, batch_idx, trainer.global_rank)
