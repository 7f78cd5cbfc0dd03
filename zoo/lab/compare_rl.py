"""Train the actor-critic with several relaxations and critics on one budget: the tables of docs/actor_critic.

    python scripts/compare_rl.py
    python scripts/compare_rl.py envs=CartPole-v1 heads=silu,linear relaxations=exact,softmax seeds=2

Every run has the settings of ``model=actor_critic``, on Acrobot those of ``experiment=actor_critic_acrobot``, but for
the relaxation, the critic, an entropy weight that stays, no correction, and 30,000 environment steps. Runs that are
there already are not trained again, and the tables are of all runs in the folder, ``runs/compare_rl`` by default, so
that they can be made in several goes. About 15 CPU-seconds a run: with all defaults, 210 runs, an hour on one core.

The first table has the mean return of the last three evaluations (most probable actions) and its 95% bootstrap interval
over seeds. The second has its difference from that of ``exact`` with the same seeds. The columns of the third:
environment steps to the first evaluation that reaches the bar, the median over all seeds, and how many seeds reach it;
the return of the first table, and that of the worst seed; then, averaged over the last half of training, the entropy of
the policy in nats, the type gap |Q(s, p) - sum of p(a) Q(s, a)| relative to |Q|, and how the gradient at the logits
compares with the exact one.
"""

import itertools
import logging
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import PositiveInt

from zoo.config.composition import choices
from zoo.data.environments.returns import bootstrap_interval
from zoo.lab.common import check_names, trained
from zoo.training.loggers import read_metrics
from zoo.training.runs import RunFolder

ACROBOT = ["experiment=actor_critic_acrobot", "data.replay=10000"]
ACROBOT += ["model.entropy_weight=0.03", "model.twins=min", "model.correction=false"]
ENVS = {
    "CartPole-v1": (475, ["epochs=6"]),
    "Acrobot-v1": (-100, [*ACROBOT, "epochs=6"]),
}
"""Environment -> the bar and the options of its runs."""
HEADS = {
    "silu": ["model.critic.head=concatenated"],
    "relu": ["model.critic.head=concatenated", "model.critic.activation=relu"],
    "linear": ["model.critic.head=linear"],
}
"""Critic -> its options: concatenated with either activation, or linear in the action."""
RELAXATIONS = ("exact", "st_gumbel_softmax", "gumbel_softmax", "reinmax", "rloo", "st_argmax", "softmax")
BUDGET = ["model=actor_critic", "pictures_every_n_epochs=1000", "trainer.accelerator=cpu"]
BUDGET += ["data.eval_episodes=10", "data.test_episodes=10", "model.target_entropy=null"]


def experiment(
    *overrides: str,
    envs: Sequence[str] = tuple(ENVS),
    heads: Sequence[str] = tuple(HEADS),
    relaxations: Sequence[str] = RELAXATIONS,
    seeds: PositiveInt = 5,
    folder: Path = Path("runs/compare_rl"),
    table: Path | None = None,
) -> Path:
    """Train what is not trained yet, and write the tables after each seed.

    Args:
        envs: which environments, CartPole-v1 or Acrobot-v1.
        heads: which critics, silu, relu or linear.
        relaxations: which of configs/relaxation.
        seeds: runs of each.
        folder: of the runs.
        table: where to write the tables; by default actor_critic.md in the folder.
        overrides: options of scripts/train.py for every run, such as epochs=1.

    Returns:
        the file of the tables.
    """
    check_names("envs", envs, ENVS)
    check_names("heads", heads, HEADS)
    check_names("relaxations", relaxations, choices("relaxation"))
    table = table or folder / "actor_critic.md"
    # The most telling first, so that an unfinished table is of use: one critic after the other, each seed by seed.
    for head, env, seed in itertools.product(heads, envs, range(seeds)):
        options = [f"data.env={env}", *ENVS[env][1], *HEADS[head], f"seed={seed}"]
        for relaxation in relaxations:
            run(folder / env / head / relaxation / str(seed), *options, f"relaxation={relaxation}", *overrides)
        table.parent.mkdir(parents=True, exist_ok=True)
        tables = [*summary(folder), "", *differences(folder), "", *rows(folder)]
        table.write_text("\n".join(tables) + "\n", encoding="utf-8")
    logging.getLogger("zoo").info("\n%s", table)
    return table


def run(folder: Path, *options: str) -> RunFolder:
    """A short run of the actor-critic in ``folder``; nothing if it is there already."""
    return trained(folder, [*BUDGET, *options])


def complete(root: Path) -> dict[str, dict[tuple[str, str], list[RunFolder]]]:
    """The complete runs in ``root``: relaxation -> (environment, critic) -> one run a seed."""
    found: dict[str, dict[tuple[str, str], list[RunFolder]]] = {name: {} for name in RELAXATIONS}
    for path in sorted(root.glob("*/*/*/*/")):
        env, head, relaxation, _ = path.relative_to(root).parts
        if (folder := RunFolder(path)).results.exists():
            found.setdefault(relaxation, {}).setdefault((env, head), []).append(folder)
    return found


def summary(root: Path) -> list[str]:
    """The returns at the end, a row a relaxation and a column an environment and a critic."""
    cells = list(itertools.product(ENVS, HEADS))
    lines = [f"| `relaxation=` | {' | '.join(f'{env}, {head}' for env, head in cells)} |"]
    lines += ["| --- |" + " ---: |" * len(cells)]
    for relaxation, runs in complete(root).items():
        returns = [with_interval(at_the_end(runs[cell]), 0) if cell in runs else "" for cell in cells]
        if any(returns):
            lines.append(f"| `{relaxation}` | {' | '.join(returns)} |")
    return lines


def differences(root: Path) -> list[str]:
    """The returns at the end less those of ``exact``, of runs that differ in nothing else."""
    kinds = {"concatenated": ("silu", "relu"), "linear": ("linear",)}
    lines = [f"| less `exact` | {' | '.join(f'{env}, {kind}' for env in ENVS for kind in kinds)} |"]
    lines += ["| --- |" + " ---: |" * len(ENVS) * len(kinds)]
    found = complete(root)
    for relaxation in (name for name, runs in found.items() if runs and name != "exact"):
        cells = []
        for env, heads in itertools.product(ENVS, kinds.values()):
            pairs = [
                at_the_end([run, other])
                for head in heads
                for run in found[relaxation].get((env, head), [])
                for other in found["exact"].get((env, head), [])
                if run.path.name == other.path.name  # the seed
            ]
            cells.append(with_interval(torch.stack(pairs) @ torch.tensor([1.0, -1.0]), 0) if pairs else "")
        lines.append(f"| `{relaxation}` | {' | '.join(cells)} |")
    return lines


def rows(root: Path) -> list[str]:
    """All measures, a row an environment, a critic and a relaxation."""
    lines = [
        "| environment | critic | `relaxation=` | steps to the bar | reached | return at the end | worst | entropy "
        "| type gap | gradient bias | cosine |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    found = complete(root)
    for env, head, relaxation in itertools.product(ENVS, HEADS, found):
        if runs := found[relaxation].get((env, head)):
            lines.append(row(env, head, relaxation, runs))
    return lines


def row(env: str, head: str, relaxation: str, runs: list[RunFolder]) -> str:
    series = [read_metrics(folder.metrics) for folder in runs]
    first = [steps_to(one, ENVS[env][0]) for one in series]
    median, reached = statistics.median(first), sum(map(math.isfinite, first))
    ends = at_the_end(runs)
    steps = f"{median:,.0f}" if math.isfinite(median) else "-"
    gap = statistics.mean(late(one, "type_gap") / abs(late(one, "q")) for one in series)
    means = [statistics.mean(late(one, name) for one in series) for name in ("gradient_bias", "gradient_cosine")]
    entropy = statistics.mean(late(one, "entropy") for one in series)
    return (
        f"| {env} | {head} | `{relaxation}` | {steps} | {reached} of {len(runs)} "
        f"| {with_interval(ends, 0)} | {ends.min():.0f} | {entropy:.2f} | {gap:.4f} | {means[0]:.2f} | {means[1]:.2f} |"
    )


def at_the_end(runs: list[RunFolder]) -> torch.Tensor:
    """The mean return of the last three evaluations of each run, ``(seeds,)``."""
    returns = [read_metrics(folder.metrics)["val/return"][-3:] for folder in runs]
    return torch.tensor([statistics.mean(value for _, value in last) for last in returns])


def with_interval(values: torch.Tensor, digits: int) -> str:
    """The mean of ``values`` ``(seeds,)``, and where there are several its 95% bootstrap interval."""
    numbers = [values.mean()]
    if len(values) > 1:
        numbers += bootstrap_interval(values, statistic=lambda resampled: resampled.mean(-1))
    mean, *interval = (f"{round(number.item(), digits) + 0.0:.{digits}f}" for number in numbers)  # + 0.0: no "-0"
    return f"{mean} ({' to '.join(interval)})" if interval else mean


def steps_to(series: dict[str, list[tuple[int, float]]], bar: float) -> float:
    """Environment steps at the first evaluation with a return of at least ``bar``; infinite if there is none."""
    env_steps = dict(series["train/env_steps"])
    update = next((step for step, value in series["val/return"] if value >= bar), None)
    return math.inf if update is None else env_steps[max(step for step in env_steps if step <= update)]


def late(series: dict[str, list[tuple[int, float]]], name: str) -> float:
    """The mean of a training value over the second half."""
    values = [value for _, value in series[f"train/{name}"]]
    return statistics.mean(values[len(values) // 2 :])
