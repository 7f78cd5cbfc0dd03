"""Which code a configuration from elsewhere may name: the one rule that every reader of saved models follows."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import ZooError

DEPTH = 50
NODES = 100_000
"""Values of a configuration, counted as often as they are named: aliases and shared lists can double them."""
WHOLE = 2**63
"""Whole numbers are below it, either way."""
TEXT = 100_000  # characters
WHY = (
    "a saved configuration could run anything by it. If you know the package that has it, and trust its author, say "
    "trust=PACKAGE."
)
PLACE = "root"
"""The option that is a place on a disk, in which a colon is a drive."""


@dataclass(frozen=True)
class Trust:
    """The packages whose classes may be built: this project, and what the caller trusts by name.

    A class that is trusted runs its code, and so does all that its package imports.
    """

    packages: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Sequence[str] = ()) -> "Trust":
        """Trust in ``names`` of modules or packages, such as ``("mypackage", "other.nets")``; one may stand alone.

        Raises:
            ZooError: for what is no such name, or one of Python itself, whose classes start programs.
        """
        packages = (names,) if isinstance(names, str) else tuple(names)
        for name in packages:
            if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
                raise ZooError(f"trust={name!r} is not valid: give the name of a module or package, such as mypackage")
            if name.split(".")[0] in sys.stdlib_module_names:
                raise ZooError(f"trust={name} is not valid: {name} is a part of Python, whose classes can do anything")
        return cls(packages)

    def check(self, path: str, where: str) -> None:
        """Check that the dotted ``path`` of a class, or of a module, lies in the zoo or in a package that is trusted.

        Raises:
            ZooError: naming ``where`` it stands.
        """
        if not self._covers(path):
            raise ZooError(f"{where}: refusing {path[:200]!r}, which is not of this project: {WHY}")

    def _covers(self, path: str, ours: tuple[str, ...] = ("zoo",)) -> bool:
        return any(path == package or path.startswith(f"{package}.") for package in (*ours, *self.packages))

    def check_config(self, config: Any, where: str) -> None:
        """Check a configuration of unknown origin before anything is done with it: bounded plain data without
        interpolations, which could read the environment, and without names of code that is not trusted.

        Names are classes, ``_target_``, and every ``module:name``, which Gymnasium and others import when they use it.

        Raises:
            ZooError: naming the place of what is refused.
        """
        for key, value, place in nodes(config, where):
            if key == "_target_" and not isinstance(value, str):
                raise ZooError(f"{place} is a {type(value).__name__}, not the name of a class")
            if key == "_target_":
                self.check(value, place)
            if isinstance(value, str):
                self._check_text(value, place, module=key != PLACE)
            elif isinstance(value, int):
                if abs(value) >= WHOLE:
                    raise ZooError(f"{place} is a whole number of {value.bit_length()} bits, which is none of a model")
            elif value is not None and not isinstance(value, (dict, list, tuple, float)):
                raise ZooError(f"{place} is a {type(value).__name__}, which is not plain data")

    def _check_text(self, text: str, where: str, *, module: bool) -> None:
        if len(text) > TEXT:
            raise ZooError(f"{where} is a text of {len(text)} characters, {TEXT} are the most")
        if "${" in text:
            raise ZooError(f"{where}: refusing the interpolation {text[:100]!r} in a saved configuration")
        name, colon, _ = text.partition(":")
        if module and colon and name and not {"/", "\\"} & set(name) and not self._covers(name, ours=()):
            raise ZooError(f"{where}: refusing {text[:200]!r}, which names a module to import: {WHY}")


def nodes(config: Any, where: str) -> Iterator[tuple[str, Any, str]]:
    """Every value of nested data: the name it has in the dict that holds it, the value, and its place for people.

    Raises:
        ZooError: if there are too many, counted as often as they are named, they are nested too deeply, or a key is no
            text.
    """
    waiting, count = [("", config, where, 0)], 1
    while waiting:
        key, value, place, depth = waiting.pop()
        yield key, value, place
        if not isinstance(value, (dict, list, tuple)):
            continue
        count += len(value)
        if count > NODES:
            raise ZooError(f"{place[:200]} is too large: a configuration has {NODES} values at most")
        if depth == DEPTH:
            raise ZooError(f"{place[:200]} is nested too deeply")
        if not isinstance(value, dict):
            waiting += [("", item, f"{place}[{i}]", depth + 1) for i, item in enumerate(value)]
            continue
        for name, item in value.items():
            if not isinstance(name, str):
                raise ZooError(f"{place[:200]} has a key that is a {type(name).__name__}, not a name")
            waiting.append((name, item, f"{place}.{name[:100]}", depth + 1))
