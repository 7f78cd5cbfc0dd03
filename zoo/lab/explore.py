"""How Gumbel noise and tau in the actor's gradient change exploration: curves of the policy's entropy.

    python scripts/explore.py [folder] [--seeds 3] [--picture docs/actor_critic/exploration.png]

CartPole-v1, the default settings of ``model=actor_critic`` but for an entropy weight of zero, so that nothing else
holds the entropy up. Actions are always drawn from the same law, softmax(logits); what differs is the noise and the
temperature in the draw that the actor is trained through. Runs that are there already are not trained again.
"""

import argparse
import statistics
from pathlib import Path

from zoo.lab.compare_rl import run
from zoo.training.loggers import read_metrics
from zoo.training.plots import curves

RELAXATIONS = {
    "softmax": "no noise: softmax",
    "gumbel_softmax": "Gumbel noise, relaxed",
    "st_gumbel_softmax": "Gumbel noise, straight-through",
}
TAUS = (0.3, 1.0, 3.0)
BUDGET = ("epochs=4", "model.entropy_weight=0.0", "trainer.log_every_n_steps=20", "data.test_episodes=20")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/explore"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--picture", type=Path, default=Path("docs/actor_critic/exploration.png"))
    chosen = parser.parse_args()
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    print("| draw | tau | entropy after 5,000 steps | at the end | return, mode | return, drawn actions |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for relaxation, label in RELAXATIONS.items():
        for tau in TAUS:
            options = (*BUDGET, f"relaxation={relaxation}", f"relaxation.tau={tau}")
            runs = [
                run(chosen.folder / relaxation / str(tau) / str(seed), *options, f"seed={seed}")
                for seed in range(chosen.seeds)
            ]
            series = [read_metrics(folder.metrics) for folder in runs]
            steps = [value for _, value in series[0]["train/env_steps"]]
            entropy = [statistics.mean(values) for values in zip(*(column(one, "train/entropy") for one in series))]
            panels.setdefault(f"entropy (nats)\n{label}", {})[f"tau {tau:g}"] = list(zip(steps, entropy))
            early = next(value for step, value in zip(steps, entropy) if step >= 5000)
            ends = [
                statistics.mean(column(one, f"test/{kind}return")[-1] for one in series) for kind in ("", "sampled_")
            ]
            print(
                f"| {label} | {tau:g} | {early:.2f} | {entropy[-1]:.2f} | {ends[0]:.0f} | {ends[1]:.0f} |", flush=True
            )
    chosen.picture.parent.mkdir(parents=True, exist_ok=True)
    curves(panels, "environment steps").savefig(chosen.picture, dpi=100)


def column(series: dict[str, list[tuple[int, float]]], name: str) -> list[float]:
    return [value for _, value in series[name]]
