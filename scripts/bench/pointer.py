"""Training instances per second of the pointer network against those of the models of the package rl4co.

    python scripts/bench/pointer.py [--size 20] [--batch 64] [--rounds 9] [--steps 8]

The package is not a dependency of this project, and its pins are older than what is used here. In an environment of its
own that has this project installed:

    pip install --no-deps rl4co tensordict torchrl einops robust-downloader colorlog pyvers cloudpickle orjson rich \
        pygments markdown-it-py mdurl scipy requests

Three comparisons, each in turns in one process, on the CPU with one thread. A step is: random instances, forward,
backward, gradients clipped to norm 1, fused AdamW. Seconds are of the process, so that a busy machine counts less.

- many starts: rl4co's POMO, a solution from each point with a shared baseline, against ``rloo`` with as many solutions
  (two samples from half the points), the same with the feed-forward part that the decoder has by default and POMO has
  not, ``rloo`` with two samples from every point (twice as many solutions), ``self_label`` (as many solutions without
  gradient; the best, from every start, is then scored at once), and what trained ``pointer_net.tsp20``, with its own
  networks, its local search of labels and its bfloat16;
- one solution: rl4co's AttentionModel against ``reinforce`` from one start, both with a running-mean baseline.
  The baseline of rl4co that is the default, a greedy rollout, would cost it more;
- LSTM: rl4co's PointerNetwork against the LSTM encoder and the recurrent query, else as for one solution.

Equal: batch, points, width 128, 3 layers, 8 heads, 512 hidden units of each layer's feed-forward part, none in the
decoder but where it is said, clipped logits; of the LSTMs width 128, one layer. rl4co's checks of solutions and for NaN
are off, and its logging.

Not equal: this project's network also has a bias by distance in each attention and RMS norm before each part, where
rl4co has batch norm (POMO: instance norm) after it, and POMO no embedding of the whole instance. A tour here begins at
a given point (19 draws of 20), as with POMO; rl4co's two others draw it. Attention of rl4co's PointerNetwork is
additive, with one head, as in the paper; here it is of scaled products.
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
from timing import in_turns, print_ratios
from torch import Tensor, nn

from zoo.config import from_config
from zoo.config.composition import check, compose, plain

WIDTH, LAYERS, HEADS, FEEDFORWARD = 128, 3, 8, 512
WARMUP = 2
Loss = Callable[[Tensor], Tensor]

DECODER = [f"model.decoder.heads={HEADS}", "model.decoder.feedforward=0"]
TRANSFORMER = [
    f"model.encoder.width={WIDTH}",
    f"model.encoder.layers={LAYERS}",
    f"model.encoder.heads={HEADS}",
    f"model.encoder.feedforward={FEEDFORWARD}",
    *DECODER,
]
LSTM = [
    "model.encoder._target_=zoo.models.pointer_net.LSTMEncoder",
    f"model.encoder.width={WIDTH}",
    "model.encoder.layers=1",
    "model.decoder.query=lstm",
    *DECODER,
]
RLOO = ["relaxation=rloo", "relaxation.samples=2", "model.objective=expectation"]
REINFORCE = ["relaxation=reinforce", "model.objective=expectation", "model.starts=1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=20, help="points")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=8, help="of each way in each round")
    chosen = parser.parse_args()
    if min(chosen.batch, chosen.rounds, chosen.steps) < 1 or chosen.size < 4 or chosen.size % 2:
        parser.error("need an even --size of at least 4, and --batch, --rounds and --steps of at least 1")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = chosen.size
    pomo, attention, pointer = theirs(size)
    comparisons = {
        "many starts": {
            "rl4co POMO": pomo,
            "rloo": ours(size, [*TRANSFORMER, *RLOO, f"model.starts={size // 2}"]),
            "rloo, feed-forward": ours(
                size, [*TRANSFORMER, *RLOO, f"model.starts={size // 2}", "model.decoder.feedforward=128"]
            ),
            "rloo, twice as many": ours(size, [*TRANSFORMER, *RLOO, f"model.starts={size}"]),
            "self_label": ours(size, [*TRANSFORMER, "model.objective=self_label", f"model.starts={size}"]),
            "as tsp20 was trained": ours(size, [], "experiment=pointer_net_tsp20"),
        },
        "one solution": {"rl4co AttentionModel": attention, "reinforce": ours(size, [*TRANSFORMER, *REINFORCE])},
        "LSTM": {"rl4co PointerNetwork": pointer, "reinforce, LSTM": ours(size, [*LSTM, *REINFORCE])},
    }
    print(f"{size} points, batch {chosen.batch}, {chosen.rounds} rounds of {chosen.steps} steps, one thread")
    for title, models in comparisons.items():
        ways = {name: rate(*model, size, chosen.batch, chosen.steps) for name, model in models.items()}
        rates = in_turns(ways, chosen.rounds)
        print(f"\n{title}")
        for name, values in rates.items():
            parameters = sum(p.numel() for p in models[name][0].parameters())
            print(f"{name:<22} {statistics.median(values):7.0f} instances/s  {parameters:7d} parameters")
        reference, *others = rates
        for name in others:
            print_ratios(rates, name, [reference])


def rate(model: nn.Module, loss: Loss, size: int, batch: int, steps: int) -> Callable[[], float]:
    """A function that trains ``model`` for ``steps`` and returns its instances per second of CPU time."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0, fused=True)

    def train(steps: int) -> float:
        began = time.process_time()
        for _ in range(steps):
            value = loss(torch.rand(batch, size, 2))
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return batch * steps / (time.process_time() - began)

    train(WARMUP)
    return lambda: train(steps)


def ours(size: int, options: list[str], base: str = "model=pointer_net") -> tuple[nn.Module, Loss]:
    config = compose([base, f"data.size={size}", *options])
    check(config)
    config.run = "unused"  # only a job of Hydra could resolve it
    model = from_config(plain(config)["model"]).train()
    half = config.trainer.precision == "bf16-mixed"

    def loss(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return getattr(model, model.objective)(x)["loss"]

    return model, loss


def theirs(size: int) -> list[tuple[nn.Module, Loss]]:
    """rl4co's POMO, AttentionModel and PointerNetwork."""
    try:
        from rl4co.envs import TSPEnv
        from rl4co.models import POMO, AttentionModel, PointerNetwork
        from tensordict import TensorDict
    except ImportError as error:
        sys.exit(
            f"this benchmark needs the package rl4co, in an environment of its own ({error}): "
            "the command that installs it is in `python scripts/bench/pointer.py --help`"
        )

    network = {
        "embed_dim": WIDTH,
        "num_encoder_layers": LAYERS,
        "num_heads": HEADS,
        "feedforward_hidden": FEEDFORWARD,
        "check_nan": False,
    }
    env = TSPEnv(generator_params={"num_loc": size}, check_solution=False)
    models = [
        POMO(env, policy_kwargs=network, num_starts=size),
        AttentionModel(env, baseline="exponential", policy_kwargs=network),
        PointerNetwork(env, baseline="exponential", policy_kwargs={"embed_dim": WIDTH, "hidden_dim": WIDTH}),
    ]

    def ready(model: nn.Module) -> tuple[nn.Module, Loss]:
        model.train()
        model.log_metrics = lambda *_, **__: {}  # there is no Trainer to log to
        return model, lambda x: model.training_step(TensorDict({"locs": x}, batch_size=x.shape[:1]), 0)["loss"]

    return [ready(model) for model in models]


if __name__ == "__main__":
    main()
