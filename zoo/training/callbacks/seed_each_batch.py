"""Reproducible noise, wherever a run was stopped."""

from typing import Any

from lightning import Callback, LightningModule, Trainer

from zoo.data.seeding import STEP, TEST, TRAIN, VALIDATE, derive_seed, seed_default_generators
from zoo.relaxations import Noise, PartOfBatch, Relaxation
from zoo.relaxations.noise import DEFAULT
from zoo.training.module import ZooModule

STREAM = 0  # ends the key of the noise; another number would be other noise than that of all recorded results


class SeedEachBatch(Callback):
    """Seeds all noise at each batch from (seed, stage, epoch, batch index).

    The epoch and the batch index, not the global step: that one repeats under gradient accumulation. Of several
    processes, relaxations draw the noise of their part of the batch, so that it differs from rank to rank and does not
    depend on their number (:class:`zoo.relaxations.PartOfBatch`). The default generators, from which dropout draws,
    have another seed on each rank.

    Args:
        seed: of the run, not negative.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def _begin(self, trainer: Trainer, module: LightningModule, *key: int) -> None:
        rank, processes = trainer.global_rank, trainer.world_size
        seed_default_generators(self.seed, *key, STREAM if processes == 1 else STREAM + 1 + rank)
        if processes > 1:
            use_noise(module, PartOfBatch(rank, processes, derive_seed(self.seed, *key, STREAM)))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._begin(trainer, pl_module, TRAIN, STEP, trainer.current_epoch, batch_idx)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        use_noise(pl_module, DEFAULT)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._begin(trainer, pl_module, VALIDATE, STEP, batch_idx)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        use_noise(pl_module, DEFAULT)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._begin(trainer, pl_module, TEST, STEP, batch_idx)

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        use_noise(pl_module, DEFAULT)


def use_noise(module: LightningModule, noise: Noise) -> None:
    """Let ``module`` and its relaxations draw from ``noise``."""
    if getattr(module, "noise_source", None) is noise is DEFAULT:
        return  # as in a single process after every batch: to walk through all modules costs more than small ones do
    for part in module.modules():
        if isinstance(part, ZooModule):
            part.noise_source = noise
        elif isinstance(part, Relaxation):
            part.noise = noise
