"""Train the tokenizer with each way to have discrete codes on one budget: the table of docs/models/tokenizer.md.

    python scripts/codebooks.py                                  all of them on CIFAR-10 and FashionMNIST, three seeds
    python scripts/codebooks.py ways=vq,fsq data_sets=cifar10    some

Each has the same networks, number of steps, learning rate and as many codes as 512, or the nearest that it can have.
Runs that are there already are not trained again, and a run that was stopped goes on; the table is written anew after
each. About a minute of one core a run.
"""

import logging
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from zoo.errors import ZooError
from zoo.lab.common import check_names, trained
from zoo.training.runs import RunFolder

log = logging.getLogger("zoo")

DVAE = ["quantizer=dvae"]
LEFT = "model.quantizer.revive=0.0"
WAYS: dict[str, list[str]] = {
    "vq": ["relaxation=vq", "relaxation.gradient=copied"],
    "vq_rotated": ["relaxation=vq", "relaxation.gradient=rotated"],
    "residual_vq": ["quantizer=residual", "model.quantizer.codes=23", "relaxation.gradient=copied"],
    "fsq": ["quantizer=fsq"],
    "lfq": ["quantizer=lfq"],
    "bsq": ["quantizer=bsq"],
    "gumbel": [*DVAE, "relaxation=gumbel_softmax"],
    "gumbel_annealed": [*DVAE, "relaxation=gumbel_softmax", "annealing=exponential", "annealing.end=0.1"],
    "st_gumbel": [*DVAE, "relaxation=st_gumbel_softmax"],
    "reinmax": [*DVAE, "relaxation=reinmax"],
    "rloo": [*DVAE, "relaxation=rloo", "model.quantizer.commitment_codes=1.0"],
    "vq_unrevived": ["relaxation=vq", "relaxation.gradient=copied", LEFT],
    "vq_rotated_unrevived": ["relaxation=vq", "relaxation.gradient=rotated", LEFT],
    "gumbel_unrevived": [*DVAE, "relaxation=gumbel_softmax", LEFT],
    "reinmax_unrevived": [*DVAE, "relaxation=reinmax", LEFT],
}
"""Every way by its name, and what it adds to the options of all."""
DATA = {
    "cifar10": ["data=cifar10", "data.files=jpeg"],
    "fashion_mnist": ["data=fashion_mnist", "data.binarize=none"],
}
BUDGET = [
    "model=tokenizer",
    "model.encoder.channels=16",
    "model.prior_width=32",
    "model.prior_layers=1",
    "model.optimizer.lr=2e-3",
    "model.optimizer.warmup_steps=100",
    "data.batch_size=64",
    "trainer.precision=bf16-mixed",
    "pictures_every_n_epochs=1000",
    "checkpoint_every_n_steps=200",
]
STEPS = 300
"""Of an epoch, at most: after each the model is validated."""
COLUMNS = {
    "mse": ("MSE x 1000", 1000.0, 2),
    "utilisation": ("codes in use", 100.0, 1),
    "perplexity": ("perplexity", 1.0, 0),
    "rate": ("bits under the prior", 1.0, 0),
}
"""Test score -> its heading, what it is multiplied by, digits."""


def experiment(
    *overrides: str,
    ways: Sequence[str] = tuple(WAYS),
    data_sets: Sequence[str] = tuple(DATA),
    seeds: Sequence[int] = (0, 1, 2),
    steps: int = 600,
    folder: Path = Path("runs/codebooks"),
) -> Path:
    """Train what is not trained yet, and write the table.

    Args:
        ways: to have codes; by default all.
        data_sets: cifar10 (its JPEG files) and fashion_mnist.
        seeds: of the runs.
        steps: of the optimiser in each run, with 64 images each.
        folder: of the runs and the table.
        overrides: options of scripts/train.py for every run.

    Returns:
        the file of the table.
    """
    check_names("ways", ways, WAYS)
    check_names("data_sets", data_sets, DATA)
    path, runs = folder / "codebooks.md", {}
    epochs = math.ceil(steps / STEPS)
    limit = [f"epochs={epochs}", f"trainer.limit_train_batches={steps // epochs}"]
    for seed in seeds:
        for data in data_sets:
            for way in ways:
                place = folder / data / f"{way}-{seed}"
                options = [*BUDGET, *DATA[data], *WAYS[way], *limit, f"seed={seed}", *overrides]
                try:
                    runs[data, way, seed] = trained(place, options)
                except ZooError as error:  # such as a loss that is not finite: the others are still worth knowing
                    log.warning("%s is left out of the table: %s", place, error)
                folder.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join(table(runs)) + "\n", encoding="utf-8")
    log.info("\n%s", path)
    return path


def table(runs: dict[tuple[str, str, int], RunFolder]) -> list[str]:
    """Markdown: a row for each data set and way, the mean over seeds and, where there are several, the range."""
    lines = [
        "| data | way | " + " | ".join(name for name, _, _ in COLUMNS.values()) + " | seconds | seeds |",
        "| --- | --- | " + "---: | " * (len(COLUMNS) + 2),
    ]
    for data, way in dict.fromkeys((data, way) for data, way, _ in runs):
        own = [run.read_results() for (d, w, _), run in runs.items() if (d, w) == (data, way)]
        cells = [data, f"`{way}`"]
        for name, (_, factor, digits) in COLUMNS.items():
            cells.append(spread([factor * results["metrics"][f"test/{name}"] for results in own], digits))
        cells += [f"{statistics.mean(results['seconds'] for results in own):.0f}", str(len(own))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def spread(values: Sequence[float], digits: int) -> str:
    """The mean, and from where to where it goes."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"
