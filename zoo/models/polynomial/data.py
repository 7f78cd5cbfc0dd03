"""Batches without content, for a model that is its own data."""

from collections.abc import Iterator

import torch
from torch import Tensor

from zoo.data.batches import Batches, DataModule, Place

MOST = 10_000_000  # samples, which are all in memory at a time


class EmptyBatches(Batches[tuple[Tensor]]):
    """Tensors ``(batch, 0)``: all that a batch says is its size.

    Args:
        length: batches of an epoch.
        batch_size: over all processes together.
        place: of this process.
    """

    def __init__(self, length: int, batch_size: int, place: Place) -> None:
        super().__init__(length, place)
        self.batch_size = batch_size

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor]]:
        share = self.place.share(self.batch_size)
        for _ in range(start, len(self)):
            yield (torch.empty(share.stop - share.start, 0),)


class Steps(DataModule):
    """``steps`` empty batches an epoch, and one for validation and for test.

    Args:
        batch_size: samples in a step, over all devices together.
        steps: of an epoch.

    Raises:
        ValueError: if a number is less than 1.
    """

    def __init__(self, *, batch_size: int = 64, steps: int = 200) -> None:
        super().__init__()
        if not 1 <= batch_size <= MOST or steps < 1:
            raise ValueError(f"need batch_size in [1, {MOST}] and steps >= 1, got {batch_size}, {steps}")
        self.batch_size, self.steps = batch_size, steps

    def train_dataloader(self) -> EmptyBatches:
        return EmptyBatches(self.steps, self.batch_size, self.in_training)

    def val_dataloader(self) -> EmptyBatches:
        return EmptyBatches(1, self.batch_size, self.in_evaluation)

    def test_dataloader(self) -> EmptyBatches:
        return self.val_dataloader()
