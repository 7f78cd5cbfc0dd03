"""Images per second: ``scripts/train.py`` against a plain loop and against a loop with a DataLoader.

    python scripts/bench/training.py [option=value ...]     options as for scripts/train.py

All train the same network, with a uniform prior as in the reference, from the same configuration on real MNIST with
the same batch size, in turns, so that a busy machine slows each down alike:

- Trainer: what ``scripts/train.py`` builds, its callbacks and CSV logger included;
- plain loop: the same modules and the same in-memory batches, and nothing else;
- DataLoader loop: the same modules fed by torchvision's MNIST, ToTensor and a DataLoader, as the usual
  reference implementations of this model do, with binarisation on the fly;
- reference loop: the same network and feed, and the step too as those implementations write it: PyTorch's
  ``gumbel_softmax``, a sigmoid and ``binary_cross_entropy``, Adam as it comes, the losses read at every step.

The two ways to feed are also measured alone: what a network that costs nothing would get.
"""

import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from timing import in_turns, print_ratios, torchvision_batches, trainer_seconds
from torch import Tensor

from zoo.config import from_config
from zoo.config.composition import compose, plain
from zoo.training.runs import set_up_logging

ROUNDS = 5
STEPS = 150


def main() -> None:
    warnings.filterwarnings("ignore")
    set_up_logging(None)
    config = plain(compose(["model=cat_vae", "model.prior=uniform", "logger=csv", "run=unused", *sys.argv[1:]]))
    config["trainer"] |= {"max_epochs": None, "max_steps": STEPS, "limit_val_batches": 0, "enable_progress_bar": False}
    data = from_config(config["data"])
    data.setup()
    batch_size = config["data"]["batch_size"]
    images = STEPS * batch_size
    ways: dict[str, Callable[[], float]] = {
        "Trainer": lambda: batch_size / trainer_seconds(config, data),
        "plain loop": lambda: images / loop_seconds(config, data.train_dataloader()),
        "DataLoader loop": lambda: images / loop_seconds(config, torchvision_batches(config, batch_size)),
        "reference loop": lambda: images / reference_seconds(config, torchvision_batches(config, batch_size)),
        "in-memory data alone": lambda: images / feed_seconds(data.train_dataloader()),
        "DataLoader alone": lambda: images / feed_seconds(torchvision_batches(config, batch_size)),
    }
    rates = in_turns(ways, ROUNDS)
    print(f"{ROUNDS} rounds of {STEPS} steps, batch {batch_size}, {torch.get_num_threads()} threads\n")
    for name, values in rates.items():
        print(f"{name:<20} {statistics.median(values):8.0f} images/s")
    print_ratios(rates, "Trainer", ["plain loop", "DataLoader loop", "reference loop"])


def loop_seconds(config: dict, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    model = from_config(config["model"])
    optimizer = model.optimizer.configure(model.parameters(), STEPS)["optimizer"]
    batches = iter(batches)
    start = time.perf_counter()
    for step in range(STEPS):
        optimizer.zero_grad()
        model.training_step(next(batches), step)["loss"].backward()
        optimizer.step()
    return time.perf_counter() - start


def reference_seconds(config: dict, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    model = from_config(config["model"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["model"]["optimizer"]["lr"])
    batches, seen = iter(batches), 0.0
    start = time.perf_counter()
    for _ in range(STEPS):
        x, _ = next(batches)
        logits = model.encoder(x)
        q = F.softmax(logits, dim=-1)
        code = F.gumbel_softmax(logits, tau=1.0, hard=True)
        reconstruction = F.binary_cross_entropy(torch.sigmoid(model.decoder(code)), x, reduction="none").sum() / len(x)
        kl = (q * torch.log(q * q.shape[-1] + 1e-20)).sum() / len(x)
        loss = reconstruction + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += loss.item() + reconstruction.item() + kl.item()
    return time.perf_counter() - start


def feed_seconds(batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    batches = iter(batches)
    start = time.perf_counter()
    for _ in range(STEPS):
        next(batches)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
