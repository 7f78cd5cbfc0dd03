"""Throughput of one and of several processes, and the share of time that goes into communication.

    python scripts/bench/scaling.py [--processes 1 2] [--steps 50] [--batch-size 1000] [--cpu-time] [--noise]
                                     [option=value ...]

Trains the categorical VAE on real MNIST as ``scripts/train.py trainer=ddp`` does (on the accelerators if there are
any, else on the CPU with one thread a process). *Strong scaling* splits one batch among the processes; *weak scaling*
gives each process a batch. Communication is what a step takes longer than the same step with the averaging of
gradients left out, which leaves each process with weights of its own: right for timing, not for training. Processes
that share cores or memory bandwidth slow each other down in both, so that is not counted as communication.

With ``--cpu-time`` a second is one of the slowest process's CPU, for a machine that others use, too: what processes
spend on communication counts, not how long they wait for each other.

With ``--noise``: what it costs each process to draw the noise of the whole batch
(:class:`zoo.relaxations.PartOfBatch`).

On an accelerator it also measures cat_vae in one process: eager, compiled, and compiled with CUDA graphs, against the
plain loop. That part has not been run yet: no accelerator was available.
"""

import argparse
import contextlib
import logging
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from zoo.config import from_config
from zoo.config.composition import compose, plain
from zoo.data import sources
from zoo.relaxations import Categorical, Noise, PartOfBatch
from zoo.training.runs import set_up_logging

ROUNDS = 5
WARM_UP = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--steps", type=int, default=50, help="of a measurement")
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--cpu-time", action="store_true", help="count CPU time, without waiting")
    parser.add_argument("--noise", action="store_true", help="only the price of noise for the whole batch")
    parser.add_argument("options", nargs="*", help="as for scripts/train.py")
    chosen = parser.parse_args()
    set_up_logging(None)
    config = plain(compose(["model=cat_vae", "model.prior=uniform", "logger=csv", "run=unused", *chosen.options]))
    if chosen.noise:
        noise_price(config)
        return
    sources.load("MNIST", config["data"]["root"])
    counted = "CPU time" if chosen.cpu_time else f"time, at a load of {os.getloadavg()[0]:.1f} before"
    print(f"{counted}; {ROUNDS} rounds of {chosen.steps} steps, median; {device_name()}, {os.cpu_count()} cores\n")
    print("| scaling | processes | batch of each | images/s | times one process | communication |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    alone = None
    for kind in ("strong", "weak"):
        for processes in chosen.processes:
            share = chosen.batch_size // processes if kind == "strong" else chosen.batch_size
            seconds, without = in_processes(processes, config, share, chosen.steps, chosen.cpu_time)
            rate = processes * share / seconds
            alone = rate if alone is None else alone
            part = f"{max(0.0, 1 - without / seconds):.0%}" if processes > 1 else "-"
            print(f"| {kind} | {processes} | {share} | {rate:.0f} | {rate / alone:.2f} | {part} |", flush=True)
    if torch.accelerator.is_available():
        single_accelerator(config, chosen.batch_size, chosen.steps)


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, one thread a process"


# Several processes ----------------------------------------------------------------------------------------------------


def in_processes(processes: int, config: dict, share: int, steps: int, cpu_time: bool) -> tuple[float, float]:
    """Seconds of a step, with and without communication: the median over rounds of the slowest process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    workers = [
        context.Process(target=worker, args=(rank, processes, port, config, share, steps, cpu_time, queue))
        for rank in range(processes)
    ]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a process ended with {process.exitcode}")
    return queue.get()


def worker(
    rank: int, processes: int, port: int, config: dict, share: int, steps: int, cpu_time: bool, queue: object
) -> None:
    set_up_logging(None, level=logging.WARNING)
    torch.set_num_threads(1)
    device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=processes,
        timeout=timedelta(minutes=5),
    )
    step = ddp_step(config, share, device, PartOfBatch(rank, processes, seed=0))
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(ROUNDS):
        for communicate in (True, False):
            clock = time.process_time if cpu_time else time.perf_counter
            seconds = torch.tensor([measure(partial(step, communicate), steps, device, clock)], device=device)
            distributed.all_reduce(seconds, distributed.ReduceOp.MAX)
            times[communicate].append(seconds.item())
    if rank == 0:
        queue.put((statistics.median(times[True]), statistics.median(times[False])))
    distributed.barrier()
    distributed.destroy_process_group()


def plain_step(config: dict, share: int, device: torch.device) -> Callable[[], None]:
    """One step of training on ``share`` images in one process."""
    model = from_config(config["model"]).to(device)
    optimizer = model.optimizer.configure(model.parameters(), 10**6)["optimizer"]
    batches = endless(config, share, device)

    def step() -> None:
        x = next(batches)
        optimizer.zero_grad()
        model.terms(x, model.posterior(x))["loss"].mean().backward()
        optimizer.step()

    return step


def ddp_step(config: dict, share: int, device: torch.device, noise: Noise) -> Callable[[bool], None]:
    """One step of training on ``share`` images with ``noise``, as Lightning's strategy makes it."""
    model = from_config(config["model"]).to(device)
    model.relaxation.noise = noise
    optimizer = model.optimizer.configure(model.parameters(), 10**6)["optimizer"]
    batches = endless(config, share, device)

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return model.terms(x, model.posterior(x))["loss"].mean()

    wrapped = DistributedDataParallel(Step(), device_ids=[device.index] if device.type == "cuda" else None)

    def step(communicate: bool) -> None:
        with contextlib.nullcontext() if communicate else wrapped.no_sync():
            optimizer.zero_grad()
            wrapped(next(batches)).backward()
            optimizer.step()

    return step


def endless(config: dict, share: int, device: torch.device) -> Iterator[torch.Tensor]:
    """Images of MNIST on the device, as the data module gives them."""
    from zoo.data.batches import Place
    from zoo.data.images import ImageBatches

    data = from_config(config["data"])
    data.setup()
    images, labels = (values.to(device) for values in data.splits["train"])
    while True:
        options = {"batch_size": share, "binarize": "dynamic", "key": (0, 0), "shuffle": True, "place": Place()}
        for x, _ in ImageBatches(images, labels, **options):
            yield x


def measure(
    step: Callable[[], None], steps: int, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of a step, by ``clock``."""
    for _ in range(WARM_UP):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = clock()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (clock() - start) / steps


def noise_price(config: dict, share: int = 100) -> None:
    """What it costs a process that has ``share`` images to draw the noise of all processes' images."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    step = plain_step(config, share, device)
    alone = measure(step, 50, device)
    logits = torch.randn(share, config["model"]["latents"], config["model"]["categories"])
    draws: dict[str, Callable[[Noise], object]] = {
        "gumbel_softmax": lambda noise: noise.gumbel(logits),
        "reinmax": lambda noise: Categorical(logits).sample(noise=noise),
    }
    print(f"A step of cat_vae with {share} images takes {1000 * alone:.1f} ms on one thread. A draw adds to it:\n")
    print("| processes | " + " | ".join(f"`{name}`" for name in draws) + " |\n| ---: | ---: | ---: |")
    base = {name: measure(partial(draw, Noise()), 300, device) for name, draw in draws.items()}
    for processes in (2, 8, 64):
        noise = PartOfBatch(0, processes, seed=0)
        more = [(measure(partial(draw, noise), 300, device) - base[name]) / alone for name, draw in draws.items()]
        print(f"| {processes} | " + " | ".join(f"{share:.1%}" for share in more) + " |")


# One accelerator; not measured yet ------------------------------------------------------------------------------------


def single_accelerator(config: dict, batch_size: int, steps: int) -> None:
    """Images a second: eager, compiled, compiled with CUDA graphs; and where the time of the eager step goes."""
    device = torch.device(torch.accelerator.current_accelerator())
    batches = endless(config, batch_size, device)
    print("\n| step | images/s |\n| --- | ---: |")
    for name, mode in (("eager", None), ("compiled", "default"), ("compiled, CUDA graphs", "reduce-overhead")):
        model = from_config(config["model"]).to(device)
        optimizer = model.optimizer.configure(model.parameters(), 10**6)["optimizer"]

        def loss(x: torch.Tensor, model: torch.nn.Module = model) -> torch.Tensor:
            return model.terms(x, model.posterior(x))["loss"].mean()

        compiled = loss if mode is None else torch.compile(loss, mode=mode)

        def step(compiled: Callable = compiled, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            compiled(next(batches)).backward()
            optimizer.step()

        print(f"| {name} | {batch_size / measure(step, steps, device):.0f} |", flush=True)
        if mode is None:
            with torch.profiler.profile() as profile:
                measure(step, 20, device)
            table = profile.key_averages().table(sort_by="self_device_time_total", row_limit=12)
    print(f"\nThe eager step:\n{table}")


if __name__ == "__main__":
    main()
