"""What the commands share: help, errors for people, several processes."""

import atexit
import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

from zoo import hub, signals
from zoo.errors import FULL, ZooError, cause, printable
from zoo.files import scratch

COMMANDS = (
    *("train", "eval", "sample", "play", "solve", "speak", "select", "write", "pack", "list", "publish", "lab"),
    *("study", "answers", "demo"),
)
"""Each is a module here, with a ``main`` that takes what follows the name of the command."""
HELP = ("-h", "--help")
OF_A_FILE = (
    *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG),
    *(errno.EIO, errno.ESTALE),
)
"""Errors of the system that this project cannot help: a folder where a file belongs, what may not be written ..."""


def as_started(text: str) -> str:
    """``text`` with its commands as this program was started: ``python scripts/train.py`` may be ``zoo train``."""
    program = Path(sys.argv[0]).name
    command = "python -m zoo" if program == "__main__.py" else "zoo"
    if command == "zoo" and program.endswith(".py"):
        return text
    text = re.sub(r"\bzoo(?= (?:COMMAND|list|lab|select|write|pack|demo)\b)", command, text)
    return re.sub(r"python scripts/(\w+)\.py", lambda match: f"{command} {place(match[1])}", text)


def place(script: str) -> str:
    """Where in ``zoo`` the script with this name leads to."""
    return script if script in COMMANDS else f"lab {script}"


def tell(text: str) -> None:
    """Print ``text``, as much of it as the reader wants: ``head`` closes its end of a pipe."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def pretrained(*archs: str, fits: Callable[[str], bool] = lambda name: True) -> str:
    """The shipped models of the architectures ``archs``, by default of all, for people; only those that ``fits``."""
    known = [name for name in hub.list_models(pretrained=True) if not archs or name.split(".")[0] in archs]
    names = [name for name in known if fits(name)]
    return f"Pretrained models: {', '.join(names) or 'none'}"


def rank() -> int:
    """Of this process among those of a run, by the variables that launchers set."""
    return int(next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), 0))


def external_launcher() -> str | None:
    """``torchrun`` or ``srun`` if it started this process as one of several, else None."""
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        return "torchrun"
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "srun" if int(os.environ.get("SLURM_NTASKS", 1)) > 1 and not interactive else None


def fail_politely(main: Callable[..., Any]) -> Callable[..., Any]:
    """``main`` with a :class:`ZooError`, or an error of the system about a file, printed as one message; status 1.

    SIGTERM and Ctrl-C end it in any phase, with status 143 and 130.
    """

    @wraps(main)
    def polite(*args: Any) -> Any:
        try:
            with signals.handled(watched=True):
                return main(*args)
        except signals.Stopped as stopped:
            if stopped.status:
                print(shown(str(stopped)), file=sys.stderr, flush=True)
            sys.exit(stopped.status)
        except ZooError as error:
            sys.exit(shown(f"error: {error}"))
        except OSError as error:
            if error.errno not in (*FULL, *OF_A_FILE):
                raise
            sys.exit(shown(f"error: {cause(error)}" + (f": {error.filename}" if error.filename else "")))

    @wraps(main)
    def prompt(*args: Any) -> Any:
        try:
            return polite(*args)
        except SystemExit as ended:
            if isinstance(ended.__context__, signals.Stopped) and is_program(sys._getframe(1)):
                end(ended.__context__.status)
            raise

    return prompt


def is_program(frame: FrameType) -> bool:
    """Whether ``frame`` is of the file that Python was started with, and not of a program that only calls a command."""
    return frame.f_globals.get("__name__") == "__main__"


def end(status: int) -> None:
    """End this program now. What Python does at its end takes more than a second with PyTorch in it, and on a busy
    machine more than is left after a signal."""
    with suppress(BaseException):
        logging.shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


@contextmanager
def written(output: Path) -> Iterator[Path]:
    """Yield a path to write to, which becomes ``output`` if the block succeeds: half a picture is none.

    A pipe or a device is written to as it is.

    Raises:
        ZooError: if it cannot be written.
    """
    try:
        with signals.deferred():
            if output.exists() and not output.is_file():
                yield output
                return
            with scratch(output) as place:
                yield place / output.name
                os.replace(place / output.name, output)
    except (OSError, ValueError) as error:  # of libraries, for a kind of file that they do not know
        why = cause(error) if isinstance(error, OSError) else str(error)
        raise ZooError(f"cannot write output={output}: {why}") from error


def shown(message: str) -> str:
    """``message`` as this process prints it."""
    return (f"[process {rank()}] " if rank() else "") + printable(message)
