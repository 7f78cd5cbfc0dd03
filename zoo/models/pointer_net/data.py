"""Instances of combinatorial tasks, made on the training device as they are needed, or read from files."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from zoo.data.batches import Batches, DataModule, Place
from zoo.data.seeding import INSTANCE, SHUFFLE, TEST, TRAIN, VALIDATE, derive_seed, generator
from zoo.errors import ZooError
from zoo.models.pointer_net.files import Groups, count, load, split
from zoo.models.pointer_net.tasks import Task

MOST = 50_000_000  # elements, which are all in memory at a time


class FreshInstances(Batches[tuple[Tensor, Tensor]]):
    """Batches of new instances of one size each, a pure function of (seed, epoch, batch index).

    Yields:
        ``(x, optimum)``: instances ``(batch, elements, features)`` and NaN for each.
    """

    def __init__(
        self,
        task: Task,
        *,
        sizes: Sequence[int],
        batch_size: int,
        length: int,
        seed: int,
        device: torch.device,
        place: Place,
    ) -> None:
        super().__init__(length, place)
        self.task, self.sizes, self.batch_size, self.seed, self.device = task, sizes, batch_size, seed, device

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        share = self.place.share(self.batch_size)
        unknown = torch.full((self.batch_size,), torch.nan, device=self.device)[share]
        for batch in range(start, len(self)):
            g = generator(self.device, self.seed, TRAIN, INSTANCE, epoch, batch, 0)
            size = self.sizes[derive_seed(self.seed, TRAIN, INSTANCE, epoch, batch, 1) % len(self.sizes)]
            yield self.task.generate(self.batch_size, size, g)[share], unknown


class DrawnInstances(Batches[tuple[Tensor, Tensor]]):
    """Batches drawn from given instances with replacement, each a pure function of (seed, epoch, batch index)."""

    def __init__(self, groups: Groups, *, batch_size: int, length: int, seed: int, place: Place) -> None:
        super().__init__(length, place)
        self.groups, self.batch_size, self.seed = groups, batch_size, seed

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        share = self.place.share(self.batch_size)
        weights = torch.tensor([float(len(x)) for x, _ in self.groups])
        for batch in range(start, len(self)):
            g = generator("cpu", self.seed, TRAIN, SHUFFLE, epoch, batch)
            x, optimum = self.groups[int(torch.multinomial(weights, 1, generator=g))]
            index = torch.randint(len(x), (self.batch_size,), generator=g)[share].to(x.device)
            yield x[index], optimum[index]


class FixedInstances(Batches[tuple[Tensor, Tensor]]):
    """The same instances with their optima in every epoch. Each of n processes takes every n-th of them."""

    def __init__(self, groups: Groups, *, batch_size: int, place: Place) -> None:
        mine = slice(place.rank, None, place.world_size)
        self.batches = [
            pair for x, optimum in groups for pair in zip(x[mine].split(batch_size), optimum[mine].split(batch_size))
        ]
        super().__init__(len(self.batches), place)

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.batches[start:]


class Instances(DataModule):
    """Instances of a task: new ones in every training batch, the same ones in every validation and test.

    Args:
        task: what they are instances of.
        size: elements of an instance; or the least and the largest number, between which each training batch has a
            size of its own: validation and test are on the largest.
        batch_size: training instances in a step, over all devices together.
        epoch_batches: training batches from one validation to the next.
        eval_batch_size: instances in a batch of validation and test, in each process.
        val_instances, test_instances: how many.
        seed: of the training instances.
        path: a file or folder of instances to train on, see :mod:`zoo.models.pointer_net.files`, the first
            ``val_instances`` of which are those of validation, and of the test where there is no ``test_path``.
        test_path: a file or folder of instances to test on.

    Raises:
        ValueError: if a number is too small for the task.
    """

    def __init__(
        self,
        *,
        task: Task,
        size: int | Sequence[int] = 20,
        batch_size: int = 64,
        epoch_batches: int = 500,
        eval_batch_size: int = 100,
        val_instances: int = 500,
        test_instances: int = 10_000,
        seed: int = 0,
        path: str | None = None,
        test_path: str | None = None,
    ) -> None:
        super().__init__()
        numbers = (batch_size, epoch_batches, eval_batch_size, val_instances, test_instances)
        if min(numbers) < 1 or seed < 0:
            raise ValueError(
                "need batch_size, epoch_batches, eval_batch_size, val_instances and test_instances >= 1 and seed >= 0, "
                f"got {numbers}, {seed}"
            )
        ends = [size] if isinstance(size, int) else list(size)
        if len(ends) not in (1, 2) or ends[0] > ends[-1]:
            raise ValueError(f"size must be a number, or the least and the largest, got {size}")
        if ends[-1] * max(batch_size, eval_batch_size, val_instances, test_instances) > MOST:
            raise ValueError(f"{MOST:,} elements of instances are the most in a batch, a validation or a test")
        if ends[0] < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        self.task, self.sizes = task, allowed(task, ends[0], ends[-1])
        if not self.sizes:
            task.check_size(ends[0])  # says why
        self.batch_size, self.epoch_batches, self.eval_batch_size, self.seed = (
            batch_size,
            epoch_batches,
            eval_batch_size,
            seed,
        )
        self.val_instances, self.test_instances = val_instances, test_instances
        self.path, self.test_path = path, test_path

    def train_dataloader(self) -> FreshInstances | DrawnInstances:
        length, seed, place = self.epoch_batches, self.seed, self.in_training
        if self.path is not None:
            _, groups = self._held_out(self.path)
            return DrawnInstances(groups, batch_size=self.batch_size, length=length, seed=seed, place=place)
        return FreshInstances(
            self.task,
            sizes=self.sizes,
            batch_size=self.batch_size,
            length=length,
            seed=seed,
            device=self.device,
            place=place,
        )

    def val_dataloader(self) -> FixedInstances:
        return self._fixed(VALIDATE, self.val_instances)

    def test_dataloader(self) -> FixedInstances:
        return self._fixed(TEST, self.test_instances)

    def _fixed(self, stage: int, number: int) -> FixedInstances:
        if stage == TEST and self.test_path is not None:
            groups: Groups = self._moved(load(self.test_path, self.task))
        elif self.path is not None:
            groups, _ = self._held_out(self.path)
        else:
            x = self.task.standard(number, self.sizes[-1], stage, self.device)
            groups = [(x, self.task.standard_optimum(x, stage))]
        return FixedInstances(groups, batch_size=self.eval_batch_size, place=self.in_evaluation)

    def _held_out(self, path: str) -> tuple[Groups, Groups]:
        """Instances of validation, and those to train on."""
        groups = self._moved(load(path, self.task))
        if (found := count(groups)) <= self.val_instances:
            raise ZooError(
                f"data.path={path} has {found} instances, and data.val_instances={self.val_instances} of them"
            )
        return split(groups, self.val_instances)

    def _moved(self, groups: Groups) -> Groups:
        return [(x.to(self.device), optimum.to(self.device)) for x, optimum in groups]


def allowed(task: Task, low: int, high: int) -> list[int]:
    """The sizes from ``low`` to ``high`` that instances can have."""
    found = []
    for size in range(low, high + 1):
        try:
            task.check_size(size)
        except ValueError:
            continue
        found.append(size)
    return found
