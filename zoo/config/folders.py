"""Where configuration files come from: this project's own, folders of the user's, and installed plug-ins.

A folder is laid out as ``configs``: a subfolder for each group, in it a file for each choice. There are three doors:

- the environment variable ``ZOO_CONFIG_PATH``, folders separated as in ``PATH``; the flag ``--config-dir`` of every
  command adds to it, so that processes that are started by this one know of it, too;
- ``hydra.searchpath=[FOLDER]``, for one command;
- an installed package with an entry point of the group ``zoo.plugins``, which names a package: its folder ``configs``.

Files that were registered in this process (:func:`zoo.register`) are beside them. Nothing is imported to find them.
"""

import importlib.util
import logging
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from zoo.config.resources import resource
from zoo.errors import ZooError

log = logging.getLogger(__name__)

VARIABLE = "ZOO_CONFIG_PATH"
PLUGINS = "zoo.plugins"
"""The group of entry points."""


@dataclass(frozen=True)
class Registered:
    """A configuration file that is in memory alone.

    Attributes:
        target: the class that it is of.
        about: a line about it.
        node: its contents.
        package: where in the configuration they belong; empty for the place that the group has.
    """

    target: str
    about: str
    node: dict[str, Any] = field(hash=False)
    package: str = ""


REGISTERED: dict[str, Registered] = {}
"""What :func:`zoo.register` was given: ``group/name`` -> file."""


def config_folders(more: Iterable[str | Path] = ()) -> list[Path]:
    """Every folder of configuration files: this project's first, then the user's, then those of plug-ins.

    Args:
        more: folders of this command, as ``hydra.searchpath`` has them.

    Raises:
        ZooError: for a folder that does not exist.
    """
    named = [(f"{VARIABLE}={entry}", entry) for entry in os.environ.get(VARIABLE, "").split(os.pathsep) if entry]
    named += [(f"hydra.searchpath=[{entry}]", str(entry)) for entry in more]
    found = [resource("configs")]
    for said, entry in named:
        path = place(entry)
        if not path.is_dir():
            raise ZooError(f"{said}: there is no folder {path}")
        found.append(path.resolve())
    return list(dict.fromkeys([*found, *plugins()]))


def place(entry: str) -> Path:
    """The folder that ``entry``, a path, ``file://PATH`` or ``pkg://PACKAGE``, stands for."""
    if entry.startswith("pkg://"):
        package, *below = entry.removeprefix("pkg://").split("/")
        folder = folder_of(package)
        return folder.joinpath(*below) if folder else Path(entry)
    return Path(entry.removeprefix("file://")).expanduser().absolute()


def add_config_folder(path: str | Path) -> None:
    """Let this process, and those that it starts, look into the folder ``path``, too.

    Raises:
        ZooError: if it does not exist.
    """
    folder = place(str(path))
    if not folder.is_dir():
        raise ZooError(f"--config-dir {path}: there is no folder {folder}")
    if os.pathsep in str(folder):
        raise ZooError(f"--config-dir {path}: the name of the folder must not have {os.pathsep!r} in it")
    others = [entry for entry in os.environ.get(VARIABLE, "").split(os.pathsep) if entry and entry != str(folder)]
    os.environ[VARIABLE] = os.pathsep.join([str(folder), *others])


def plugins() -> list[Path]:
    """The folders ``configs`` of installed plug-ins. One that is broken is named, and passed over."""
    return list(_plugins(tuple(sys.path)))


@cache
def _plugins(path: tuple[str, ...]) -> tuple[Path, ...]:
    found = []
    for name, value in sorted({(entry.name, entry.value) for entry in entry_points(group=PLUGINS)}):
        folder = folder_of(value.partition(":")[0].strip())
        if folder and (folder / "configs").is_dir():
            found.append((folder / "configs").resolve())
        else:
            log.warning("the plug-in %s is broken: there is no folder configs in a package %s", name, value)
    return tuple(found)


def folder_of(package: str) -> Path | None:
    """Where ``package`` is; only packages around it are imported."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return None
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else None


def config_files(group: str, more: Iterable[str | Path] = ()) -> dict[str, list[Path]]:
    """The files of a group: name -> where there is one of that name, first the one that counts."""
    found: dict[str, list[Path]] = {}
    for folder in config_folders(more):
        for path in sorted((folder / group).glob("*.yaml")):
            found.setdefault(path.stem, []).append(path)
    return found
