"""The folder of a training run: what is in it, who may use it, whether it can be resumed.

::

    config.yaml      what was asked for
    command.txt      the command line
    checkpoints/     best.ckpt, and the newest two to resume from
    metrics.csv      step,name,value
    pictures/        PNG files
    sounds/          wav files, of models that speak
    wandb/           what W&B keeps on this machine
    results.json     the scores of the test, once the run is complete
    train.log        what was printed
"""

import json
import logging
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import yaml

from zoo.config import with_defaults
from zoo.config.moved import is_earlier, up_to_date
from zoo.errors import ZooError
from zoo.hub.files import BEST, RUN_CONFIG, atomic, parse_yaml, read_parts

MAY_CHANGE = (
    "run",
    "epochs",
    "trainer",
    "logger",
    "data.root",
    "pictures_every_n_epochs",
    "checkpoint_every_n_steps",
    "compile",
)
"""Parts of the configuration in which the continuation of a run may differ from its beginning."""


class RunFolder:
    """The folder of a run. A context manager: inside it no other process can use the folder.

    Args:
        path: made if missing.

    Raises:
        ZooError: on entering, if another run is using the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / RUN_CONFIG
        self.command = self.path / "command.txt"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.path / BEST
        self.metrics = self.path / "metrics.csv"
        self.pictures = self.path / "pictures"
        self.sounds = self.path / "sounds"
        self.results = self.path / "results.json"
        self.log = self.path / "train.log"
        self._lock: IO[str] | None = None

    def __enter__(self) -> "RunFolder":
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise ZooError(f"cannot use {self.path} as a run folder: {error}") from error
        if not _take(self._lock):
            raise ZooError(f"another run is using {self.path}: wait for it, or give another folder with run=")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._lock:
            self._lock.close()  # which releases it; so does the end of the process, however it comes

    def claim(self, config: dict[str, Any], command: str) -> None:
        """Write down ``config`` and ``command``, or check that the run that is here was started with them.

        Raises:
            ZooError: if it was not.
        """
        if not self.config.exists():
            self.command.write_text(f"{command}\n", encoding="utf-8")
            with atomic(self.config) as temporary:
                temporary.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
            return
        changed = [line for part, line in differences(self.read_config(), config) if not may_change(part)]
        if changed:
            raise ZooError(
                f"{self.path} holds a run with other settings:\n"
                + "".join(f"  - {line}\n" for line in changed)
                + "Give the same options to resume it, or another folder with run=."
            )

    def settled(self, config: dict[str, Any], command: str) -> dict[str, Any]:
        """``config``; of a run that an earlier version began with the same options, what they meant then.

        Only what may change is as it is now: the defaults of the options have been others.
        """
        if not self.config.exists() or not is_earlier((before := self.read_config())["model"]):
            return config
        if not self.command.is_file() or options(self.command.read_text(encoding="utf-8")) != options(command):
            return config
        settled = before | {part: value for part, value in config.items() if may_change(part)}
        if "root" in config["data"]:
            settled["data"] = before.get("data", {}) | {"root": config["data"]["root"]}
        return settled

    def read_config(self) -> dict[str, Any]:
        """The configuration that the run was started with."""
        return read_parts(self.config, parse_yaml, "model")

    def read_results(self) -> dict[str, Any]:
        """The scores of a complete run."""
        return read_parts(self.results, json.loads, "metrics")


def may_change(part: str) -> bool:
    """Whether the continuation of a run may differ from its beginning in ``part``, a dotted name."""
    return part in MAY_CHANGE or part.split(".")[0] in MAY_CHANGE


def options(command: str) -> list[str]:
    """The options of a command line that must be the same to go on."""
    words = [word for word in shlex.split(command) if "=" in word or word.startswith("~")]
    return sorted(word for word in words if not may_change(word.split("=")[0].lstrip("+~")))


def differences(before: Any, after: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Where two configurations differ: (dotted name, a line for people)."""
    if isinstance(before, dict) and isinstance(after, dict):
        before, after = up_to_date(before), up_to_date(after)
        if str(before.get("_target_")).startswith("zoo.") and before["_target_"] == after.get("_target_"):
            before, after = with_defaults(before), with_defaults(after)  # one may be older than an option
        for key in dict.fromkeys([*before, *after]):
            yield from differences(before.get(key), after.get(key), f"{where}.{key}" if where else str(key))
    elif before != after:
        yield where, f"{where} was {before!r}, now {after!r}"


def set_up_logging(file: Path | None, *, level: int = logging.INFO) -> None:
    """Messages of the zoo to the terminal and to ``file``; of Lightning only warnings."""
    log = logging.getLogger("zoo")
    log.setLevel(level)
    log.propagate = False
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, is no reason for a traceback
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if file:
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
    import lightning.pytorch  # noqa: F401  (sets the level of its logger when it is imported)

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")  # within Lightning


def _take(file: IO[str]) -> bool:
    """Lock ``file`` for this process, if no other has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def pictures(folder: Path) -> dict[str, Path]:
    """Captions and files of what a run has drawn; of a film the moving picture, in place of its strip."""
    files = {path.stem: path for pattern in ("*.png", "*.gif") for path in sorted(folder.glob(pattern))}
    return {stem.replace("_", " ").capitalize(): path for stem, path in files.items()}


def sounds(folder: Path) -> dict[str, Path]:
    """Captions and files of what a run has spoken; recordings of the data stay with the data."""
    files = [path for path in sorted(folder.glob("*.wav")) if not path.stem.endswith("_real")]
    return {f"Sound: {path.stem.replace('_', ' ')}": path for path in files}
