"""What the tabs share: models that are loaded once, mistakes that are told in the page."""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, get_args, get_origin

from zoo import hub
from zoo.errors import ZooError, cause

UPLOAD = 10 * 2**20
"""Bytes of a file that is handed in, at most."""


class Shelf:
    """Models to show: those that are shipped, and those that the command was given.

    Every session has the same ones: nothing writes into a model.

    Args:
        given: pretrained models, folders or runs.
        trust: packages whose classes they may name.

    Raises:
        ZooError: if one of ``given`` cannot be read.
    """

    def __init__(self, given: Sequence[str] = (), trust: Sequence[str] = ()) -> None:
        self.trust = tuple(trust)
        self.given = {name: hub.read(name, self.trust).arch for name in given}
        self._lock = threading.Lock()
        self._models: dict[str, Any] = {}

    def names(self, *archs: str) -> list[str]:
        """Of models of these architectures, those that were given first."""
        own = [name for name, arch in self.given.items() if arch in archs]
        return [*own, *(name for arch in archs for name in hub.list_models(f"{arch}.*", pretrained=True))]

    def load(self, name: str, *archs: str) -> Any:
        """A model of :meth:`names`.

        Raises:
            ZooError: if it is none of them.
        """
        if name not in self.names(*archs):
            raise ZooError(f"there is no model {str(name)[:100]!r} here: choose one of the list")
        with self._lock:
            if name not in self._models:
                self._models[name] = hub.from_pretrained(name, trust=self.trust)
            return self._models[name]


def alert(message: str) -> str:
    return f'<div class="zoo-page"><p class="say" role="alert">{escape(message)}</p></div>'


def polite(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with what the user can put right told where its first output would be; others stay as they are."""

    def told(error: Exception, outputs: int) -> Any:
        message = alert(str(error) if isinstance(error, ZooError) else cause(error))
        if outputs == 1:
            return message
        from gradio import skip

        return message, *[skip() for _ in range(outputs - 1)]

    outputs = count_outputs(function)
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def steps(*values: Any) -> Iterator[Any]:
            try:
                yield from function(*values)
            except (ZooError, ValueError, OSError) as error:
                yield told(error, outputs)

        return steps

    @functools.wraps(function)
    def polite_function(*values: Any) -> Any:
        try:
            return function(*values)
        except (ZooError, ValueError, OSError) as error:
            return told(error, outputs)

    return polite_function


def count_outputs(function: Callable[..., Any]) -> int:
    """How many outputs ``function`` has, by its annotation."""
    hint = inspect.signature(function).return_annotation
    if inspect.isgeneratorfunction(function):
        (hint,) = get_args(hint)
    return len(get_args(hint)) if get_origin(hint) is tuple else 1


def uploaded(path: str | None) -> Path:
    """A file that was handed in.

    Raises:
        ZooError: if there is none, or it is too large.
    """
    if not path:
        raise ZooError("choose a file first")
    place = Path(path)
    if (size := place.stat().st_size) > UPLOAD:
        raise ZooError(f"the file has {size / 2**20:.0f} MB: {UPLOAD / 2**20:.0f} MB are the most here")
    return place


def no_model(arch: str) -> str:
    """What to do where there is no model of a kind, as Markdown."""
    return (
        f"No `{arch}` is shipped with weights. Train one, `zoo train {arch} run=runs/mine`, and start the playground "
        "with it: `zoo demo checkpoint=runs/mine`."
    )
