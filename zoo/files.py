"""Files and folders that are written whole or not at all, and of which killed processes leave nothing for long."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from zoo.errors import ZooError, cause

SUFFIX = ".zoo-part"
"""Of every temporary name, so that nothing of anybody else's is taken for one."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the block succeeds.

    What a process that was killed has left of an earlier attempt is removed, here and in :func:`scratch`.

    Raises:
        ZooError: if it cannot be written.
    """
    temporary = temporary_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in left_of(path):
            left.unlink(missing_ok=True)
        with temporary.open("wb") as lock:
            locked(lock.fileno())
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save has errors of its own
        why = "it is a folder" if path.is_dir() else cause(error)
        raise ZooError(f"cannot write {path}: {why}. What was saved before is untouched.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``path``, in which that can be made before it is renamed. Afterwards it is removed.

    What was at ``path`` before can be kept in it as ``old``: if the process is killed before there is a new one, the
    next one puts that back.

    Raises:
        OSError: if it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in left_of(path):
        if not path.exists():
            with suppress(OSError):
                (left / "old").rename(path)
        shutil.rmtree(left, ignore_errors=True)
    folder = temporary_of(path)
    folder.mkdir(mode=0o700)
    try:
        with opened(folder) as file:
            locked(file)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def temporary(name: str) -> Iterator[Path]:
    """Yield a new folder for what is needed for a moment, in the system's place for that; see :func:`scratch`.

    Raises:
        OSError: if it cannot be made.
    """
    with scratch(Path(tempfile.gettempdir()) / f"discrete-latent-zoo-{name}") as folder:
        yield folder


def temporary_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{SUFFIX}")


def left_of(path: Path) -> Iterator[Path]:
    """What :func:`atomic` and :func:`scratch` have left of ``path`` in processes that were killed.

    Those that are at work hold a lock. It is looked at the process, too, as there is a moment before it is locked.
    """
    for other in path.parent.glob(f".{escape(path.name)}.*{SUFFIX}"):
        number = other.stem.rpartition(".")[2]
        if number.isdecimal() and not other.is_symlink() and (int(number) == os.getpid() or not is_alive(int(number))):
            with suppress(OSError), opened(other) as file:
                if locked(file):
                    yield other


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The descriptor of a file or folder."""
    file = os.open(path, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)


def locked(file: int) -> bool | None:
    """Lock a file for this process: whether it is locked now, which it is not if another has it; or None, unknown."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some file systems of networks and clouds have no locks
        return None
    return True


def is_alive(process: int) -> bool:
    """Whether there is a process with this number on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def sweep(folder: Path) -> None:
    """Remove what :func:`atomic` leaves in ``folder`` when its process is killed. No other may be writing there."""
    for path in folder.glob(f".*{SUFFIX}"):
        if path.is_file():
            with suppress(OSError):
                path.unlink()
