"""Train the categorical VAE with each relaxation on one budget: the table and the pictures of docs/results.

    python scripts/compare.py                                   all of them
    python scripts/compare.py relaxations=reinmax,rloo,exact    some

Each relaxation gets the same number of epochs with the same network, learning rate and seed on dynamically
binarised MNIST, once with 30 latents of 10 classes and once, with a smaller network, with 2 of 8: a code that
``exact`` can enumerate. Runs that are there already are not trained again. Writes ``relaxations.md`` and
``samples.png`` to the folder. About a minute a relaxation.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from zoo.data.seeding import PREDICT, seed_default_generators
from zoo.hub import from_pretrained
from zoo.lab.common import check_names, trained
from zoo.relaxations import RELAXATIONS
from zoo.training.loggers import read_metrics
from zoo.training.plots import style
from zoo.training.runs import RunFolder

CODES = {
    "30 x 10": [],
    "2 x 8": ["model.latents=2", "model.categories=8", "model.encoder.hidden=[128]", "model.decoder.hidden=[128]"],
}
BUDGET = [
    "model=cat_vae",
    "nets=mlp",
    "model.prior=uniform",
    "model.optimizer.lr=1e-3",
    "model.optimizer.weight_decay=0.0",
    "model.iwae_samples=20",
    "epochs=3",
    "pictures_every_n_epochs=3",
]
COLUMNS = {"neg_elbo": "test -ELBO", "reconstruction": "reconstruction", "kl": "KL", "nll": "test NLL (20)"}


def experiment(
    *overrides: str, relaxations: Sequence[str] = tuple(RELAXATIONS), folder: Path = Path("runs/compare")
) -> Path:
    """Train what is not trained yet, and write the table and the picture.

    Args:
        relaxations: which of configs/relaxation; by default all.
        folder: of the runs and the results.
        overrides: options of scripts/train.py for every run, such as epochs=1.

    Returns:
        the file of the table.
    """
    check_names("relaxations", relaxations, RELAXATIONS)
    runs: dict[tuple[str, str], RunFolder] = {}
    for code, options in CODES.items():
        for name in relaxations:
            if (code, name) == ("30 x 10", "exact"):  # 10^30 combinations: refused
                continue
            place = folder / code.replace(" ", "") / name
            runs[code, name] = trained(place, [*BUDGET, *options, f"relaxation={name}", *overrides])
    path = folder / "relaxations.md"
    path.write_text("\n".join(table(runs)) + "\n", encoding="utf-8")
    if any(code == "30 x 10" for code, _ in runs):
        with style():
            sample_picture(runs).savefig(folder / "samples.png")
    logging.getLogger("zoo").info("\n%s", path)
    return path


def table(runs: dict[tuple[str, str], RunFolder]) -> list[str]:
    """Markdown: one row a run, training's own objective beside the test scores on hard samples."""
    lines = [
        "| code | relaxation | training objective | " + " | ".join(COLUMNS.values()) + " | seconds |",
        "| --- | --- | " + "---: | " * (len(COLUMNS) + 2),
    ]
    for (code, name), run in runs.items():
        results = run.read_results()
        objective = [value for _, value in read_metrics(run.metrics)["train/neg_elbo"]][-10:]
        scores = " | ".join(f"{results['metrics'][f'test/{column}']:.1f}" for column in COLUMNS)
        lines.append(
            f"| {code} | `{name}` | {sum(objective) / len(objective):.1f} | {scores} | {results['seconds']:.0f} |"
        )
    return lines


def sample_picture(runs: dict[tuple[str, str], RunFolder]) -> Figure:
    """A row of samples of the prior for each relaxation at 30 x 10."""
    shown = {name: run for (code, name), run in runs.items() if code == "30 x 10"}
    figure = Figure(figsize=(8, 0.75 * len(shown)), layout="constrained")
    for axes, (name, run) in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown.items()):
        seed_default_generators(0, PREDICT)
        images = from_pretrained(run.path).sample(14)
        axes.imshow(torch.cat(list(images[:, 0]), 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.set_xticks([])
        axes.set_yticks([])
    return figure
