"""The statically binarised MNIST from files made up here."""

import numpy as np
import pytest
import torch

from zoo.data import MNIST, static
from zoo.errors import ZooError


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(static, "FILES", {k: (f, n) for (k, (f, _)), n in zip(static.FILES.items(), (1200, 20, 10))})
    monkeypatch.setattr("zoo.data.images.VALIDATION_IMAGES", {"split": 20, "most": 5})
    folder = tmp_path / static.FOLDER
    folder.mkdir()
    for file, count in static.FILES.values():
        np.savetxt(folder / file, np.random.default_rng(count).integers(0, 2, (count, 784)), fmt="%d")
    return tmp_path


def test_images_are_those_of_the_files_in_every_epoch(root):
    data = MNIST(root=str(root), binarize="static", batch_size=100, eval_batch_size=10)
    data.setup()
    assert {name: len(images) for name, (images, _) in data.splits.items()} == {"train": 1200, "val": 20, "test": 10}
    ((x, y),) = data.test_dataloader()
    expected = np.loadtxt(root / static.FOLDER / "binarized_mnist_test.amat").reshape(10, 1, 28, 28)
    assert torch.equal(x, torch.tensor(expected, dtype=torch.float32)) and (y == -1).all()


def test_most_trains_on_what_does_not_validate(root):
    data = MNIST(root=str(root), binarize="static", train_on="most", batch_size=100)
    data.setup()
    assert {name: len(images) for name, (images, _) in data.splits.items()} == {"train": 1215, "val": 5, "test": 10}


def test_missing_files_are_refused_with_the_place_to_put_them(tmp_path):
    with pytest.raises(ZooError, match=r"Put binarized_mnist_train.amat, .* into .*BinarizedMNIST"):
        static.load(tmp_path, url=f"file://{tmp_path}/none/")


def test_files_are_fetched_and_kept(root, tmp_path):
    other = tmp_path / "other"
    assert torch.equal(static.load(other, url=f"file://{root}/{static.FOLDER}/")["val"], static.load(root)["val"])
    assert torch.equal(static.load(other, url="file:///nowhere/")["val"], static.load(root)["val"])


@pytest.mark.parametrize("damage", [lambda text: text[:-200], lambda text: text.replace("1", "2", 1)])
def test_a_damaged_file_is_named(root, damage):
    path = root / static.FOLDER / "binarized_mnist_valid.amat"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ZooError, match=r"binarized_mnist_valid\.amat is damaged"):
        static.load(root)


def test_other_data_sets_have_none():
    from zoo.data import FashionMNIST

    with pytest.raises(ValueError, match="MNIST alone"):
        FashionMNIST(binarize="static")
