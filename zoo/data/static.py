"""MNIST binarised once and for all, the files of Larochelle that papers on generative models compare on."""

import logging
import urllib.request
from pathlib import Path

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.files import atomic

log = logging.getLogger(__name__)

URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
FOLDER = "BinarizedMNIST"
FILES = {
    "train": ("binarized_mnist_train.amat", 50_000),
    "val": ("binarized_mnist_valid.amat", 10_000),
    "test": ("binarized_mnist_test.amat", 10_000),
}
TIMEOUT = 20  # seconds without an answer


def load(root: Path, *, url: str = URL) -> dict[str, Tensor]:
    """Images of the three splits, uint8 ``(n, 1, 28, 28)`` of 0 and 255; fetched first where they are not there.

    Raises:
        ZooError: if a file cannot be had, with the place to put it, or is damaged.
    """
    splits = {}
    for split, (file, count) in FILES.items():
        path = root / FOLDER / file
        try:
            content = path.read_bytes() if path.exists() else fetch(url + file, path)
        except OSError as error:
            raise ZooError(
                f"statically binarised MNIST cannot be had: {path} is not there, and {url + file} gave: {error}. Put "
                f"{', '.join(name for name, _ in FILES.values())} of {url} into {path.parent}, or train with "
                "data.binarize=dynamic"
            ) from error
        splits[split] = parse(content, count, path)
    return splits


def fetch(url: str, path: Path) -> bytes:
    """The bytes at ``url``, kept at ``path`` where that can be written."""
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        content: bytes = answer.read(count_bytes(50_000) + 10_000_000)
    try:
        with atomic(path) as temporary:
            temporary.write_bytes(content)
    except ZooError as error:
        log.warning("cannot keep the data in %s (%s): it will be fetched again next time", path.parent, error)
    return content


def count_bytes(images: int) -> int:
    """Of a file with ``images`` of one digit and one space or newline a pixel."""
    return images * 784 * 2


def parse(content: bytes, count: int, path: Path) -> Tensor:
    """Images of a text of ``0`` and ``1``, a line of 784 for each."""
    text = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    digits = text[(text == ord("0")) | (text == ord("1"))]
    blank = ((text == ord(" ")) | (text == ord("\n")) | (text == ord("\r"))).sum()
    if len(digits) != count * 784 or len(digits) + blank != len(text):
        raise ZooError(f"{path} is damaged: it should hold {count:,} lines of 784 digits 0 or 1; remove it")
    return (digits.view(count, 1, 28, 28) == ord("1")).to(torch.uint8) * 255
