"""Processes of scripts, and several that train together as torchrun or srun start them; all import everything once."""

import gc
import multiprocessing
import os
import random
import runpy
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from zoo import hub
from zoo.config.composition import compose, plain
from zoo.training.runs import RunFolder

Job = tuple[Path, Sequence[str]]
"""A run folder, and the options of the run."""


def train_in_processes(processes: int, jobs: Sequence[Job]) -> list[RunFolder]:
    """Train each of ``jobs``, one after the other, in ``processes`` processes.

    One is this process, two are of torchrun, and four are two of srun on each of two machines.
    """
    machines = 2 if processes == 4 else 1
    together = ("trainer=multi_node", f"trainer.num_nodes={machines}", f"trainer.devices={processes // machines}")
    if processes == 1:
        together = ()
    configs = [(folder, plain(compose([*options, *together, f"run={folder}"]))) for folder, options in jobs]
    if processes == 1:
        train(configs)
    else:
        start(processes, configs)
    return [RunFolder(folder) for folder, _ in jobs]


def forks() -> ForkServerContext:
    """Processes that have imported everything: forks of a server, as forks of this one lack autograd's threads."""
    context = multiprocessing.get_context("forkserver")
    rooms = [entry.target.rpartition(".")[0] for entry in hub.models().values()]
    context.set_forkserver_preload(["zoo.cli.train", "zoo.training.train", "zoo.data", *rooms])
    return context


@contextmanager
def start_script(
    script: Path, arguments: Sequence[str], cwd: Path, environment: dict[str, str]
) -> Iterator[tuple[BaseProcess, Path]]:
    """A process of ``script``, killed at the end, and the file that its output and its errors go to."""
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output.txt")
        output.touch()
        process = forks().Process(target=run_as_script, args=(script, arguments, cwd, variables, output))
        process.start()
        try:
            yield process, output
        finally:
            process.kill()
            process.join()


def run_as_script(script: Path, arguments: Sequence[str], cwd: Path, environment: dict[str, str], output: Path) -> None:
    """What the process does."""
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(cwd)
    os.environ.clear()
    os.environ |= environment
    sys.argv = [str(script), *arguments]
    place = cwd if script.stem == "__main__" else script.parent  # as Python does
    sys.path[:0] = [str(place), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    gc.freeze()
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))  # which is read when it is imported
    runpy.run_path(str(script), run_name="__main__")


def start(processes: int, configs: list[tuple[Path, dict[str, Any]]]) -> None:
    ports = [free_port() for _ in configs]  # one each: at the end of one job its processes do not part at once
    started = [forks().Process(target=train_as, args=(rank, processes, ports, configs)) for rank in range(processes)]
    for process in started:
        process.start()
    try:
        for process in started:
            process.join(300)
        assert [process.exitcode for process in started] == [0] * processes
    finally:
        for process in started:
            process.kill()


def free_port() -> int:
    """A port that a job of SLURM can have: Lightning derives it from the last four digits of the job's number."""
    while True:
        port = random.SystemRandom().randrange(15_000, 25_000)
        with socket.socket() as free:
            if free.connect_ex(("127.0.0.1", port)):
                return port


def of_torchrun(rank: int, processes: int, port: int) -> dict[str, object]:
    """The environment variables of a process that torchrun starts on a single machine."""
    return {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "GROUP_RANK": 0,
        "WORLD_SIZE": processes,
        "LOCAL_WORLD_SIZE": processes,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "TORCHELASTIC_RUN_ID": "test",
    }


def of_srun(rank: int, processes: int, port: int) -> dict[str, object]:
    """The environment variables of a process that srun starts on one of two machines; both are this one."""
    return {
        "SLURM_JOB_ID": 120_000 + port - 15_000,
        "SLURM_JOB_NAME": "test",
        "SLURM_NNODES": 2,
        "SLURM_NODELIST": "localhost,localhost",
        "SLURM_NTASKS": processes,
        "SLURM_NTASKS_PER_NODE": processes // 2,
        "SLURM_PROCID": rank,
        "SLURM_LOCALID": rank % (processes // 2),
        "SLURM_NODEID": rank // (processes // 2),
    }


def train_as(rank: int, processes: int, ports: list[int], configs: list[tuple[Path, dict[str, Any]]]) -> None:
    """What process ``rank`` does."""
    from lightning.pytorch.utilities import rank_zero_only

    rank_zero_only.rank = rank  # which Lightning finds out when it is imported
    warnings.simplefilter("ignore")
    before = dict(os.environ)
    for port, config in zip(ports, configs, strict=True):
        variables = (of_srun if processes == 4 else of_torchrun)(rank, processes, port)
        os.environ.clear()
        os.environ |= before | {name: str(value) for name, value in variables.items()}
        train([config])
        if distributed.is_initialized():
            distributed.destroy_process_group()


def train(configs: list[tuple[Path, dict[str, Any]]]) -> None:
    from zoo.training.train import train

    for folder, config in configs:
        train(config, folder, command="")
