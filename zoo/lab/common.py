"""What experiments share: runs, tables and the commands that they were made by."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from zoo.config.composition import check, compose, plain
from zoo.errors import ZooError, did_you_mean
from zoo.training.runs import RunFolder
from zoo.training.train import train

QUIET = ("logger=csv", "trainer.enable_progress_bar=false")


def trained(folder: Path, options: Sequence[str]) -> RunFolder:
    """The run of these options of ``scripts/train.py`` in ``folder``, trained if it is not complete.

    Raises:
        ZooError: if an option is wrong, or the folder holds a run with others.
    """
    options = [*QUIET, *options, f"run={folder}"]
    config = compose(options)
    check(config)
    train(plain(config), folder, command=shlex.join(["python", "scripts/train.py", *options]))
    return RunFolder(folder)


def check_names(option: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ``ZooError`` for the first of ``given`` that is not ``known``, before an experiment begins."""
    known = list(known)
    for name in given:
        if name not in known:
            raise ZooError(f"there is no {name!r} for {option}=.{did_you_mean(name, known)} Known: {', '.join(known)}.")


def command(name: str, *first: str, overrides: Sequence[str] = (), **options: object) -> str:
    """What is written beside the results of an experiment: ``python scripts/<name>.py`` with these options.

    Those that are None or false are left out.
    """
    given = {option: value for option, value in options.items() if value is not None and value is not False}
    written = [f"{option}={spelled(value)}" for option, value in given.items()]
    return shlex.join(["python", f"scripts/{name}.py", *first, *written, *overrides])


def spelled(value: object) -> str:
    """``value`` as one writes it on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(spelled, value)) if isinstance(value, (list, tuple)) else str(value)


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch in a single thread, so that CPU time is the time of one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
