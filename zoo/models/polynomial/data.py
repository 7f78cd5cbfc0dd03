"""Batches without content, for models that are their own data."""

import torch
from lightning import LightningDataModule

from zoo.config import Configurable
from zoo.data.images import Batches
from zoo.data.seeding import TRAIN


class Steps(Configurable, LightningDataModule):
    """``steps`` empty batches an epoch, and one for validation and for test.

    Args:
        batch_size: samples in a step, over all devices together.
        steps: of an epoch.

    Raises:
        ValueError: if a number is less than 1.
    """

    def __init__(self, *, batch_size: int = 64, steps: int = 200) -> None:
        super().__init__()
        if batch_size < 1 or steps < 1:
            raise ValueError(f"batch_size and steps must be at least 1, got {batch_size}, {steps}")
        self.batch_size, self.steps = batch_size, steps

    def train_dataloader(self) -> Batches:
        return self._batches(self.steps)

    def val_dataloader(self) -> Batches:
        return self._batches(1)

    def test_dataloader(self) -> Batches:
        return self._batches(1)

    def _batches(self, steps: int) -> Batches:
        """Images of one black pixel, in an order that does not matter."""
        count = steps * self.batch_size
        trainer = self.trainer
        return Batches(
            torch.zeros(count, 1, 1, 1, dtype=torch.uint8),
            torch.zeros(count, dtype=torch.int64),
            batch_size=self.batch_size,
            binarize="none",
            key=(0, TRAIN),
            shuffle=False,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            position=self._position if steps > 1 else lambda: (0, 0),
        )

    def _position(self) -> tuple[int, int]:
        """Epoch and index of the next batch, as the Trainer has them."""
        if not self.trainer:
            return 0, 0
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
