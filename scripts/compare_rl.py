"""Train the actor-critic with several relaxations and critics on one budget: the table of docs/actor_critic.

    python scripts/compare_rl.py [folder] [--envs CartPole-v1 Acrobot-v1] [--heads silu relu linear]
                                 [--relaxations exact softmax ...] [--seeds 5] [--table FILE]

Every run has the default settings of ``model=actor_critic`` and 30,000 environment steps. Runs that are there already
are not trained again, and the table is of all runs in the folder, ``runs/compare_rl`` by default, so that it can be
made in several goes. About 10 CPU-seconds a run: with all defaults, 210 runs, 40 minutes on one core.

The columns: environment steps to the first evaluation that reaches the bar, the median over all seeds, and how many
seeds reach it; the mean return of the last three evaluations (most probable actions), and its 95% bootstrap interval
over seeds; then, averaged over the last half of training, the entropy of the policy in nats, the type gap
|Q(s, p) - sum of p(a) Q(s, a)| relative to |Q|, and how the gradient at the logits compares with the exact one.
"""

import argparse
import itertools
import logging
import math
import statistics
from pathlib import Path

import torch

from zoo.cli.options import compose, plain
from zoo.cli.train import check, train
from zoo.loggers import read_metrics
from zoo.metrics.returns import bootstrap_interval
from zoo.runs import RunFolder

ENVS = {
    "CartPole-v1": (475, ["epochs=6"]),
    "Acrobot-v1": (-100, ["data.envs=20", "model.updates=1", "epochs=6"]),
}
"""Environment -> the bar and the options of its runs."""
HEADS = {
    "silu": [],
    "relu": ["model.critic.activation=relu"],
    "linear": ["model.critic.head=linear"],
}
"""Critic -> its options: concatenated with either activation, or linear in the action."""
RELAXATIONS = ("exact", "st_gumbel_softmax", "gumbel_softmax", "reinmax", "rloo", "st_argmax", "softmax")
BUDGET = ["model=actor_critic", "logger=csv", "trainer.enable_progress_bar=false", "pictures_every_n_epochs=1000"]
BUDGET += ["trainer.accelerator=cpu", "data.eval_episodes=10", "data.test_episodes=10"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/compare_rl"))
    parser.add_argument("--envs", nargs="+", choices=ENVS, default=list(ENVS))
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--relaxations", nargs="+", default=list(RELAXATIONS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", type=Path, help="where to write it; by default actor_critic.md in the folder")
    chosen = parser.parse_args()
    table = chosen.table or chosen.folder / "actor_critic.md"
    # The most telling first, so that an unfinished table is of use: one critic after the other, each seed by seed.
    for head, env, seed in itertools.product(chosen.heads, chosen.envs, range(chosen.seeds)):
        options = [f"data.env={env}", *ENVS[env][1], *HEADS[head], f"seed={seed}"]
        for relaxation in chosen.relaxations:
            run(chosen.folder / env / head / relaxation / str(seed), *options, f"relaxation={relaxation}")
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text("\n".join(rows(chosen.folder)) + "\n", encoding="utf-8")
    logging.getLogger("zoo").info("\n%s", table)


def run(folder: Path, *options: str) -> RunFolder:
    """A short run of the actor-critic in ``folder``; nothing if it is there already."""
    overrides = [*BUDGET, *options, f"run={folder}"]
    config = compose(overrides)
    check(config)
    train(plain(config), folder, command=" ".join(["python scripts/train.py", *overrides]))
    return RunFolder(folder)


def rows(root: Path) -> list[str]:
    """The table of all complete runs in ``root``."""
    lines = [
        "| environment | critic | `relaxation=` | steps to the bar | reached | return at the end | entropy | type gap "
        "| gradient bias | cosine |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for env in ENVS:
        for head in HEADS:
            found = {path.name for path in (root / env / head).glob("*")}
            for relaxation in [name for name in RELAXATIONS if name in found] + sorted(found - set(RELAXATIONS)):
                folders = [RunFolder(path) for path in sorted((root / env / head / relaxation).iterdir())]
                if runs := [folder for folder in folders if folder.results.exists()]:
                    lines.append(row(env, head, relaxation, runs))
    return lines


def row(env: str, head: str, relaxation: str, runs: list[RunFolder]) -> str:
    bar = ENVS[env][0]
    series = [read_metrics(folder.metrics) for folder in runs]
    first = [steps_to(one, bar) for one in series]
    final = torch.tensor([statistics.mean(value for _, value in one["val/return"][-3:]) for one in series])
    gap = statistics.mean(late(one, "type_gap") / abs(late(one, "q")) for one in series)
    means = [statistics.mean(late(one, name) for one in series) for name in ("gradient_bias", "gradient_cosine")]
    entropy = statistics.mean(late(one, "entropy") for one in series)
    median, reached = statistics.median(first), sum(map(math.isfinite, first))
    steps = f"{median:,.0f}" if math.isfinite(median) else "-"
    return (
        f"| {env} | {head} | `{relaxation}` | {steps} | {reached} of {len(runs)} "
        f"| {with_interval(final, 0)} | {entropy:.2f} | {gap:.4f} | {means[0]:.2f} | {means[1]:.2f} |"
    )


def with_interval(values: torch.Tensor, digits: int) -> str:
    """The mean of ``values`` ``(seeds,)``, and where there are several its 95% bootstrap interval."""
    mean = f"{values.mean():.{digits}f}"
    if len(values) == 1:
        return mean
    low, high = bootstrap_interval(values, statistic=lambda resampled: resampled.mean(-1))
    return f"{mean} ({low:.{digits}f} to {high:.{digits}f})"


def steps_to(series: dict[str, list[tuple[int, float]]], bar: float) -> float:
    """Environment steps at the first evaluation with a return of at least ``bar``; infinite if there is none."""
    env_steps = dict(series["train/env_steps"])
    update = next((step for step, value in series["val/return"] if value >= bar), None)
    return math.inf if update is None else env_steps[max(step for step in env_steps if step <= update)]


def late(series: dict[str, list[tuple[int, float]]], name: str) -> float:
    """The mean of a training value over the second half."""
    values = [value for _, value in series[f"train/{name}"]]
    return statistics.mean(values[len(values) // 2 :])


if __name__ == "__main__":
    main()
