"""What every option means: the docstring of the class that it goes to says so, or the comment beside it in its file."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LINE = re.compile(r"(?P<indent> *)(?P<key>[\w.-]+):(?: (?P<value>.*?))??(?:(?:^| +)# ?(?P<comment>.*))?")
"""A line of a configuration file, which has a key."""
ARGUMENT = re.compile(r"^    \*{0,2}(\w+(?:, \w+)*): (.*(?:\n {8,}.*)*)", re.MULTILINE)


def explain_arguments(thing: Any) -> dict[str, str]:
    """What the sections ``Args`` of the docstring of a function, or a class and its bases, say of each parameter.

    Markup is as it stands there; the full stop at the end is left out.
    """
    docs = [inspect.getdoc(thing) or ""]
    if isinstance(thing, type):
        known = [base for base in reversed(thing.__mro__) if base.__module__.split(".")[0] not in ("builtins", "torch")]
        docs = [inspect.cleandoc(text) for base in known for text in _docs(base)]
    found: dict[str, str] = {}
    for doc in docs:
        _, _, section = f"\n{doc}".partition("\nArgs:\n")
        for names, text in ARGUMENT.findall(section.split("\n\n")[0]):
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()).removesuffix("."))
    return found


def _docs(cls: type) -> Iterator[str]:
    yield cls.__dict__.get("__doc__") or ""
    yield getattr(cls.__dict__.get("__init__"), "__doc__", None) or ""


def plain_text(text: str) -> str:
    """``text`` of a docstring without its markup."""
    text = re.sub(r":\w+:`~?\.?(?:[\w.]*\.)?(\w+)`", r"\1", text)
    return text.replace("``", "")


def read_lines(text: str) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """The lines of a configuration file that have a key: number, path of keys, and the comment behind it."""
    stack: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines()):
        match = LINE.fullmatch(line)
        if not match:
            continue
        indent = len(match["indent"])
        stack = [(depth, key) for depth, key in stack if depth < indent] + [(indent, match["key"])]
        yield number, tuple(key for _, key in stack), match["comment"] or ""


def comments(path: Path, group: str) -> dict[str, str]:
    """The comments in a file of ``group``: the dotted name of an option -> what stands behind it.

    Args:
        path: of the file.
        group: whose options have its name before them, but for what ``# @package`` says; empty for the main file.
    """
    text = path.read_text(encoding="utf-8")
    package = re.search(r"^# @package (\S+)$", text, re.MULTILINE)
    root = (package[1] if package else group).removeprefix("_global_")
    found = {}
    for _, keys, comment in read_lines(text):
        if comment and keys[0] not in ("defaults", "hydra"):
            found[".".join([*([root] if root else []), *keys])] = comment
    return found


def explain_values(values: Any, beside: dict[str, str], name: str = "") -> dict[str, str]:
    """What the options of a configuration mean: the dotted name -> a line.

    The docstring of a class says it, and the comment beside an option may add other values, "or ..."; where there is no
    docstring, or the class is of a library, whose docstrings are long, the comment says it.

    Args:
        values: of the configuration.
        beside: the comments beside its options, by their dotted names.
        name: of this part.
    """
    from zoo.config.objects import locate, ours
    from zoo.errors import ZooError

    if not isinstance(values, dict):
        return {}
    found: dict[str, str] = {}
    about: dict[str, str] = {}
    target = values.get("_target_")
    if isinstance(target, str) and "${" not in target:
        try:
            about = explain_arguments(locate(target, name))
        except ZooError:  # it is said elsewhere
            about = {}
    for key, value in values.items():
        option = f"{name}.{key}" if name else str(key)
        comment = beside.get(option, "")
        if key in about and (ours(target) or not comment):
            more = f"; {comment}" if comment.startswith("or ") and comment not in about[key] else ""
            found[option] = about[key] + more
        elif comment:
            found[option] = comment
        found |= explain_values(value, beside, option)
    return found


def annotate(text: str, meanings: dict[str, str]) -> str:
    """A configuration as text with the meaning of every option behind it.

    Args:
        text: YAML.
        meanings: the dotted name of an option -> its meaning.
    """
    lines = text.splitlines()
    for number, keys, _ in read_lines(text):
        meaning = meanings.get(".".join(keys), "")
        following = lines[number + 1].lstrip() if number + 1 < len(lines) else ""
        continues = following and not LINE.fullmatch(following) and not following.startswith("-")
        if meaning and not continues:  # a comment within a text of several lines would be a part of it
            lines[number] += f" # {plain_text(meaning)}"
    return "\n".join(lines)
