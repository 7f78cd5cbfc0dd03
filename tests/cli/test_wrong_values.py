"""Every option of every file with values that it cannot have: accepted, or one clear error."""

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from zoo.config import composition, from_config
from zoo.errors import ZooError
from zoo.training.trainer import build_trainer

BASES = {  # what a file is composed with
    "model": [],
    "nets": [],
    "quantizer": [],
    "data": ["model=polynomial", "model._target_=zoo.models.polynomial.PolynomialProgram"],  # as of one's own: any data
    "relaxation": ["model=polynomial"],
    "annealing": ["model=polynomial", "relaxation=gumbel_softmax"],
    "callbacks": ["model=polynomial"],
    "trainer": ["model=polynomial"],
    "logger": ["model=polynomial"],
    "experiment": [],
}
WRONG = (None, "nonsense", "", -1, [1], {"a": 1}, 10**30, float("nan"))
EXTRA = {"callbacks": ["callbacks.early_stopping.monitor=val/cost"]}
WITH_PACKAGES = ("mlflow", "tensorboard", "slurm")
FILES = [(group, name) for group in BASES for name in composition.choices(group) if name not in WITH_PACKAGES]


def leaves(node: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all options, those that are lists among them."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield (*path, key)
        yield from leaves(value, (*path, key))


def put(values: dict[str, Any], path: tuple, value: Any) -> dict[str, Any]:
    """``values`` with another one at ``path``."""
    changed = copy.deepcopy(values)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return changed


def attempt(values: dict[str, Any], part: str) -> None:
    """All that is done before a run claims its folder: any error but the project's own is the test's."""
    try:
        composition.check_values(values)
        if part == "trainer":
            build_trainer(values["trainer"], [], logger=False, enable_checkpointing=False)
        elif part in ("callbacks", "logger") or isinstance(values[part], dict):
            from_config(values[part], where=part)
    except ZooError as error:
        assert 10 < len(str(error)) < 3000, error


def walk(group: str, name: str, every: int) -> int:
    """Try every so-many-th wrong value of a file; how many were tried."""
    base = BASES[group] or [f"model={model}" for model in composition.serves(group, name)[: group != "experiment"]]
    config = composition.compose([*base, f"{group}={name}", *EXTRA.get(group, []), "run=x"])
    values = composition.plain(config)
    values.pop("run")
    parts = ("model",) if group in ("nets", "quantizer", "experiment") else (group,)
    if group == "model":
        parts = ("model", *(key for key in composition.KEYS if key != "run"))
    cases = [
        ((part, *path), value)
        for part in parts
        for path in ([()] if not isinstance(values.get(part), dict) else [(), *leaves(values[part])])
        for value in WRONG
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path, value in cases[hash_of(name) % every :: every]:
            part = path[0] if path[0] in composition.GROUPS else "model"
            try:
                attempt(put(values, path, value), part)
            except Exception as error:
                raise AssertionError(f"{group}={name} {'.'.join(path)}={value!r}: {type(error).__name__}") from error
    return len(cases[hash_of(name) % every :: every])


def hash_of(name: str) -> int:
    """A number of ``name``, the same in every process."""
    return sum(name.encode())


def test_every_group_is_tried():
    assert set(BASES) == set(composition.GROUPS)


@pytest.mark.parametrize("group", BASES)
def test_a_wrong_value_is_one_clear_error(group):
    names = [name for g, name in FILES if g == group]
    assert sum(walk(group, name, every=60) for name in names) >= len(names) / 10


@pytest.mark.slow
@pytest.mark.parametrize("group, name", FILES)
def test_every_wrong_value_is_one_clear_error(group, name):
    assert walk(group, name, every=1)


@pytest.mark.parametrize("group", BASES)
@pytest.mark.parametrize("value", ["null", "nonsense", "''", "-1", "[1]", "{a:1}", "1.5", "mypkg.Thing"])
def test_a_wrong_choice_is_one_clear_error(group, value):
    words = [*BASES[group], f"{group}={value}"]
    try:
        composition.check(composition.compose(words), words)
    except ZooError as error:
        assert 10 < len(str(error)) < 3000, error
    else:
        assert value == "null" and group in ("relaxation", "annealing", "callbacks", "logger"), group
