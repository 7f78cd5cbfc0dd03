"""Overrides on the command line, checked before anything starts.

Hydra composes the configuration. What it lets pass or explains badly is caught here: an unknown group, file
or option gets the valid names and a "did you mean", and every value is checked against the signature of the
class it goes to.
"""

import errno
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zoo.errors import ZooError, did_you_mean
from zoo.hub import resource

CONFIGS = resource("configs")
KEYS = [key for key in OmegaConf.load(CONFIGS / "train.yaml") if key not in ("defaults", "hydra")]
GROUPS = ("model", "nets", "data", "relaxation", "annealing", "trainer", "logger", "experiment")

# One time stamp for all processes of a run: those that a distributed strategy starts inherit the environment.
OmegaConf.register_new_resolver(
    "stamp", lambda: os.environ.setdefault("ZOO_STAMP", time.strftime("%Y-%m-%d_%H-%M-%S")), replace=True
)


def _spaces(env: str, part: str) -> list[int]:
    from zoo.data.environments import spaces

    return list(getattr(spaces(env), part))


# The sizes that an environment asks of the networks: ${spaces:CartPole-v1,observation} is [4].
OmegaConf.register_new_resolver("spaces", _spaces, use_cache=True, replace=True)


def _count(values: Any) -> int:
    if not OmegaConf.is_list(values) and not isinstance(values, list):
        raise ZooError(f"the networks are as large as a list is long, and got {values!r}: data.speakers=[NAME,NAME]")
    return len(values)


# How many a list has: ${count:${data.speakers}}.
OmegaConf.register_new_resolver("count", _count, replace=True)


def _task(target: str, part: str) -> int:
    from zoo.config import locate

    return getattr(locate(target, "data.task"), part)


# What a combinatorial task asks of the networks: ${task:zoo.tasks.TSP,features} is 2.
OmegaConf.register_new_resolver("task", _task, use_cache=True, replace=True)


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


def choices(group: str) -> dict[str, str]:
    """The files of a configuration group: name -> its first line of comment."""
    found = {}
    for path in sorted((CONFIGS / group).glob("*.yaml")):
        comments = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        found[path.stem] = next((line for line in comments if not line.startswith("@")), "")
    return found


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


def parse(overrides: list[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise ZooError(f"cannot read the options {' '.join(overrides)}: {str(error).splitlines()[0]}") from error


def jobs(overrides: list[str]) -> list[list[str]]:
    """The overrides of every job of a sweep, such as ``relaxation=reinmax,rloo``; one job where nothing is swept."""
    parsed = parse(overrides)
    return BasicSweeper.split_arguments(parsed, None)[0] if any(o.is_sweep_override() for o in parsed) else [overrides]


def compose(overrides: list[str]) -> DictConfig:
    """The configuration of a training run with ``overrides``, every name in it checked.

    Raises:
        ZooError: for a group, file or option that does not exist, or one that must be chosen and is not.
    """
    parsed = parse(overrides)
    chosen = [o.input_line for o in parsed if o.key_or_group in GROUPS]
    known = [*GROUPS, *KEYS, "hydra"]
    for override in parsed:
        key, value = override.key_or_group, override.value()
        if (first := key.split("@")[0].split("/")[0].split(".")[0]) not in known:
            raise ZooError(f"there is no option {key!r}.{did_you_mean(first, known)} Options: {', '.join(known)}.")
        if key in GROUPS and isinstance(value, str) and value not in choices(key):
            raise ZooError(
                f"there is no {key}={value}.{did_you_mean(value, list(choices(key)))} "
                f"Choose from: {', '.join(choices(key))}."
            )
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            plain = hydra.compose("train", chosen)
            for override in parsed:
                if override.key_or_group not in GROUPS and not override.is_add() and not override.is_force_add():
                    check_key(plain, override.key_or_group)
            return hydra.compose("train", overrides)
        except (HydraException, OmegaConfBaseException) as error:
            message = str(error)
            for group in ("model", "data", "relaxation"):
                if f"must specify '{group}'" in message:
                    message = f"choose a {group}, one of: " + ", ".join(f"{group}={name}" for name in choices(group))
                    break
            if "submitit" in message:
                message = "hydra/launcher=slurm needs a package: pip install 'discrete-latent-zoo[slurm]'"
            raise ZooError(" ".join(message.split())) from error


def check_key(config: DictConfig, key: str) -> None:
    """Raise ``ZooError`` if the dotted ``key`` is not in ``config``."""
    if key.split(".")[0].split("/")[0] == "hydra":
        return
    node: Any = config
    parts = key.split(".")
    for i, part in enumerate(parts):
        names = [str(name) for name in node] if OmegaConf.is_dict(node) else []
        if part not in names:
            where = ".".join(parts[:i])
            names = [name for name in names if name != "_target_"] + (list(GROUPS) if not where else [])
            names = sorted(set(names))
            raise ZooError(
                f"there is no option {key!r}.{did_you_mean(part, names)} "
                + (f"Options of {where}: " if where else "Options: ")
                + (", ".join(names) or "none, it is a single value")
                + "."
            )
        if i + 1 < len(parts):
            node = node[part]


def plain(config: DictConfig) -> dict[str, Any]:
    """``config`` as plain resolved data.

    Raises:
        ZooError: for an interpolation that leads nowhere or a value that is missing.
    """
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        cause: BaseException | None = error
        while cause:  # of a resolver, behind one error for each interpolation that leads to it
            if isinstance(cause, ZooError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise ZooError(" ".join(str(error).split())) from error
