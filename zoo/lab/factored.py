"""Actions of several choices: the actor-critic with several relaxations on a factored action space.

    python scripts/factored.py [folder] [--seeds 3] [--sizes 3x3 8x6]

The environment is made here. An observation shows which option is wanted of each choice; the reward of a step is the
share of neighbouring choices that are *both* right, so that the choices depend on each other; after ten steps the
episode ends, with a return of at most 10. The best that ignores the observation expects 10 / options^2.
3x3 has 27 actions, which ``exact`` and the critic's targets enumerate. 8x6 has 1.7 million: ``exact`` refuses, and the
targets average samples. Runs that are there already are not trained again.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, MultiDiscrete

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/factored"))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--relaxations", nargs="+", default=list(RELAXATIONS))
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    print("| choices x options | `relaxation=` | return, drawn actions | return, mode | entropy | CPU-s a run |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for size in chosen.sizes:
        for relaxation in chosen.relaxations:
            if relaxation == "exact" and SIZES[size][1] ** SIZES[size][0] > 64:
                print(f"| {size} | `exact` | refuses: too many combinations | | | |")
                continue
            options = (*BUDGET, f"epochs={EPOCHS[size]}", f"data.env=Neighbours/{size}-v0", f"relaxation={relaxation}")
            folders = [chosen.folder / size / relaxation / str(seed) for seed in range(chosen.seeds)]
            seconds = [timed(folder, *options, f"seed={seed}") for seed, folder in enumerate(folders)]
            series = [read_metrics(folder / "metrics.csv") for folder in folders]
            cells = []
            for kind in ("sampled_", ""):
                values = torch.tensor([one[f"test/{kind}return"][-1][1] for one in series])
                cells.append(with_interval(values, 1))
            entropy = statistics.mean(one["train/entropy"][-1][1] for one in series)
            cpu = statistics.median(seconds)
            print(f"| {size} | `{relaxation}` | {' | '.join(cells)} | {entropy:.2f} | {cpu:.0f} |", flush=True)


def timed(folder: Path, *options: str) -> float:
    """CPU-seconds of a run, which are kept in its folder."""
    note = folder / "cpu_seconds.txt"
    start = time.process_time()
    run(folder, *options)
    if not note.exists():
        note.write_text(f"{time.process_time() - start:.1f}\n", encoding="utf-8")
    return float(note.read_text(encoding="utf-8"))
