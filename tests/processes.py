"""Several processes that train together as torchrun starts them, but import everything once."""

import multiprocessing
import os
import socket
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.cli.options import compose, plain
from zoo.runs import RunFolder

Job = tuple[Path, Sequence[str]]
"""A run folder, and the options of the run."""


def train_in_processes(processes: int, jobs: Sequence[Job]) -> list[RunFolder]:
    """Train each of ``jobs``, one after the other, in ``processes`` processes; if it is one, in this."""
    together = ("trainer=multi_node", "trainer.num_nodes=1", f"trainer.devices={processes}") if processes > 1 else ()
    configs = [(folder, plain(compose([*options, *together, f"run={folder}"]))) for folder, options in jobs]
    if processes == 1:
        train(configs)
    else:
        start(processes, configs)
    return [RunFolder(folder) for folder, _ in jobs]


def start(processes: int, configs: list[tuple[Path, dict[str, Any]]]) -> None:
    context = multiprocessing.get_context("forkserver")  # a fork of this process would not have autograd's threads
    context.set_forkserver_preload(["zoo.cli.train", "zoo.cli.trainer", "zoo.callbacks", "zoo.data", "zoo.models"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [context.Process(target=train_as, args=(rank, processes, port, configs)) for rank in range(processes)]
    for process in started:
        process.start()
    try:
        for process in started:
            process.join(300)
        assert [process.exitcode for process in started] == [0] * processes
    finally:
        for process in started:
            process.kill()


def train_as(rank: int, processes: int, port: int, configs: list[tuple[Path, dict[str, Any]]]) -> None:
    """What process ``rank`` does."""
    from lightning.pytorch.utilities import rank_zero_only

    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    variables |= {"GROUP_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {name: str(value) for name, value in variables.items()}
    rank_zero_only.rank = rank  # which Lightning finds out when it is imported
    warnings.simplefilter("ignore")
    train(configs)


def train(configs: list[tuple[Path, dict[str, Any]]]) -> None:
    from zoo.cli.train import train

    for folder, config in configs:
        train(config, folder, command="")
