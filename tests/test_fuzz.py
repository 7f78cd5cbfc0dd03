"""Damaged files: whatever is wrong with them, the only error is the project's own."""

import copy
import hashlib
import json
import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from tests.hub.test_exporting import make
from tests.models.cat_vae.test_model import make as make_vae
from zoo import hub
from zoo.cli.solve import read_points
from zoo.config import to_config
from zoo.errors import ZooError
from zoo.training.checkpointing import AtomicCheckpointIO
from zoo.training.runs import RunFolder

CASES = 300  # of each of the larger kinds and of each architecture: 1,575 for an architecture

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 7, 10**6, 2**31, 2**63, 10**30, 0.0, -0.5, 1e-300, 1e300, float("nan"),
    float("inf"), "", "silu", "zoo.models.cat_vae.MLPEncoder", "os.system", "${oc.env:HOME}", "../../etc", "\0",
    "\ud800",
    [], {}, [[]], [0], [-1], [10**6, 10**6], [1, 28, 28], ["a"], [None],
    {"_target_": "zoo.relaxations.RLOO"}, {"_target_": "os.system"},
    {"_target_": None}, {"_target_": "zoo.data.MNIST"}, {"_target_": "zoo.models.cat_vae.CatVAE"}, {"a": {"b": []}},
)  # fmt: skip


def places(config: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all nodes of nested containers."""
    found = [path]
    if isinstance(config, (dict, list)):
        for key in config if isinstance(config, dict) else range(len(config)):
            found += places(config[key], (*path, key))
    return found


def damage_config(config: dict[str, Any], rng: random.Random) -> Any:
    """``config`` with one to three nodes replaced, removed, renamed, added or exchanged."""
    config = copy.deepcopy(config)
    for _ in range(rng.randint(1, 3)):
        options = places(config)[1:]
        if not options:
            break
        *parents, key = rng.choice(options)
        node: Any = config
        for parent in parents:
            node = node[parent]
        how = rng.randrange(5)
        if how == 0 and isinstance(node, dict):
            node[rng.choice(["latents", "tau", "_target_", "x", ""])] = rng.choice(VALUES)
        elif how == 1:
            del node[key]
        elif how == 2 and isinstance(node, dict):
            node[str(key)[:-1] + "y"] = node.pop(key)
        elif how == 3 and isinstance(node[key], (int, float)) and not isinstance(node[key], bool):
            node[key] = node[key] * rng.choice([-1, 0, 0.5, 2, 3, 1000, 10**9])
        else:
            node[key] = rng.choice(VALUES)
    return config


def damage_bytes(content: bytes, rng: random.Random) -> bytes:
    """``content`` cut, with bytes changed, removed, inserted or repeated; half of the time near its beginning."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        end = min(len(data), 300) if rng.random() < 0.5 else len(data)
        at = rng.randrange(end) if end else 0
        how = rng.randrange(6)
        if how == 0:
            del data[at:]
        elif how == 1:
            del data[at : at + rng.randint(1, 64)]
        elif how == 2:
            data[at:at] = rng.randbytes(rng.randint(1, 64))
        elif how == 3:
            data[at : at + 8] = struct.pack("<Q", rng.choice([0, 1, 2**31, 2**63, 2**64 - 1, len(data)]))
        elif data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
    return bytes(data)


def attempt(name: str | Path) -> bool:
    """Load ``name``; whether that was refused. Any other error is that of the test."""
    try:
        model = zoo.from_pretrained(name)
    except ZooError as error:
        assert len(str(error)) < 5000
        return True
    assert type(model).__name__ in {
        path.rpartition(".")[2] for path in (entry.target for entry in hub.models().values())
    }
    return False


def refused(cases: int, case: Callable[[random.Random], bool]) -> int:
    """How many of ``cases`` were refused, without a warning or a word of PyTorch's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that overflow on the way to the error
        return sum(case(random.Random(seed)) for seed in range(cases))


@pytest.fixture(scope="module", params=hub.list_models())
def folder(request, tmp_path_factory) -> Path:
    """A small pretrained model of each architecture."""
    model = make_vae(prior="learned") if request.param == "cat_vae" else make(request.param)
    folder = tmp_path_factory.mktemp("fuzz") / f"{request.param}.test"
    return zoo.save_pretrained(model, folder, data={"_target_": "zoo.data.MNIST", "seed": 0})


def test_damaged_configurations(folder, tmp_path):
    """config.json parses; what it says is wrong."""
    good = json.loads((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())

    def case(rng: random.Random) -> bool:
        (tmp_path / "config.json").write_text(json.dumps(damage_config(good, rng)))
        return attempt(tmp_path)

    assert refused(CASES, case) > CASES / 3  # some changes are harmless


def test_damaged_configuration_files(folder, tmp_path):
    good = (folder / "config.json").read_bytes()
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())

    def case(rng: random.Random) -> bool:
        (tmp_path / "config.json").write_bytes(damage_bytes(good, rng))
        return attempt(tmp_path)

    assert refused(CASES, case) > CASES / 2


@pytest.mark.parametrize("checksum", ["old", "new"])
def test_damaged_weights(folder, tmp_path, checksum):
    """With the checksum of the good file, and as if their author had damaged them."""
    config = json.loads((folder / "config.json").read_text())
    good = (folder / "model.safetensors").read_bytes()

    def case(rng: random.Random) -> bool:
        content = damage_bytes(good, rng)
        if checksum == "new":
            config["sha256"] = hashlib.sha256(content).hexdigest()
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "model.safetensors").write_bytes(content)
        return attempt(tmp_path) or content == good

    assert refused(CASES, case) > (CASES / 4 if checksum == "new" else CASES - 1)


@pytest.mark.parametrize("what", ["bytes", "config"])
def test_damaged_checkpoints_of_training(folder, tmp_path, what):
    model = zoo.from_pretrained(folder)
    path = tmp_path / "step.ckpt"
    good = {"config": to_config(model), "state_dict": model.state_dict()}
    AtomicCheckpointIO().save_checkpoint(good, path)
    content = path.read_bytes()

    def case(rng: random.Random) -> bool:
        if what == "bytes":
            damaged = damage_bytes(content, rng)
            path.write_bytes(damaged)
            return attempt(path) or damaged == content
        AtomicCheckpointIO().save_checkpoint(good | {"config": damage_config(good["config"], rng)}, path)
        return attempt(path)

    cases = CASES // 2
    assert refused(cases, case) > cases / 3


def test_damaged_run_folders(folder, tmp_path):
    """config.yaml is read when a run is resumed or published; best.ckpt as above."""
    model = zoo.from_pretrained(folder)
    run = RunFolder(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    AtomicCheckpointIO().save_checkpoint({"config": to_config(model), "state_dict": model.state_dict()}, run.best)
    with run:
        run.claim({"model": to_config(model), "data": {"_target_": "zoo.data.MNIST"}, "seed": 0}, "command")
    good = run.config.read_bytes()

    def case(rng: random.Random) -> bool:
        run.config.write_bytes(damage_bytes(good, rng))
        return attempt(run.path)

    assert refused(CASES // 4, case) > 0


def test_a_layer_of_a_terabyte_is_refused_before_it_is_made(tmp_path):
    folder = zoo.save_pretrained(make_vae(), tmp_path / "cat_vae.test")
    config = json.loads((folder / "config.json").read_text())
    config["arguments"]["encoder"]["hidden"] = [10**6, 10**6]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ZooError, match="asks for a tensor of"):
        zoo.from_pretrained(folder)
    config["arguments"] = {"latents": "${oc.env:HOME}"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ZooError, match="refusing the interpolation"):
        zoo.from_pretrained(folder)


def test_damaged_sounds(tmp_path):
    """Sounds in a data directory: read, or refused with the error that their loader explains."""
    from zoo.data.audio import read_wav, write_wav

    path = tmp_path / "sound.wav"
    write_wav(path, torch.linspace(-1, 1, 500))
    good = path.read_bytes()

    def case(rng: random.Random) -> bool:
        path.write_bytes(damage_bytes(good, rng))
        try:
            sound, rate = read_wav(path)
        except ValueError:
            return True
        assert sound.dim() == 1 and sound.isfinite().all() and rate > 0
        return False

    assert refused(2 * CASES, case) > CASES / 5  # most damage is to samples, which may have any value


@pytest.mark.parametrize("suffix", ["csv", "tsp"])
def test_damaged_points(tmp_path, suffix):
    """Points whose tour is asked for: read, or refused."""
    path = tmp_path / f"points.{suffix}"
    rows = [(0.1 * i, 5 - 0.7 * i) for i in range(12)]
    if suffix == "csv":
        lines = ["x,y", *(f"{x},{y}" for x, y in rows)]
    else:
        lines = ["NAME : a", "TYPE : TSP", "DIMENSION : 12", "EDGE_WEIGHT_TYPE : EUC_2D", "NODE_COORD_SECTION"]
        lines += [*(f"{i} {x} {y}" for i, (x, y) in enumerate(rows)), "EOF"]
    good = "\n".join(lines).encode()

    def case(rng: random.Random) -> bool:
        path.write_bytes(damage_bytes(good, rng))
        try:
            names, points = read_points(path)
        except ZooError as error:
            assert len(str(error)) < 5000
            return True
        assert points.shape == (len(names), 2) and len(names) > 1 and np.isfinite(points).all()
        return False

    assert refused(2 * CASES, case) > CASES
