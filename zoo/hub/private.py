"""What does not leave a machine when a model is published: places on its disks, and files behind links."""

import shlex
import shutil
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from zoo.config.trust import PLACE
from zoo.errors import ZooError


def without_places(config: Any) -> Any:
    """``config`` with null for every place on a disk, wherever it stands: they are of another machine."""
    if isinstance(config, dict):
        return {
            key: None if key == PLACE or is_place(value) else without_places(value) for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return [None if is_place(value) else without_places(value) for value in config]
    return config


def command_without_places(command: str) -> str:
    """Command lines with ``...`` for the places in them, and of programs the name alone; comments as they are."""
    lines = command.splitlines()
    return "\n".join(line if line.startswith("#") else _without_places(line) for line in lines)


def _without_places(line: str) -> str:
    words = []
    for word in shlex.split(line):
        name, equals, value = word.partition("=")
        if equals and is_place(value):
            words.append(f"{name}=...")
        else:
            words.append(PurePosixPath(word).name if is_place(word) else word)
    return shlex.join(words)


def is_place(value: object) -> bool:
    """Whether ``value`` is a path that does not depend on where one stands."""
    if not isinstance(value, str) or not value.strip("/\\"):
        return False
    return value.startswith("~/") or PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()


def copy(path: Path, target: Path, folder: Path) -> None:
    """Copy a file of ``folder``.

    Raises:
        ZooError: if it is a link to something outside of it: that may be anything on this machine.
        OSError: if it cannot be copied.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ZooError(f"{path} is a link to {path.resolve()}, outside of what is published: put the file in its place")
    shutil.copyfile(path, target)
