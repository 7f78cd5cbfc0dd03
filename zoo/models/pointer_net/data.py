"""Instances of combinatorial tasks, made on the training device as they are needed."""

from collections.abc import Callable, Iterator

import torch
from lightning import LightningDataModule
from torch import Tensor

from zoo.config import Configurable
from zoo.data.seeding import INSTANCE, TEST, TRAIN, VALIDATE, generator
from zoo.models.pointer_net.tasks import Task


class FreshInstances:
    """Batches of new instances, each a pure function of (seed, epoch, batch index), of which each rank takes its share.

    The iterator asks ``position`` where training stands when its first batch is fetched, so a run resumed in
    mid-epoch goes on with the right batch.

    Yields:
        ``(x, optimum)``: instances ``(batch, elements, features)`` and NaN for each.
    """

    def __init__(
        self,
        task: Task,
        *,
        size: int,
        batch_size: int,
        batches: int,
        seed: int,
        device: torch.device,
        rank: int,
        world_size: int,
        position: Callable[[], tuple[int, int]],
    ) -> None:
        self.task, self.size, self.batch_size, self.batches = task, size, batch_size, batches
        self.seed, self.device, self.position = seed, device, position
        self.share = slice(batch_size * rank // world_size, batch_size * (rank + 1) // world_size)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, start = self.position()
        unknown = torch.full((self.batch_size,), torch.nan, device=self.device)[self.share]
        for batch in range(start, self.batches):
            g = generator(self.device, self.seed, TRAIN, INSTANCE, epoch, batch, 0)
            yield self.task.generate(self.batch_size, self.size, g)[self.share], unknown

    # The Trainer warns on a mid-epoch resume of a loader without these two. This one has no state to save.
    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        pass


class FixedInstances:
    """The same instances with their optima in every epoch, in batches; each rank takes its share."""

    def __init__(self, x: Tensor, optimum: Tensor, *, batch_size: int, rank: int, world_size: int) -> None:
        self.x, self.optimum = x[rank::world_size], optimum[rank::world_size]
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.x.split(self.batch_size), self.optimum.split(self.batch_size))


class Instances(Configurable, LightningDataModule):
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
        if size < task.smallest:
            raise ValueError(f"size must be at least {task.smallest} for {type(task).__name__}, got {size}")
        self.task, self.size, self.batch_size, self.epoch_batches = task, size, batch_size, epoch_batches
        self.eval_batch_size, self.seed = eval_batch_size, seed
        self.val_instances, self.test_instances = val_instances, test_instances

    def train_dataloader(self) -> FreshInstances:
        rank, world_size = self._rank()
        return FreshInstances(
            self.task,
            size=self.size,
            batch_size=self.batch_size,
            batches=self.epoch_batches,
            seed=self.seed,
            device=self._device(),
            rank=rank,
            world_size=world_size,
            position=self._position,
        )

    def val_dataloader(self) -> FixedInstances:
        return self._fixed(VALIDATE, self.val_instances)

    def test_dataloader(self) -> FixedInstances:
        return self._fixed(TEST, self.test_instances)

    def _fixed(self, stage: int, count: int) -> FixedInstances:
        x = self.task.standard(count, self.size, stage, self._device())
        optimum = self.task.standard_optimum(x, stage)
        rank, world_size = self._rank()
        return FixedInstances(x, optimum, batch_size=self.eval_batch_size, rank=rank, world_size=world_size)

    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _position(self) -> tuple[int, int]:
        """Epoch and index of the next batch, as the Trainer has them: right also after a resume in mid-epoch."""
        if not self.trainer:
            return 0, 0
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
