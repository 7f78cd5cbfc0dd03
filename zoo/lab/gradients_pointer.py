"""How the gradient of each estimator on tours compares with the true one, at initialisation and late.

    python scripts/gradients_pointer.py
    python scripts/gradients_pointer.py size=7 steps=600 draws=128 out=FOLDER

The true gradient of the expected length, by all weights of a small pointer network, is exact: all tours of each of 16
instances are enumerated and weighed with their probabilities. An estimate is the mean over ``draws`` tours of each
instance, so that what is left of its noise is small and the cosine shows its bias; the cosine of single draws shows
noise and bias together. "Late" is after ``steps`` steps of self-labelling. Writes ``gradients.md`` and
``gradients.png``. About three CPU-minutes.
"""

import itertools
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from pydantic import Field, PositiveInt
from torch import Tensor

from zoo.data.seeding import PREDICT, generator, seed_default_generators
from zoo.lab.common import command, one_thread
from zoo.lab.compare_pointer import build, train
from zoo.models.pointer_net import PointerNet
from zoo.relaxations import RLOO, GumbelSoftmax, ReinMax, Relaxation, Softmax, StraightThrough
from zoo.training import plots

INSTANCES = 16
ESTIMATORS: dict[str, tuple[Relaxation, str]] = {
    "RLOO": (RLOO(samples=2), "counterfactual"),
    "straight-through, counterfactual": (StraightThrough(), "counterfactual"),
    "ReinMax, counterfactual": (ReinMax(), "counterfactual"),
    "straight-through, both edges": (StraightThrough(), "edges"),
    "ReinMax, both edges": (ReinMax(), "edges"),
    "straight-through, next edge": (StraightThrough(), "next_edge"),
    "Gumbel-softmax": (GumbelSoftmax(), "edges"),
    "softmax": (Softmax(), "edges"),
}
"""Name -> the relaxation and the gradient of the length."""


def experiment(
    *,
    size: Annotated[int, Field(ge=3, le=9)] = 7,
    steps: PositiveInt = 600,
    draws: Annotated[int, Field(ge=32, multiple_of=32)] = 128,
    out: Path = Path("docs/pointer"),
) -> str:
    """Compare at initialisation, train, compare again, and write the table and the picture.

    Args:
        size: points of a tour, all of whose orders are enumerated.
        steps: of training before the comparison that is late.
        draws: tours of each instance, a multiple of 32.
        out: folder of the table and the picture.

    Returns:
        the table.
    """
    found, excess = {}, {}
    with one_thread():
        seed_default_generators(0)
        model = build(size, ["relaxation=rloo", "model.objective=expectation", "model.starts=1"])
        x = model.task.generate(INSTANCES, size, generator("cpu", 0, PREDICT))
        for when in ("initialisation", "late"):
            if when == "late":
                model.objective, model.starts = "self_label", size  # which soon gets there
                train(model, size, 0, lambda step: step / steps)
                model.objective, model.starts = "expectation", 1
            true, excess[when] = exact(model, x)
            found[when] = {name: compare(model, x, true, name, draws) for name in ESTIMATORS}
    text = write(out, found, excess, command("gradients_pointer", size=size, steps=steps, draws=draws), draws)
    print(text)
    return text


def exact(model: PointerNet, x: Tensor) -> tuple[Tensor, float]:
    """The gradient of the expected length, and by how many per cent that exceeds the shortest."""
    orders = torch.tensor([(0, *rest) for rest in itertools.permutations(range(1, x.shape[1]))])
    total, expected, least = torch.zeros(()), 0.0, 0.0
    for part in x.split(4):
        every = orders.expand(len(part), -1, -1)
        p = model.log_prob(part, model.encode(part), every).exp()
        cost = model.task.cost(part, every)
        total = total + gradient(model, (p * cost).sum() / len(x))
        expected, least = expected + (p * cost).sum().item(), least + cost.amin(1).sum().item()
    return total, 100 * (expected / least - 1)


def compare(model: PointerNet, x: Tensor, true: Tensor, name: str, draws: int) -> tuple[float, float]:
    """Cosines with ``true`` of the mean over ``draws`` tours of each instance, and on average of single ones."""
    task: Any = model.task
    model.relaxation, task.gradient = ESTIMATORS[name][0].train(), ESTIMATORS[name][1]
    seed_default_generators(0, PREDICT, draws)
    at_once = 32
    if not model.relaxation.stochastic:
        draws = at_once = 1
    many = x.repeat(at_once, 1, 1)
    means = [gradient(model, model.expectation(many)["loss"]) for _ in range(draws // at_once)]
    singles = [gradient(model, model.expectation(x)["loss"]) for _ in range(min(16, draws))]
    mean = F.cosine_similarity(torch.stack(means).mean(0), true, dim=0).item()
    return mean, sum(F.cosine_similarity(single, true, dim=0).item() for single in singles) / len(singles)


def gradient(model: PointerNet, loss: Tensor) -> Tensor:
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in zip(grads, parameters)])


def write(folder: Path, found: dict, excess: dict, made_by: str, draws: int) -> str:
    """The table and the picture, and the table as text."""
    lines = [
        f"Made by `{made_by}`: cosine with the exact gradient of the expected length. The expected length is "
        f"{excess['initialisation']:.0f}% above the shortest at initialisation, {excess['late']:.1f}% late.",
        "",
        f"| estimator | initialisation, mean of {draws} | single draw | late, mean of {draws} | single draw |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in ESTIMATORS:
        shown = (*found["initialisation"][name], *found["late"][name])
        lines.append(f"| {name} | " + " | ".join(f"{cosine:.2f}" for cosine in shown) + " |")
    text = "\n".join(lines) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gradients.md").write_text(text)
    with plots.style():
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        axes = figure.subplots()
        places = torch.arange(len(ESTIMATORS)).flip(0).numpy()
        for shift, when in ((0.2, "initialisation"), (-0.2, "late")):
            cosines = [found[when][name][0] for name in ESTIMATORS]
            axes.barh(places + shift, cosines, height=0.38, label=f"{when} ({excess[when]:.1f}% above the shortest)")
        axes.set_yticks(places, list(ESTIMATORS))
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set(xlabel=f"cosine with the exact gradient, mean of {draws} draws", title="Gradients on tours")
        axes.legend(loc="lower right")
        figure.savefig(folder / "gradients.png")
    return text
