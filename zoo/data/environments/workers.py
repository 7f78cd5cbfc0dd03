"""Copies of an environment in processes of their own, for environments that take long to step."""

import multiprocessing
import os
import signal
import sys
import weakref
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from zoo.data.environments.copies import Answer, Copy
from zoo.data.environments.making import Recipe
from zoo.errors import ZooError, one_line


class There:
    """Copies in other processes, which step at the same time.

    Gymnasium's ``AsyncVectorEnv`` steps all copies or none; a resumed run acts again in each as far as it had come.

    Args:
        recipe: which environment. It is made anew in each process, so what only the calling program has registered is
            not known there: name it ``module:Name-v0``.
        count: of copies.
        workers: processes.

    Raises:
        ZooError: if a process cannot make the environment.
    """

    def __init__(self, recipe: Recipe, count: int, workers: int) -> None:
        self.recipe, self.count = recipe, count
        # A server without threads forks them, quickly and safely; elsewhere than on Linux and macOS each starts anew.
        kind = "spawn" if sys.platform == "win32" else "forkserver"
        context: Any = multiprocessing.get_context(kind)
        if kind == "forkserver":
            context.set_forkserver_preload([__name__])
        self.pipes: list[Connection] = []
        self.processes = []
        for worker in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, recipe, len(range(worker, count, workers))), daemon=True
            )
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)
        self.close = weakref.finalize(self, _end, self.pipes, self.processes)
        for pipe in self.pipes:
            self._receive(pipe)

    def ask(self, calls: Sequence[tuple[int, str, Any]]) -> list[Answer]:
        """As :meth:`Here.ask`, in all processes at the same time."""
        workers = len(self.pipes)
        shares = [[(i // workers, *call) for i, *call in calls if i % workers == w] for w in range(workers)]
        for pipe, share in zip(self.pipes, shares):
            if share:
                with suppress(OSError):  # of one that has ended, which is told when its answer is missing
                    pipe.send(share)
        answers = [iter(self._receive(pipe)) if share else iter(()) for pipe, share in zip(self.pipes, shares)]
        return [next(answers[i % workers]) for i, *_ in calls]

    def _receive(self, pipe: Connection) -> Any:
        try:
            value = pipe.recv()
        except (EOFError, OSError) as error:
            raise ZooError(f"a process with copies of the environment {self.recipe} has ended") from error
        if isinstance(value, str):
            raise ZooError(value)
        return value


def _serve(pipe: Connection, recipe: Recipe, count: int) -> None:
    """Answer until the other end is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the training process decides when it is over
        signal.signal(number, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        copies = [Copy(recipe) for _ in range(count)]
        pipe.send([])
        while True:
            pipe.send([copies[i].answer(call, argument) for i, call, argument in pipe.recv()])
    except (EOFError, OSError):
        return
    except Exception as error:
        with suppress(OSError):
            pipe.send(str(error) if isinstance(error, ZooError) else f"{recipe}: {one_line(error)}")


def _end(pipes: list[Connection], processes: list[Any]) -> None:
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.join(1)
        if process.is_alive():
            process.kill()
