"""Damaged and hostile files for every reader: whatever is wrong with one, the only error is the project's own, within
two seconds of a processor and 500 MB beside the idle process.

    python -m tests.fuzzing                              20,000 cases, round the readers
    python -m tests.fuzzing cases=2000 seed=7            other ones
    python -m tests.fuzzing reader=checkpoint seed=123 cases=1

A case is a pure function of its reader and its seed. Files are damaged as bytes, and as what they mean: nodes of a
configuration, operations of a pickle, names and kinds of weights, with checksums that are right.
"""

import copy
import gzip
import hashlib
import io
import json
import random
import resource
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import yaml

import zoo
from tests.hub.test_exporting import make
from tests.models.cat_vae.test_model import make as make_vae
from zoo import hub
from zoo.cli.solve import read_points
from zoo.config import to_config
from zoo.data import sources
from zoo.data.audio import read_wav, write_wav
from zoo.data.recordings import find, libraries, read_sound
from zoo.errors import ZooError
from zoo.hub.pushing import stage

SECONDS, BYTES = 2, 500_000_000
Case = Callable[[random.Random], bool]
"""One case of a reader; whether it was refused. Any error is a fault."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 7, 10**6, 10**9, 2**31, 2**63, 10**30, 0.0, -0.5, 1e-300, 1e300, float("nan"),
    float("inf"), "", "silu", "zoo.models.cat_vae.MLPEncoder", "os.system", "${oc.env:HOME}", "../../etc", "\0",
    "\ud800", "evil:mod", "x" * 1000,
    [], {}, [[]], [0], [-1], [10**6, 10**6], [1000] * 400, [1, 28, 28], ["a"], [None],
    {"_target_": "zoo.relaxations.RLOO"}, {"_target_": "os.system"},
    {"_target_": None}, {"_target_": "zoo.data.MNIST"}, {"_target_": "zoo.models.cat_vae.CatVAE"}, {"a": {"b": []}},
)  # fmt: skip


# Damage ---------------------------------------------------------------------------------------------------------------


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
            node[rng.choice(["latents", "tau", "_target_", "x", ""])] = copy.deepcopy(rng.choice(VALUES))
        elif how == 1:
            del node[key]
        elif how == 2 and isinstance(node, dict):
            node[str(key)[:-1] + "y"] = node.pop(key)
        elif how == 3 and isinstance(node[key], (int, float)) and not isinstance(node[key], bool):
            node[key] = node[key] * rng.choice([-1, 0, 0.5, 2, 3, 1000, 10**9])
        else:
            node[key] = copy.deepcopy(rng.choice(VALUES))
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


def damage_state(state: dict[str, torch.Tensor], rng: random.Random) -> dict[str, torch.Tensor]:
    """Weights of which one is missing, renamed, of another kind or shape, or not a number; or one too many."""
    state = dict(state)
    name = rng.choice(sorted(state))
    value = state[name]
    kinds = (torch.bool, torch.int8, torch.complex64, torch.float16, torch.bfloat16, torch.float64, torch.uint8)
    how = rng.randrange(6)
    if how == 0:
        del state[name]
    elif how == 1:
        state[f"{name}x"] = state.pop(name)
    elif how == 2:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state[name] = value.to(rng.choice(kinds))
    elif how == 3:
        state[name] = torch.zeros(rng.choice([(), (0,), (1,), (3, 3), (*value.shape, 2)]), dtype=value.dtype)
    elif how == 4 and value.is_floating_point():
        state[name] = torch.full_like(value, rng.choice([torch.nan, torch.inf, 1e30]))
    else:
        state["surprise"] = torch.zeros(rng.randrange(5))
    return state


def repacked(content: bytes, rng: random.Random) -> bytes:
    """A checkpoint of which one file is damaged, and its checksums are right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(out, "w") as new:
        names = archive.namelist()
        chosen = next(name for name in names if name.endswith("data.pkl")) if rng.random() < 0.8 else rng.choice(names)
        for name in names:
            part = archive.read(name)
            new.writestr(name, damage_bytes(part, rng) if name == chosen else part)
    return out.getvalue()


# Readers --------------------------------------------------------------------------------------------------------------


def attempt(name: str | Path) -> bool:
    """Load ``name``; whether that was refused. Any other error is that of the case."""
    try:
        model = zoo.from_pretrained(name)
    except ZooError as error:
        assert len(str(error)) < 5000
        return True
    assert type(model).__name__ in {entry.target.rpartition(".")[2] for entry in hub.models().values()}
    return False


def pretrained(place: Path) -> list[Path]:
    """A small pretrained model of each architecture."""
    folders = []
    for arch in hub.list_models():
        model = make_vae(prior="learned") if arch == "cat_vae" else make(arch)
        data = {"_target_": "zoo.data.MNIST", "seed": 0}
        folders.append(zoo.save_pretrained(model, place / f"{arch}.test", data=data))
    return folders


def configuration(place: Path) -> Case:
    """``config.json``, as what it means and as bytes."""
    good = {folder: (folder / "config.json").read_text() for folder in pretrained(place)}

    def case(rng: random.Random) -> bool:
        folder = rng.choice(list(good))
        if rng.random() < 0.3:
            damaged = damage_bytes(good[folder].encode(), rng)
        else:
            damaged = json.dumps(damage_config(json.loads(good[folder]), rng)).encode()
        (folder / "config.json").write_bytes(damaged)
        return attempt(folder)

    return case


def weights(place: Path) -> Case:
    """``model.safetensors``, with the checksum of the good file, or as if its author had damaged it."""
    good = {folder: (folder / "model.safetensors").read_bytes() for folder in pretrained(place)}
    configs = {folder: json.loads((folder / "config.json").read_text()) for folder in good}

    def case(rng: random.Random) -> bool:
        folder = rng.choice(list(good))
        if rng.random() < 0.5:
            content = safetensors.torch.save(damage_state(safetensors.torch.load(good[folder]), rng))
        else:
            content = damage_bytes(good[folder], rng)
        new = rng.random() < 0.8
        checksum = {"sha256": hashlib.sha256(content).hexdigest()} if new else {}
        (folder / "config.json").write_text(json.dumps(configs[folder] | checksum))
        (folder / "model.safetensors").write_bytes(content)
        return attempt(folder)

    return case


def checkpoint(place: Path) -> Case:
    """A checkpoint of training: its bytes, its pickle, its configuration and its weights."""
    good = []
    for folder in pretrained(place):
        model = zoo.from_pretrained(folder)
        good.append({"config": to_config(model), "state_dict": model.state_dict()})
    path = place / "step.ckpt"

    def content(values: dict[str, Any]) -> bytes:
        torch.save(values, buffer := io.BytesIO())
        return buffer.getvalue()

    whole = [content(values) for values in good]

    def case(rng: random.Random) -> bool:
        which, how = rng.randrange(len(good)), rng.randrange(4)
        if how == 0:
            damaged = damage_bytes(whole[which], rng)
        elif how == 1:
            damaged = repacked(whole[which], rng)
        elif how == 2:
            damaged = content(good[which] | {"config": damage_config(good[which]["config"], rng)})
        else:
            damaged = content(good[which] | {"state_dict": damage_state(good[which]["state_dict"], rng)})
        path.write_bytes(damaged)
        return attempt(path)

    return case


def run_folder(place: Path) -> Case:
    """``config.yaml`` of a run, as what it means and as bytes."""
    run = place / "run"
    (run / "checkpoints").mkdir(parents=True)
    model = make_vae()
    torch.save({"config": to_config(model), "state_dict": model.state_dict()}, run / "checkpoints/best.ckpt")
    data = {"_target_": "zoo.data.MNIST", "root": "data", "parts": [1, {"a": None}]}
    good = {"model": to_config(model), "data": data, "seed": 0}

    def case(rng: random.Random) -> bool:
        if rng.random() < 0.5:
            damaged = damage_bytes(yaml.safe_dump(good).encode(), rng)
        else:
            values = damage_config(good, rng)
            damaged = yaml.safe_dump(values).encode("utf-8", "surrogatepass")
        (run / "config.yaml").write_bytes(damaged)
        return attempt(run)

    return case


def card(place: Path) -> Case:
    """``README.md`` of a model that is published."""
    folder, staged = zoo.save_pretrained(make_vae(), place / "cat_vae.test"), place / "staged"
    staged.mkdir()
    good = (folder / "README.md").read_bytes()

    def case(rng: random.Random) -> bool:
        (folder / "README.md").write_bytes(damage_bytes(good, rng))
        try:
            stage(folder, staged)
        except ZooError:
            return True
        assert (staged / "README.md").read_text().startswith("---\nlicense: ")
        return False

    return case


def sound(place: Path) -> Case:
    """Sounds in a data directory: read, or refused with the error that their loader explains."""
    path = place / "sound.wav"
    write_wav(path, torch.linspace(-1, 1, 500))
    good = path.read_bytes()

    def case(rng: random.Random) -> bool:
        damaged = damage_bytes(good, rng)
        if rng.random() < 0.2:
            damaged = damaged[:24] + struct.pack("<I", rng.choice([0, 1, 999, 10**6, 10**9, 2**32 - 1])) + damaged[28:]
        path.write_bytes(damaged)
        try:
            samples, rate = read_wav(path)
        except ValueError:
            return True
        assert samples.dim() == 1 and samples.isfinite().all() and rate > 0
        return False

    return case


def recordings(place: Path) -> Case:
    """Sounds of one's own in every format, and tables that list them: read, or refused with what is said of them."""
    soundfile, good = libraries()[0], {}
    for name in ("a.wav", "a.flac", "a.ogg", "a.mp3"):
        soundfile.write(place / name, np.sin(np.linspace(0, 500, 4000)), 16000)
        good[name] = (place / name).read_bytes()
    rows = [{"path": f"{i}.wav", "text": f"word {i}", "speaker": "a"} for i in range(9)]
    good["a.jsonl"] = "\n".join(map(json.dumps, rows)).encode()
    good["a.csv"] = "\n".join(["path,text,speaker", *(",".join(row.values()) for row in rows)]).encode()

    def case(rng: random.Random) -> bool:
        name = rng.choice(sorted(good))
        path = place / name
        path.write_bytes(damage_bytes(good[name], rng))
        try:
            if name in ("a.jsonl", "a.csv"):
                assert all(len(found.text) <= 1000 for found in find(path))
            else:
                samples, _ = read_sound(path)
                assert samples.dim() == 1 and samples.isfinite().all()
        except ValueError as error:
            assert len(str(error)) < 5000
            return True
        return False

    return case


def points(place: Path) -> Case:
    """Points whose tour is asked for: read, or refused."""
    rows = [(0.1 * i, 5 - 0.7 * i) for i in range(12)]
    head = ["NAME : a", "TYPE : TSP", "DIMENSION : 12", "EDGE_WEIGHT_TYPE : EUC_2D", "NODE_COORD_SECTION"]
    good = {
        "csv": ["x,y", *(f"{x},{y}" for x, y in rows)],
        "tsp": [*head, *(f"{i} {x} {y}" for i, (x, y) in enumerate(rows)), "EOF"],
    }

    def case(rng: random.Random) -> bool:
        suffix = rng.choice(sorted(good))
        path = place / f"points.{suffix}"
        damaged = damage_bytes("\n".join(good[suffix]).encode(), rng)
        if rng.random() < 0.05:
            damaged += b"\n" + rng.choice([b"1", b'"', b"1,1\n"]) * 200_000
        path.write_bytes(damaged)
        try:
            names, found = read_points(path)
        except ZooError as error:
            assert len(str(error)) < 5000
            return True
        assert found.shape == (len(names), 2) and len(names) > 1 and np.isfinite(found).all()
        return False

    return case


def images(place: Path) -> Case:
    """Files of MNIST in a data directory, plain or gzipped; no other source has them."""
    folder = place / "MNIST/raw"
    folder.mkdir(parents=True)

    def nothing(*_: object) -> Any:
        raise OSError("no network")

    def case(rng: random.Random) -> bool:
        for file in sources.FILES:
            content = rng.randbytes(rng.randrange(200)) + bytes(rng.choice([0, 10, 10**6]))
            packed = rng.random() < 0.5
            damaged = damage_bytes(gzip.compress(content, 1), rng) if packed else content
            (folder / file).unlink(missing_ok=True)
            (folder / (f"{file}.gz" if packed else file)).write_bytes(damaged)
        before = sources.from_torchvision, sources.from_wheel
        sources.from_torchvision = sources.from_wheel = nothing
        try:
            sources.fetch("MNIST", place)
        except ZooError:
            return True
        finally:
            sources.from_torchvision, sources.from_wheel = before
        return False

    return case


READERS: dict[str, Callable[[Path], Case]] = {
    reader.__name__: reader
    for reader in (configuration, weights, checkpoint, run_folder, card, sound, recordings, points, images)
}


# Running --------------------------------------------------------------------------------------------------------------


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fuzz(reader: str, seeds: range, place: Path) -> tuple[int, float, int]:
    """Run cases of a reader: how many were refused, the longest in seconds, and the memory beside the idle process.

    Raises:
        AssertionError: for the first that takes too long or too much, or ends in an error of another kind.
    """
    case = READERS[reader](place)
    idle, refused, longest = peak(), 0, 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that overflow on the way to the error
        for seed in seeds:
            began = time.process_time()
            try:
                refused += case(random.Random(f"{reader} {seed}"))
            except Exception as error:
                raise AssertionError(f"reader={reader} seed={seed}: {type(error).__name__}: {error!s:.500}") from error
            took = time.process_time() - began
            longest = max(longest, took)
            assert took < SECONDS, f"reader={reader} seed={seed} took {took:.1f} seconds"
            assert peak() - idle < BYTES, f"reader={reader} seed={seed} took {(peak() - idle) / 1e6:.0f} MB"
    return refused, longest, peak() - idle


def main(arguments: list[str]) -> None:
    options = {"cases": "20000", "seed": "0", "reader": ""} | dict(word.split("=", 1) for word in arguments)
    chosen = [options["reader"]] if options["reader"] else list(READERS)
    first, each = int(options["seed"]), -(-int(options["cases"]) // len(chosen))
    faults = 0
    print(f"seeds {first} to {first + each - 1} of each reader")
    for reader in chosen:
        with tempfile.TemporaryDirectory() as place:
            try:
                refused, longest, memory = fuzz(reader, range(first, first + each), Path(place))
            except AssertionError as error:
                faults += 1
                print(f"FAULT {error}", flush=True)
                continue
        print(
            f"{reader:<16}{each:>7} cases, {refused} refused, the longest {longest:.2f} s, {memory / 1e6:.0f} MB",
            flush=True,
        )
    sys.exit(faults)


if __name__ == "__main__":
    main(sys.argv[1:])
