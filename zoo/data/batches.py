"""What all data modules share: batches that are a pure function of where training stands.

A run stopped anywhere and resumed goes on with the right batch, whatever was fetched ahead when it was stopped, and
several processes share what one process would have. So a loader holds no state: its iterator asks for the epoch and
the index of the next batch when its first batch is fetched.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, Generic, TypeVar

import torch
from lightning import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from zoo.config import Configurable
from zoo.data.seeding import SHUFFLE, TRAIN, generator, seed_default_generators

Batch = TypeVar("Batch")


def beginning() -> tuple[int, int]:
    return 0, 0


def position(trainer: Trainer) -> tuple[int, int]:
    """Epoch and index of the next batch, also after a resume in mid-epoch."""
    return trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready


@dataclass(frozen=True)
class Place:
    """Where a loader stands.

    Attributes:
        rank, world_size: which process this is, of how many.
        position: returns (epoch, index of the next batch).
    """

    rank: int = 0
    world_size: int = 1
    position: Callable[[], tuple[int, int]] = beginning

    def share(self, count: int) -> slice:
        """This process's share of ``count`` examples."""
        return slice(count * self.rank // self.world_size, count * (self.rank + 1) // self.world_size)


class Batches(Generic[Batch]):
    """A loader for the Trainer.

    Args:
        length: batches of an epoch.
        place: of this process.
    """

    def __init__(self, length: int, place: Place) -> None:
        self.length, self.place = length, place

    def epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from that with the index ``start`` on: of each, this process's share."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        yield from self.epoch(*self.place.position())

    # The Trainer warns on a mid-epoch resume of a loader without these two. This one has no state to save.
    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        pass


class Slices(Batches[Batch]):
    """Batches of examples that are rows of tensors on a device.

    Args:
        count: examples.
        batch_size: over all processes together.
        key: of all randomness: (seed, stage).
        shuffle: a new order each epoch, and the last, incomplete batch is dropped.
        device: of the tensors.
        place: of this process.
    """

    def __init__(
        self, count: int, *, batch_size: int, key: tuple[int, ...], shuffle: bool, device: torch.device, place: Place
    ) -> None:
        full, rest = divmod(count, batch_size)
        # Fewer examples than processes, of which some would have none, go with the batch before.
        super().__init__(full + (not shuffle and (rest >= place.world_size or (rest > 0 and not full))), place)
        self.count, self.batch_size, self.key, self.shuffle, self.device = count, batch_size, key, shuffle, device

    def take(self, index: Tensor, epoch: int, batch: int) -> Batch:
        """This process's share of the batch of the rows ``index``."""
        raise NotImplementedError

    def epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        if self.shuffle:
            g = generator(self.device, *self.key, SHUFFLE, epoch)
            order = torch.randperm(self.count, generator=g, device=self.device)
        else:
            order = torch.arange(self.count, device=self.device)
        for batch in range(start, self.length):
            end = self.count if batch + 1 == self.length and not self.shuffle else (batch + 1) * self.batch_size
            yield self.take(order[batch * self.batch_size : end], epoch, batch)


class DataModule(Configurable, LightningDataModule):
    """A LightningDataModule that knows where its process stands; without a Trainer it is the only one, on the CPU."""

    @property
    def device(self) -> torch.device:
        """On which training takes place."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    @property
    def rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def position(self) -> tuple[int, int]:
        """Epoch and index of the next batch, as the Trainer has them: right also after a resume in mid-epoch."""
        return position(self.trainer) if self.trainer else beginning()

    @property
    def in_training(self) -> Place:
        """The place of a loader of training batches."""
        return Place(self.rank, self.world_size, self.position)

    @property
    def in_evaluation(self) -> Place:
        """The place of a loader of validation or test batches, which begins at the beginning."""
        return Place(self.rank, self.world_size)


class Following(Batches[Any]):
    """A PyTorch DataLoader that goes on where training stands: what a resumed run has had before is passed over.

    Exact where the loader draws from PyTorch's default generator, in its own process or in workers, as it does unless
    it was given another.

    Args:
        loader: of training batches.
        seed: of its order, and of what is drawn to make a batch.
    """

    def __init__(self, loader: DataLoader, seed: int, place: Place) -> None:
        super().__init__(len(loader), place)
        self.loader, self.seed = loader, seed

    def epoch(self, epoch: int, start: int) -> Iterator[Any]:
        seed_default_generators(self.seed, TRAIN, SHUFFLE, epoch)
        batches = iter(self.loader)
        for batch in range(len(self)):
            seed_default_generators(self.seed, TRAIN, SHUFFLE, epoch, batch)
            try:
                value = next(batches)
            except StopIteration:
                return
            if batch >= start:
                yield value


def follow_position(data: LightningDataModule, seed: int) -> None:
    """Let the training loader of a plain data module be :class:`Following` where there is a single process.

    Of several each gets its share by Lightning's sampler, and a resumed run begins the epoch anew.
    """
    original = data.train_dataloader

    @wraps(original)
    def train_dataloader() -> Any:
        loader, trainer = original(), data.trainer
        if not isinstance(loader, DataLoader) or trainer is None or trainer.world_size > 1:
            return loader
        try:
            len(loader)
        except TypeError:  # of a stream
            return loader
        return Following(loader, seed, Place(position=lambda: position(trainer)))

    data.train_dataloader = train_dataloader
