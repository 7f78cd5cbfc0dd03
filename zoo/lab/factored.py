"""Actions of several choices: the actor-critic with several relaxations on a factored action space.

    python scripts/factored.py
    python scripts/factored.py seeds=1 sizes=3x3 relaxations=exact,rloo

The environment is made here. An observation shows which option is wanted of each choice; the reward of a step is the
share of neighbouring choices that are *both* right, so that the choices depend on each other; after ten steps the
episode ends, with a return of at most 10. The best that ignores the observation expects 10 / options^2.
3x3 has 27 actions, which ``exact`` and the critic's targets enumerate. 8x6 has 1.7 million: ``exact`` refuses, and the
targets average samples. Runs that are there already are not trained again. Prints a table. About 5 CPU-seconds a run of
3x3, 15 of 8x6.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, MultiDiscrete
from pydantic import PositiveInt

from zoo.config.composition import choices as files
from zoo.lab.common import check_names
from zoo.lab.compare_rl import RELAXATIONS, run, with_interval
from zoo.training.loggers import read_metrics

SIZES = {"3x3": (3, 3), "8x6": (8, 6)}
EPOCHS = {"3x3": 1, "8x6": 4}  # of 5,000 environment steps: too few to solve either
STEPS = 10
BUDGET = (
    "data.steps=1",  # nothing that is done now matters later
    "data.gamma=0.0",
    "model.entropy_weight=0.01",
    "model.normalize=false",
)


class Neighbours(gymnasium.Env):
    """``choices`` choices among ``options`` each; a pair of neighbours counts if both are as wanted."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, choices: int, options: int, render_mode: str | None = None) -> None:
        self.choices, self.options = choices, options
        self.action_space = MultiDiscrete([options] * choices)
        self.observation_space = Box(0, 1, (choices * options,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.count = 0
        return self._next(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.count += 1
        right = np.asarray(action) == self.wanted
        return self._next(), float((right[1:] & right[:-1]).mean()), self.count == STEPS, False, {}

    def _next(self) -> np.ndarray:
        self.wanted = self.np_random.integers(self.options, size=self.choices)
        return np.eye(self.options, dtype=np.float32)[self.wanted].flatten()


for size, (choices, options) in SIZES.items():
    gymnasium.register(f"Neighbours/{size}-v0", Neighbours, kwargs={"choices": choices, "options": options})


def experiment(
    *overrides: str,
    sizes: Sequence[str] = tuple(SIZES),
    relaxations: Sequence[str] = RELAXATIONS,
    seeds: PositiveInt = 3,
    folder: Path = Path("runs/factored"),
) -> list[str]:
    """Train what is not trained yet, and print the table.

    Args:
        sizes: choices x options, 3x3 or 8x6.
        relaxations: which of configs/relaxation.
        seeds: runs of each.
        folder: of the runs.
        overrides: options of scripts/train.py for every run, such as epochs=1.

    Returns:
        the lines of the table.
    """
    check_names("sizes", sizes, SIZES)
    check_names("relaxations", relaxations, files("relaxation"))
    table = [
        "| choices x options | `relaxation=` | return, drawn actions | return, mode | entropy | CPU-s a run |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(table))
    for size in sizes:
        for relaxation in relaxations:
            if relaxation == "exact" and SIZES[size][1] ** SIZES[size][0] > 64:
                row = f"| {size} | `exact` | refuses: too many combinations | | | |"
            else:
                options = [*BUDGET, f"epochs={EPOCHS[size]}", f"data.env=Neighbours/{size}-v0"]
                options += [f"relaxation={relaxation}", *overrides]
                row = measured(folder / size / relaxation, f"| {size} | `{relaxation}` |", options, seeds)
            print(row, flush=True)
            table.append(row)
    return table


def measured(folder: Path, head: str, options: Sequence[str], seeds: int) -> str:
    """The row of the runs with these options, a seed each."""
    folders = [folder / str(seed) for seed in range(seeds)]
    seconds = [timed(one, *options, f"seed={seed}") for seed, one in enumerate(folders)]
    series = [read_metrics(one / "metrics.csv") for one in folders]
    cells = []
    for kind in ("sampled_", ""):
        values = torch.tensor([one[f"test/{kind}return"][-1][1] for one in series])
        cells.append(with_interval(values, 1))
    entropy = statistics.mean(one["train/entropy"][-1][1] for one in series)
    return f"{head} {' | '.join(cells)} | {entropy:.2f} | {statistics.median(seconds):.0f} |"


def timed(folder: Path, *options: str) -> float:
    """CPU-seconds of a run, which are kept in its folder."""
    note = folder / "cpu_seconds.txt"
    start = time.process_time()
    run(folder, *options)
    if not note.exists():
        note.write_text(f"{time.process_time() - start:.1f}\n", encoding="utf-8")
    return float(note.read_text(encoding="utf-8"))
