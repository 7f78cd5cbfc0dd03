"""Everything that this project measures on GPUs, in one command and ten minutes.

    python scripts/bench/gpu.py [--minutes 9.5] [--out runs/bench/gpu]

It needs neither data nor internet. It writes ``report.md`` and ``results.json``, the raw numbers, into the output
folder:

- card: versions, and how fast it copies;
- traffic: bytes that eager mode moves, counted operation by operation on tensors without data;
- layer: draws forward and backward, eager and compiled, beside PyTorch's ``gumbel_softmax``;
- checks: that no draw waits for the device, and the frequencies of draws;
- training: steps a second of every model: eager, in bf16, compiled;
- scaling: the categorical VAE on as many GPUs as there are, by NCCL.

Each part is a process of its own with a share of the time, so one that fails or hangs does not stop the others. What
had no time left is listed. ``--device cpu --tiny`` is how the tests try the command.
"""

import argparse
import contextlib
import functools
import importlib.metadata
import itertools
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from relaxations import SHAPES, chi_squared, functions_of, peak_bytes, rivals, some_mask, theirs
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.errors import ZooError
from zoo.relaxations import RELAXATIONS, Categorical, Noise, Pathwise
from zoo.relaxations.base import serving

GOAL = "goals: twice as fast as eager PyTorch, and 60% of the bandwidth, at the two large shapes"
GRACE = 10.0
"""Seconds that a part gets beyond its time, to end by itself."""

Row = dict[str, Any]
Case = tuple[Row, Callable[[], Row | list[Row]]]
"""What is measured, and how: the label of a row, and a function that returns the rest of it, or several rows."""


@dataclass(frozen=True)
class Where:
    """Args:
    device: ``cuda`` or ``cpu``.
    tiny: sizes for a test of this file.
    """

    device: str = "cuda"
    tiny: bool = False

    @property
    def backend(self) -> str:
        """Of ``torch.compile``."""
        return "aot_eager" if self.tiny else "inductor"


# Card -----------------------------------------------------------------------------------------------------------------


def card(where: Where) -> list[Case]:
    return [
        ({"what": "versions"}, versions),
        ({"what": "device"}, lambda: device(where)),
        ({"what": "copy, GB/s"}, lambda: {"value": copy_bandwidth(where) / 1e9}),
    ]


def versions() -> Row:
    found = [f"Python {platform.python_version()}"]
    for package in ("torch", "triton", "lightning"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    return {"value": ", ".join([*found, *([f"CUDA {torch.version.cuda}"] if torch.version.cuda else [])])}


def device(where: Where) -> Row:
    if where.device == "cpu":
        return {"value": f"CPU, {torch.get_num_threads()} threads"}
    p = torch.cuda.get_device_properties(0)
    return {
        "value": f"{torch.cuda.device_count()} x {p.name}, {p.total_memory / 2**30:.0f} GiB, "
        f"{p.multi_processor_count} multiprocessors, L2 {getattr(p, 'L2_cache_size', 0) / 2**20:.0f} MiB"
    }


@functools.cache
def copy_bandwidth(where: Where) -> float:
    """Bytes a second, read and written, of the best of ten large copies."""
    source = torch.empty(2**16 if where.tiny else 2**28, device=where.device)
    target = torch.empty_like(source)
    times = []
    for _ in range(10):
        start = stamp(where)
        target.copy_(source)
        times.append((start, stamp(where)))
    return 2 * source.nbytes / min(seconds(*pair) for pair in times)


def stamp(where: Where) -> Any:
    """The present moment, on the device's clock."""
    if where.device == "cpu":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def seconds(start: Any, end: Any) -> float:
    """Between two stamps."""
    if isinstance(start, float):
        return end - start
    end.synchronize()
    return start.elapsed_time(end) / 1e3


# Traffic --------------------------------------------------------------------------------------------------------------


class Traffic(TorchDispatchMode):
    """Counts what operations read and write: the least that eager mode can move, cache or not."""

    WRITE_ONLY = ("exponential_", "random_", "uniform_", "normal_", "zero_", "fill_", "copy_")

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1]
        views = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        if not views and not name.startswith(("empty", "detach", "_unsafe_view")):
            read = [value for value in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
            if name in self.WRITE_ONLY:
                read = read[1:]
            self.calls += 1
            self.bytes += sum(stored(value) for value in read)
            self.bytes += sum(stored(r) for r in torch.utils._pytree.tree_leaves(result) if isinstance(r, Tensor))
        return result


def stored(value: Tensor) -> int:
    """Bytes of ``value``, counting what is expanded once."""
    return math.prod(n for n, step in zip(value.shape, value.stride()) if step) * value.element_size()


def traffic(where: Where) -> list[Case]:
    shape = (8, 4, 4096)  # so many categories that what there is once a row does not count
    everything = {**theirs(), **functions_of()}
    everything.pop("package", None)
    return [({"function": name}, lambda f=f: moved(f, shape)) for name, f in everything.items()]


def moved(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Row:
    """Operations and bytes a number of eager mode on a device that is not a CPU."""
    logits = torch.randn(shape, device="meta", requires_grad=True)
    with Traffic() as forward:
        y = function(logits)
    gradient = torch.empty_like(y)
    with Traffic() as backward:
        torch.autograd.grad(y, logits, gradient)
    sides = {"forward": forward, "backward": backward}
    row: Row = {f"{side}, operations": count.calls for side, count in sides.items()}
    return row | {f"{side}, bytes a number": round(count.bytes / logits.numel(), 1) for side, count in sides.items()}


# Layer ----------------------------------------------------------------------------------------------------------------


def layer(where: Where) -> list[Case]:
    """Eager first, the two large shapes first, without a mask first: what is cut is what matters least."""
    shapes = [(4, 3, 5)] if where.tiny else [*SHAPES[1:], SHAPES[0]]
    return [
        (
            {"shape": " x ".join(map(str, shape)), "mask": masked, "way": way},
            lambda shape=shape, masked=masked, way=way: draws(where, shape, masked, way),
        )
        for masked in (False, True)
        for way in ("eager", "compiled")
        for shape in shapes
    ]


def draws(where: Where, shape: tuple[int, ...], masked: bool, way: str) -> list[Row]:
    """A row for each function: forward and backward in turns, with PyTorch's eager function among them."""
    mask = some_mask(shape).to(where.device) if masked else None
    logits = torch.randn(shape, device=where.device, requires_grad=True)
    gradient = torch.randn(shape, device=where.device)
    functions = {**theirs(mask), **functions_of(mask)}
    functions.pop("package", None)
    eager = {f"{name}, eager": function for name, function in theirs(mask).items() if name != "package"}
    if way == "compiled":
        torch._dynamo.reset()
        functions = {name: torch.compile(f, dynamic=False, backend=where.backend) for name, f in functions.items()}
    broken, memory = {}, {}
    for name, function in {**functions, **eager}.items():
        try:
            memory[name] = peak_bytes(lambda f=function: torch.autograd.grad(f(logits), logits, gradient), where.device)
        except Exception as error:
            broken[name] = reason(error)
    ways = {name: function for name, function in {**functions, **eager}.items() if name not in broken}
    times = time_in_turns(where, ways, logits, gradient)
    rows = []
    for name in functions:
        if name in broken:
            rows.append({"function": name, "failed": broken[name]})
            continue
        rival = f"{name if name in theirs() else rivals(name)[0]}, eager"
        ratios = [b[2] / a[2] for a, b in zip(times[name], times[rival])]
        forward, backward, both = (statistics.median(t[i] for t in times[name]) for i in range(3))
        least = 4 * logits.numel()
        more = logits.numel() if masked else 0  # a byte each
        bandwidth = copy_bandwidth(where)
        rows.append(
            {
                "function": name,
                "forward, ms": 1e3 * forward,
                "backward, ms": 1e3 * backward,
                "both, ms": 1e3 * both,
                "in a loop, ms": 1e3 * in_a_loop(where, ways[name], logits, gradient),
                "times eager PyTorch": statistics.median(ratios),
                "quartiles": " to ".join(f"{q:.2f}" for q in statistics.quantiles(ratios, n=4)[::2]),
                "GB/s forward": (2 * least + more) / forward / 1e9,
                "GB/s backward": 3 * least / backward / 1e9,
                "share of a copy, forward": (2 * least + more) / forward / bandwidth,
                "share of a copy, backward": 3 * least / backward / bandwidth,
                "share of a copy, both": (5 * least + more) / both / bandwidth,
                "memory, MB": memory[name] / 1e6,
                "of PyTorch's memory": memory[name] / max(1, memory[rival]),
            }
        )
    return rows


def time_in_turns(
    where: Where, functions: dict[str, Callable[[Tensor], Tensor]], logits: Tensor, gradient: Tensor
) -> dict[str, list[tuple[float, float, float]]]:
    """Seconds forward, backward and both, in each of many rounds, in turns; each begins with a cold cache."""
    flush = torch.empty(2**10 if where.tiny else 2**26, device=where.device)  # 256 MB, several times the largest cache
    stamps: dict[str, list[tuple]] = {name: [] for name in functions}
    for _ in range(3 if where.tiny else 60):
        for name, function in functions.items():
            flush.zero_()
            start = stamp(where)
            y = function(logits)
            middle = stamp(where)
            torch.autograd.grad(y, logits, gradient)
            stamps[name].append((start, middle, stamp(where)))
            del y
    return {n: [(seconds(a, b), seconds(b, c), seconds(a, c)) for a, b, c in s] for n, s in stamps.items()}


def in_a_loop(where: Where, function: Callable, logits: Tensor, gradient: Tensor) -> float:
    """Seconds of one of many in a row, forward and backward: with the cache warm, and launches that take time, too."""
    calls = 3 if where.tiny else 50
    synchronize(where)
    start = time.perf_counter()
    for _ in range(calls):
        torch.autograd.grad(function(logits), logits, gradient)
    synchronize(where)
    return (time.perf_counter() - start) / calls


def synchronize(where: Where) -> None:
    if where.device != "cpu":
        torch.cuda.synchronize()


# Checks ---------------------------------------------------------------------------------------------------------------


def checks(where: Where) -> list[Case]:
    names = serving(Categorical.example())
    drawn = [name for name in names if RELAXATIONS[name].stochastic and issubclass(RELAXATIONS[name], Pathwise)]
    compiled = ["gumbel_softmax", "reinmax", "st_gumbel_softmax", "straight_through"][: 1 if where.tiny else None]
    return [
        *(({"check": "waits for the device", "of": name}, lambda n=name: waits(where, n)) for name in names),
        *(({"check": "rare noise", "of": way}, lambda w=way: rare(where, w)) for way in ("eager", "compiled")),
        *(({"check": "frequencies", "of": f"{n}, eager"}, lambda n=n: frequencies(where, n, "eager")) for n in drawn),
        *(
            ({"check": "frequencies", "of": f"{n}, compiled"}, lambda n=n: frequencies(where, n, "compiled"))
            for n in compiled
        ),
    ]


def waits(where: Where, name: str) -> Row:
    """Whether a draw or its gradient makes the host wait. Without a GPU on tensors without data, that cannot be read.

    Raises:
        RuntimeError: naming the line that waits.
    """
    device = "meta" if where.device == "cpu" else where.device
    relaxation = RELAXATIONS[name]().to(device)
    logits = torch.randn(16, 6, device=device, requires_grad=True)
    weights = torch.randn(16, 6, device=device)
    allowed = some_mask((16, 6)).to(device)
    for training in (True, False):
        relaxation.train(training)
        for mask in (None, allowed):

            def draw(mask: Tensor | None = mask) -> None:
                loss = relaxation.expectation(lambda draw: (draw(logits, mask) * weights).sum(-1)).sum()
                if loss.requires_grad:
                    loss.backward()

            where_now = f"{'training' if training else 'eval'}, {'without' if mask is None else 'with'} a mask"
            try:
                with warnings.catch_warnings(action="ignore"):
                    if device == "cuda":
                        draw()  # what waits but once may wait
                    with no_waiting(device):
                        draw()
            except Exception as error:
                raise RuntimeError(f"{where_now}: {place(error)}: {reason(error)}") from error
    return {"value": "never"}


@contextlib.contextmanager
def no_waiting(device: str) -> Iterator[None]:
    """Raise ``RuntimeError`` where the host waits for the device."""
    if device != "cuda":
        yield
        return
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def place(error: BaseException) -> str:
    """The innermost line of this project that ``error`` went through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}zoo{os.sep}" in f.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}, {frames[-1].name}" if frames else "outside of zoo"


def frequencies(where: Where, name: str, way: str) -> Row:
    """Chi-squared of the arg max of draws in training, one entry masked, against the law that the relaxation states."""
    relaxation = RELAXATIONS[name]().to(where.device)
    total, chunk = (10**4, 10**4) if where.tiny else (10**7, 10**6)
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, -3.0, 0.5, 3.0], device=where.device)
    mask = logits < 2.5
    try:
        law = relaxation.law(Categorical(logits, mask)).logits.double().softmax(-1)
    except ZooError as error:
        return {"value": f"not compared: {error}"}
    if way == "compiled":
        torch._dynamo.reset()
        relaxation = torch.compile(relaxation, dynamic=False, backend=where.backend)
    counts = torch.zeros(len(logits), dtype=torch.int64, device=where.device)
    with torch.no_grad():
        for _ in range(total // chunk):
            counts += torch.bincount(relaxation(logits.expand(chunk, -1), mask).argmax(-1), minlength=len(logits))
    statistic, p = chi_squared(counts, law)
    return {"value": f"chi-squared {statistic:.1f} of {total:.0e} draws", "p": p}


RARE = 2.0**-33


def rare(where: Where, way: str) -> Row:
    """How often Gumbel noise is as large as one number in 2^33 should be: with it a category of that probability wins.

    Noise of 24 or 31 bits has no such numbers, or too many.
    """

    def above(like: Tensor) -> Tensor:
        return (Noise().gumbel(like) > -math.log(RARE)).sum()

    if way == "compiled":
        torch._dynamo.reset()
        above = torch.compile(above, dynamic=False, backend=where.backend)
    like = torch.empty(2**16 if where.tiny else 2**28, device=where.device)
    wanted = 10 * len(like) if where.tiny else 10**11
    total, found, end = 0, torch.zeros((), dtype=torch.int64, device=where.device), time.monotonic() + 12
    while total < wanted and time.monotonic() < end:
        found += above(like)
        total += len(like)
        synchronize(where)
    expected, count = total * RARE, float(found)
    tail = torch.special.gammainc if count > expected else torch.special.gammaincc  # Poisson: P(X >= n) or P(X <= n)
    at = count if count > expected else count + 1
    p = min(1.0, 2 * tail(torch.tensor(at, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64)).item())
    return {"value": f"{count:.0f}, expected {expected:.2f}, of {total:.1e} numbers", "p": p if at else 1.0}


# Training -------------------------------------------------------------------------------------------------------------


TINY = {
    "actor_critic": ["data.envs=2", "data.start=40", "data.replay=200", "model.batch_size=8"],
    "cat_vae": ["data.batch_size=8"],
    "pointer_net": ["data.size=4", "data.batch_size=2", "model.encoder.layers=1"],
    "polynomial": ["data.batch_size=2"],
    "speaker_generator": ["data.batch_size=4"],
    "speech_judge": ["data.batch_size=4"],
    "world_model": ["data.envs=2", "data.start=16", "model.length=4", "model.batch_size=2", "model.memory=8"],
}


def training(where: Where) -> list[Case]:
    from zoo.hub.registry import models

    names: list[tuple[str, list[str]]] = [(name, TINY.get(name, []) if where.tiny else []) for name in models()]
    if not where.tiny:
        names.append(("cat_vae", ["data.batch_size=2000"]))
    # oneDNN has an LSTM in bf16 only for processors with AVX-512.
    half = where.device != "cpu" or "AVX512" in torch.backends.cpu.get_cpu_capability()
    precisions = ("32-true", "bf16-mixed") if half else ("32-true",)
    ways = list(itertools.product(("eager", "compiled"), precisions))
    eager: dict[tuple, float] = {}

    def measure(name: str, options: list[str], way: str, precision: str) -> Row:
        rate, batch = steps_a_second(where, name, options, way == "compiled", precision)
        key = (name, *options)
        if (way, precision) == ways[0]:
            eager[key] = rate
        return {"batch": batch, "steps/s": rate, "times eager": rate / eager[key] if key in eager else None}

    return [
        (
            {"model": " ".join([name, *options]), "way": way, "precision": precision},
            functools.partial(measure, name, options, way, precision),
        )
        for way, precision in (ways[:2] if where.tiny else ways)
        for name, options in names
    ]


def steps_a_second(
    where: Where, name: str, options: list[str], compiled: bool, precision: str
) -> tuple[float, int | None]:
    """Training batches a second through the Trainer, as ``scripts/train.py`` builds it; and the size of a batch."""
    from timing import trainer_seconds

    config = training_config(where, name, options, compiled, precision)
    torch._dynamo.reset()
    warm_up, enough = (1, 0.05) if where.tiny else (20, 2.0)
    rate = 1 / trainer_seconds(config, warm_up=warm_up, enough=enough)
    return rate, config["data"].get("batch_size") or config["model"].get("batch_size")


def training_config(where: Where, name: str, options: list[str], compiled: bool, precision: str) -> dict[str, Any]:
    """The default configuration of a model, with data that is made up where it would have to be fetched."""
    from zoo.config.composition import compose, plain
    from zoo.training.runs import set_up_logging

    warnings.filterwarnings("ignore")
    set_up_logging(None)
    config = plain(compose([f"model={name}", "logger=csv", "run=unused", *options]))
    make_up(config["data"])
    config["compile"] = compiled
    config["trainer"] |= {
        "accelerator": "cpu" if where.device == "cpu" else "gpu",
        "devices": 1,
        "precision": precision,
        "limit_val_batches": 0,
        "enable_progress_bar": False,
    }
    return config


MADE_UP = {
    "zoo.data.MNIST": "made_up.Images",
    "zoo.data.FashionMNIST": "made_up.Images",
    "zoo.data.CIFAR10": "made_up.ColourImages",
    "zoo.data.Text": "made_up.Letters",
    "zoo.data.FSDD": "made_up.Words",
    "zoo.data.Espeak": "made_up.Words",
    "zoo.models.speech_judge.VocodedSpeech": "made_up.HeardWords",
}


def make_up(data: dict[str, Any]) -> None:
    """Let a configuration of data name the module that makes it up."""
    data["_target_"] = MADE_UP.get(data["_target_"], data["_target_"])
    if "speech" in data:
        make_up(data["speech"])


# Scaling --------------------------------------------------------------------------------------------------------------


def scaling(where: Where) -> list[Case]:
    devices = 2 if where.device == "cpu" else torch.cuda.device_count()
    counts = [n for n in (1, 2, 4, 8, 16) if n < devices] + [devices]
    if devices == 1:
        alone: list[Case] = [({"processes": "more"}, lambda: {"images/s": "not measured: there is one GPU"})]
    else:
        alone = []
    rates: dict[int, float] = {}
    return [({"processes": n}, lambda n=n: weak(where, n, rates)) for n in counts] + alone


def weak(where: Where, processes: int, rates: dict[int, float]) -> Row:
    """Images a second of the categorical VAE with a batch for each process: NCCL, on a CPU gloo."""
    from scaling import in_processes

    share, steps = (20, 1) if where.tiny else (1000, 50)
    config = training_config(where, "cat_vae", [], compiled=False, precision="32-true")
    try:
        step, without = in_processes(processes, config, share, steps, False)
    finally:
        for process in torch.multiprocessing.active_children():  # where there was no time to wait for them
            process.kill()
    rates[processes] = processes * share / step
    return {
        "batch of each": share,
        "images/s": rates[processes],
        "times one process": rates[processes] / rates[1] if 1 in rates else None,
        "share of communication": max(0.0, 1 - without / step) if processes > 1 else None,
    }


# All parts ------------------------------------------------------------------------------------------------------------

PARTS: dict[str, tuple[float, str, Callable[[Where], list[Case]]]] = {
    "card": (60, "Versions and card.", card),
    "traffic": (
        60,
        "Bytes for each number of float32 logits that eager mode moves on a device that is not a CPU, counted on "
        "tensors without data. The least is 8 forward and 12 backward.",
        traffic,
    ),
    "layer": (
        190,
        "Draws, cold cache, medians. The least traffic is one read and one write of the logits forward, two reads and "
        f"one write backward, and what GB/s and shares count; {GOAL}.",
        layer,
    ),
    "checks": (90, "A p below 1e-4 is a wrong frequency; a failure is a place where the host waits.", checks),
    "training": (190, "Batches a second through the Trainer, default settings, made-up data.", training),
    "scaling": (60, "cat_vae, a batch for each process, one process for each GPU.", scaling),
}
"""Their share of the time, of which the later ones get what is left; what to know of their table; their cases."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.5, help="after which it ends")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/gpu"), help="the output folder")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes for a test")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--only", choices=PARTS, help=argparse.SUPPRESS)  # how a part is started, and when it ends
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    where = Where(arguments.device, arguments.tiny)
    if where.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU here. The tests try this command by: --device cpu --tiny")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.only:
        left = arguments.until - time.time()
        measure(PARTS[arguments.only][2], where, left, arguments.out / "rows.jsonl")
    else:
        run_parts(arguments, 60 * arguments.minutes)


def run_parts(arguments: argparse.Namespace, limit: float) -> None:
    """Each part in a process, with its share of what time is left; the report grows as they end."""
    begin = time.monotonic()
    results: dict[str, list[Row]] = {}
    for i, part in enumerate(arguments.parts):
        rows = arguments.out / "rows.jsonl"
        rows.unlink(missing_ok=True)
        left = limit - (time.monotonic() - begin)
        share = PARTS[part][0] / sum(PARTS[later][0] for later in arguments.parts[i:])
        ended = start_part(part, arguments, max(1.0, left * share))
        results[part] = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
        rows.unlink(missing_ok=True)
        if ended:
            results[part].append({"part": part, "failed": f"the part {ended}; see log.txt"})
        print(section(part, results[part]), flush=True)
        took = f"{time.monotonic() - begin:.0f} seconds of {limit:.0f}"
        text = f"# Measured on a GPU\n\n`python scripts/bench/gpu.py`, {took}\n" if arguments.device == "cuda" else ""
        text += "\n".join(section(part, rows) for part, rows in results.items())
        (arguments.out / "report.md").write_text(text, encoding="utf-8")
        (arguments.out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"{took}; the report and the raw numbers are in {arguments.out}")


def start_part(part: str, arguments: argparse.Namespace, limit: float) -> str:
    """Run a part in a process of its own for ``limit`` seconds; how it ended, if not well."""
    grace = min(GRACE, limit / 4)
    command = [sys.executable, __file__, "--only", part, "--until", str(time.time() + limit - grace)]
    command += ["--out", str(arguments.out), "--device", arguments.device, *(["--tiny"] if arguments.tiny else [])]
    with (arguments.out / "log.txt").open("a", encoding="utf-8") as log:
        print(f"\n{part}\n", file=log, flush=True)
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return f"was ended after {limit:.0f} seconds"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with those that it has started
            process.wait()
    return f"ended with {code}" if code else ""


def measure(cases_of: Callable[[Where], list[Case]], where: Where, limit: float, rows: Path) -> None:
    """Measure one case after the other, and write each row as soon as it is known; what has no time left is named."""
    end = time.monotonic() + limit
    with rows.open("a", encoding="utf-8") as file:
        for label, function in cases_of(where):
            left = end - time.monotonic()
            for row in attempt(label, function, left) if left > 0 else [label | {"cut": True}]:
                file.write(json.dumps(row) + "\n")
                file.flush()


def attempt(label: Row, function: Callable[[], Row | list[Row]], limit: float) -> list[Row]:
    """The rows of a case, or one that says why there are none."""
    try:
        with time_limit(limit):
            found = function()
        return [label | row for row in (found if isinstance(found, list) else [found])]
    except Exception as error:
        traceback.print_exc()
        return [label | {"failed": reason(error)}]


class OutOfTime(Exception):
    """Not a ``TimeoutError``, which is an ``OSError``: who waits for a process takes that for its end."""


@contextlib.contextmanager
def time_limit(limit: float) -> Iterator[None]:
    """Raise ``OutOfTime`` after ``limit`` seconds."""

    def stop(*_: object) -> None:
        raise OutOfTime(f"there was no time for more than {limit:.0f} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def reason(error: BaseException) -> str:
    """``error`` in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def section(part: str, rows: list[Row]) -> str:
    """A part of the report, in Markdown."""
    good = [row for row in rows if "failed" not in row and "cut" not in row]
    lines = [f"\n## {part.capitalize()}\n", PARTS[part][1], ""]
    if good:
        columns = list(dict.fromkeys(column for row in good for column in row))
        lines += [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
        lines += [f"| {' | '.join(show(column, row.get(column)) for column in columns)} |" for row in good]
    else:
        lines.append("Nothing was measured.")
    for kind, title in (("failed", "Failed"), ("cut", "No time was left for")):
        if some := [row for row in rows if kind in row]:
            lines += [f"\n{title}:\n"]
            for row in some:
                label = ", ".join(show(c, v) for c, v in row.items() if c not in ("failed", "cut"))
                lines.append(f"- {label}" + (f": {row['failed']}" if kind == "failed" else ""))
    return "\n".join(lines) + "\n"


def show(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return column if value else f"no {column}"
    if isinstance(value, float):
        return f"{value:.0%}" if column.startswith("share") else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


if __name__ == "__main__":
    main()
