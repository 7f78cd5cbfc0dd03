"""SIGTERM and Ctrl-C, in every phase: the program ends within seconds, saves what can be saved, and says so.

A signal raises :class:`Stopped` wherever the program is, unless that has asked for it to wait, as a step of training
does, which is to be finished and saved. Of the command line, what does not come to an end, such as a long call of a
library, is ended after :data:`GRACE` seconds by a thread that watches. A program that calls this project, such as a
notebook, is never ended: there a second signal raises at once.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
GRACE = 4.0  # seconds for what is under way, beside those that saving takes


class Stopped(BaseException):
    """The program was told to stop. No ``Exception``: what tries the next source after a failure must not go on.

    Args:
        number: of the signal.
        saved: what was saved, and how to go on.
    """

    def __init__(self, number: int, saved: str = "") -> None:
        super().__init__(number)
        self.number, self.saved = number, saved
        self.status = 128 + number
        """With which the command line exits; 0 of a process that leaves it to another to say so."""

    def __str__(self) -> str:
        return f"stopped by {NAMES[signal.Signals(self.number)]}" + (f"; {self.saved}" if self.saved else "")


class _State:
    number = 0  # of the first signal
    handled = False
    watched = False
    deferred = False
    raised = False
    saving = 0


_state = _State()


@contextmanager
def handled(*, watched: bool = False) -> Iterator[None]:
    """Inside, SIGTERM and Ctrl-C raise :class:`Stopped`; one that the caller of the program ignores stays ignored.

    Args:
        watched: end the process if it does not end by itself.
    """
    global _state
    if _state.handled or threading.current_thread() is not threading.main_thread():
        yield
        return
    _state = _State()
    _state.handled, _state.watched = True, watched
    process, over = os.getpid(), threading.Event()
    before = {number: signal.getsignal(number) for number in NAMES}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, _tell)
    with _watching(_state, over) if watched else nullcontext():
        try:
            yield
        finally:
            over.set()
            if os.getpid() == process:
                for number, handler in before.items():
                    signal.signal(number, signal.SIG_DFL if handler is None else handler)
            _state = _State()


@contextmanager
def _watching(state: _State, over: threading.Event) -> Iterator[None]:
    """Let a thread watch until ``over`` is set."""
    process = os.getpid()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(state, ours, over), name="signals", daemon=True).start()
    try:
        yield
    finally:
        if os.getpid() == process:
            signal.set_wakeup_fd(wakeup)
        theirs.close()


def told() -> int:
    """The number of the signal by which the program was told to stop, 0 if it was not."""
    return _state.number


def defer() -> None:
    """Let signals wait until :func:`allow` is called."""
    _state.deferred = True


def allow(*, stop: bool = True) -> None:
    """Let signals raise again.

    Args:
        stop: also one that has waited.

    Raises:
        Stopped: for one that has waited.
    """
    _state.deferred = False
    if stop and _state.number and not _state.raised:
        _state.raised = True
        raise Stopped(_state.number)


@contextmanager
def deferred() -> Iterator[None]:
    """Let signals wait until the end of the block, which leaves things half done if it is cut short."""
    if _state.deferred:
        yield
        return
    defer()
    try:
        yield
    finally:
        allow(stop=False)
    allow()


@contextmanager
def saving() -> Iterator[None]:
    """The time that the block takes does not count: it saves what else would be lost."""
    _state.saving += 1
    try:
        yield
    finally:
        _state.saving -= 1


def _tell(number: int, *_: Any) -> None:
    again = bool(_state.number) and not _state.watched  # by whoever does not want to wait
    _state.number = _state.number or number
    if (not _state.deferred or again) and not _state.raised:  # once: what cleans up is not to be cut short too
        _state.raised = True
        raise Stopped(_state.number)


def _watch(state: _State, signals: socket.socket, over: threading.Event) -> None:
    """End the process if it has not ended by itself. A handler of Python's would wait for the call that takes long."""
    with signals:
        while told := signals.recv(1):
            if told[0] in NAMES:
                break
    left, since = GRACE, time.monotonic()  # by the clock: on a busy machine a wait takes longer than it should
    while told and left > 0 and not over.wait(0.1):
        now = time.monotonic()
        left, since = left - (0 if state.saving else now - since), now
    if told and not over.is_set():
        name = NAMES[signal.Signals(told[0])]
        os.write(2, f"stopped by {name} within a step; what was saved before is untouched\n".encode())
        os._exit(128 + told[0])


def _forget() -> None:
    """A fork has neither the thread nor anything to save."""
    global _state
    if _state.handled:
        if _state.watched:
            signal.set_wakeup_fd(-1)
        for number in NAMES:
            if signal.getsignal(number) is _tell:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _state = _State()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
