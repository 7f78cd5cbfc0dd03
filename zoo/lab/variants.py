"""Train the variants of a model that a table of the documentation compares, several seeds each.

    python scripts/variants.py table=routers                        all of its rows
    python scripts/variants.py table=routers rows=dense,softmax     some

The rows of a table differ in the options that stand beside them, in nothing else. Runs that are there already are not
trained again, and a run that was stopped goes on; the table, ``<table>.md`` in the folder, is written anew after each.
"""

import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.config.composition import check, compose
from zoo.errors import ZooError
from zoo.files import atomic
from zoo.lab.common import check_names, command, trained
from zoo.training.runs import RunFolder

log = logging.getLogger("zoo")

STEPS = 300
"""Of an epoch of the codebooks: after each the model is validated."""
DVAE = ["quantizer=dvae"]
LEFT = ["model.quantizer.revive=0.0"]
VQ = ["relaxation=vq", "relaxation.gradient=copied"]
ROTATED = ["relaxation=vq", "relaxation.gradient=rotated"]
CODEBOOKS = {
    "vq": VQ,
    "vq_rotated": ROTATED,
    "residual_vq": ["quantizer=residual", "model.quantizer.codes=23", "relaxation.gradient=copied"],
    "fsq": ["quantizer=fsq"],
    "lfq": ["quantizer=lfq"],
    "bsq": ["quantizer=bsq"],
    "gumbel": [*DVAE, "relaxation=gumbel_softmax"],
    "gumbel_annealed": [*DVAE, "relaxation=gumbel_softmax", "annealing=exponential", "annealing.end=0.1"],
    "st_gumbel": [*DVAE, "relaxation=st_gumbel_softmax"],
    "reinmax": [*DVAE, "relaxation=reinmax"],
    "rloo": [*DVAE, "relaxation=rloo", "model.quantizer.commitment_codes=1.0"],
    "vq_unrevived": [*VQ, *LEFT],
    "vq_rotated_unrevived": [*ROTATED, *LEFT],
    "gumbel_unrevived": [*DVAE, "relaxation=gumbel_softmax", *LEFT],
    "reinmax_unrevived": [*DVAE, "relaxation=reinmax", *LEFT],
}
TOKENIZER = [
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
    "epochs=2",
    f"trainer.limit_train_batches={STEPS}",
]
CODES = {
    "mse": ("MSE x 1000", 1000.0, 2),
    "utilisation": ("codes in use (%)", 100.0, 1),
    "perplexity": ("perplexity", 1.0, 0),
    "rate": ("bits under the prior", 1.0, 0),
}
EXPERTS = ["model=mixture_of_experts", "epochs=6", "pictures_every_n_epochs=1000"]
ROUTERS = {
    "softmax": ["relaxation=softmax"],
    "gumbel": ["relaxation=gumbel_softmax"],
    "noisy_top_k": ["model.routing=noisy_top_k"],
    "st_argmax": ["relaxation=st_argmax"],
    "straight_through": ["relaxation=straight_through"],
    "st_gumbel": ["relaxation=st_gumbel_softmax"],
    "reinmax": ["relaxation=reinmax"],
    "reinforce": ["relaxation=reinforce"],
    "rloo": ["relaxation=rloo"],
}
ROUTED = {
    "error": ("test error (%)", 100.0, 2),
    "least_used": ("least used expert (%)", 100.0, 1),
    "most_used": ("most used expert (%)", 100.0, 1),
    "multiplications": ("multiplications", 1.0, 0),
}
WEIGHTS = {
    "error": ("test error (%)", 100.0, 2),
    "weights": ("stored weights", 1.0, 0),
    "packed_kilobytes": ("packed (kB)", 1.0, 0),
    "packed_differs": ("packed file decides otherwise (%)", 100.0, 2),
}
JUDGED = {
    f"{judge}{by}": (judge + by.replace("_", ", ", 1).replace("_", " "), 1.0, 3)
    for by in ("", "_lasso", "_mutual_information", "_random")
    for judge in ("trees", "network")
}


@dataclass(frozen=True)
class Table:
    """What a table compares.

    Args:
        options: of ``scripts/train.py``, for all of its runs.
        rows: what each adds to them.
        columns: test score -> its heading, what it is multiplied by, digits.
    """

    options: list[str]
    rows: dict[str, list[str]]
    columns: dict[str, tuple[str, float, int]]


TABLES = {
    "selector": Table(["model=selector"], {"label": [], "input": ["model.target=input"]}, JUDGED),
    "routers": Table(
        EXPERTS,
        {
            "dense": ["model.experts.experts=1", "model.experts.hidden=256"],
            "one_expert": ["model.experts.experts=1"],
            **ROUTERS,
            **{f"{name}_unbalanced": [*options, "model.balance=0"] for name, options in ROUTERS.items()},
        },
        ROUTED,
    ),
    "binary_weights": Table(
        ["model=binary_net"],
        {
            "deterministic": [],
            "stochastic": ["relaxation=straight_through"],
            "real": ["model.network.weights=real"],
        },
        WEIGHTS,
    ),
    "bricks": Table(["experiment=binary_net_bricks"], {"bricks": [], "real": ["model.network.bricks=0"]}, WEIGHTS),
    "gates": Table(
        ["model=language_model"],
        {"sigmoid": [], "hard": ["model.gates=hard"]},
        {
            "nats": ("nats a character", 1.0, 3),
            "closed": ("gates closed (%)", 100.0, 1),
            "ngram": ("6-gram", 1.0, 3),
            "xz": ("xz", 1.0, 3),
        },
    ),
    "codes_cifar10": Table([*TOKENIZER, "data=cifar10", "data.files=jpeg"], CODEBOOKS, CODES),
    "codes_fashion_mnist": Table([*TOKENIZER, "data=fashion_mnist", "data.binarize=none"], CODEBOOKS, CODES),
}


def experiment(
    *overrides: str,
    table: str,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    folder: Path = Path("runs/variants"),
) -> Path:
    """Train what is not trained yet, and write the table.

    Args:
        table: one of selector, routers, binary_weights, bricks, gates, codes_cifar10 and codes_fashion_mnist.
        rows: of the table; by default all.
        seeds: of the runs.
        folder: of the runs and the table.
        overrides: options of scripts/train.py for every run, such as epochs=1.

    Returns:
        the file of the table.

    Raises:
        ZooError: if an option is wrong, or no run comes to its end.
    """
    check_names("table", [table], TABLES)
    compared = TABLES[table]
    chosen = list(compared.rows) if rows is None else list(rows)
    check_names("rows", chosen, compared.rows)
    written = command("variants", table=table, rows=rows, seeds=list(seeds), overrides=overrides)
    options = {row: [*compared.options, *compared.rows[row], *overrides] for row in chosen}
    for words in options.values():  # a mistake is told before anything is trained
        check(compose(words), words)
    path, runs, missing = folder / f"{table}.md", {}, {}
    for seed in seeds:
        for row in chosen:
            place = folder / table / f"{row}-{seed}"
            try:
                runs[row, seed] = trained(place, [*options[row], f"seed={seed}"])
            except ZooError as error:  # such as a loss that is not finite: the others are still worth knowing
                log.warning("%s is left out of the table: %s", place, error)
                missing[row, seed] = f"`{row}` with seed {seed} is missing: {error}"
            if runs:
                with atomic(path) as temporary:
                    text = ["", *missing.values()] if missing else []
                    temporary.write_text("\n".join([f"`{written}`", "", *lines(compared, runs), *text]) + "\n", "utf-8")
    if not runs:
        raise ZooError(
            f"no run of the table is complete: {next(iter(missing.values()), 'no seeds or rows were asked for')}"
        )
    log.info("\n%s", path)
    return path


def lines(table: Table, runs: dict[tuple[str, int], RunFolder]) -> list[str]:
    """Markdown: a line for each row, the mean over seeds and, where there are several, the range."""
    found = [
        "| | " + " | ".join(name for name, _, _ in table.columns.values()) + " | CPU seconds | seeds |",
        "| --- |" + " ---: |" * (len(table.columns) + 2),
    ]
    for row in dict.fromkeys(row for row, _ in runs):
        own = [run.read_results() for (name, _), run in runs.items() if name == row]
        cells = [f"`{row}`"]
        for name, (_, factor, digits) in table.columns.items():
            values = [results["metrics"].get(f"test/{name}") for results in own]
            cells.append(spread([factor * value for value in values if value is not None], digits))
        cells += [f"{statistics.mean(results['cpu_seconds'] for results in own):.0f}", str(len(own))]
        found.append(f"| {' | '.join(cells)} |")
    return found


def spread(values: Sequence[float], digits: int) -> str:
    """The mean, and from where to where it goes; empty without a value."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):,.{digits}f}"
    least, most = f"{min(values):,.{digits}f}", f"{max(values):,.{digits}f}"
    return mean if least == most else f"{mean} ({least} to {most})"
