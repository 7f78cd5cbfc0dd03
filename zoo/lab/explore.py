"""How Gumbel noise and tau in the actor's gradient change exploration: curves of the policy's entropy.

    python scripts/explore.py
    python scripts/explore.py seeds=1 taus=0.3,3

CartPole-v1, the default settings of ``model=actor_critic`` but for a critic with the action concatenated, and an
entropy weight of zero, so that nothing else holds the entropy up. Actions are always drawn from the same law,
softmax(logits); what differs is the noise and the temperature in the draw that the actor is trained through. Runs that
are there already are not trained again. Prints a table. 27 runs by default, each of 20,000 environment steps.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from pydantic import PositiveFloat, PositiveInt

from zoo.errors import ZooError
from zoo.lab.common import check_names
from zoo.lab.compare_rl import run
from zoo.training.loggers import read_metrics
from zoo.training.plots import style

RELAXATIONS = {
    "softmax": "no noise: softmax",
    "gumbel_softmax": "Gumbel noise, relaxed",
    "st_gumbel_softmax": "Gumbel noise, straight-through",
}
TAUS = (0.3, 1.0, 3.0)
APART = 0.04  # nats, of labels, so that they can be read
BUDGET = (
    "epochs=4",
    "model.critic.head=concatenated",
    "model.entropy_weight=0.0",
    "trainer.log_every_n_steps=20",
    "data.test_episodes=20",
)


def experiment(
    *overrides: str,
    relaxations: Sequence[str] = tuple(RELAXATIONS),
    taus: Sequence[PositiveFloat] = TAUS,
    seeds: PositiveInt = 3,
    early: PositiveInt = 5000,
    folder: Path = Path("runs/explore"),
    picture: Path = Path("docs/actor_critic/exploration.png"),
) -> list[str]:
    """Train what is not trained yet, print the table, and draw the curves.

    Args:
        relaxations: softmax, gumbel_softmax or st_gumbel_softmax.
        taus: temperatures of each.
        seeds: runs of each.
        early: environment steps after which the entropy is told, beside that at the end.
        folder: of the runs.
        picture: the file of the curves.
        overrides: options of scripts/train.py for every run, such as epochs=1.

    Returns:
        the lines of the table.
    """
    check_names("relaxations", relaxations, RELAXATIONS)
    panels: dict[str, dict[float, list[list[tuple[float, float]]]]] = {}
    table = [
        f"| draw | tau | entropy after {early:,} steps | at the end | return, mode, each seed | drawn actions |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(table))
    for relaxation in relaxations:
        label = RELAXATIONS[relaxation]
        for tau in taus:
            options = (*BUDGET, f"relaxation={relaxation}", f"relaxation.tau={float(tau)}")
            runs = [
                run(folder / relaxation / str(float(tau)) / str(seed), *options, f"seed={seed}", *overrides)
                for seed in range(seeds)
            ]
            series = [read_metrics(one.metrics) for one in runs]
            steps = [value for _, value in series[0]["train/env_steps"]]
            if steps[-1] < early:
                raise ZooError(f"early={early} is after the end of the runs, at {steps[-1]:.0f} environment steps")
            entropies = [column(one, "train/entropy") for one in series]
            panels.setdefault(label, {})[float(tau)] = [list(zip(steps, values)) for values in entropies]
            entropy = [statistics.mean(values) for values in zip(*entropies)]
            soon = next(value for step, value in zip(steps, entropy) if step >= early)
            modes, drawn = ([column(one, f"test/{kind}return")[-1] for one in series] for kind in ("", "sampled_"))
            returns = f"{' '.join(f'{value:.0f}' for value in modes)} | {statistics.mean(drawn):.0f}"
            row = f"| {label} | {tau:g} | {soon:.2f} | {entropy[-1]:.2f} | {returns} |"
            print(row, flush=True)
            table.append(row)
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw(panels, picture)
    return table


def draw(panels: dict[str, dict[float, list[list[tuple[float, float]]]]], path: Path) -> None:
    """The entropy over environment steps, a panel for each draw, its taus labelled: thin lines are seeds."""
    with style():
        figure = Figure(figsize=(3.2 * len(panels) + 0.6, 3.4), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for one, (label, lines) in zip(axes, panels.items()):
            ends = []
            for i, (tau, runs) in enumerate(lines.items()):
                for points in runs if len(runs) > 1 else []:
                    one.plot(*zip(*points), color=f"C{i}", linewidth=0.5, alpha=0.5)
                together = [(points[0][0], statistics.mean(y for _, y in points)) for points in zip(*runs)]
                one.plot(*zip(*together), color=f"C{i}", linewidth=1.8)
                x, y = together[-1]
                ends.append((y, x, tau, f"C{i}"))
            beside = -1.0
            for y, x, tau, color in sorted(ends):
                beside = max(y, beside + APART)
                one.annotate(f" tau {tau:g}", (x, beside), color=color, va="center")
            one.set_title(f"{label}\nends at {min(ends)[0]:.2f} to {max(ends)[0]:.2f}")
            one.set_xlabel("environment steps")
            one.grid()
        axes[0].set_ylabel("entropy of the policy (nats)")
        figure.savefig(path)


def column(series: dict[str, list[tuple[int, float]]], name: str) -> list[float]:
    return [value for _, value in series[name]]
