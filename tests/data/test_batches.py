"""The contract of every data module: batches are a pure function of where training stands, and processes share them.

Those that files in ``configs/data`` name, one for each class with loaders of its own.
"""

import warnings
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.conftest import ROOT
from tests.speech import write_digits
from zoo.config import from_config, locate
from zoo.config.composition import choices, choose
from zoo.data.batches import DataModule, Following, Place
from zoo.data.speech import SILENCE

SIZES = {  # of one file for each class with loaders of its own, as small as it gets
    "bags": {"items": 3, "batch_size": 12, "epoch_batches": 4, "eval_batch_size": 7, "eval_batches": 2},
    "fsdd": {"speakers": ["low", "high"], "labelled": 0.3, "batch_size": 20},
    "gymnasium": {"envs": 2, "epoch_steps": 30, "start": 2, "replay": 40},
    "mnist": {"batch_size": 12_000, "eval_batch_size": 6_000},
    "steps": {"batch_size": 6, "steps": 4},
    "table": {
        "batch_size": 150,
        "passes": 3,
        "eval_batch_size": 42,
    },  # 85 rows of the test: one is left, for two processes
    "text": {"path": str(ROOT / "README.md"), "length": 32, "batch_size": 30, "eval_batch_size": 7},
    "tsp": {"size": 4, "batch_size": 6, "epoch_batches": 4, "val_instances": 10, "test_instances": 7},
    "voices_fsdd": {"batch_size": 60},
}
EACH_ITS_OWN = {"gymnasium"}  # whose processes live in environments of their own
ALL_ALIKE = {"voices_fsdd"}  # whose processes all evaluate everything


def configuration(name: str) -> dict[str, Any]:
    return choose("data", name)


def with_loaders(cls: type) -> type:
    """The class that ``cls`` has its loaders from."""
    return next(base for base in cls.__mro__ if "train_dataloader" in vars(base))


@pytest.fixture(scope="module")
def root(tmp_path_factory, mnist_root) -> str:
    """Recordings of two voices. Eight takes are held out."""
    root = tmp_path_factory.mktemp("data")
    write_digits(root / "fsdd/recordings", {"low": 110.0, "high": 190.0}, takes=12)
    return str(root)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name == "voices_fsdd" else ()) for name in sorted(SIZES)],
)
def data(request, root, mnist_root) -> DataModule:
    """One of each, set up once; what follows only changes where its process stands."""
    name = request.param
    config = configuration(name) | SIZES[name]
    speech = config.get("speech", config)
    if "root" in speech:
        speech["root"] = mnist_root if name in ("mnist", "bags") else root
    if name == "voices_fsdd":
        speech["speakers"] = ["low", "high"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Gymnasium's dependencies
        data = from_config(config, where="data")
        data.setup("fit")
        data.setup("test")
    data.file = name
    return data


def loaders(data: DataModule, *, epoch: int = 0, batch: int = 0, rank: int = 0, world_size: int = 1) -> dict[str, Any]:
    """The loaders of a process in a training that stands before ``batch`` of ``epoch``."""
    data.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=world_size,
        current_epoch=epoch,
        fit_loop=SimpleNamespace(
            epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=batch)))
        ),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    return {"train": data.train_dataloader(), "val": data.val_dataloader(), "test": data.test_dataloader()}


def same(batch: Any, other: Any) -> bool:
    if not isinstance(batch, tuple):
        return batch is other
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(batch, other, strict=True))


def all_the_same(batches: list[Any], others: list[Any]) -> bool:
    return len(batches) == len(others) and all(map(same, batches, others))


def together(parts: Iterator[list[Any]]) -> list[Any]:
    """The batches that processes have parts of, put together again."""
    return [tuple(map(torch.cat, zip(*batch))) for batch in zip(*parts, strict=True)]


def test_every_data_module_is_tested():
    classes = {name: with_loaders(locate(configuration(name)["_target_"], name)) for name in choices("data")}
    assert {classes[name] for name in SIZES} == set(classes.values()) and len(SIZES) == len(set(classes.values()))


def test_an_epoch_is_the_same_again_and_as_long_as_it_says(data):
    for loader in loaders(data, epoch=1).values():
        batches = list(loader)
        assert len(batches) == len(loader) > 0 and all_the_same(batches, list(loader))


def test_the_next_epoch_of_training_is_another_one_and_that_of_an_evaluation_is_not(data):
    first, second = ({name: list(loader) for name, loader in loaders(data, epoch=epoch).items()} for epoch in (0, 1))
    assert all_the_same(first["val"], second["val"]) and all_the_same(first["test"], second["test"])
    if data.file not in ("gymnasium", "steps"):
        assert not any(map(same, first["train"], second["train"]))


def test_a_resumed_epoch_goes_on_with_the_next_batch(data):
    whole = list(loaders(data, epoch=2)["train"])
    assert len(whole) > 2
    for batch in range(len(whole)):
        loader = loaders(data, epoch=2, batch=batch)["train"]
        assert all_the_same(list(loader), whole[batch:]) and len(loader) == len(whole)


def test_an_evaluation_in_mid_epoch_begins_at_the_beginning(data):
    for name, loader in loaders(data, epoch=2, batch=2).items():
        if name != "train":
            assert all_the_same(list(loader), list(loaders(data)[name]))


def test_where_training_stands_is_asked_when_the_first_batch_is_fetched(data):
    started = iter(loaders(data, epoch=2)["train"])
    expected = list(loaders(data, epoch=2, batch=1)["train"])  # the Trainer has moved on since
    assert same(next(started), expected[0])


def test_a_loader_has_no_state(data):
    loader = loaders(data)["train"]
    assert loader.state_dict() == {}
    iterator = iter(loader)
    next(iterator)
    loader.load_state_dict({})
    assert all_the_same(list(loader), list(loaders(data)["train"]))


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_what_one_would_have(data, world_size):
    if data.file in EACH_ITS_OWN:
        pytest.skip("its processes have environments of their own")
    whole = list(loaders(data, epoch=1)["train"])
    parts = [list(loaders(data, epoch=1, rank=rank, world_size=world_size)["train"]) for rank in range(world_size)]
    if data.file == "fsdd":  # each has recordings of its own, and then known ones
        whole, *parts = [[without_extra(batch) for batch in part] for part in (whole, *parts)]
    assert all_the_same(together(parts), whole)


def without_extra(batch: Any) -> tuple[torch.Tensor, ...]:
    """And without the silence behind the longest recording, of which a part has less."""
    longest = 40
    frames = F.pad(batch.frames, (0, 0, 0, longest - batch.frames.shape[1]), value=SILENCE)
    return tuple(values[~batch.extra] for values in batch._replace(frames=frames))


def test_processes_together_evaluate_everything_once(data):
    for stage in ("val", "test"):
        whole = rows(loaders(data)[stage])
        parts = [rows(loaders(data, rank=rank, world_size=2)[stage]) for rank in range(2)]
        if data.file in EACH_ITS_OWN:
            continue
        if data.file in ALL_ALIKE:
            assert parts[0] == parts[1] == whole
        else:
            assert sorted(parts[0] + parts[1]) == sorted(whole)


def rows(loader: Any) -> list[Any]:
    """Every example, as something that can be sorted."""
    if not len(loader) or not isinstance(next(iter(loader)), tuple):
        return []
    return [values.flatten().sum().item() for batch in loader for values in batch[0]]


def test_a_plain_loader_goes_on_where_training_stands():
    """The order, and what is drawn to make a batch, are those of a run that was not stopped."""

    def noisy(rows):
        return torch.stack([row for (row,) in rows]) + torch.rand(1)

    loader = DataLoader(TensorDataset(torch.arange(20.0)), 4, shuffle=True, collate_fn=noisy)
    whole = [list(Following(loader, 0, Place(position=partial(tuple, (epoch, 0))))) for epoch in range(2)]
    assert [len(batches) for batches in whole] == [5, 5] and not torch.equal(whole[0][0], whole[1][0])
    for start in range(6):
        torch.rand(start)  # wherever the generator stood
        rest = list(Following(loader, 0, Place(position=partial(tuple, (1, start)))))
        assert len(rest) == 5 - start and all(torch.equal(a, b) for a, b in zip(rest, whole[1][start:]))
    other = list(Following(loader, 1, Place()))
    assert not torch.equal(other[0], whole[0][0])
