"""Large tours by a network that was trained on small ones, in one go and repaired, beside classical methods.

    python scripts/bench/pointer_large.py
    python scripts/bench/pointer_large.py FOLDER     a run folder in place of pointer_net.tsp20, trained on 100 points

Uniform random points, three instances of each size, one start and no symmetric copies; methods that search have equal
CPU seconds in all. Lengths are relative to farthest insertion's.
"""

import statistics
import sys

import numpy as np
import torch

import zoo
from zoo.models.pointer_net.tours import finding, repair
from zoo.models.pointer_net.tours.problem import Problem

SIZES, SEEDS, SECONDS = (200, 500, 1000, 2000), 3, 2.0


def main() -> None:
    torch.set_num_threads(1)
    checkpoint, trained = (sys.argv[1], 100) if len(sys.argv) > 1 else ("pointer_net.tsp20", 20)
    model = zoo.from_pretrained(checkpoint).eval()
    found: dict[str, dict[int, list[float]]] = {}
    for n in SIZES:
        for seed in range(SEEDS):
            points = np.random.RandomState(seed).random((n, 2))
            problem = Problem("random", [str(i) for i in range(n)], "EUCLID", points)
            rows = {
                row.method: row.length
                for row in finding.find(model, problem, seconds=SECONDS, symmetries=1, starts=1, size=trained)
            }
            plain = finding.network_tour(model, problem, 1, 1, n)  # distances and attention as in training
            rows["network, all seen as in training"] = problem.length(plain)
            mended = repair.repair(model, problem, plain, size=min(trained, finding.PIECE), seconds=SECONDS)
            rows["the same, repaired by network"] = problem.length(mended)
            for method, length in rows.items():
                over = 100 * (length / rows["farthest insertion"] - 1)
                found.setdefault(method, {}).setdefault(n, []).append(over)
    print("| method | " + " | ".join(f"{n} points" for n in SIZES) + " |\n| --- |" + " ---: |" * len(SIZES))
    for method, gaps in found.items():
        cells = [f"{statistics.mean(gaps[n]):+.1f}%" if n in gaps else "" for n in SIZES]
        print(f"| {method} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
