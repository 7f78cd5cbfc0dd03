"""``name=value``, the one dialect of the commands: the signature of a function is what its command understands.

A parameter that may be given by position may also be a bare word, as in ``zoo sample cat_vae.mnist``; annotations and
their ranges are checked by pydantic; the explanations in the help are those of the docstring. A function with
``*overrides`` is handed the options of configurations, such as ``model.latents=20``, as they are.
"""

import inspect
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from zoo.cli.options import HELP, as_started, tell
from zoo.config.explaining import explain_arguments
from zoo.errors import ZooError, did_you_mean

NULL = "null"


@dataclass(frozen=True)
class Option:
    """A parameter of a function, as an option of its command.

    Attributes:
        bare: whether a bare word can stand for it.
        about: what it is, for people.
    """

    name: str
    hint: Any
    default: Any
    bare: bool
    about: str

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    def read(self, text: str) -> Any:
        """The value that ``text`` stands for.

        Raises:
            ZooError: if it is missing, or not of the type or in the range of this option.
        """
        from pydantic import TypeAdapter, ValidationError

        if not text:
            raise ZooError(f"{self.name}= needs a value: {self.about}")
        if text == NULL and NoneType in get_args(self.hint):
            return None
        value = listed(text) if is_list(self.hint) else text
        try:
            read = TypeAdapter(self.hint).validate_python(value)
        except ValidationError as error:
            reasons = "; or ".join(dict.fromkeys(e["msg"][0].lower() + e["msg"][1:] for e in error.errors()))
            raise ZooError(f"{self.name}={text} is not valid: {reasons}.") from error
        return [at_home(one) for one in read] if isinstance(read, list) else at_home(read)


def at_home(value: Any) -> Any:
    """``value``, a path with the home of the user for ``~``, which shells leave as it is in ``output=~/x.png``."""
    return Path(os.path.expanduser(value)) if isinstance(value, Path) else value


def command(
    function: Callable[..., Any],
    *,
    text: str,
    takes: Callable[[], Iterable[str]] = tuple,
    notes: Callable[[], str] = str,
) -> Callable[[list[str]], None]:
    """The ``main`` of a command: it calls ``function`` with what the words after the command say.

    Args:
        function: typed; one line each about its arguments is in its docstring.
        text: what the command is for, and examples.
        takes: the first parts of the names of the options that ``*overrides`` of ``function`` takes.
        notes: what the help says at its end.
    """

    def main(words: list[str]) -> None:
        needed = any(option.required for option in options_of(function))
        if set(HELP) & set(words) or (needed and not words):
            tell(as_started("\n\n".join([text.strip(), describe(function), notes()]).rstrip()))
            return
        overrides, given = parse(function, words, takes=takes)
        first = [given.pop(option.name, option.default) for option in options_of(function) if option.bare]
        function(*first, *overrides, **given)

    return main


def options_of(function: Callable[..., Any]) -> list[Option]:
    """Every named parameter of ``function``."""
    parameters = inspect.signature(function).parameters.values()
    hints, about = get_type_hints(function, include_extras=True), explain_arguments(function)
    return [
        Option(p.name, hints[p.name], p.default, p.kind is p.POSITIONAL_OR_KEYWORD, about.get(p.name, ""))
        for p in parameters
        if p.kind is not p.VAR_POSITIONAL
    ]


def parse(
    function: Callable[..., Any], words: Sequence[str], *, takes: Callable[[], Iterable[str]] = tuple
) -> tuple[list[str], dict[str, Any]]:
    """The overrides and the arguments of ``function`` in ``words``. Of one that is given twice, the last counts.

    Raises:
        ZooError: for an option that does not exist, is missing, or has a value that is not valid.
    """
    options = {option.name: option for option in options_of(function)}
    overrides: list[str] = []
    given: dict[str, Any] = {}
    roots: list[str] | None = None
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            name = name.lstrip("-").replace("-", "_")
            if name in options:
                raise ZooError(f"options are written name=value: {name}={value or '...'}, not {word}")
        elif not equals and not word.startswith("~"):
            unset = [option for option in options.values() if option.bare and option.name not in given]
            if not unset:
                raise ZooError(
                    f"cannot read {word!r}: options are written name=value.{did_you_mean(word, list(options))} "
                    f"Options: {', '.join(options)}."
                )
            name, value = unset[0].name, word
        if name in options:
            given[name] = options[name].read(value)
            if name == "output" and isinstance(given[name], Path) and given[name].is_dir():
                raise ZooError(f"cannot write output={value}: is a directory")  # before any work
            continue
        roots = list(takes()) if roots is None else roots
        root = re.split(r"[./@:]", name.lstrip("+~"))[0]
        if root not in roots:
            known = [*options, *roots]
            raise ZooError(f"there is no option {name!r}.{did_you_mean(root, known)} Options: {', '.join(known)}.")
        overrides.append(word)
    for option in options.values():
        if option.required and option.name not in given:
            raise ZooError(f"say which {option.name}: {option.name}=..., {option.about}")
    return overrides, given


def describe(function: Callable[..., Any]) -> str:
    """A line for each option, with its default."""
    rows = [(f"{option.name}={shown(option.default)}", option.about) for option in options_of(function)]
    rows += [("name=value", text) for name, text in explain_arguments(function).items() if name == "overrides"]
    width = max((len(left) for left, _ in rows if len(left) <= 30), default=0)
    beside = [(left, "") if len(left) <= width else ("", f"{left}\n") for left, _ in rows]
    lines = [f"{above}{left:<{width}}  {about}" for (left, above), (_, about) in zip(beside, rows)]
    return "\n".join(line.rstrip() for line in lines)


def shown(value: Any) -> str:
    """``value`` as one writes it on the command line, of a long list the beginning."""
    if value is None or value is inspect.Parameter.empty:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join([*map(shown, value[:8]), *(["..."] if len(value) > 8 else [])])
    return str(value)


def is_list(hint: Any) -> bool:
    """Whether values of the type ``hint`` are lists, or None."""
    if get_origin(hint) is Annotated:
        return is_list(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return all(is_list(part) for part in get_args(hint) if part is not NoneType)
    return get_origin(hint) in (list, tuple, Sequence)


def listed(text: str) -> list[str]:
    """``a,b`` or ``[a,b]``."""
    inside = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return [part.strip() for part in inside.split(",") if part.strip()]
