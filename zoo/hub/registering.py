"""Names for classes that are in no file, as in a notebook."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from zoo.config.folders import REGISTERED, Registered, config_files
from zoo.config.objects import public_path, remember, to_config
from zoo.errors import ZooError, did_you_mean

Kind = TypeVar("Kind", bound=type)

GROUPS = ("model", "data", "relaxation", "distribution", "annealing", "callbacks", "logger")
"""What a class can be registered as. A distribution has a name in the layer alone, and no configuration."""
MUST = "???"
"""What a configuration has in place of a value that must be given."""


def register(place: str, **options: Any) -> Callable[[Kind], Kind]:
    """A class decorator: from now on the class has a name, in this process, as if a configuration file had it.

    ::

        @zoo.register("relaxation/laplace", tau=0.5)
        class Laplace(Pathwise, Tempered): ...

        zoo.train("cat_vae", relaxation="laplace")

    It is in the help, the checks and ``zoo.list_models()``; a relaxation or distribution is in every table of the
    layer, too. Objects of the class remember their arguments, whatever class it is.

    Args:
        place: ``group/name``; the group is ``model``, ``data``, ``relaxation``, ``distribution``, ``annealing``,
            ``callbacks`` or ``logger``.
        options: arguments of the class in place of its defaults. Of a model also ``data`` and ``relaxation``, names of
            files to train it with, and ``epochs``.

    Raises:
        ZooError: if there is no such group, the name is taken, or an option is not plain data.
    """
    group, _, name = place.partition("/")
    if group not in GROUPS or not name.replace("-", "_").isidentifier():
        raise ZooError(
            f"register({place!r}): write group/name.{did_you_mean(group, list(GROUPS))} Groups: {', '.join(GROUPS)}."
        )

    def join(cls: Kind) -> Kind:
        remember(cls)
        target, known = public_path(cls), REGISTERED.get(place)
        if files := config_files(group).get(name):
            raise ZooError(f"register({place!r}): the name is taken, by {files[0]}")
        if known and known.target != target:
            raise ZooError(f"register({place!r}): the name is taken, by {known.target}")
        file = None if group == "distribution" else _file(group, name, cls, target, options)
        if group in ("relaxation", "distribution"):
            _in_the_layer(name, cls)
        if file:
            REGISTERED[place] = file
        return cls

    return join


def _in_the_layer(name: str, cls: type) -> None:
    from zoo import relaxations

    for registry in (relaxations.RELAXATIONS, relaxations.DISTRIBUTIONS):
        before: Any = registry.get(name)
        if before is not None and public_path(before) == public_path(cls):  # a cell of a notebook, run again
            del registry[name]
    try:
        relaxations.register(name)(cls)
    except (ValueError, TypeError) as error:
        raise ZooError(f"register: {error}") from error


def _file(group: str, name: str, cls: type, target: str, options: dict[str, Any]) -> Registered:
    about = next(iter((cls.__doc__ or "").strip().splitlines()), "")
    parameters = inspect.signature(cls).parameters.values()
    named = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    node: dict[str, Any] = {"_target_": target}
    for parameter in named:
        default = MUST if parameter.default is inspect.Parameter.empty else to_config(parameter.default)
        node[parameter.name] = options.pop(parameter.name, default)
        if parameter.name == "seed" and group == "data":
            node["seed"] = "${seed}"
    if group != "model":
        if options:
            raise ZooError(f"register: {cls.__name__} has no argument {next(iter(options))!r}")
        node = {key: to_config(value) for key, value in node.items()}
        return Registered(target, about, {name: node} if group in ("callbacks", "logger") else node)
    defaults: list[Any] = []
    if "relaxation" in node:
        relaxation, node["relaxation"] = node["relaxation"], "${relaxation}"
        defaults += [{"override /relaxation": relaxation}] if relaxation not in (None, MUST) else []
    else:
        defaults += [{"override /relaxation": None}, {"override /annealing": None}]
    if data := options.pop("data", None):
        defaults.append({"override /data": data})
    whole = {"defaults": defaults, "model": node, "epochs": options.pop("epochs", 10)}
    if options:
        raise ZooError(f"register: {cls.__name__} has no argument {next(iter(options))!r}")
    return Registered(target, about, {key: to_config(value) for key, value in whole.items()}, "_global_")
