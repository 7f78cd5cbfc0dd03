"""The configuration of a training run, composed by Hydra and checked before anything starts.

What Hydra lets pass or explains badly is caught here: an unknown group, file or option gets the valid names and a "did
you mean", and every value is checked against the signature of the class it goes to.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from zoo.config.explaining import comments, explain_values
from zoo.config.folders import REGISTERED, config_files, config_folders, plugins
from zoo.config.moved import up_to_date
from zoo.config.objects import accepts, check_config, locate, ours
from zoo.config.resources import resource
from zoo.errors import ZooError, cause, did_you_mean

CONFIGS = resource("configs")
KEYS = [key for key in OmegaConf.load(CONFIGS / "train.yaml") if key not in ("defaults", "hydra")]
GROUPS = (
    "model",
    "nets",
    "quantizer",
    "data",
    "relaxation",
    "annealing",
    "callbacks",
    "trainer",
    "logger",
    "experiment",
)
FILLING = ("nets", "quantizer", "experiment")
"""Groups whose files only fill in other options."""
OBJECTS = ("model", "data", "trainer")
"""What every run is made of, each an object of its own."""
SEARCH_PATH = "hydra.searchpath"


STAMP = "ZOO_STAMP"
# One time stamp for all processes of a run: those that a distributed strategy starts inherit the environment.
OmegaConf.register_new_resolver("stamp", lambda: os.environ.setdefault(STAMP, now()), replace=True)


def now() -> str:
    return time.strftime("%Y-%m-%d_%H-%M-%S")


def claim(parent: Path) -> Path:
    """Make a folder in ``parent`` that no other job has, and its name the time stamp of this process and its children.

    Jobs that start in the same second have the number of the job behind it. To a process that another one of the run on
    this machine has started its folder is returned.

    Raises:
        ZooError: if it cannot be made.
    """
    if int(os.environ.get("LOCAL_RANK", 0)) > 0:
        return parent / os.environ.setdefault(STAMP, now())
    stamp, number = now(), 1
    while True:
        folder = parent / (stamp if number == 1 else f"{stamp}_{number}")
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            if parent.exists() and not parent.is_dir():
                raise ZooError(f"cannot make the run folder {folder}: {parent} is a file") from None
            number += 1
        except OSError as error:
            raise ZooError(f"cannot make the run folder {folder}: {cause(error)}") from error
    os.environ[STAMP] = folder.name
    return folder


def _call(function: str, argument: Any, part: str) -> Any:
    argument = OmegaConf.to_container(argument, resolve=True) if OmegaConf.is_config(argument) else argument
    answer = locate(function, "call")(argument)
    if not hasattr(answer, part):
        known = [name for name in dir(answer) if not name.startswith("_")]
        raise ZooError(f"{part!r} is not valid.{did_you_mean(part, known)} {function} has {', '.join(known)}")
    return _lists(getattr(answer, part))


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


# What a room is asked: ${call:zoo.models.actor_critic.spaces,${data},observation} is [4] of CartPole-v1.
OmegaConf.register_new_resolver("call", _call, replace=True)


def _count(values: Any) -> int:
    if isinstance(values, int) and not isinstance(values, bool):  # they are not told by name
        return values
    if not OmegaConf.is_list(values) and not isinstance(values, list):
        raise ZooError(f"{values!r} is not a list: write data.speakers=[NAME,NAME], or how many speakers there are")
    return len(values)


def _said(data: Any) -> Any:
    try:
        vocabulary = getattr(locate(data.get("_target_"), "data"), "vocabulary", None)
    except (ZooError, AttributeError):  # what is wrong with the data is said when they are built
        vocabulary = None
    return vocabulary(data) if callable(vocabulary) else 10


# What is said in the data: ${said:${data}} is a list of texts, or 10 for the digits.
OmegaConf.register_new_resolver("said", _said, replace=True)


def _job_name(overrides: Any, number: int) -> str:
    from zoo.config.jobs import name_job

    return name_job(list(overrides), number)


OmegaConf.register_new_resolver("job_name", _job_name, replace=True)


# How many a list has, or is said to have: ${count:${data.speakers}}.
OmegaConf.register_new_resolver("count", _count, replace=True)


def _image_shape(data: Any) -> list[int]:
    values = OmegaConf.to_container(data, resolve=True)
    cls = locate(values.get("_target_"), "data")
    ask = getattr(cls, "shape_of", None)
    shape = ask(values) if ask else getattr(cls, "shape", None)
    if shape is None and ours(values["_target_"]):
        raise ZooError(f"data: {cls.__name__} has no images, which the model is for. Choose another data=.")
    return list(shape) if isinstance(shape, (tuple, list)) else [1, 28, 28]


# Channels, height and width of the images of a data module: ${image_shape:${data}}; of one that does not say, MNIST's.
OmegaConf.register_new_resolver("image_shape", _image_shape, replace=True)


def _task(target: str, part: str) -> int:
    return getattr(locate(target, "data.task"), part)


# What a combinatorial task asks of the networks: ${task:zoo.models.pointer_net.TSP,features} is 2.
OmegaConf.register_new_resolver("task", _task, use_cache=True, replace=True)


def choices(group: str, more: Sequence[str] = ()) -> dict[str, str]:
    """The files of a configuration group, of this project, the user's and plug-ins: name -> first line of comment.

    Args:
        group: such as ``relaxation``.
        more: folders that only this command looks into.
    """
    files = sorted(config_files(group, more).items())
    found = {name: next((line for line in _head(paths[0]) if line[:1] != "@"), "") for name, paths in files}
    prefix = f"{group}/"
    return found | {key.removeprefix(prefix): r.about for key, r in REGISTERED.items() if key.startswith(prefix)}


def serves(group: str, name: str, more: Sequence[str] = ()) -> list[str]:
    """The models of this project that the file ``name`` of ``group`` is for, as its line ``# @for cat_vae,tokenizer``
    says; none if it is for all, or says nothing."""
    lines = [line for path in config_files(group, more).get(name, [])[:1] for line in _head(path)]
    return next((line.split()[1].split(",") for line in lines if line.startswith("@for ")), [])


def _head(path: Path) -> list[str]:
    """The lines of comment of a configuration file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ZooError(f"{path} cannot be read: {cause(error)}") from error
    return [line[1:].strip() for line in lines if line.startswith("#")]


def store_registered() -> None:
    """Let Hydra know the files that are in memory alone."""
    for key, file in REGISTERED.items():
        group, name = key.split("/")
        package = {"package": file.package} if file.package else {}
        ConfigStore.instance().store(name=name, node=file.node, group=group, **package)


def search_path(parsed: Sequence[Override]) -> list[str]:
    """What ``hydra.searchpath=`` among the overrides says.

    Raises:
        ZooError: if that is not a list of folders.
    """
    for override in parsed:
        if override.key_or_group == SEARCH_PATH:
            value = override.value()
            if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
                raise ZooError(f"{SEARCH_PATH}={value!r} is not valid: it must be a list, [FOLDER,FOLDER]")
            return value
    return []


def for_hydra(overrides: Sequence[str]) -> list[str]:
    """``overrides`` with every folder of configuration files beside this project's in Hydra's search path, and with
    ``~group``, as Hydra has it, for ``group=null``.

    Raises:
        ZooError: for a folder that does not exist.
    """
    parsed = parse(list(overrides))
    folders = [f"file://{folder}" for folder in config_folders(search_path(parsed))[1:]]
    kept = [
        f"~{o.key_or_group}" if o.key_or_group in GROUPS and not o.is_delete() and o.value() is None else o.input_line
        for o in parsed
        if o.key_or_group != SEARCH_PATH
    ]
    return [*kept, word(SEARCH_PATH, folders)] if folders else kept


def word(name: str, value: Any) -> str:
    """``name=value`` as the command line understands it, for plain data."""
    return f"{name}={_written(value)}"


def _written(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float)):
        return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))
    if isinstance(value, dict):
        return "{" + ",".join(f"{_written(str(key))}:{_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, str):
        if value.replace("_", "").replace(".", "").isalnum() and not value[0].isdigit() and value.lower() not in WORDS:
            return value
        return QuotedString(value, Quote.single).with_quotes()
    raise ZooError(f"{value!r} is a {type(value).__name__}, which cannot be written to a configuration")


def literal(override: str) -> str:
    """``run=PLACE`` or ``data.root=PLACE`` so that Hydra takes the place as it is, be there ``=``, ``(`` or a blank.

    The ``~`` of a run is the home of the user, which shells do not make of it there; that of a root, when it is read.
    """
    place = PLACE.fullmatch(override)
    if not place or place[2].lower() in ("", "null") or QUOTED.fullmatch(place[2]):
        return override
    where = os.path.expanduser(place[2]) if place[1].endswith("run") else place[2]
    return f"{place[1]}={QuotedString(where, Quote.single).with_quotes()}"


PLACE = re.compile(r"(\+{0,2}(?:run|[\w.]+\.root))=(.*)", re.DOTALL)
QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
WORDS = ("null", "true", "false", "nan", "inf")
"""Texts that mean something else unless they are quoted."""


def pairs(overrides: Sequence[Override]) -> list[tuple[str, Any]]:
    """Names and values of what ``overrides`` set."""
    return [(override.key_or_group, override.value()) for override in overrides if not override.is_delete()]


def retarget(config: DictConfig, given: Sequence[tuple[str, Any]]) -> None:
    """Of an object whose class was overridden, drop what only the class before it understood.

    ``model.encoder._target_=mypkg.Encoder`` keeps ``latents`` where that class has them, and not ``hidden`` where not.
    What was given itself is kept, so that a wrong name is an error.

    Args:
        config: is changed.
        given: the overrides in it, name and value.
    """
    names = [name for name, _ in given]
    for key, value in given:
        if key.endswith("._target_"):
            key, kept = key.removesuffix("._target_"), set()
        elif isinstance(value, dict) and "_target_" in value:
            kept = {str(name) for name in value}
        else:
            continue
        kept |= {name[len(key) + 1 :].split(".")[0] for name in names if name.startswith(f"{key}.")}
        node = OmegaConf.select(config, key)
        if not OmegaConf.is_dict(node) or OmegaConf.is_missing(node, "_target_"):
            continue
        target = OmegaConf.to_container(node)["_target_"]  # as it is written
        if not isinstance(target, str) or "${" in target:
            continue
        known = accepts(locate(target, key))
        with open_dict(node):
            for name in [str(name) for name in node]:
                if name not in ("_target_", *kept) and known is not None and name not in known:
                    del node[name]


def with_doors(overrides: Sequence[str], hydras: Sequence[str]) -> list[str]:
    """``overrides`` of a job, after the flags that name the folders of the user's that its files come from.

    Args:
        overrides: as the job has them.
        hydras: the overrides that are meant for Hydra.
    """
    own = config_folders(search_path(parse(list(hydras))))[1:]
    return [word for folder in own if folder not in plugins() for word in ("--config-dir", str(folder))] + [*overrides]


def parse(overrides: list[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides([literal(override) for override in overrides])
    except HydraException as error:
        raise ZooError(f"cannot read the options {' '.join(overrides)}: {str(error).splitlines()[0]}") from error


def jobs(overrides: list[str]) -> list[list[str]]:
    """The overrides of every job of a sweep, such as ``relaxation=reinmax,rloo``; one job where nothing is swept."""
    parsed = parse(overrides)
    if not any(o.is_sweep_override() for o in parsed):
        return [overrides]
    continuous = [o for o in parsed if o.is_sweep_override() and not o.is_discrete_sweep()]
    known = {o.input_line: word(o.get_key_element(), o.value().start) for o in continuous}  # an interval by its end
    jobs = BasicSweeper.split_arguments(parse([known.get(o.input_line, o.input_line) for o in parsed]), None)[0]
    for override in (override for job in jobs for override in parse(job)):
        if override.key_or_group in GROUPS and not override.is_delete() and override.value() is None:
            raise ZooError(f"{override.input_line} cannot be one of several values: give it a command of its own")
    return jobs


def swept(overrides: list[str]) -> list[str]:
    """The names of the options that differ from job to job."""
    return [o.key_or_group for o in parse(overrides) if o.is_sweep_override()]


def compose(overrides: list[str]) -> DictConfig:
    """The configuration of a training run with ``overrides``, every name in it checked. What Hydra adds to it, such as
    which files were chosen, ``HydraConfig.get()`` says from then on.

    Raises:
        ZooError: for a group, file or option that does not exist, or one that must be chosen and is not.
    """
    store_registered()
    given = parse(overrides)
    named = dict(pairs(given))
    model = None if "model._target_" in named else named.get("model")
    for override in given:
        check_meaning(override, model)
    overrides = for_hydra(overrides)
    parsed = parse(overrides)
    more = search_path(parsed)
    chosen = [o.input_line for o in parsed if o.key_or_group in GROUPS]
    chosen += [o.input_line for o in parsed if o.key_or_group == SEARCH_PATH]
    known = [*GROUPS, *KEYS, "hydra"]
    for override in parsed:
        key, value = override.key_or_group, override.value()
        if (first := key.split("@")[0].split("/")[0].split(".")[0]) not in known:
            raise ZooError(
                f"there is no option {key!r}.{full_names(key, chosen) or did_you_mean(first, known)} Options: "
                f"{', '.join(known)}. Those of a part have its name before them, as in model.latents=20."
            )
        if key in GROUPS and not override.is_delete():
            check_choice(key, value, more, model)
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            plain = hydra.compose("train", chosen)
            for override in parsed:
                if override.key_or_group not in GROUPS and not override.is_add() and not override.is_force_add():
                    check_key(plain, override.key_or_group)
            config = hydra.compose("train", overrides, return_hydra_config=True)
            refuse_clashes(config.hydra.runtime.choices, more)
            HydraConfig.instance().set_config(config)
            with open_dict(config):
                del config["hydra"]
            retarget(config, pairs(parsed))
            return config
        except (HydraException, OmegaConfBaseException) as error:
            message = explained(error)
            for group in ("model", "data", "relaxation"):
                if f"must specify '{group}'" in message:
                    names = ", ".join(f"{group}={name}" for name in choices(group, more))
                    message = f"choose a {group}, one of: {names}"
                    own = next((value for key, value in pairs(parsed) if key == f"{group}._target_"), None)
                    message += f". {without_file(own)}" if own and group == "model" else ""
                    break
            if "submitit" in message:
                message = "hydra/launcher=slurm needs a package: pip install 'discrete-latent-zoo[slurm]'"
            raise ZooError(" ".join(message.split())) from error


def folder(key: str) -> Path:
    """The folder of the run, ``run.dir``, or of the sweep, ``sweep.dir``, of the last configuration that
    :func:`compose` gave.

    Raises:
        ZooError: if its name is taken from an option that does not exist.
    """
    try:
        return Path(str(OmegaConf.select(HydraConfig.get(), key, throw_on_missing=True)))
    except OmegaConfBaseException as error:
        raise ZooError(explained(error)) from error


def meanings(config: DictConfig, overrides: Sequence[str]) -> dict[str, str]:
    """What every option of ``config`` means, for people: its dotted name -> a line.

    Args:
        config: the last one that :func:`compose` gave.
        overrides: that it was composed of.
    """
    chosen = dict(HydraConfig.get().runtime.choices)
    more = search_path(parse(list(overrides)))
    found = comments(CONFIGS / "train.yaml", "")
    for group in GROUPS:
        names: Any = chosen.get(group)
        known = config_files(group, more)
        for name in names if OmegaConf.is_list(names) or isinstance(names, list) else [names]:
            for path in reversed(with_parents(str(name), known)):
                found |= comments(path, group)
    return explain_values(OmegaConf.to_container(config), found)


def with_parents(name: str, known: dict[str, list[Path]]) -> list[Path]:
    """The file ``name`` of a group and those of the same group that it begins with, as ``trainer=ddp`` does with
    ``default``."""
    if name not in known:
        return []
    path = known[name][0]
    defaults = OmegaConf.load(path).get("defaults") or []
    parents = [str(parent) for parent in defaults if isinstance(parent, str) and parent not in ("_self_", name)]
    return [path, *(parent for one in parents for parent in with_parents(one, known))]


def full_names(name: str, chosen: list[str]) -> str:
    """``" Did you mean 'model.optimizer.lr'?"`` for ``lr``: the options of that name in a run of ``chosen``, of which
    there may be three; else an empty string."""
    try:
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = hydra.compose("train", chosen)
    except (HydraException, OmegaConfBaseException):
        return ""
    return _one_of(config, name)


def _one_of(config: DictConfig, name: str) -> str:
    """``" Did you mean 'model.optimizer.lr'?"`` for a ``name`` at the end of options of ``config``: of at most three,
    those of the largest part."""
    found = [option for option in _options(config) if f".{option}".endswith(f".{name}")]
    found = [option for option in found if option.count(".") == min(one.count(".") for one in found)]
    return f" Did you mean {' or '.join(map(repr, found))}?" if 0 < len(found) <= 3 else ""


def _options(node: Any, where: str = "") -> Iterator[str]:
    """The full names of all options, parts among them."""
    for key in node if OmegaConf.is_dict(node) else ():
        name = f"{where}.{key}" if where else str(key)
        yield name
        if not OmegaConf.is_missing(node, key):
            yield from _options(node._get_node(key), name)


def is_ours(model: Any) -> bool:
    """Whether ``model`` names one of this project's models."""
    return isinstance(model, str) and (CONFIGS / "model" / f"{model}.yaml").is_file()


def fitting(group: str, model: Any, more: Sequence[str] = ()) -> list[str]:
    """The files of ``group`` that can serve ``model``: all, if it is none of this project's."""
    known = list(choices(group, more))
    if not is_ours(model):
        return known
    return [name for name in known if model in (serves(group, name, more) or [model])]


def check_meaning(override: Override, model: Any = None) -> None:
    """Refuse what names a file where it cannot, as ``model.relaxation=rloo``, or leaves out what a run is made of.

    Args:
        override: of the command line.
        model: that is trained, for a list of what it can have.

    Raises:
        ZooError: with the option that does it.
    """
    if override.is_delete():
        return
    key, value = override.key_or_group, override.value()
    group = key.rpartition(".")[2]
    if value == "" and (key == "run" or group == "root"):
        raise ZooError(f"{key}= needs a folder: write {key}=FOLDER, or leave it out.")
    if key in (*OBJECTS, "nets") and value is None:
        raise ZooError(f"{key}=null is not valid: choose one of {', '.join(fitting(key, model))}.")
    if key.startswith("model.") and group in GROUPS and isinstance(value, str) and value in choices(group):
        raise ZooError(f"{key}={value} is not valid: write {group}={value}.")


INSTEAD = {  # what is written for a name that there is none of -> what to write
    **{f"trainer={kind}": f" Write trainer.accelerator={kind}." for kind in ("cpu", "gpu", "cuda", "mps", "tpu")},
    **{
        f"logger={no}": " Write logger=csv: metrics.csv is always written, and nothing else then."
        for no in ("none", "no")
    },
}


def check_choice(group: str, value: Any, more: Sequence[str] = (), model: Any = None) -> None:
    """Check that ``group=value`` names a file, of ``logger`` and ``callbacks`` several, or none.

    Args:
        group: such as ``relaxation``.
        value: what was chosen.
        more: folders that only this command looks into.
        model: that is trained, for a list of what it can have.

    Raises:
        ZooError: with the names there are.
    """
    known = choices(group, more)
    for name in value if isinstance(value, list) else [value]:
        if name is None:
            continue
        if isinstance(name, str) and name in known:
            of = serves(group, name, more)
            if of and model not in of and is_ours(model):
                can = fitting(group, model, more)
                instead = f"Choose from: {', '.join(can)}." if can else f"The parts of {model} are options of model."
                raise ZooError(f"{group}={name} is for {', '.join(of)}, not for {model}. {instead}")
            continue
        if group == "model" and isinstance(name, str) and name in os.listdir(resource("checkpoints")):
            about = (
                f" It is pretrained weights: zoo eval {name}. To train such a model, write model={name.split('.')[0]}."
            )
        elif group == "model" and isinstance(name, str) and "." in name:
            about = f" {without_file(name)}"
        elif isinstance(name, (dict, str)) and ("_target_" in name or str(name).count(".") > 0):
            about = f" To give {group} a class of your own, write {group}._target_=PACKAGE.CLASS."
        else:
            about = did_you_mean(str(name), fitting(group, model, more)) or INSTEAD.get(f"{group}={name}", "")
        names = ", ".join(fitting(group, model, more)) or "null"
        raise ZooError(f"there is no {group}={_shown(name)}.{about} Choose from: {names}.")


def without_file(target: str) -> str:
    """How to train a model of a class that no configuration file names, for people."""
    return (
        f"A class of your own has a file, model/NAME.yaml, with its options, its data and relaxation; without one, "
        f"write ~model +model._target_={target} run=FOLDER, and the rest."
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else _written(value)


def refuse_clashes(chosen: Any, more: Sequence[str] = ()) -> None:
    """Refuse a choice that two folders have a file for.

    Raises:
        ZooError: naming both.
    """
    for group in GROUPS:
        names = chosen.get(group)
        for name in names if OmegaConf.is_list(names) or isinstance(names, list) else [names]:
            places = [str(path) for path in config_files(group, more).get(str(name), [])]
            places += ["zoo.register"] if f"{group}/{name}" in REGISTERED else []
            if len(places) > 1:
                raise ZooError(f"{group}={name} is not clear, there is more than one: {', '.join(places)}. Rename one.")


def choose(group: str, name: Any) -> dict[str, Any] | None:
    """The resolved contents of a file of a group that needs no model: ``data``, ``relaxation``, ``trainer``.

    Raises:
        ZooError: if there is none of that name.
    """
    check_choice(group, name)
    if name is None:
        return None
    missing = {"data": "steps", "relaxation": None} | {group: name}
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            words = for_hydra([*(word(key, value) for key, value in missing.items()), "~model", "epochs=1"])
            config = hydra.compose("train", words)
            return plain(config[group])
        except (HydraException, OmegaConfBaseException) as error:
            raise ZooError(f"{group}={name}: {' '.join(str(error).split())}") from error


def check_key(config: DictConfig, key: str) -> None:
    """Raise ``ZooError`` if the dotted ``key`` is not in ``config``."""
    if key.split(".")[0].split("/")[0] == "hydra":
        return
    node: Any = config
    parts = key.split(".")
    if parts[0] in ("callbacks", "logger") and parts[-1] == "_target_" and OmegaConf.select(config, key) is None:
        raise ZooError(f"there is no {'.'.join(parts[:-1])} whose class could be another: to add it, write +{key}=")
    for i, part in enumerate(parts):
        names = [str(name) for name in node] if OmegaConf.is_dict(node) else []
        if part not in names:
            where = ".".join(parts[:i])
            names = [name for name in names if name != "_target_"] + (list(GROUPS) if not where else [])
            names = sorted(set(names))
            raise ZooError(
                f"there is no option {key!r}.{_one_of(config, parts[-1]) or did_you_mean(part, names)} "
                + (f"Options of {where}: " if where else "Options: ")
                + (", ".join(names) or "none, it is a single value")
                + "."
            )
        if i + 1 < len(parts):
            node = node[part]


def explained(error: Exception) -> str:
    """What Hydra or OmegaConf says, on one line; where an option follows one that is missing, in plain words."""
    text = " ".join(str(error).split())
    found = re.search(r"Interpolation key '(\S+)' not found full_key: (\S+)", text)
    if not found:
        return text
    other = "nets= or model=" if found[1].startswith("model.") else f"{found[1].split('.')[0]}="
    return (
        f"{found[2]} is taken from {found[1]}, which does not exist: the parts that were chosen do not fit each other. "
        f"Choose another {other}."
    )


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
        raise ZooError(explained(error)) from error


def check(config: DictConfig, overrides: Sequence[str] = ()) -> None:
    """Check every value against the signature of its class, and that what was asked for has an effect.

    Args:
        config: as :func:`compose` gives it.
        overrides: that it was composed of.

    Raises:
        ZooError: naming the option that is wrong.
    """
    values = OmegaConf.to_container(config)
    values.pop("run", None)  # only Hydra's job can resolve it
    check_values(plain(OmegaConf.create(values)), [o.key_or_group for o in parse(list(overrides))])


def check_values(values: dict[str, Any], asked: Sequence[str] = ()) -> None:
    """The same of a plain and resolved configuration.

    Args:
        values: the contents of a whole configuration, without ``run``.
        asked: names of the options that were given.

    Raises:
        ZooError: naming the option that is wrong.
    """
    known = {*GROUPS, *KEYS} - {*FILLING}
    for name in OBJECTS:
        if not isinstance(values.get(name), dict) or "_target_" not in values[name]:
            raise ZooError(f"{name}={values.get(name)!r} is not valid: choose one of {', '.join(choices(name))}.")
    for name in ("relaxation", "annealing", "logger", "callbacks"):
        several, value = name in ("logger", "callbacks"), values.get(name)
        if value is not None and not isinstance(value, dict):
            raise ZooError(f"{name}={value!r} is not valid: choose one of {', '.join(choices(name))}, or null.")
        for key, one in (value or {}).items() if several else [(name, value)] if value else []:
            if one is not None and not (isinstance(one, dict) and "_target_" in one):
                option = f"{name}.{key}" if several else name
                raise ZooError(f"{option}={one!r} is not valid: it must name a class, {option}._target_=PACKAGE.CLASS")
    for name, value in values.items():
        if name not in known:
            raise ZooError(f"there is no option {name!r}. Options: {', '.join(sorted(known))}.")
        check_config(value, where=name)
    if type(values["compile"]) is not bool:
        raise ZooError(f"compile={values['compile']!r} is not valid: it must be true or false.")
    for name, least in {"seed": 0, "epochs": 1, "pictures_every_n_epochs": 1, "checkpoint_every_n_steps": 1}.items():
        if type(values[name]) is not int or values[name] < least:
            raise ZooError(f"{name}={values[name]!r} is not valid: it must be a whole number, {least} or more.")
    check_effects(values["model"], asked, values.get("annealing"))


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
