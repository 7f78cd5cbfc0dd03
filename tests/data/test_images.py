"""Batches: the right images, binarised by the right law, the same whatever happens."""

import pytest
import torch
from scipy import stats

from zoo.config import from_config
from zoo.data import MNIST
from zoo.data.batches import Place
from zoo.data.images import ImageBatches
from zoo.errors import ZooError


@pytest.fixture(scope="module")
def mnist(mnist_root) -> MNIST:
    data = MNIST(root=mnist_root)
    data.prepare_data()
    data.setup()
    return data


def batches(mnist: MNIST, n: int = 1000, *, epoch: int = 0, **arguments) -> ImageBatches:
    images, labels = (part[:n] for part in mnist.splits["train"])
    defaults = {"batch_size": 64, "binarize": "dynamic", "key": (0, 0), "shuffle": True}
    defaults["place"] = Place(position=lambda: (epoch, 0))
    return ImageBatches(images, labels, **(defaults | arguments))


def test_splits(mnist, mnist_root):
    assert {name: len(y) for name, (_, y) in mnist.splits.items()} == {"train": 50_000, "val": 10_000, "test": 10_000}
    most = MNIST(root=mnist_root, train_on="most")
    most.setup()
    assert {name: len(y) for name, (_, y) in most.splits.items()} == {"train": 59_000, "val": 1_000, "test": 10_000}
    assert torch.equal(torch.cat([most.splits[name][0] for name in ("train", "val")])[50_000:], mnist.splits["val"][0])


def test_all_of_earlier_versions_is_most(mnist_root):
    data = from_config({"_target_": "zoo.data.MNIST", "root": mnist_root, "train_on": "all"})
    assert data.train_on == "most"


def test_images_stay_bytes_in_memory(mnist):
    assert all(images.dtype == torch.uint8 for images, _ in mnist.splits.values())


def test_an_epoch_shows_every_image_once_in_a_new_order(mnist):
    first = torch.cat([y for _, y in batches(mnist, 640)])
    second = torch.cat([y for _, y in batches(mnist, 640, epoch=1)])
    assert torch.equal(first.bincount(), mnist.splits["train"][1][:640].bincount())
    assert torch.equal(second.bincount(), first.bincount()) and not torch.equal(first, second)


def test_dynamic_binarisation_has_the_grey_level_as_its_mean(mnist):
    """Two-sided binomial tests of 256 grey levels, Bonferroni-corrected significance 1e-3."""
    grey = torch.arange(256, dtype=torch.uint8).repeat(4000).view(-1, 1, 1, 1024)
    options = {"batch_size": 1000, "binarize": "dynamic", "key": (0, 0), "shuffle": False, "place": Place()}
    loader = ImageBatches(grey, torch.zeros(1000), **options)
    white = next(iter(loader))[0].view(-1, 256).sum(0)
    for level, count in enumerate(white.tolist()):
        assert stats.binomtest(int(count), 4000, level / 255).pvalue > 1e-3 / 256
    assert white[0] == 0 and white[255] == 4000


def test_other_binarisations(mnist):
    grey = mnist.splits["train"][0][:64].float() / 255
    (x, _), *_ = batches(mnist, 64, binarize="none", shuffle=False)
    assert torch.equal(x, grey)
    (x, _), *_ = batches(mnist, 64, binarize="threshold", shuffle=False)
    assert torch.equal(x, (grey > 0.5).float())


def test_training_noise_is_new_in_each_epoch_and_evaluation_noise_is_not(mnist):
    loader = mnist.test_dataloader()
    assert torch.equal(next(iter(loader))[0], next(iter(loader))[0])
    order = {"shuffle": False, "n": 64}
    first, second = (next(iter(batches(mnist, **order, epoch=e)))[0] for e in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_share_a_batch_without_changing_it(mnist, world_size, shuffle):
    whole = list(batches(mnist, shuffle=shuffle))
    parts = [list(batches(mnist, shuffle=shuffle, place=Place(r, world_size))) for r in range(world_size)]
    for i, (x, y) in enumerate(whole):
        assert torch.equal(torch.cat([part[i][0] for part in parts]), x)
        assert torch.equal(torch.cat([part[i][1] for part in parts]), y)


def test_the_last_incomplete_batch_is_dropped_only_in_training(mnist):
    assert len(batches(mnist)) == len(list(batches(mnist))) == 15
    assert len(batches(mnist, shuffle=False)) == len(list(batches(mnist, shuffle=False))) == 16


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"binarize": "dinamic"}, "'dynamic', 'static', 'threshold' or 'none'"),
        ({"train_on": "everything"}, "'split' or 'most'"),
        ({"batchsize": 3}, "Did you mean 'batch_size'"),
    ],
)
def test_wrong_options(arguments, message):
    with pytest.raises(ZooError, match=message):
        from_config({"_target_": "zoo.data.MNIST", **arguments}, where="data")
