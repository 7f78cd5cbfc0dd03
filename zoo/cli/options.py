"""What the commands share: help, errors for people, several processes."""

import errno
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from zoo.config.composition import GROUPS, choices
from zoo.errors import ZooError


def usage(text: str) -> str:
    """``text`` with the commands as this program was started: ``python scripts/train.py``, or ``zoo-train``."""
    return text if sys.argv[0].endswith(".py") else re.sub(r"python scripts/(\w+)\.py", r"zoo-\1", text)


def rank() -> int:
    """Of this process among those of a run, by the variables that launchers set."""
    return int(next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), 0))


def external_launcher() -> str | None:
    """``torchrun`` or ``srun`` if it started this process as one of several, else None."""
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        return "torchrun"
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "srun" if int(os.environ.get("SLURM_NTASKS", 1)) > 1 and not interactive else None


def fail_politely(main: Callable[..., Any]) -> Callable[..., Any]:
    """``main`` with a :class:`ZooError` printed as one message; its exit status is the error's, 1."""

    def wrapped(*args: Any) -> Any:
        try:
            return main(*args)
        except ZooError as error:
            message = f"[process {rank()}] error: {error}" if rank() else f"error: {error}"
            if error.status == 1:
                sys.exit(message)
            print(message, file=sys.stderr, flush=True)
            sys.exit(error.status)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            sys.exit(f"error: the disk is full: {error}")

    return wrapped


def describe_choices() -> str:
    """Every group with its files, for people."""
    lines = []
    for group in GROUPS:
        lines.append(f"{group}=")
        lines += [f"    {name:<20} {about}" for name, about in choices(group).items()]
    return "\n".join(lines)


def without_flags(arguments: list[str]) -> list[str]:
    """The overrides among ``arguments``: all but Hydra's flags and their values."""
    takes_value = ("-c", "--cfg", "-p", "--package", "-cd", "--config-dir")
    before = ["", *arguments]
    return [a for a, b in zip(arguments, before) if not a.startswith("-") and b not in takes_value]
