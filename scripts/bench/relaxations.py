"""Time and peak memory of a draw and its gradient on a CPU: this project's relaxations beside PyTorch's function.

    python scripts/bench/relaxations.py [--threads N] [--seconds S] [--tau T] [--half]

Each relaxation, as a function and as a layer, is run forward and backward in turns with
``torch.nn.functional.gumbel_softmax`` (soft or hard, as the relaxation is), ReinMax and straight-through also with
the package of ReinMax's authors (``pip install reinmax``; left out where it is missing). With a mask PyTorch's
function gets masked logits. A speed-up is the median over the rounds of their time over ours, in brackets its
quartiles; a memory ratio is ours over theirs, and counts what is allocated above logits and incoming gradient.

``--half`` compares half precision under autocast instead, on 10^7 draws. A GPU is measured by ``scripts/bench/gpu.py``.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as torch_functional
from torch.profiler import ProfilerActivity, profile

from zoo.relaxations import GumbelSoftmax, ReinMax, Relaxation, STGumbelSoftmax, StraightThrough, functional

try:
    from reinmax import reinmax
except ImportError:
    reinmax = None

TAU = 0.7  # in half precision; else --tau
SHAPES = [(200, 30, 10), (1024, 128, 64), (256, 1, 32768)]
SMALL = [(1, 4), (64, 10)]
MASKED = [(200, 30, 10)]
LAYERS: dict[str, type[Relaxation]] = {
    "gumbel_softmax": GumbelSoftmax,
    "st_gumbel_softmax": STGumbelSoftmax,
    "straight_through": StraightThrough,
    "reinmax": ReinMax,
}
AUTHORS = ("straight_through", "reinmax")
"""What the authors' package has, too."""
SAMPLE = 1e-3
"""Seconds that a measurement takes at least: of a small shape it is of several calls, as a clock is coarse."""
Function = Callable[[Tensor], Tensor]


def theirs(mask: Tensor | None = None, tau: float = TAU) -> dict[str, Function]:
    def masked(logits: Tensor) -> Tensor:
        return logits if mask is None else logits.masked_fill(~mask, -torch.inf)

    functions: dict[str, Function] = {
        "PyTorch soft": lambda logits: torch_functional.gumbel_softmax(masked(logits), tau=tau),
        "PyTorch hard": lambda logits: torch_functional.gumbel_softmax(masked(logits), tau=tau, hard=True),
    }
    if reinmax is not None and mask is None:
        functions["package"] = lambda logits: reinmax(logits, tau)[0]
    return functions


def functions_of(mask: Tensor | None = None, tau: float = TAU) -> dict[str, Function]:
    """Ours, as functions."""
    return {
        "gumbel_softmax": lambda logits: functional.gumbel_softmax(logits, tau, mask=mask),
        "st_gumbel_softmax": lambda logits: functional.gumbel_softmax(logits, tau, hard=True, mask=mask),
        "straight_through": lambda logits: functional.straight_through(logits, tau, mask=mask),
        "reinmax": lambda logits: functional.reinmax(logits, tau, mask=mask),
    }


def layers_of(mask: Tensor | None = None, tau: float = TAU) -> dict[str, Function]:
    """Ours, as layers."""
    layers = {name: cls(tau=tau) for name, cls in LAYERS.items()}  # type: ignore[call-arg]
    return {name: lambda logits, layer=layer: layer(logits, mask) for name, layer in layers.items()}


def rivals(name: str, mask: Tensor | None = None) -> list[str]:
    """Whom the relaxation of that name is compared with."""
    if name == "gumbel_softmax":
        return ["PyTorch soft"]
    return ["PyTorch hard"] + (["package"] if name in AUTHORS and "package" in theirs(mask) else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each shape, at least 7 rounds")
    parser.add_argument("--tau", type=float, default=TAU, help="of all")
    parser.add_argument("--half", action="store_true", help="compare half precision instead")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if reinmax is None:
        print("The package reinmax is not installed and left out: pip install reinmax\n")
    if arguments.half:
        compare_half("cuda" if torch.cuda.is_available() else "cpu")
        return
    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    print(f"PyTorch {torch.__version__}, {threads} CPU threads, tau {arguments.tau}, load {load:.1f} before.\n")
    print("| shape | ours | beside | theirs, ms | function, times as fast | layer, times as fast | memory |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    for shape in SHAPES + SMALL:
        compare(shape, arguments.seconds, arguments.tau)
    for shape in MASKED:
        compare(shape, arguments.seconds, arguments.tau, some_mask(shape))


def some_mask(shape: tuple[int, ...]) -> Tensor:
    """A quarter of the entries is not allowed, never the first one of a row."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.25
    mask[..., 0] = True
    return mask


def compare(shape: tuple[int, ...], seconds: float, tau: float, mask: Tensor | None = None) -> None:
    """The lines of the table for one shape."""
    logits = torch.randn(shape, requires_grad=True)
    gradient = torch.randn(shape)
    functions, layers = functions_of(mask, tau), layers_of(mask, tau)
    ways = functions | {f"{name} layer": layer for name, layer in layers.items()} | theirs(mask, tau)
    steps = {name: step(function, logits, gradient) for name, function in ways.items()}
    memory = {name: peak_bytes(run, "cpu") for name, run in steps.items()}  # which also warms up
    times = time_in_turns(steps, seconds)
    for name in functions:
        for rival in rivals(name, mask):
            print(
                f"| {' x '.join(map(str, shape))}{', masked' if mask is not None else ''} | `{name}` | {rival} "
                f"| {1e3 * statistics.median(times[rival]):.3g} | {ratio(times[rival], times[name])} "
                f"| {ratio(times[rival], times[f'{name} layer'])} | {memory[name] / memory[rival]:.2f} |",
                flush=True,
            )


def ratio(theirs: list[float], ours: list[float]) -> str:
    """The median of ``theirs / ours`` over rounds, and its quartiles."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(theirs, ours)], n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def step(function: Function, logits: Tensor, gradient: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(function(logits), logits, gradient)


def time_in_turns(steps: dict[str, Callable[[], object]], seconds: float, least: int = 7) -> dict[str, list[float]]:
    """Seconds of a call in each of many rounds, in turns, so that a busy machine slows each down alike.

    Of one thread it is its own CPU time, without what others use.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def measure(run: Callable[[], object], calls: int) -> float:
        start = clock()
        for _ in range(calls):
            run()
        return (clock() - start) / calls

    calls = {name: 1 + int(SAMPLE / max(measure(run, 3), 1e-7)) for name, run in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    end = clock() + seconds
    while clock() < end or len(times[next(iter(times))]) < least:
        for name, run in steps.items():
            times[name].append(measure(run, calls[name]))
    return times


def peak_bytes(run: Callable[[], object], device: str) -> int:
    """The most bytes allocated at once during ``run``, above what was before: by the allocator's own account."""
    run()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # else it writes a line at each start and stop
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = [e for e in json.loads(path.read_text())["traceEvents"] if e["name"] == "[memory]"]
    allocated = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        allocated += event["args"]["Bytes"]
        peak = max(peak, allocated)
    return peak


# Half precision -------------------------------------------------------------------------------------------------------


def compare_half(device: str, draws: int = 10**7, chunk: int = 10**6) -> None:
    """What is not finite, and whether the frequencies of hard draws are those of ``softmax(logits)`` (chi-squared)."""
    print(f"{draws:.0e} draws on {device} under autocast, tau = {TAU}: entries that are not finite, frequencies")
    print(f"\n{'logits':<10}{'draw':<19}{'values':>8}{'gradients':>11}{'chi-squared':>13}{'df':>4}{'p':>9}")
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        logits = torch.tensor([2.0, 0.0, -1.0, 1.0, -3.0, 0.5], device=device).to(dtype)
        for name, function in (theirs() | functions_of()).items():
            counts = torch.zeros(logits.shape, dtype=torch.float64, device=device)
            bad_values = bad_gradients = 0
            for _ in range(draws // chunk):
                batch = logits.expand(chunk, -1).clone().requires_grad_()
                with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
                    value = function(batch)
                    (gradient,) = torch.autograd.grad(value, batch, torch.randn_like(value))
                bad_values += int((~value.isfinite()).sum())
                bad_gradients += int((~gradient.isfinite()).sum())
                counts += value.detach().double().nan_to_num().sum(0)
            row = f"{str(dtype).removeprefix('torch.'):<10}{name:<19}{bad_values:8d}{bad_gradients:11d}"
            if name not in ("gumbel_softmax", "PyTorch soft"):
                statistic, p = chi_squared(counts, logits.double().softmax(-1))
                row += f"{statistic:13.1f}{len(logits) - 1:4d}{p:9.1e}"
            print(row, flush=True)


def chi_squared(counts: Tensor, probabilities: Tensor) -> tuple[float, float]:
    """Pearson's statistic of ``counts`` and its p-value; what has probability zero must not have been drawn."""
    counts, probabilities = counts.double().cpu(), probabilities.double().cpu()
    possible = probabilities > 0
    if counts[~possible].any():
        return float("inf"), 0.0
    expected = counts.sum() * probabilities[possible] / probabilities.sum()
    statistic = ((counts[possible] - expected) ** 2 / expected).sum()
    degrees = (possible.sum() - 1).double()
    return statistic.item(), torch.special.gammaincc(degrees / 2, statistic / 2).item()


if __name__ == "__main__":
    main()
