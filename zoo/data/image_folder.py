"""Pictures of the user's, and data sets that are kept as pictures: of any size when read, of one size in memory."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import torch
from torch import Tensor

from zoo.config import Config
from zoo.data import sources
from zoo.data.images import Binarize, Images
from zoo.data.pictures import ENDINGS, Decoded, Files, Shape, decode, first_readable, is_picture
from zoo.errors import ZooError, cause

log = logging.getLogger(__name__)

Split = Literal["auto", "hash", "folders"]
PARTS = ("train", "val", "test")
NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What folders of a split are called."""
HELD_OUT = 0.1
"""The share of pictures that validation and test have each, where nothing else says."""


class Pictures(Images):
    """What data modules of picture files share: they are read once, and are bytes on the training device from then on.

    A subclass says where they are and which belong to which split. Nothing is written.

    Args:
        size, channels, crop: of the images, see :class:`zoo.data.pictures.Shape`.
        batch_size, eval_batch_size, binarize, seed: as :class:`MNIST` has them.

    Raises:
        ValueError: if ``size``, ``channels`` or ``crop`` cannot be, or as :class:`Images`.
    """

    inverted = False

    def __init__(
        self,
        *,
        size: int,
        channels: int,
        crop: int | None,
        batch_size: int,
        eval_batch_size: int,
        binarize: Binarize,
        seed: int,
    ) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, binarize=binarize, seed=seed)
        if size < 1 or channels not in (1, 3) or (crop is not None and crop < 1):
            raise ValueError(
                f"need size >= 1, channels 1 (grey) or 3 (colour) and crop >= 1 or null, got {size}, {channels}, {crop}"
            )
        self.pixels = Shape(size, channels, crop, self.inverted)
        self.classes: list[str] = []

    @classmethod
    def shape_of(cls, arguments: Config) -> tuple[int, int, int]:
        return arguments["channels"], arguments["size"], arguments["size"]

    @classmethod
    def classes_of(cls, arguments: Config) -> int:
        data = cls(**{str(key): value for key, value in arguments.items() if key != "_target_"})
        return len({data.label(name) for names in data.find()[1].values() for name in names})

    def find(self) -> tuple[Files, dict[str, list[str]]]:
        """The files, and the names of the pictures of each split; under ``""`` those that their contents divide."""
        raise NotImplementedError

    def label(self, name: str) -> str:
        """The class of a picture: the folder that it is in, without that of a split."""
        folder = PurePosixPath(name).parent
        return (folder if self.divided else folder.relative_to(*folder.parts[:1])).as_posix() if folder.parts else "."

    divided = True
    """Whether a split is not a folder."""

    def setup(self, stage: str | None = None) -> None:
        """Read the pictures, and put them on the training device (the CPU without a Trainer).

        Raises:
            ZooError: if nothing can be read, or too little for the batches.
        """
        if self.splits:
            return
        files, found = self.find()
        names = [name for part in found.values() for name in part]
        decoded = decode(files, names, self.pixels)
        kept = decoded.kept.tolist()
        self.names = [names[i] for i in kept]
        self.classes = sorted({self.label(name) for name in self.names})
        number = {name: i for i, name in enumerate(self.classes)}
        labels = torch.tensor([number[self.label(name)] for name in self.names])
        part_of = [part for part, own in found.items() for _ in own]
        parts = divide([part_of[i] for i in kept], decoded)
        for part in PARTS:
            index = mixed([i for i, own in enumerate(parts) if own == part], decoded)
            self.splits[part] = (decoded.pixels[index].to(self.device), labels[index].to(self.device))
        counts = {part: len(y) for part, (_, y) in self.splits.items()}
        if counts["train"] < self.batch_size:
            self.splits = {}
            raise ZooError(
                f"{files.root}: there are {counts['train']} pictures to train on, fewer than data.batch_size="
                f"{self.batch_size}: make it smaller, or add pictures"
            )
        shown = ", ".join(f"{count} {part}" for part, count in counts.items())
        log.info("%s: %d pictures of %d classes (%s)", files.root, len(kept), len(self.classes), shown)


def mixed(index: Sequence[int], decoded: Decoded) -> Tensor:
    """The pictures ``index`` by their digests: files have them by class, and a batch would be of a single one."""
    return torch.tensor(sorted(index, key=lambda i: decoded.digests[i]), dtype=torch.int64)


def divide(parts: Sequence[str], decoded: Decoded) -> list[str]:
    """The split of each picture; of those that have none the digest of the contents says it.

    Equal files never come to lie on two sides, whatever they are called, and a picture keeps its side when others are
    added. In a folder that is so small that a side would be empty, one picture moves.

    Raises:
        ZooError: if there are too few for three splits.
    """
    result = list(parts)
    places = [int.from_bytes(digest[:8], "big") / 2**64 for digest in decoded.digests]
    free = [i for i, part in enumerate(parts) if not part]
    needed = [part for part in PARTS if part not in parts]
    for i in free:
        held_out = [part for part in needed if part != "train"]
        slot = int(places[i] / HELD_OUT)
        result[i] = held_out[slot] if slot < len(held_out) else "train"
    for part in needed:
        if part not in result and free:
            count = Counter(result[i] for i in free)
            giver = count.most_common(1)[0][0]
            equal = {decoded.digests[i] for i in free if result[i] == giver}
            if len(equal) > 1:
                chosen = min(equal)
                for i in free:
                    result[i] = part if decoded.digests[i] == chosen else result[i]
    missing = [part for part in PARTS if part not in result]
    if missing:
        different = len(set(decoded.digests))
        raise ZooError(
            f"there is no picture for {' and '.join(missing)}: of {different} different "
            f"picture{'s' * (different != 1)} that can be read none is left. At least three are needed, one to train "
            "on, one to validate and one to test"
        )
    return result


class ImageFolder(Pictures):
    """Pictures of your own: PNG, JPEG and other files in a folder, or in a zip archive of one.

    Each is cut to the square at its centre and brought to one size. Of pictures that move the first is taken, what is
    transparent is laid on white, 16 bits are rounded to 8, and cameras' turns are undone. Files that cannot be read are
    named, counted and left out. Nothing is written into the folder, and nothing else is ever trained on in its place.

    Args:
        root: the folder, or a zip archive.
        size: pixels of a side.
        channels: 3 for colour, 1 for grey.
        crop: side of the square that is cut out, in pixels of the file; None for the largest there is.
        split: ``folders``, one for each split: ``train``, ``val`` or ``validation``, ``test``; a tenth of what there is
            to train on is validated on where that has none. ``hash``: by a digest of each file's contents, 80% / 10% /
            10%. ``auto``: folders where there are ``train`` and ``test``, else by digest.
        lists: in place of that, for ``train``, ``val`` and ``test`` each a text file with the names of pictures, a line
            each, in the folder. Without ``val`` a tenth of the pictures to train on is validated on.
        batch_size, eval_batch_size, binarize, seed: as :class:`MNIST` has them.

    The class of a picture is the folder that it is in, below that of a split.

    Raises:
        ZooError: if the folder holds no pictures, or a list names what is not there.
        ValueError: as :class:`Pictures`.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        size: int = 64,
        channels: int = 3,
        crop: int | None = None,
        split: Split = "auto",
        lists: dict[str, str] | None = None,
        batch_size: int = 100,
        eval_batch_size: int = 500,
        binarize: Binarize = "none",
        seed: int = 0,
    ) -> None:
        super().__init__(
            size=size,
            channels=channels,
            crop=crop,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            binarize=binarize,
            seed=seed,
        )
        if root is None or not root.strip():
            raise ZooError("say where the pictures are: data.root=FOLDER, or a zip archive of one")
        self.root, self.split, self.lists = root, split, lists
        if lists is not None and (split != "auto" or not {"train", "test"} <= set(lists) <= set(PARTS)):
            raise ZooError(
                "data.lists must have a file for train and one for test, and may have one for val, and goes without "
                f"data.split; got {dict(lists)}"
            )
        files, found = self.find()
        names = [name for part in found.values() for name in part]
        if first_readable(files, names, 3) < 3:  # found out before a run begins
            count = len(decode(files, names, Shape(1, 1)).kept)
            raise ZooError(
                f"{root} holds {count} picture{'s' * (count != 1)} that can be read: at least three are needed, one to "
                "train on, one to validate and one to test"
            )

    def find(self) -> tuple[Files, dict[str, list[str]]]:
        files = Files(Path(self.root).expanduser())
        everything = files.names()
        if self.lists is not None:
            self.divided = True
            return files, self._listed(everything)
        names = [name for name in everything if is_picture(name)]
        if not names:
            held = f"{len(everything)} other files, such as {everything[0]}" if everything else "nothing"
            raise ZooError(
                f"{self.root} holds no pictures ({', '.join(ENDINGS)}), but {held}: say data.root=FOLDER of pictures"
            )
        parts = {name: NAMES.get(name.split("/")[0].lower(), "") if "/" in name else "" for name in names}
        there = set(parts.values())
        folders = self.split == "folders" or (self.split == "auto" and {"train", "test"} <= there)
        self.divided = not folders
        if not folders:
            return files, {"": names}
        if not {"train", "test"} <= there:
            raise ZooError(f"data.split=folders needs the folders train and test in {self.root}: leave it out")
        beside = [name for name, part in parts.items() if not part]
        if beside:
            log.warning("%s: %d pictures beside the folders of its splits are left out", self.root, len(beside))
        return files, by_part(parts)

    def _listed(self, everything: Sequence[str]) -> dict[str, list[str]]:
        assert self.lists is not None
        known = set(everything)
        parts: dict[str, str] = {}
        for part, path in self.lists.items():
            try:
                lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise ZooError(f"data.lists.{part}={path} cannot be read: {cause(error)}") from error
            for name in filter(None, (line.strip() for line in lines)):
                if name not in known:
                    raise ZooError(f"data.lists.{part}={path} names {name}, which is not in {self.root}")
                if parts.setdefault(name, part) != part:
                    raise ZooError(f"{name} is in two of data.lists, {parts[name]} and {part}")
        return by_part(parts)


def by_part(parts: Mapping[str, str]) -> dict[str, list[str]]:
    """The names of each split; without one to validate on, those to train on are divided by their contents."""
    found: dict[str, list[str]] = {}
    for name, part in parts.items():
        if part:
            found.setdefault(part, []).append(name)
    if "val" not in found:
        found[""] = found.pop("train")
    return found


class CIFAR10(Images):
    """Small colour pictures of ten classes, 32 x 32: 45,000 to train on, 5,000 to validate, 10,000 to test.

    Args:
        root: directory of the data; the default is the environment's ``ZOO_DATA_DIR``, else ``data``.
        files: ``arrays``: ``cifar-10-batches-py`` in it, torchvision's layout, downloaded where it is missing;
            ``jpeg``: ``cifar10_jpeg``, a folder or zip archive of the pictures as JPEG, ``train/CLASS/NAME.jpg``. Those
            have lost a little: scores on them are not comparable with those on the arrays to the last digit.
        train_on: ``split``, or ``most`` for 49,000 images and 1,000 that validate.
        batch_size, eval_batch_size, binarize, seed: as :class:`MNIST` has them.

    Raises:
        ZooError: at the start of training, if the data is not available.
        ValueError: as :class:`Images`.
    """

    SIZE = 32
    VALIDATION = {"split": 5_000, "most": 1_000}  # noqa: RUF012

    def __init__(
        self,
        *,
        root: str | None = None,
        files: Literal["arrays", "jpeg"] = "arrays",
        train_on: Literal["split", "most"] = "split",
        batch_size: int = 100,
        eval_batch_size: int = 500,
        binarize: Binarize = "none",
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, binarize=binarize, seed=seed)
        sources.check_root(root, sources.CIFAR10, "data=cifar10")
        self.root, self.files, self.train_on = root, files, train_on
        self.notice = "Trained on CIFAR-10 as JPEG files." if files == "jpeg" else ""

    @classmethod
    def shape_of(cls, arguments: Config) -> tuple[int, int, int]:
        return 3, cls.SIZE, cls.SIZE

    def prepare_data(self) -> None:
        """Fetch what is missing in one process of each machine, where several will want it."""
        if self.files == "arrays" and self.world_size > 1:
            sources.cifar10(sources.data_root(self.root))

    def setup(self, stage: str | None = None) -> None:
        """Put the images on the training device (the CPU without a Trainer)."""
        if self.splits:
            return
        root = sources.data_root(self.root)
        whole = self._pictures(root) if self.files == "jpeg" else sources.cifar10(root)
        images, labels = whole["train"]
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        count = min(self.VALIDATION[self.train_on], len(labels) // 10)
        used, held_out = order[count:], order[:count]
        if len(used) < self.batch_size:
            raise ZooError(f"there are {len(used)} images to train on, fewer than data.batch_size={self.batch_size}")
        parts = {"train": (images[used], labels[used]), "val": (images[held_out], labels[held_out])}
        parts["test"] = whole["test"]
        self.splits = {part: (x.to(self.device), y.to(self.device)) for part, (x, y) in parts.items()}

    def _pictures(self, root: Path) -> dict[str, tuple[Tensor, Tensor]]:
        places = (root / "cifar10_jpeg", root / "cifar10_jpeg.zip")
        place = next((place for place in places if place.exists()), None)
        if place is None:
            raise ZooError(f"there is neither {places[0]} nor {places[1]}: put one there, or say data.files=arrays")
        files = Files(place)
        names = [name for name in files.names() if is_picture(name) and name.count("/") == 2]
        classes = sorted({name.split("/")[1] for name in names})
        result = {}
        for part in ("train", "test"):
            own = [name for name in names if name.startswith(f"{part}/")]
            if not own:
                raise ZooError(f"{place} holds no pictures {part}/CLASS/NAME.jpg")
            decoded = decode(files, own, Shape(self.SIZE, 3))
            labels = torch.tensor([classes.index(own[i].split("/")[1]) for i in decoded.kept.tolist()])
            order = mixed(range(len(labels)), decoded) if part == "test" else slice(None)  # train is divided first
            result[part] = (decoded.pixels[order], labels[order])
        return result


class CelebA(Pictures):
    """Faces, in torchvision's layout: ``celeba/img_align_celeba/NAME.jpg`` and ``celeba/list_eval_partition.txt``.

    The split is that of the second file. It is not downloaded: the host of the files asks for a person.

    Args:
        root: directory of the data; the default is the environment's ``ZOO_DATA_DIR``, else ``data``.
        size, channels, crop: as :class:`ImageFolder` has them; 140 pixels around the centre are the face.
        batch_size, eval_batch_size, binarize, seed: as :class:`MNIST` has them.

    The label is the number of the person, where ``celeba/identity_CelebA.txt`` is there, else 0.

    Raises:
        ZooError: if it is not there.
        ValueError: as :class:`Pictures`.
    """

    PARTS = ("train", "val", "test")

    def __init__(
        self,
        *,
        root: str | None = None,
        size: int = 64,
        channels: int = 3,
        crop: int | None = 140,
        batch_size: int = 100,
        eval_batch_size: int = 500,
        binarize: Binarize = "none",
        seed: int = 0,
    ) -> None:
        super().__init__(
            size=size,
            channels=channels,
            crop=crop,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            binarize=binarize,
            seed=seed,
        )
        sources.check_root(root, "celeba", "data=celeba")
        self.root = root
        self.people: dict[str, str] = {}

    def find(self) -> tuple[Files, dict[str, list[str]]]:
        folder = sources.data_root(self.root) / "celeba"
        pictures, partition = folder / "img_align_celeba", folder / "list_eval_partition.txt"
        if not (pictures.is_dir() and partition.is_file()):
            raise ZooError(
                f"CelebA is not there: put the pictures into {pictures}, and list_eval_partition.txt beside that "
                "folder, as torchvision has them, or point data.root= or ZOO_DATA_DIR at a directory that holds celeba"
            )
        rows = [line.split() for line in partition.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not all(len(row) == 2 and row[1] in ("0", "1", "2") for row in rows):
            raise ZooError(f"{partition} is damaged: each line must have a name and 0, 1 or 2")
        people = folder / "identity_CelebA.txt"
        if people.is_file():
            self.people = dict(
                line.split()[:2] for line in people.read_text(encoding="utf-8").splitlines() if line.strip()
            )
        return Files(pictures), by_part({name: self.PARTS[int(part)] for name, part in rows})

    def label(self, name: str) -> str:
        return self.people.get(name, "0").rjust(6, "0")  # in the order of the numbers


class Omniglot(Pictures):
    """Handwritten characters of fifty alphabets, light on dark, in torchvision's layout: ``omniglot-py``.

    The background alphabets are for training and, a tenth of them, validation; the evaluation alphabets, which are
    others, for the test. So it is not the split of Burda et al. 2016, whose 28 x 28 images are a file of their own.

    Args:
        root: directory of the data; the default is the environment's ``ZOO_DATA_DIR``, else ``data``. What is missing
            is downloaded as torchvision does.
        size: pixels of a side; 105 in the files.
        batch_size, eval_batch_size, binarize, seed: as :class:`MNIST` has them.

    The class of a picture is its character, ``ALPHABET/CHARACTER``.

    Raises:
        ZooError: at the start of training, if the data is not available.
        ValueError: as :class:`Pictures`.
    """

    inverted = True
    divided = False

    def __init__(
        self,
        *,
        root: str | None = None,
        size: int = 28,
        batch_size: int = 100,
        eval_batch_size: int = 500,
        binarize: Binarize = "dynamic",
        seed: int = 0,
    ) -> None:
        super().__init__(
            size=size,
            channels=1,
            crop=None,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            binarize=binarize,
            seed=seed,
        )
        sources.check_root(root, sources.OMNIGLOT, "data=omniglot")
        self.root = root

    @classmethod
    def shape_of(cls, arguments: Config) -> tuple[int, int, int]:
        return 1, arguments["size"], arguments["size"]

    def prepare_data(self) -> None:
        """Fetch what is missing in one process of each machine, where several will want it."""
        if self.world_size > 1:
            sources.omniglot(sources.data_root(self.root))

    def find(self) -> tuple[Files, dict[str, list[str]]]:
        files = Files(sources.omniglot(sources.data_root(self.root)))
        names = [name for name in files.names() if is_picture(name)]
        parts = {"images_background": "", "images_evaluation": "test"}
        found: dict[str, list[str]] = {"": [], "test": []}
        for name in names:
            if (first := name.split("/")[0]) in parts:
                found[parts[first]].append(name)
        return files, found
