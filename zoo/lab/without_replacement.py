"""Samples with and without replacement: the error of the gradient at equal numbers of program runs.

    python scripts/without_replacement.py
    python scripts/without_replacement.py samples=2,4,8 size=7 steps=600 repeats=200 folder=FOLDER

The mean squared distance of an estimate from the exact gradient, relative to the squared norm of that. First of one
choice among 20 with random costs, at logits of three spreads; then of the weights of a small pointer network on tours,
at initialisation and after ``steps`` steps of self-labelling, where all tours of 16 instances are enumerated. Rows of
one number of samples have as many program runs. Writes ``without_replacement.md``. About four CPU-minutes.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from zoo.data.seeding import PREDICT, generator, seed_default_generators
from zoo.lab.common import command, one_thread
from zoo.lab.compare_pointer import build, train
from zoo.lab.gradients_pointer import INSTANCES, exact, gradient
from zoo.models.pointer_net import PointerNet
from zoo.relaxations import RLOO, UnorderedSet
from zoo.relaxations.search import stochastic_beam_search

CATEGORIES, SPREADS, DRAWS = 20, (0.3, 1.0, 3.0), 10_000
Estimate = Callable[[Tensor, Tensor, int], Tensor]


def experiment(
    *,
    samples: Sequence[Annotated[int, Field(ge=2)]] = (2, 4, 8),
    size: Annotated[int, Field(ge=3, le=9)] = 7,
    steps: PositiveInt = 600,
    repeats: PositiveInt = 100,
    folder: Path = Path("runs/without_replacement"),
) -> str:
    """Measure both, and write the tables.

    Args:
        samples: numbers of samples.
        size: points of a tour, all of whose orders are enumerated.
        steps: of training before the comparison that is late.
        repeats: estimates of the pointer network's gradient.
        folder: of the tables.

    Returns:
        the tables.
    """
    with one_thread():
        first, second = categorical(samples), tours(samples, size, steps, repeats)
    made_by = command(
        "without_replacement", samples=",".join(map(str, samples)), size=size, steps=steps, repeats=repeats
    )
    text = f"Made by `{made_by}`.\n\n{first}\n{second}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "without_replacement.md").write_text(text)
    print(text)
    return text


def table(heads: Sequence[str], rows: dict[tuple[str, int], list[float]]) -> str:
    lines = ["| samples | estimator | " + " | ".join(heads) + " |", "| ---: | --- |" + " ---: |" * len(heads)]
    for (name, k), row in sorted(rows.items(), key=lambda item: item[0][1]):
        lines.append(f"| {k} | {name} | " + " | ".join(f"{value:.3g}" for value in row) + " |")
    return "\n".join(lines) + "\n"


# One choice -----------------------------------------------------------------------------------------------------------


def categorical(samples: Sequence[int]) -> str:
    """The table of one choice among :data:`CATEGORIES`."""
    g = torch.Generator().manual_seed(0)
    costs, start = torch.randn(CATEGORIES, generator=g), torch.randn(CATEGORIES, generator=g)
    ways: dict[str, Estimate] = {
        "RLOO, with replacement": lambda logits, costs, k: RLOO(samples=k).expectation(
            lambda draw: draw(logits) @ costs
        ),
        "unordered set": lambda logits, costs, k: UnorderedSet(samples=k).expectation(
            lambda draw: draw(logits) @ costs
        ),
        "importance weights": weighted,
        "importance weights, normalised (biased)": lambda logits, costs, k: weighted(logits, costs, k, True),
    }
    rows: dict[tuple[str, int], list[float]] = {}
    for spread in SPREADS:
        p = (spread * start).softmax(0)
        true = p * (costs - p @ costs)
        for k in samples:
            for name, estimate in ways.items():
                torch.manual_seed(0)
                logits = (spread * start).expand(DRAWS, -1).clone().requires_grad_()
                found = torch.autograd.grad(estimate(logits, costs, k).sum(), logits)[0]
                error = (found - true).square().sum(1).mean() / true.square().sum()
                rows.setdefault((name, k), []).append(error.item())
    return table([f"logits of spread {spread:g}" for spread in SPREADS], rows)


def weighted(logits: Tensor, costs: Tensor, k: int, normalised: bool = False) -> Tensor:
    """The estimate of Kool et al. 2019 from the same samples: weights ``p / q`` given the best one left out.

    With ``normalised`` weights the estimate of the mean is subtracted from the costs (equation 16 there).
    """
    rows = torch.arange(len(logits))
    found = stochastic_beam_search(lambda tokens, row: (logits[row], row), torch.zeros_like(rows), rows, k=k, steps=1)
    chosen = found.tokens.squeeze(-1)
    value = costs[chosen]
    if normalised:
        value = value - found.estimate(value.double(), normalized=True).unsqueeze(1).float()
    log_p = logits.log_softmax(-1).gather(1, chosen)
    return found.estimate(value * log_p, normalized=normalised)


# Tours ----------------------------------------------------------------------------------------------------------------


def tours(samples: Sequence[int], size: int, steps: int, repeats: int) -> str:
    """The table of the pointer network, with the CPU time of an estimate."""
    seed_default_generators(0)
    model = build(size, ["relaxation=rloo", "model.objective=expectation", "model.starts=1"])
    x = model.task.generate(INSTANCES, size, generator("cpu", 0, PREDICT))
    rows: dict[tuple[str, int], list[float]] = {}
    heads: list[str] = []
    for when in ("at initialisation", "late"):
        if when == "late":
            model.objective, model.starts = "self_label", size  # which soon gets there
            train(model, size, 0, lambda step: step / steps)
            model.objective, model.starts = "expectation", 1
        true, excess = exact(model, x)
        heads += [f"tours of {size}, {when} ({excess:.2g}% above the shortest)", "CPU ms"]
        for k in samples:
            for name, relaxation in (("RLOO, with replacement", RLOO), ("unordered set", UnorderedSet)):
                model.relaxation = relaxation(samples=k)
                rows.setdefault((name, k), []).extend(measured(model, x, true, repeats))
    return table(heads, rows)


def measured(model: PointerNet, x: Tensor, true: Tensor, repeats: int) -> tuple[float, float]:
    """The error of the gradient, and CPU milliseconds of an estimate of it."""
    seed_default_generators(0, PREDICT)
    began, total = time.process_time(), 0.0
    for _ in range(repeats):
        found = gradient(model, model.expectation(x)["loss"])
        total += float((found - true).square().sum() / true.square().sum())
    return total / repeats, 1000 * (time.process_time() - began) / repeats
