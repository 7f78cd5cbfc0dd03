"""MNIST and FashionMNIST, held on the training device."""

from typing import Literal

import torch
from torch import Tensor

from zoo.config import Config
from zoo.data import sources
from zoo.data.batches import DataModule, Place, Slices
from zoo.data.inputs import Inputs
from zoo.data.seeding import BINARIZE, TEST, TRAIN, VALIDATE, generator

Binarize = Literal["dynamic", "threshold", "none"]
VALIDATION_IMAGES = 10_000
EVAL_SEED = 0  # validation and test images are binarised alike in every run


class ImageBatches(Slices[tuple[Tensor, Tensor]]):
    """Batches of images.

    Yields:
        ``(x, y)``: images float32 ``(batch, 1, 28, 28)`` in [0, 1], labels int64 ``(batch,)``.

    Args:
        images: uint8 ``(n, 1, 28, 28)``.
        labels: int64 ``(n,)``.
        batch_size: over all ranks together; each takes its share.
        binarize: ``dynamic`` draws every pixel anew with its grey level as the probability of white;
            ``threshold`` cuts at half; ``none`` keeps grey levels.
        key: of all randomness: (seed, stage).
        shuffle: a new order each epoch, and the last, incomplete batch is dropped.
        place: of this process.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        binarize: Binarize,
        key: tuple[int, int],
        shuffle: bool,
        place: Place,
    ) -> None:
        super().__init__(
            len(images), batch_size=batch_size, key=key, shuffle=shuffle, device=images.device, place=place
        )
        self.images, self.labels, self.binarize = images, labels, binarize

    def take(self, index: Tensor, epoch: int, batch: int) -> tuple[Tensor, Tensor]:
        share = self.place.share(len(index))
        g = generator(self.device, *self.key, BINARIZE, epoch, batch)
        noise = bernoulli_noise(len(index), self.images, g)[share] if self.binarize == "dynamic" else None
        return to_float(self.images[index[share]], self.binarize, noise), self.labels[index[share]]


def bernoulli_noise(count: int, images: Tensor, g: torch.Generator) -> Tensor:
    """Uniform on {0, ..., 254}: less than a grey level v with probability exactly v / 255."""
    return torch.randint(0, 255, (count, *images.shape[1:]), dtype=torch.uint8, device=images.device, generator=g)


def to_float(images: Tensor, binarize: Binarize, noise: Tensor | None) -> Tensor:
    """uint8 images as float32 in [0, 1]."""
    if noise is not None:
        return (noise < images).float()
    if binarize == "threshold":
        return (images > 127).float()
    return images.float() / 255


class MNIST(DataModule):
    """Handwritten digits, 28 x 28.

    Split 50,000 / 10,000 / 10,000 into training, validation and test. With ``dynamic`` binarisation the
    training images are drawn anew in every epoch, the validation and test images once and for all, so
    that scores are comparable between epochs and runs.

    Args:
        root: directory of the data, in torchvision's layout; the default is the environment's
            ``ZOO_DATA_DIR``, else ``data``. Missing or damaged files are fetched, see
            :mod:`zoo.data.sources`.
        batch_size: training images in a step, over all devices together.
        eval_batch_size: the same for validation and test.
        binarize: ``dynamic``, ``threshold`` or ``none`` (grey levels).
        train_on: ``split`` for 50,000 images, ``all`` for 60,000. With ``all`` the validation scores
            are those of 10,000 training images: a display of progress, not a held-out score.
        seed: of shuffling and of the binarisation of training images.

    Raises:
        ValueError: if a batch size is less than 1 or ``seed`` is negative.
    """

    name = "MNIST"
    shape = (1, 28, 28)

    def __init__(
        self,
        *,
        root: str | None = None,
        batch_size: int = 100,
        eval_batch_size: int = 500,
        binarize: Binarize = "dynamic",
        train_on: Literal["split", "all"] = "split",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (1 <= batch_size <= 50_000 and 1 <= eval_batch_size <= 10_000):
            raise ValueError(
                "batch_size must be in [1, 50000] and eval_batch_size in [1, 10000], got "
                f"{batch_size}, {eval_batch_size}"
            )
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        sources.check_root(root, self.name, f"data={self.name.replace('MNIST', '_mnist').lower().lstrip('_')}")
        self.root, self.batch_size, self.eval_batch_size = root, batch_size, eval_batch_size
        self.binarize, self.train_on, self.seed = binarize, train_on, seed
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}

    @classmethod
    def inputs(cls, arguments: Config) -> Inputs:
        """Images of one channel; what can be chosen are their pixels."""
        _, height, width = cls.shape
        names = tuple(f"row {row}, column {column}" for row in range(height) for column in range(width))
        return Inputs(cls.shape, 10, height * width, names=names)

    def prepare_data(self) -> None:
        """Fetch missing or damaged files in one process of each machine, where several will want them."""
        if self.world_size > 1:
            sources.fetch(self.name, sources.data_root(self.root))

    def setup(self, stage: str | None = None) -> None:
        """Put the images on the training device (the CPU without a Trainer)."""
        if self.splits:
            return
        arrays = {file: array.to(self.device) for file, array in sources.load(self.name, self.root).items()}
        train, test = (arrays[f"{part}-images-idx3-ubyte"].unsqueeze(1) for part in ("train", "t10k"))
        train_y, test_y = (arrays[f"{part}-labels-idx1-ubyte"].long() for part in ("train", "t10k"))
        held_out = slice(len(train) - VALIDATION_IMAGES, None)
        used = slice(None) if self.train_on == "all" else slice(len(train) - VALIDATION_IMAGES)
        self.splits = {
            "train": (train[used], train_y[used]),
            "val": (train[held_out], train_y[held_out]),
            "test": (test, test_y),
        }

    def rows(self, split: str) -> tuple[Tensor, Tensor]:
        """All images and labels of ``train``, ``val`` or ``test``; grey levels where they are drawn anew."""
        self.setup()
        images, labels = self.splits[split]
        return to_float(images, self.binarize, None), labels

    def train_dataloader(self) -> ImageBatches:
        return self._batches("train", self.batch_size, (self.seed, TRAIN), self.in_training, shuffle=True)

    def val_dataloader(self) -> ImageBatches:
        return self._batches("val", self.eval_batch_size, (EVAL_SEED, VALIDATE), self.in_evaluation)

    def test_dataloader(self) -> ImageBatches:
        return self._batches("test", self.eval_batch_size, (EVAL_SEED, TEST), self.in_evaluation)

    def _batches(
        self, split: str, batch_size: int, key: tuple[int, int], place: Place, *, shuffle: bool = False
    ) -> ImageBatches:
        images, labels = self.splits[split]
        return ImageBatches(
            images, labels, batch_size=batch_size, binarize=self.binarize, key=key, shuffle=shuffle, place=place
        )


class FashionMNIST(MNIST):
    """Clothes, 28 x 28, in the files and splits of :class:`MNIST`; also found as Debian's package."""

    name = "FashionMNIST"
