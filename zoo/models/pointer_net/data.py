"""Instances of combinatorial tasks, made on the training device as they are needed."""

from collections.abc import Iterator

import torch
from torch import Tensor

from zoo.data.batches import Batches, DataModule, Place
from zoo.data.seeding import INSTANCE, TEST, TRAIN, VALIDATE, generator
from zoo.models.pointer_net.tasks import Task

MOST = 50_000_000  # elements, which are all in memory at a time


class FreshInstances(Batches[tuple[Tensor, Tensor]]):
    """Batches of new instances, each a pure function of (seed, epoch, batch index).

    Yields:
        ``(x, optimum)``: instances ``(batch, elements, features)`` and NaN for each.
    """

    def __init__(
        self, task: Task, *, size: int, batch_size: int, length: int, seed: int, device: torch.device, place: Place
    ) -> None:
        super().__init__(length, place)
        self.task, self.size, self.batch_size, self.seed, self.device = task, size, batch_size, seed, device

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        share = self.place.share(self.batch_size)
        unknown = torch.full((self.batch_size,), torch.nan, device=self.device)[share]
        for batch in range(start, len(self)):
            g = generator(self.device, self.seed, TRAIN, INSTANCE, epoch, batch, 0)
            yield self.task.generate(self.batch_size, self.size, g)[share], unknown


class FixedInstances(Batches[tuple[Tensor, Tensor]]):
    """The same instances with their optima in every epoch. Each of n processes takes every n-th of them."""

    def __init__(self, x: Tensor, optimum: Tensor, *, batch_size: int, place: Place) -> None:
        self.x, self.optimum = x[place.rank :: place.world_size], optimum[place.rank :: place.world_size]
        super().__init__(-(-len(self.x) // batch_size), place)
        self.batch_size = batch_size

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        done = start * self.batch_size
        yield from zip(self.x[done:].split(self.batch_size), self.optimum[done:].split(self.batch_size))


class Instances(DataModule):
    """Instances of a task: new ones in every training batch, the same ones in every validation and test.

    Args:
        task: what they are instances of.
        size: elements of an instance.
        batch_size: training instances in a step, over all devices together.
        epoch_batches: training batches from one validation to the next.
        eval_batch_size: instances in a batch of validation and test, in each process.
        val_instances, test_instances: how many.
        seed: of the training instances.

    Raises:
        ValueError: if a number is too small for the task.
    """

    def __init__(
        self,
        *,
        task: Task,
        size: int = 20,
        batch_size: int = 64,
        epoch_batches: int = 500,
        eval_batch_size: int = 100,
        val_instances: int = 500,
        test_instances: int = 10_000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        numbers = (batch_size, epoch_batches, eval_batch_size, val_instances, test_instances)
        if min(numbers) < 1 or seed < 0:
            raise ValueError(
                "need batch_size, epoch_batches, eval_batch_size, val_instances and test_instances >= 1 and seed >= 0, "
                f"got {numbers}, {seed}"
            )
        if size * max(batch_size, eval_batch_size, val_instances, test_instances) > MOST:
            raise ValueError(f"{MOST:,} elements of instances are the most in a batch, a validation or a test")
        task.check_size(size)
        self.task, self.size, self.batch_size, self.epoch_batches = task, size, batch_size, epoch_batches
        self.eval_batch_size, self.seed = eval_batch_size, seed
        self.val_instances, self.test_instances = val_instances, test_instances

    def train_dataloader(self) -> FreshInstances:
        return FreshInstances(
            self.task,
            size=self.size,
            batch_size=self.batch_size,
            length=self.epoch_batches,
            seed=self.seed,
            device=self.device,
            place=self.in_training,
        )

    def val_dataloader(self) -> FixedInstances:
        return self._fixed(VALIDATE, self.val_instances)

    def test_dataloader(self) -> FixedInstances:
        return self._fixed(TEST, self.test_instances)

    def _fixed(self, stage: int, count: int) -> FixedInstances:
        x = self.task.standard(count, self.size, stage, self.device)
        optimum = self.task.standard_optimum(x, stage)
        return FixedInstances(x, optimum, batch_size=self.eval_batch_size, place=self.in_evaluation)
