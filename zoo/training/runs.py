"""The folder of a training run: what is in it, who may use it, whether it can be resumed.

::

    config.yaml      what was asked for
    command.txt      the command line; of a run that went on with others, each with the step from which on
    checkpoints/     best.ckpt, and the newest two to resume from
    metrics.csv      step,name,value
    pictures/        PNG files
    sounds/          wav files, of models that speak
    wandb/           what W&B keeps on this machine
    results.json     the scores of the test, once the run is complete
    train.log        what was printed, and more, such as all bad recordings
"""

import json
import logging
import re
import shlex
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from zoo.config import Trust, locate, with_defaults
from zoo.config.moved import is_earlier, present, up_to_date
from zoo.config.trust import nodes
from zoo.errors import ZooError, cause, printable
from zoo.files import atomic, locked, sweep
from zoo.hub import own
from zoo.hub.files import BEST, RUN_CONFIG, parse_yaml, read_parts

FREE = (
    "run",
    "logger",
    "data.root",
    "pictures_every_n_epochs",
    "checkpoint_every_n_steps",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
    "trainer.num_sanity_val_steps",
)
"""Parts of the configuration that change no number of a run, so that its continuation may differ in them."""
LENGTH = ("epochs", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time")
RECORDED = (*LENGTH, "compile", "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy")
"""Parts in which it may differ, too, which is written down with the step: a run may become longer if nothing follows
its length, and go on elsewhere, where numbers are the same but for rounding."""


class RunFolder:
    """The folder of a run. A context manager: inside it no other process can use the folder, where there are locks.

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
        self.locked = False
        """Whether no other process can use the folder now. Some file systems have no locks."""

    def __enter__(self) -> "RunFolder":
        try:
            str(self.path).encode()  # a name of other bytes cannot be written down
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("w")
        except (OSError, UnicodeError) as error:
            raise ZooError(f"cannot use {self.path} as a run folder: {cause(error)}") from error
        taken = locked(self._lock.fileno())
        if taken is False:
            raise ZooError(f"another run is using {self.path}: wait for it, or give another folder with run=")
        if taken:
            for folder in (self.path, self.checkpoints):
                sweep(folder)  # what writers that were killed have left: no other can be at work
        self.locked = bool(taken)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._lock:
            self._lock.close()  # which releases it; so does the end of the process, however it comes

    def claim(self, config: dict[str, Any], command: str, step: int = 0) -> None:
        """Write down ``config`` and ``command``, with which a run goes on from ``step``, if it may.

        Raises:
            ZooError: if the run that is here was started with other settings, which change its numbers.
        """
        changed = self.changes(config, begun=step > 0)
        if self.config.exists() and not any(matches(part, RECORDED) for part in changed):
            return
        before = self._read_command() + from_step(step) if step and self.command.is_file() else ""
        with atomic(self.command) as temporary:
            temporary.write_text(f"{before}{command}\n", encoding="utf-8")
        with atomic(self.config) as temporary:
            config = {part: value for part, value in config.items() if part != "run"}  # it may be moved
            temporary.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def changes(self, config: dict[str, Any], *, begun: bool = True) -> list[str]:
        """The parts in which ``config`` differs from what the run that is here, if there is one, was started with.

        Args:
            config: with which it is to go on.
            begun: whether any step has been made.

        Raises:
            ZooError: if a part may not change.
        """
        if not self.config.exists():
            return []
        before = self.read_config()
        changed = dict(differences(before, config))
        refused = [line for part, line in changed.items() if not may_change(part)]
        if begun and any(matches(part, LENGTH[:-1]) for part in changed):
            paced = follows_length(config)
            shorter = is_shorter(before, config)
            why = f": {paced}" if paced else ": it has been trained further" if shorter else ""
            refused += [f"{line}{why}" for part, line in changed.items() if why and matches(part, LENGTH[:-1])]
        if refused:
            raise ZooError(
                f"{self.path} holds a run with other settings:\n"
                + "".join(f"  - {line}\n" for line in refused)
                + "Give the same options to resume it, or another folder with run=."
            )
        return list(changed)

    def commands(self, step: float = float("inf")) -> str:
        """The command lines that made the weights of ``step``, a line each."""
        lines: list[str] = []
        for line in self._read_command().splitlines():
            mark = STEP.fullmatch(line)
            if mark and int(mark[1]) >= step:
                break
            lines.append(line)
        return "\n".join(lines)

    def settled(self, config: dict[str, Any], command: str) -> dict[str, Any]:
        """``config``; of a run that an earlier version began with the same options, what they meant then.

        Only what may change is as it is now: the defaults of the options have been others.

        Raises:
            ZooError: if the folder, which may be a stranger's, names code that is not trusted, or cannot be read.
        """
        if not self.config.exists() or not is_earlier((before := self.read_config())["model"]):
            return config
        if not self.command.is_file() or options(self.commands(0)) != options(command):
            return config
        asked = {present(path) for name, path, _ in nodes(config, "config") if name == "_target_"}
        trust = Trust((*own.own(self.path), *asked))
        for part, value in before.items():
            if not may_change(part):  # the rest is not taken over
                trust.check_config(value, f"{self.config}: {part}")
                for name, path, place in nodes(value, f"{self.config}: {part}"):
                    if name == "_target_" and present(path) not in asked:
                        locate(path, place, trust=trust)
        settled = before | {part: value for part, value in config.items() if may_change(part)}
        for part in ("data", "trainer"):
            now = {name: value for name, value in config.get(part, {}).items() if may_change(f"{part}.{name}")}
            settled |= {part: before.get(part, {}) | now} if now else {}
        return settled

    def _read_command(self) -> str:
        try:
            return self.command.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ZooError(
                f"{self.command}, the command that started the run, cannot be read: {cause(error)}"
            ) from error

    def read_config(self) -> dict[str, Any]:
        """The configuration that the run was started with.

        Raises:
            ZooError: if it cannot be read, or is none.
        """
        config = read_parts(self.config, parse_yaml, "model")
        for part in ("model", "data", "trainer"):
            if not isinstance(config.get(part, {}), dict):
                raise ZooError(f"{self.config} is damaged: {part} holds no options")
        return config

    def read_results(self) -> dict[str, Any]:
        """The scores of a complete run.

        Raises:
            ZooError: if they cannot be read, or are none.
        """
        results = read_parts(self.results, json.loads, "metrics")
        metrics = results["metrics"]
        numbers = [results.get("best"), *(metrics.values() if isinstance(metrics, dict) else [None])]
        if not all(isinstance(number, (int, float)) for number in numbers):
            raise ZooError(
                f"{self.results} is damaged: it does not hold scores. Remove it, and the run is tested again"
            )
        return results


STEP = re.compile(r"# from step (\d{1,18}) on:")


def from_step(step: int) -> str:
    return f"# from step {step} on:\n"


def matches(part: str, names: Sequence[str]) -> bool:
    """Whether ``part``, a dotted name, is one of ``names`` or within one."""
    return any(part == name or part.startswith(f"{name}.") for name in names)


def may_change(part: str) -> bool:
    """Whether the continuation of a run may differ from its beginning in ``part``, a dotted name."""
    return matches(part, (*FREE, *RECORDED))


def follows_length(config: dict[str, Any]) -> str:
    """What in a run depends on how long it is to be, so that a longer one would have had other weights; or nothing."""
    found = []
    mine = {f"callbacks.{name}": arguments for name, arguments in (config.get("callbacks") or {}).items()}
    for part, arguments in {"model": config.get("model"), "annealing": config.get("annealing"), **mine}.items():
        if arguments:
            cls = locate(arguments["_target_"], part)
            knows = hasattr(cls, "paced")  # a class of another project may not
            if knows or part not in mine:  # few callbacks follow it: those say so
                told = cls.paced(with_defaults(up_to_date(arguments))) if knows else f"{cls.__name__} may follow it"
                found.append(told)
    return ", and ".join(filter(None, found))


def is_shorter(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether a run of the configuration ``after`` would end sooner."""

    def limits(config: dict[str, Any]) -> list[float]:
        values = [config.get("trainer", {}).get(name) for name in ("max_epochs", "max_steps")]
        return [float("inf") if value in (None, -1) else value for value in values]

    return any(now < then for then, now in zip(limits(before), limits(after)))


def options(command: str) -> list[str]:
    """The options of a command line that must be the same to go on."""
    try:
        words = [word for word in shlex.split(command) if "=" in word or word.startswith("~")]
    except ValueError as error:
        raise ZooError(f"{command[:200]!r} is not a command line: {error}") from error
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
    """Messages of the zoo of a ``level`` to the terminal, and all to ``file``; of Lightning only warnings."""
    log = logging.getLogger("zoo")
    log.setLevel(logging.DEBUG if file else level)
    log.propagate = False
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, is not a reason for a traceback
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    handlers[0].setLevel(level)
    if file:
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(Printable("%(message)s"))
        log.addHandler(handler)
    import lightning.pytorch  # noqa: F401  (sets the level of its logger when it is imported)

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")  # within Lightning
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")  # of a resumed run


class Printable(logging.Formatter):
    """Without what a terminal would obey, whatever a file or a library says."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def pictures(folder: Path) -> dict[str, Path]:
    """Captions and files of what a run has drawn; of a film the moving picture, in place of its strip."""
    files = {path.stem: path for pattern in ("*.png", "*.gif") for path in sorted(folder.glob(pattern))}
    return {stem.replace("_", " ").capitalize(): path for stem, path in files.items()}


def sounds(folder: Path) -> dict[str, Path]:
    """Captions and files of what a run has spoken; recordings of the data stay with the data."""
    files = [path for path in sorted(folder.glob("*.wav")) if not path.stem.endswith("_real")]
    return {f"Sound: {path.stem.replace('_', ' ')}": path for path in files}
