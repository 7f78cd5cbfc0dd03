"""The configuration of a training run, composed by Hydra and checked before anything starts.

What Hydra lets pass or explains badly is caught here: an unknown group, file or option gets the valid names and a "did
you mean", and every value is checked against the signature of the class it goes to.
"""

import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zoo.config.moved import up_to_date
from zoo.config.objects import check_config, locate
from zoo.config.resources import resource
from zoo.errors import ZooError, cause, did_you_mean

CONFIGS = resource("configs")
KEYS = [key for key in OmegaConf.load(CONFIGS / "train.yaml") if key not in ("defaults", "hydra")]
GROUPS = ("model", "nets", "data", "relaxation", "annealing", "trainer", "logger", "experiment")


STAMP = "ZOO_STAMP"
# One time stamp for all processes of a run: those that a distributed strategy starts inherit the environment.
OmegaConf.register_new_resolver("stamp", lambda: os.environ.setdefault(STAMP, now()), replace=True)


def now() -> str:
    return time.strftime("%Y-%m-%d_%H-%M-%S")


def claim(parent: Path) -> None:
    """Make a folder in ``parent`` that no other job has, and its name the time stamp of this process and its children.

    Jobs that start in the same second have the number of the job behind it.

    Raises:
        ZooError: if it cannot be made.
    """
    stamp = now()
    for name in itertools.chain([stamp], (f"{stamp}_{number}" for number in itertools.count(2))):
        try:
            (parent / name).mkdir(parents=True)
        except FileExistsError:
            if parent.exists() and not parent.is_dir():
                raise ZooError(f"cannot make the run folder {parent / name}: {parent} is a file") from None
            continue
        except OSError as error:
            raise ZooError(f"cannot make the run folder {parent / name}: {cause(error)}") from error
        os.environ[STAMP] = name
        return


def _call(function: str, argument: str, part: str) -> Any:
    value = getattr(locate(function, "call")(argument), part)
    return list(value) if isinstance(value, tuple) else value


# What a room is asked: ${call:zoo.models.actor_critic.spaces,CartPole-v1,observation} is [4].
OmegaConf.register_new_resolver("call", _call, use_cache=True, replace=True)


def _count(values: Any) -> int:
    if not OmegaConf.is_list(values) and not isinstance(values, list):
        raise ZooError(f"the networks are as large as a list is long, and got {values!r}: data.speakers=[NAME,NAME]")
    return len(values)


# How many a list has: ${count:${data.speakers}}.
OmegaConf.register_new_resolver("count", _count, replace=True)


def _task(target: str, part: str) -> int:
    return getattr(locate(target, "data.task"), part)


# What a combinatorial task asks of the networks: ${task:zoo.models.pointer_net.TSP,features} is 2.
OmegaConf.register_new_resolver("task", _task, use_cache=True, replace=True)


def choices(group: str) -> dict[str, str]:
    """The files of a configuration group: name -> its first line of comment."""
    found = {}
    for path in sorted((CONFIGS / group).glob("*.yaml")):
        comments = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        found[path.stem] = next((line for line in comments if not line.startswith("@")), "")
    return found


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


def chosen(overrides: list[str], group: str) -> str:
    """The file of ``group`` that ``overrides`` choose, which one of another group may do for them."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", overrides, return_hydra_config=True).hydra.runtime.choices[group]


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


def check(config: DictConfig, overrides: Sequence[str] = ()) -> None:
    """Check every value against the signature of its class, and that what was asked for has an effect.

    Args:
        config: as :func:`compose` gives it.
        overrides: that it was composed of.

    Raises:
        ZooError: naming the option that is wrong.
    """
    known = {*GROUPS, *KEYS} - {"nets", "experiment"}  # these two only fill in others
    values = OmegaConf.to_container(config)
    del values["run"]  # only Hydra's job can resolve it
    values = plain(OmegaConf.create(values))
    for name, value in values.items():
        if name not in known:
            raise ZooError(f"there is no option {name!r}. Options: {', '.join(sorted(known))}.")
        check_config(value, where=name)
    if type(values["compile"]) is not bool:
        raise ZooError(f"compile={values['compile']!r} is not valid: it must be true or false.")
    for name, least in {"seed": 0, "epochs": 1, "pictures_every_n_epochs": 1, "checkpoint_every_n_steps": 1}.items():
        if type(values[name]) is not int or values[name] < least:
            raise ZooError(f"{name}={values[name]!r} is not valid: it must be a whole number, {least} or more.")
    check_effects(values["model"], [o.key_or_group for o in parse(list(overrides))], values.get("annealing"))


def check_effects(model: dict[str, Any], asked: Sequence[str], annealing: dict[str, Any] | None = None) -> None:
    """Refuse what would have no effect.

    Args:
        model: configuration of a model.
        asked: names of the options that were given.
        annealing: configuration of the annealing.

    Raises:
        ZooError: for an option of the relaxation, or an annealing, where the model draws nothing through one; for an
            annealing where the relaxation has no temperature.
    """
    cls = locate(model["_target_"], "model")
    if not hasattr(cls, "without_effect"):  # of another project
        return
    named = [key for key in asked if key.split(".")[0] == "relaxation" or key.startswith("model.relaxation")]
    anneals = annealing is not None and (annealing.get("schedule") != "constant" or annealing.get("start") is not None)
    if anneals:
        named.append("annealing")
    if named and (why := cls.without_effect(up_to_date(model))):
        raise ZooError(f"{named[0]}= would have no effect: {why}. Leave it out.")
    kinds = cls.relaxations(model)
    if anneals and not any(hasattr(kind, "temperatures") for kind in kinds):
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ZooError(f"annealing= would have no effect: {names} has no temperature. Leave it out.")
