"""Bags of digits, of which one item decides on the label: multiple-instance learning."""

from collections.abc import Iterator

import torch
from torch import Tensor

from zoo.config import Config
from zoo.data import sources
from zoo.data.batches import Batches, DataModule, Place
from zoo.data.images import VALIDATION_IMAGES
from zoo.data.inputs import Inputs
from zoo.data.seeding import INSTANCE, TEST, TRAIN, VALIDATE, generator

EVAL_SEED = 0
PIXELS = 28 * 28


class BagBatches(Batches[tuple[Tensor, Tensor]]):
    """Batches of bags, each a pure function of (seed, stage, epoch, batch index).

    Yields:
        ``(x, y)``: float32 ``(batch, items, 784)`` in [0, 1]; int64 ``(batch,)``, 1 where the wanted digit is in it.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        digit: int,
        items: int,
        batch_size: int,
        length: int,
        key: tuple[int, int],
        place: Place,
    ) -> None:
        super().__init__(length, place)
        self.images, self.items, self.batch_size, self.key = images.flatten(1), items, batch_size, key
        self.wanted, self.others = (labels == digit).nonzero()[:, 0], (labels != digit).nonzero()[:, 0]

    def bags(self, epoch: int, batch: int) -> tuple[Tensor, Tensor]:
        """A whole batch."""
        size, device = self.batch_size, self.images.device
        g = generator(device, *self.key, INSTANCE, epoch, batch)
        index = self.others[torch.randint(len(self.others), (size, self.items), generator=g, device=device)]
        one = self.wanted[torch.randint(len(self.wanted), (size, 1), generator=g, device=device)]
        place = torch.randint(self.items, (size, 1), generator=g, device=device)
        y = torch.randint(2, (size,), generator=g, device=device)
        index = torch.where(y.unsqueeze(1) == 1, index.scatter(1, place, one), index)
        return self.images[index].float() / 255, y

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        share = self.place.share(self.batch_size)
        for batch in range(start, len(self)):
            x, y = self.bags(epoch, batch)
            yield x[share], y[share]


class Bags(DataModule):
    """Bags of MNIST's digits; the label says whether a given digit, 9, is among them. Half of them have one.

    Items are in no order. Training bags are new in every batch, of 50,000 images; those of validation and test are the
    same ones, of images of their own.

    Args:
        root: directory of MNIST, as :class:`zoo.data.MNIST` has it.
        items: of a bag.
        digit: the wanted one.
        batch_size: bags in a step, over all devices together.
        epoch_batches: from one validation to the next.
        eval_batch_size, eval_batches: of validation and of test.
        seed: of the training bags.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        items: int = 10,
        digit: int = 9,
        batch_size: int = 64,
        epoch_batches: int = 200,
        eval_batch_size: int = 500,
        eval_batches: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (1 <= items <= 100 and 0 <= digit <= 9 and seed >= 0):
            raise ValueError(f"need items in [1, 100], digit in [0, 9] and seed >= 0, got {items}, {digit}, {seed}")
        if min(batch_size, epoch_batches, eval_batch_size, eval_batches) < 1 or max(batch_size, eval_batch_size) > 5000:
            raise ValueError("need batch_size and eval_batch_size in [1, 5000], epoch_batches and eval_batches >= 1")
        sources.check_root(root, "MNIST", "data=bags")
        self.root, self.items, self.digit, self.seed = root, items, digit, seed
        self.batch_size, self.epoch_batches = batch_size, epoch_batches
        self.eval_batch_size, self.eval_batches = eval_batch_size, eval_batches
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}

    @classmethod
    def inputs(cls, arguments: Config) -> Inputs:
        """Items of 784 pixels each."""
        items = arguments.get("items", 10)
        return Inputs((items, PIXELS), 2, items, items=items, names=tuple(f"item {item + 1}" for item in range(items)))

    def prepare_data(self) -> None:
        """Fetch missing or damaged files in one process of each machine, where several will want them."""
        if self.world_size > 1:
            sources.fetch("MNIST", sources.data_root(self.root))

    def setup(self, stage: str | None = None) -> None:
        """Put the images on the training device (the CPU without a Trainer)."""
        if self.splits:
            return
        arrays = {file: array.to(self.device) for file, array in sources.load("MNIST", self.root).items()}
        (train, train_y), (test, test_y) = (
            (arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"].long())
            for part in ("train", "t10k")
        )
        cut = len(train) - VALIDATION_IMAGES["split"]
        self.splits = {
            "train": (train[:cut], train_y[:cut]),
            "val": (train[cut:], train_y[cut:]),
            "test": (test, test_y),
        }

    def rows(self, split: str) -> tuple[Tensor, Tensor]:
        """As many bags of ``train`` as an epoch has, or all of ``val`` or ``test``."""
        self.setup()
        made = {"train": self.train_dataloader, "val": self.val_dataloader, "test": self.test_dataloader}[split]()
        x, y = zip(*(made.bags(0, batch) for batch in range(len(made))))
        return torch.cat(x), torch.cat(y)

    def train_dataloader(self) -> BagBatches:
        return self._batches("train", self.batch_size, self.epoch_batches, (self.seed, TRAIN), self.in_training)

    def val_dataloader(self) -> BagBatches:
        key = (EVAL_SEED, VALIDATE)
        return self._batches("val", self.eval_batch_size, self.eval_batches, key, self.in_evaluation)

    def test_dataloader(self) -> BagBatches:
        return self._batches("test", self.eval_batch_size, self.eval_batches, (EVAL_SEED, TEST), self.in_evaluation)

    def _batches(self, split: str, batch_size: int, length: int, key: tuple[int, int], place: Place) -> BagBatches:
        images, labels = self.splits[split]
        return BagBatches(
            images,
            labels,
            digit=self.digit,
            items=self.items,
            batch_size=batch_size,
            length=length,
            key=key,
            place=place,
        )
