"""What does not leave a machine when a model is published: places on its disks, and files behind links."""

import re
import shlex
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from zoo.config.trust import PLACE
from zoo.errors import ZooError

FOLDERS = "--config-dir"
LEFT_OUT = "..."
"""What a published configuration of data has in place of a place that whoever scores the model has to give."""


def without_places(config: Any, instead: str | None = None) -> Any:
    """``config`` with ``instead`` of every place on a disk, wherever it stands: they are of another machine. The
    root of data sets, which need not be given, becomes null."""
    if isinstance(config, dict):
        return {
            LEFT_OUT if is_place(key) else key: None
            if key == PLACE
            else instead
            if is_place(value)
            else without_places(value, instead)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return [instead if is_place(value) else without_places(value, instead) for value in config]
    return config


def check_given(data: Any, origin: object) -> None:
    """Check that every place that was left out of a published configuration of data has been given again.

    Raises:
        ZooError: naming those that have not.
    """
    waiting, missing = [("data", data)], []
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{name}.{key}", item) for key, item in value.items()]
        elif value == LEFT_OUT or (isinstance(value, (list, tuple)) and LEFT_OUT in value):
            missing.append(name)
    if missing:
        words = " ".join(f"{name}=PATH" for name in sorted(missing))
        raise ZooError(
            f"{origin} does not say where its data are, which were left out when it was published, as a place on "
            f"another machine: give {words}, or other data, data=NAME"
        )


def command_without_places(command: str) -> str:
    """Command lines with ``...`` for the places in them, and of programs the name alone; comments as they are.

    Folders of configuration files are left out: those who load the model need none.
    """
    lines = command.splitlines()
    return "\n".join(line if line.startswith("#") else _without_places(line) for line in lines)


def _without_places(line: str) -> str:
    words = []
    given = shlex.split(line)
    for before, word in zip(["", *given], given):
        name, equals, value = word.partition("=")
        if FOLDERS in (before, name) or name == "hydra.searchpath":
            continue
        if equals and is_place(value):
            words.append(f"{name}=...")
        else:
            words.append(PurePosixPath(word).name if is_place(word) else word)
    return shlex.join(words)


def is_place(value: object) -> bool:
    """Whether ``value`` is, or has in it, a path that does not depend on where one stands, or leads out of there."""
    return isinstance(value, str) and bool(A_PLACE.search(value))


A_PLACE = re.compile(
    r"""(?:^|[\s\[\](){},;='"]|:(?!//))  # at the beginning, or within a list, a dict, a PATH
        (?:~(?:[/A-Za-z]|$)|\.\./|/[^/\s]|file:|\$\{?\w|[A-Za-z]:[\\/]|\\\\)""",
    re.VERBOSE,
)


def copy(path: Path, target: Path, folder: Path) -> None:
    """Copy a file of ``folder``.

    Raises:
        ZooError: if it is a link to something outside of it: that may be anything on this machine.
        OSError: if it cannot be copied.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ZooError(f"{path} is a link to {path.resolve()}, outside of what is published: put the file in its place")
    shutil.copyfile(path, target)
