"""Train the pointer network on tours with several training signals on one budget: the table of docs/results.

    python scripts/compare_pointer.py
    python scripts/compare_pointer.py seconds=45 seeds=3 signals=self_label,rloo

Every run has the same network (width 64, two layers), batches of 64 instances with as many starts as points, and the
same number of CPU-seconds of training, start-up and evaluation not counted; the learning rate decays with the share
of them that is spent. Tested on the 10,000 standard instances. Runs that are there already are not trained again.
Writes ``pointer_net.md`` and ``pointer_net.json``. Ten minutes by default.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from pydantic import PositiveFloat, PositiveInt

from zoo.config import from_config
from zoo.config.composition import check, compose, plain
from zoo.data.seeding import TEST, TRAIN, generator, seed_default_generators
from zoo.lab.common import check_names, one_thread
from zoo.models.pointer_net import PointerNet
from zoo.models.pointer_net.metrics import OptimalityGap
from zoo.models.pointer_net.model import best_of

PATHWISE = ["model.objective=expectation", "data.task.gradient=counterfactual"]
EDGES = ["model.objective=expectation", "data.task.gradient=edges"]
SIGNALS = {
    "self_label_polished": ["model.objective=self_label", "model.polish=10"],
    "self_label": ["model.objective=self_label"],
    "rloo": ["model.objective=expectation", "relaxation=rloo", "relaxation.samples=2"],
    "unordered_set": [
        "model.objective=expectation",
        "relaxation=unordered_set",
        "relaxation.samples=20",
        "model.starts=1",
    ],
    "reinmax_counterfactual": ["relaxation=reinmax", *PATHWISE],
    "straight_through_counterfactual": ["relaxation=straight_through", *PATHWISE],
    "straight_through_edges": ["relaxation=straight_through", *EDGES],
    "gumbel_softmax_edges": ["relaxation=gumbel_softmax", *EDGES],
    "softmax_edges": ["relaxation=softmax", *EDGES],
}
"""Training signal -> its options."""
NETWORK = [
    "model.encoder.width=64",
    "model.encoder.layers=2",
    "model.encoder.feedforward=128",
    "model.decoder.feedforward=64",
]
BATCH, WARMUP, TESTED = 64, 100, 10_000


def experiment(
    *,
    signals: Sequence[str] = tuple(SIGNALS),
    size: PositiveInt = 10,
    seconds: PositiveFloat = 25.0,
    seeds: PositiveInt = 3,
    tested: PositiveInt = TESTED,
    folder: Path = Path("runs/compare_pointer"),
) -> str:
    """Train what is not trained yet, and write the table.

    Args:
        signals: which training signals.
        size: points of a tour.
        seconds: CPU-seconds of training.
        seeds: runs of each signal.
        tested: how many of the standard instances.
        folder: of the results.

    Returns:
        the table.
    """
    check_names("signals", signals, SIGNALS)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pointer_net.json"
    done = json.loads(path.read_text()) if path.is_file() else {}
    lines = [
        "| training signal | greedy, % above optimal | best of starts | seeds (greedy) | instances |",
        "| --- | ---: | ---: | --- | ---: |",
    ]

    def key(signal: str, seed: int) -> str:
        some = f", {tested} tested" if tested != TESTED else ""
        return f"{signal}, n={size}, {seconds:g} s, seed {seed}{some}"

    with one_thread():
        for seed in range(seeds):  # all signals of one seed first
            for signal in signals:
                name = key(signal, seed)
                if name not in done:
                    done[name] = run(signal, size, seconds, seed, tested)
                    path.write_text(json.dumps(done, indent=2) + "\n")
                    print(name, done[name], flush=True)
    for signal in signals:
        results = [done[key(signal, seed)] for seed in range(seeds)]
        greedy, best, instances = ([one[name] for one in results] for name in ("greedy", "best", "instances"))
        lines.append(
            f"| {signal.replace('_', ' ')} | {statistics.mean(greedy):.2f} | {statistics.mean(best):.3f} "
            f"| {', '.join(f'{gap:.2f}' for gap in greedy)} | {statistics.mean(instances):,.0f} |"
        )
    table = "\n".join(lines) + "\n"
    (folder / "pointer_net.md").write_text(table)
    print(table)
    return table


def run(signal: str, size: int, seconds: float, seed: int, tested: int = TESTED) -> dict[str, float]:
    """Train for ``seconds`` of CPU time, and test: gaps in per cent, and the number of training instances."""
    seed_default_generators(seed)
    model = build(size, [f"model.starts={size}", *SIGNALS[signal]])
    began = time.process_time()
    steps = train(model, size, seed, lambda step: (time.process_time() - began) / seconds, decay_from=0.3)
    return {**test(model.eval(), size, tested), "instances": steps * BATCH}


def build(size: int, options: list[str]) -> PointerNet:
    """The small network for tours through ``size`` points, in training mode."""
    config = compose(["model=pointer_net", f"data.size={size}", *NETWORK, *options])
    check(config)
    config.run = "unused"  # only a job of Hydra could resolve it
    return from_config(plain(config)["model"]).train()


def train(model: PointerNet, size: int, seed: int, spent: Callable[[int], float], decay_from: float = 1.0) -> int:
    """Steps of AdamW on fresh instances, as many as this returns.

    Args:
        model: with what it trains on.
        size: points of an instance.
        seed: of the instances and the draws.
        spent: the share of the training that is over after that many steps.
        decay_from: the share from which on the learning rate falls, as a half cosine, to zero.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=model.optimizer.lr, fused=True, weight_decay=0)
    step = 0
    while (share := spent(step)) < 1:
        seed_default_generators(seed, TRAIN, step)
        decay = 1.0 if share < decay_from else (1 + math.cos(math.pi * (share - decay_from) / (1 - decay_from))) / 2
        # From the start the whole rate would saturate the clip.
        optimizer.param_groups[0]["lr"] = model.optimizer.lr * min(1, (step + 1) / WARMUP) * decay
        x = model.task.generate(BATCH, size, generator("cpu", seed, TRAIN, step))
        loss = getattr(model, model.objective)(x)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), model.max_grad_norm or math.inf)
        optimizer.step()
        step += 1
    return step


@torch.no_grad()
def test(model: PointerNet, size: int, tested: int) -> dict[str, float]:
    """Gaps in per cent on the first of the standard instances."""
    x = model.task.standard(tested, size, TEST, "cpu")
    optimum = model.task.standard_optimum(x, TEST)
    greedy, best = OptimalityGap(), OptimalityGap()
    for part, least in zip(x.split(500), optimum.split(500)):
        order, cost = model.greedy(part)
        greedy.update(cost, least.unsqueeze(1))
        best.update(best_of(order, cost)[1], least)
    return {"greedy": greedy.compute().item(), "best": best.compute().item()}
