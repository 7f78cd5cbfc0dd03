"""Images that are held on the training device; MNIST and FashionMNIST."""

from typing import Literal

import torch
from torch import Tensor

from zoo.config import Config
from zoo.data import sources, static
from zoo.data.batches import DataModule, Place, Slices
from zoo.data.inputs import Inputs
from zoo.data.seeding import BINARIZE, TEST, TRAIN, VALIDATE, generator

Binarize = Literal["dynamic", "static", "threshold", "none"]
VALIDATION_IMAGES = {"split": 10_000, "most": 1_000}
EVAL_SEED = 0  # validation and test images are binarised alike in every run


class ImageBatches(Slices[tuple[Tensor, Tensor]]):
    """Batches of images.

    Yields:
        ``(x, y)``: images float32 ``(batch, channels, height, width)`` in [0, 1], labels int64 ``(batch,)``.

    Args:
        images: uint8 ``(n, channels, height, width)``.
        labels: int64 ``(n,)``.
        batch_size: over all ranks together; each takes its share.
        binarize: ``dynamic`` draws every pixel anew with its grey level as the probability of white;
            ``threshold`` cuts at half; ``none`` keeps grey levels, and so does ``static``, of which there are two.
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


class Images(DataModule):
    """What data modules of images share: loaders of what ``setup`` has put into ``splits``, on the training device.

    Args:
        batch_size, eval_batch_size, binarize, seed: as :class:`MNIST` has them.
        most: images of training and of evaluation that there can be, where that is known.

    Raises:
        ValueError: if a batch size is less than 1, or more than there are images, or ``seed`` is negative.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        eval_batch_size: int,
        binarize: Binarize,
        seed: int,
        most: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if most and not (1 <= batch_size <= most[0] and 1 <= eval_batch_size <= most[1]):
            raise ValueError(
                f"batch_size must be in [1, {most[0]}] and eval_batch_size in [1, {most[1]}], got "
                f"{batch_size}, {eval_batch_size}"
            )
        if binarize == "static" and getattr(self, "name", "") != "MNIST":
            raise ValueError("binarize=static is of MNIST alone: there are no such files of other images")
        if batch_size < 1 or eval_batch_size < 1:
            raise ValueError(f"batch_size and eval_batch_size must be 1 or more, got {batch_size}, {eval_batch_size}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.binarize, self.seed = binarize, seed
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}

    @classmethod
    def shape_of(cls, arguments: Config) -> tuple[int, int, int]:
        """Channels, height and width of the images with these arguments: the networks are built for it."""
        raise NotImplementedError

    @classmethod
    def classes_of(cls, arguments: Config) -> int:
        """How many classes the images with these arguments have."""
        return 10

    @classmethod
    def inputs(cls, arguments: Config) -> Inputs:
        """What can be chosen are pixels, with all their channels."""
        channels, height, width = cls.shape_of(arguments)
        names = tuple(f"row {row}, column {column}" for row in range(height) for column in range(width))
        groups = None if channels == 1 else tuple(range(height * width)) * channels
        return Inputs((channels, height, width), cls.classes_of(arguments), height * width, groups, names=names)

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


class MNIST(Images):
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
        binarize: ``dynamic``, ``threshold``, ``none`` (grey levels), or ``static``: once and for all, in the files of
            :mod:`zoo.data.static`, which have no labels (here -1) and are of MNIST alone.
        train_on: ``split`` for 50,000 images and 10,000 that validate; ``most`` for 59,000 and 1,000. What validates,
            and so selects the weights, is never trained on. (What an earlier version wrote as ``all`` is ``most``.)
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
        train_on: Literal["split", "most"] = "split",
        seed: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            binarize=binarize,
            seed=seed,
            most=(50_000, 10_000),
        )
        sources.check_root(root, self.name, f"data={self.name.replace('MNIST', '_mnist').lower().lstrip('_')}")
        self.root, self.train_on = root, train_on

    @classmethod
    def shape_of(cls, arguments: Config) -> tuple[int, int, int]:
        return cls.shape

    def prepare_data(self) -> None:
        """Fetch missing or damaged files in one process of each machine, where several will want them."""
        if self.world_size > 1 and self.binarize == "static":
            static.load(sources.data_root(self.root))
        elif self.world_size > 1:
            sources.fetch(self.name, sources.data_root(self.root))

    def setup(self, stage: str | None = None) -> None:
        """Put the images on the training device (the CPU without a Trainer)."""
        if self.splits:
            return
        if self.binarize == "static":
            self.splits = self._split(static.load(sources.data_root(self.root)))
            return
        arrays = {file: array.to(self.device) for file, array in sources.load(self.name, self.root).items()}
        train, test = (arrays[f"{part}-images-idx3-ubyte"].unsqueeze(1) for part in ("train", "t10k"))
        train_y, test_y = (arrays[f"{part}-labels-idx1-ubyte"].long() for part in ("train", "t10k"))
        kept = len(train) - VALIDATION_IMAGES[self.train_on]
        used, held_out = slice(kept), slice(kept, None)
        self.splits = {
            "train": (train[used], train_y[used]),
            "val": (train[held_out], train_y[held_out]),
            "test": (test, test_y),
        }

    def _split(self, images: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Images of ``train``, ``val`` and ``test`` as splits, without labels."""
        joined = torch.cat([images["train"], images["val"]])
        kept = len(joined) - VALIDATION_IMAGES[self.train_on]
        parts = {"train": joined[:kept], "val": joined[kept:], "test": images["test"]}
        return {name: (part.to(self.device), torch.full((len(part),), -1)) for name, part in parts.items()}


class FashionMNIST(MNIST):
    """Clothes, 28 x 28, in the files and splits of :class:`MNIST`; also found as Debian's package."""

    name = "FashionMNIST"
