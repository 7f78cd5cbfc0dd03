"""Picture files of any kind, from a folder or a zip archive, as pixels of one size.

What cannot be read is named and left out, never guessed at.
"""

import logging
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path, PurePosixPath
from threading import Lock

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from zoo.errors import ZooError, cause

log = logging.getLogger(__name__)

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
NAMED = 5
"""How many of the files that are left out are named one by one."""
READERS = 4
"""Threads that decode: the library lets go of the interpreter while it does."""
LARGEST = 200_000_000
"""Bytes of a file: a larger one is not a picture, and what an archive packs well could fill the memory."""
WHITE = (255, 255, 255, 255)


class Files:
    """The files of a folder, or of a zip archive, by their path in it, with ``/`` between its parts.

    What begins with a dot is passed over, and so is what a Macintosh adds to an archive.

    Raises:
        ZooError: if ``root`` is neither.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._archive: zipfile.ZipFile | None = None
        self._lock = Lock()
        if root.is_file():
            try:
                self._archive = zipfile.ZipFile(root)
            except Exception as error:  # a damaged archive can raise anything
                raise ZooError(f"{root} is neither a folder nor a zip archive of one: {cause(error)}") from error
        elif not root.is_dir():
            raise ZooError(f"there is no folder {root}")

    def names(self) -> list[str]:
        """All files, sorted."""
        found = self._members() if self._archive else self._walk()
        return sorted(name for name in found if not any(p.startswith((".", "__MACOSX")) for p in name.split("/")))

    def _members(self) -> Iterator[str]:
        assert self._archive is not None
        return (member.filename for member in self._archive.infolist() if not member.is_dir())

    def _walk(self) -> Iterator[str]:
        seen = set()
        for folder, below, files in os.walk(self.root, followlinks=True):
            place = os.stat(folder)
            if (place.st_dev, place.st_ino) in seen:  # a link to a folder around it
                below.clear()
                continue
            seen.add((place.st_dev, place.st_ino))
            yield from ((Path(folder) / name).relative_to(self.root).as_posix() for name in files)

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            ValueError: if it is not a file, such as a pipe, or too large to be a picture.
        """
        if self._archive is None:
            if not (self.root / name).is_file():
                raise ValueError("it is not a file, or a link to nothing")
            with (self.root / name).open("rb") as file:
                content = file.read(LARGEST)
        else:
            with self._lock, self._archive.open(name) as member:
                content = member.read(LARGEST)
        if len(content) == LARGEST:
            raise ValueError(f"it has more than {LARGEST // 10**6} MB")
        return content

    def __getstate__(self) -> dict[str, Path]:
        return {"root": self.root}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(state["root"])  # type: ignore[misc]  # an open archive cannot be copied


def is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in ENDINGS


@dataclass(frozen=True)
class Shape:
    """What pictures are made into.

    Args:
        size: pixels of either side.
        channels: 3 for colour, 1 for grey.
        crop: side of the square at the centre of which the picture is made; None for the largest there is.
        invert: dark becomes light, as of ink on paper.
    """

    size: int
    channels: int
    crop: int | None = None
    invert: bool = False


@dataclass
class Decoded:
    """Pictures that could be read.

    Attributes:
        pixels: uint8 ``(n, channels, size, size)``.
        kept: the places, in the list of files, of those that could be read, int64 ``(n,)``.
        digests: of the contents of each, by which equal files are known.
        refused: (name, why) of the others.
    """

    pixels: Tensor
    kept: Tensor
    digests: list[bytes]
    refused: list[tuple[str, str]] = field(default_factory=list)


def decode(files: Files, names: Sequence[str], shape: Shape) -> Decoded:
    """Read pictures; those that are broken are named in a warning, and left out.

    Raises:
        ZooError: if not one of them can be read.
    """
    pixels = torch.empty(len(names), shape.channels, shape.size, shape.size, dtype=torch.uint8)
    notes: Counter[str] = Counter()
    digests: list[bytes] = []
    kept: list[int] = []
    refused: list[tuple[str, str]] = []
    with unwarned(), ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as threads:
        for i, result in enumerate(threads.map(partial(_read, files, shape), names)):
            if isinstance(result, str):
                refused.append((names[i], result))
                continue
            array, digest, noted = result
            pixels[len(kept)] = torch.from_numpy(array)
            kept.append(i)
            digests.append(digest)
            notes.update(noted)
    if refused:
        log.warning("%s", left_out(refused, len(names)))
    if names and not kept:
        raise ZooError(f"{files.root}: not one of its {len(names)} pictures can be read, such as {_named(refused[0])}")
    for note, count in sorted(notes.items()):
        log.info("%s: %d %s", files.root, count, note)
    return Decoded(pixels[: len(kept)], torch.tensor(kept, dtype=torch.int64), digests, refused)


def read_picture(path: Path, shape: Shape) -> Tensor:
    """A single picture file, uint8 ``(channels, size, size)``.

    Raises:
        ZooError: if it cannot be read.
    """
    with unwarned():
        result = _read(Files(path.parent), shape, path.name)
    if isinstance(result, str):
        raise ZooError(f"{path.name} cannot be read: {result}")
    return torch.from_numpy(result[0].copy())


def left_out(refused: Sequence[tuple[str, str]], count: int) -> str:
    """What is said of files that cannot be read."""
    more = f", and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
    some = "; ".join(map(_named, refused[:NAMED]))
    return f"left out {len(refused)} of {count} pictures, which cannot be read: {some}{more}"


def _named(refused: tuple[str, str]) -> str:
    return f"{refused[0]} ({refused[1]})"


def _read(files: Files, shape: Shape, name: str) -> tuple[np.ndarray, bytes, list[str]] | str:
    """The pixels ``(channels, size, size)``, the digest and what there is to say of a picture; or what is wrong."""
    try:
        content = files.read(name)
        if not content:
            return "the file is empty"
        with Image.open(BytesIO(content)) as image:
            array, notes = _pixels(image, shape)
            return array, sha256(content).digest(), notes
    except UnidentifiedImageError:
        return "it is not a picture"
    except Image.DecompressionBombError:
        return "it has too many pixels"
    # The library's own errors, and whatever its readers of damaged files run into.
    except Exception as error:
        return cause(error).rstrip(".")


def _pixels(image: Image.Image, shape: Shape) -> tuple[np.ndarray, list[str]]:
    notes = []
    mode = "L" if shape.channels == 1 else "RGB"
    if getattr(image, "n_frames", 1) > 1:
        notes.append("pictures move or have several pages, of which the first is taken")
        image.seek(0)
    elif shape.crop is None:
        image.draft(mode, (shape.size, shape.size))  # a large JPEG is decoded at a half, a quarter or an eighth
    plain: Image.Image = ImageOps.exif_transpose(image)
    if plain.mode.startswith("I") or plain.mode == "F":
        plain = _to_bytes(plain)
        notes.append("pictures have 16 bits a pixel, which are rounded to 8")
    elif plain.has_transparency_data:
        plain = plain.convert("RGBA")
        plain = Image.alpha_composite(Image.new("RGBA", plain.size, WHITE), plain)
        notes.append("pictures are transparent, and are laid on white")
    plain = plain.convert(mode)
    side = min(plain.size) if shape.crop is None else shape.crop
    if side > min(plain.size):
        raise ValueError(f"it has {plain.width} x {plain.height} pixels, fewer than the {side} that are cut out")
    left, top = (plain.width - side) // 2, (plain.height - side) // 2
    square = (left, top, left + side, top + side)
    small = plain.resize((shape.size, shape.size), Image.Resampling.BILINEAR, box=square)
    array = np.asarray(small).reshape(shape.size, shape.size, shape.channels).transpose(2, 0, 1)
    return (255 - array if shape.invert else array), notes


def _to_bytes(image: Image.Image) -> Image.Image:
    """Grey levels of 16 bits as those of 8; the library's own conversion would make everything above 255 white.

    Raises:
        ValueError: for numbers that are not grey levels of 16 bits.
    """
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels are numbers beyond 16 bits, whose white is not known")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


@contextmanager
def unwarned() -> Iterator[None]:
    """Without the library's warnings of what is odd about a file: what cannot be read raises an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def first_readable(files: Files, names: Sequence[str], enough: int) -> int:
    """How many of ``names``, counted up to ``enough``, begin as pictures do."""
    found = 0
    with unwarned():
        for name in names:
            try:
                with Image.open(BytesIO(files.read(name))):
                    found += 1
            except Exception:  # counted where it is left out
                continue
            if found == enough:
                break
    return found
