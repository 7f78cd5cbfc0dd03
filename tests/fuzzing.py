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
import pickle
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
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
import yaml
from PIL import Image

import zoo
from tests.hub.test_exporting import make
from tests.models.cat_vae.test_model import make as make_vae
from zoo import hub
from zoo.config import to_config
from zoo.data import Text, sources
from zoo.data.audio import read_wav, write_wav
from zoo.data.pictures import ENDINGS, Files, Shape, decode
from zoo.data.recordings import find, libraries, read_sound
from zoo.data.tables import load as load_table
from zoo.errors import ZooError
from zoo.hub.pushing import stage
from zoo.models.binary_net import BinaryMLP, BrickNet, packing
from zoo.models.pointer_net import TSP, Knapsack, Sorting
from zoo.models.pointer_net.files import load
from zoo.models.pointer_net.tours.reading import read

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
    head = ["NAME : a", "TYPE : TSP", "DIMENSION : 12", "EDGE_WEIGHT_TYPE : {}"]
    coordinates = ["NODE_COORD_SECTION", *(f"{i} {x} {y}" for i, (x, y) in enumerate(rows)), "EOF"]
    weights = ["EDGE_WEIGHT_FORMAT : {}", "EDGE_WEIGHT_SECTION", *("7 " * i for i in range(12)), "EOF"]
    good = [
        ("csv", ["x,y", *(f"{x},{y}" for x, y in rows)], {}),
        ("csv", ["city;lon;lat", *(f"c{y};{x};{y}".replace(".", ",") for x, y in rows)], {"distance": "great_circle"}),
        *(("tsp", [*head, *coordinates], kind) for kind in ("EUC_2D", "GEO", "ATT", "EUC_3D")),
        *(("tsp", [*head, *weights], f"EXPLICIT\n{form}") for form in ("LOWER_ROW", "UPPER_COL", "FULL_MATRIX")),
    ]

    def case(rng: random.Random) -> bool:
        suffix, lines, of = rng.choice(good)
        text = "\n".join(lines)
        for word in of.split() if isinstance(of, str) else ():
            text = text.replace("{}", word, 1)
        damaged = damage_bytes(text.encode(), rng) if rng.random() < 0.9 else text.encode()
        if rng.random() < 0.1:
            damaged = damaged.replace(b"DIMENSION : 12", b"DIMENSION : %d" % rng.choice([0, 3, 5_000, 99_999, 10**12]))
        if rng.random() < 0.05:
            damaged += b"\n" + rng.choice([b"1", b'"', b"1,1\n", b"\n", b"1 "]) * 200_000
        path = place / f"points.{suffix}"
        if rng.random() < 0.2:
            path, damaged = path.with_name(f"points.{suffix}.gz"), gzip.compress(damaged, 1)
            damaged = damage_bytes(damaged, rng) if rng.random() < 0.5 else damaged
        path.write_bytes(damaged)
        try:
            problem = read(path, **({} if isinstance(of, str) else of))
        except ZooError as error:
            assert len(str(error)) < 5000
            return True
        assert len(problem) > 1 and np.isfinite(problem.length(np.arange(len(problem))))
        return False

    return case


def instances(place: Path) -> Case:
    """Instances to train on: read as what their task checks, or refused."""
    tasks = {"tsp": (TSP(), "x,y"), "knapsack": (Knapsack(), "weight,value,is_stop"), "sort": (Sorting(), "number")}

    def case(rng: random.Random) -> bool:
        name = rng.choice(sorted(tasks))
        task, columns = tasks[name]
        x = task.generate(3, 5, torch.Generator().manual_seed(rng.randrange(9))).numpy()
        path = place / rng.choice(["made.npz", "made.csv", "made.tsp"])
        if path.suffix == ".npz":
            arrays: dict[str, Any] = {"x": x, "optimum": np.arange(3.0)}
            if rng.random() < 0.5:
                arrays[rng.choice(["x", "optimum", "y"])] = rng.choice(
                    [
                        x[0],
                        x * np.inf,
                        x[:0],
                        x.astype("i1"),
                        x.astype("c8"),
                        x.astype("U9"),
                        np.arange(3),
                        np.zeros(()),
                    ]
                )
            np.savez_compressed(buffer := io.BytesIO(), **arrays)
            damaged = buffer.getvalue()
            if rng.random() < 0.3:  # a header that says more than there is
                damaged = npy_of(rng)
            elif rng.random() < 0.5:
                damaged = damage_bytes(damaged, rng)
        elif path.suffix == ".csv":
            rows = [",".join(map(str, [i, *row])) for i, rows in enumerate(x.tolist()) for row in rows]
            text = "\n".join([f"instance,{columns}", *rows])
            damaged = damage_bytes(text.encode(), rng)
            if rng.random() < 0.05:
                damaged += b"\n" + rng.choice([b"1", b'"', b"1,1\n", b","]) * 200_000
        else:
            lines = [f"{i} {row[0]} {row[-1]}" for i, row in enumerate(x[0].tolist())]
            head = [f"DIMENSION: {len(lines)}", "EDGE_WEIGHT_TYPE: EUC_2D", "NODE_COORD_SECTION"]
            damaged = damage_bytes("\n".join([*head, *lines]).encode(), rng)
        path.write_bytes(damaged)
        try:
            groups = load(path, task)
        except ZooError as error:
            assert len(str(error)) < 5000
            return True
        for found, optimum in groups:
            task.check(found)
            assert optimum.shape == (len(found),)
        return False

    return case


def npy_of(rng: random.Random) -> bytes:
    """An archive with an array ``x`` whose header says another shape or kind than its content has."""
    shape = rng.choice([(3, 10**9, 2), (10**6, 10**6, 2), (-1, 5, 2), (10**30,), "ab", (3, 5, 2)])
    kind = rng.choice(["<f4", "<f8", "|O", "<U99999", "nonsense", "|V9"])
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(rng.choice([0, 60, 240]))
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    return buffer.getvalue()


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


def pictures(place: Path) -> Case:
    """Picture files of the user's in a folder, and in an archive that is damaged itself."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    good = {}
    for ending in ENDINGS:
        picture.save(content := io.BytesIO(), format=Image.registered_extensions()[ending])
        good[f"a{ending}"] = content.getvalue()
    with zipfile.ZipFile(content := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, whole in good.items():
            archive.writestr(name, whole)
    packed = content.getvalue()

    def case(rng: random.Random) -> bool:
        name = rng.choice(sorted(good))
        if rng.random() < 0.3:
            root = place / "pictures.zip"
            root.write_bytes(damage_bytes(packed, rng))
        else:
            root = place / "pictures"
            root.mkdir(exist_ok=True)
            (root / name).write_bytes(damage_bytes(good[name], rng))
        try:
            files = Files(root)
            if root.is_file():
                name = rng.choice(files.names() or [name])
            decoded = decode(files, [name], Shape(8, 3))
        except ZooError as error:
            assert len(str(error)) < 5000
            return True
        assert decoded.pixels.shape == (1, 3, 8, 8)
        return False

    return case


def batches(place: Path) -> Case:
    """A file of CIFAR-10, which is a pickle."""
    content = {"data": np.zeros((2, 3072), np.uint8), "labels": [3, 4]}
    good, path = pickle.dumps(content, protocol=2), place / "data_batch_1"

    def case(rng: random.Random) -> bool:
        path.write_bytes(damage_bytes(good, rng))
        try:
            images, labels = sources.cifar10_batch(path)
        except ZooError as error:
            assert len(str(error)) < 5000
            return True
        assert images.shape == (len(labels), 3072)
        return False

    return case


def tables(place: Path) -> Case:
    """Tables to learn from: made numbers of, or refused."""
    import pandas as pd

    rows = [[0.5 * i, i % 7, ("red", "green", "")[i % 3], f"2020-01-{i % 28 + 1:02}", "ab"[i % 2]] for i in range(40)]
    frame = pd.DataFrame(rows, columns=["number", "count", "colour", "when", "kind"])
    frame.to_csv(place / "good.csv", index=False)
    frame.to_parquet(place / "good.parquet")
    good = {suffix: (place / f"good.{suffix}").read_bytes() for suffix in ("csv", "parquet")}

    def case(rng: random.Random) -> bool:
        suffix = rng.choice(sorted(good))
        path = place / f"table.{suffix}"
        path.write_bytes(damage_bytes(good[suffix], rng))
        bins = rng.choice([None, None, 3])
        try:
            table = load_table(str(path), rng.choice(["kind", "kind", "number"]), "iris", bins, 0.2, 0.2)
        except ZooError as error:
            assert len(str(error)) < 5000
            return True
        assert table.x.isfinite().all() and len(table.x) == len(table.y) and int(table.y.max()) < table.inputs.classes
        return False

    return case


def text(place: Path) -> Case:
    """Texts to learn from: read, or refused."""
    path = place / "text.txt"
    good = "To be, or not to be: that is the question \N{EM DASH} wh\u00e4ther 'tis nobler\n" * 20

    def case(rng: random.Random) -> bool:
        path.write_bytes(damage_bytes(good.encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"])), rng))
        unit: Literal["character", "word"] = rng.choice(["character", "word"])
        try:
            data = Text(path=str(path), unit=unit, length=4, batch_size=2, words=rng.choice([3, 1000]))
        except ZooError as error:
            assert len(str(error)) < 5000
            return True
        data.setup()
        assert all(0 <= int(tokens.max()) < data.vocabulary.size for (tokens,) in data.splits.values())
        return False

    return case


def packed(place: Path) -> Case:
    """Packed networks: computed with, or refused."""
    nets = BinaryMLP(features=12, outputs=3, hidden=[9]), BrickNet(outputs=3, widths=(4, 8), bricks=4)
    good = [packing.pack(network.eval()) for network in nets]

    def case(rng: random.Random) -> bool:
        which = rng.randrange(2)
        path = place / "network.packed"
        path.write_bytes(damage_bytes(good[which], rng))
        try:
            network = packing.load(path)
        except ZooError:
            return True
        network(torch.zeros(2, 12) if which == 0 else torch.zeros(2, 1, 8, 8))
        return False

    return case


READERS: dict[str, Callable[[Path], Case]] = {
    reader.__name__: reader
    for reader in (
        *(
            configuration,
            weights,
            checkpoint,
            run_folder,
            card,
            sound,
            recordings,
            points,
            instances,
            images,
            pictures,
            batches,
        ),
        *(tables, text, packed),
    )
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
