"""Plant columns that matter in a table of noise, and see which of them a selector finds.

    python scripts/planted.py                                        ten of 500 columns, by the default settings
    python scripts/planted.py kind=xor relaxations=softmax,simple    two columns whose exclusive-or is the label

*ten*: 2,000 rows and 500 columns of normal noise; the label is the sign of a sum of five columns, the squares of three
and the product of two, each with the same variance, and 5% of the labels are flipped. *xor*: 2,000 rows and 20 columns;
the label is whether the signs of two of them differ. Runs that are there already are not trained again. Writes
``planted_<kind>.md`` to the folder.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import PositiveInt

from zoo.data.seeding import PREDICT, generator
from zoo.files import atomic
from zoo.hub import from_pretrained
from zoo.lab.common import check_names, command, trained
from zoo.models.selector import Selector
from zoo.relaxations import RELAXATIONS

Kind = Literal["ten", "xor"]
SIZES = {"ten": (2000, 500, 10), "xor": (2000, 20, 2)}
"""Rows, columns, and how many of them matter."""
FLIPPED = 0.05


def experiment(
    *overrides: str,
    kind: Kind = "ten",
    relaxations: Sequence[str] = ("default",),
    seeds: PositiveInt = 5,
    folder: Path = Path("runs/planted"),
) -> Path:
    """Train what is not trained yet, and write the table.

    Args:
        kind: ten or xor.
        relaxations: which of configs/relaxation; default is the model's own.
        seeds: tables, each with a training of its own, from seed 0 on.
        folder: of the tables, the runs and the results.
        overrides: options of scripts/train.py for every run, such as epochs=1.

    Returns:
        the file of the table.
    """
    check_names("relaxations", relaxations, ["default", *RELAXATIONS])
    k = SIZES[kind][2]
    lines = [
        f"| relaxation | found of {k}, seed by seed | all found | accuracy of trees |",
        "| --- | --- | ---: | ---: |",
    ]
    for name in relaxations:
        found, accuracy = [], []
        for seed in range(seeds):
            path = folder / f"{kind}_{seed}.csv"
            planted = write_table(kind, seed, path)
            options = ["model=selector", "data=table", f"data.path={path}", "data.target=label", f"model.k={k}"]
            options += [f"seed={seed}", *([] if name == "default" else [f"relaxation={name}"]), *overrides]
            run = trained(folder / f"{kind}_{name}_{seed}", options)
            model = from_pretrained(run.path)
            assert isinstance(model, Selector)
            found.append(len(planted & set(model.selected())))
            accuracy.append(run.read_results()["metrics"]["test/trees"])
        whole = sum(count == k for count in found)
        mean = sum(accuracy) / len(accuracy)
        lines.append(f"| `{name}` | {', '.join(map(str, found))} | {whole} of {seeds} | {mean:.3f} |")
    written = command("planted", kind=kind, relaxations=list(relaxations), seeds=seeds, overrides=overrides)
    path = folder / f"planted_{kind}.md"
    with atomic(path) as temporary:
        temporary.write_text("\n".join([f"`{written}`", "", *lines]) + "\n", encoding="utf-8")
    logging.getLogger("zoo").info("\n%s", path)
    return path


def write_table(kind: Kind, seed: int, path: Path) -> set[int]:
    """Write the table of a seed, if it is not there, and return the columns that matter."""
    rows, columns, k = SIZES[kind]
    g = generator("cpu", seed, PREDICT)
    x = torch.randn(rows, columns, generator=g)
    planted = torch.randperm(columns, generator=g)[:k]
    v = x[:, planted]
    if kind == "xor":
        y = (v[:, 0] > 0) ^ (v[:, 1] > 0)
    else:
        y = v[:, :5].sum(1) + (v[:, 5:8].square() - 1).sum(1) / 2**0.5 + v[:, 8] * v[:, 9] > 0
        y = y ^ (torch.rand(rows, generator=g) < FLIPPED)
    if not path.exists():
        lines = [",".join([*(f"x{i}" for i in range(columns)), "label"])]
        lines += [",".join([*(f"{value:.4f}" for value in row), str(int(label))]) for row, label in zip(x.tolist(), y)]
        with atomic(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return set(planted.tolist())
