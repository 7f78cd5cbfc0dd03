"""Runs of every model that are killed at random moments, resumed until they are complete, and compared bit for bit with
undisturbed ones.

    python -m tests.soak                     200 kills, of a seed that is printed
    python -m tests.soak kills=20 seed=7     other ones
    python -m tests.soak models=cat_vae,polynomial folder=/tmp/soak

Each run is the command line in a process of its own, which a signal ends: SIGKILL mostly, now and then SIGTERM, which
may save first. To import everything takes five seconds, so one process imports it and is then forked for each run; it
never computes anything itself, and what a run is and writes is the same. A kill is aimed at a phase, chosen at random,
and comes at a random moment of it: preparation of data, training, writing of a checkpoint, validation, pictures, test,
the end. Afterwards nothing may be left that undisturbed runs do not leave: in the run folder, beside it, in the data
directory, in TMPDIR, in /dev/shm.
"""

import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from tests.conftest import ROOT, SMALL, SMALL_AGENT
from tests.speech import write_digits
from zoo.hub.files import read_checkpoint
from zoo.training.loggers import read_metrics

COMMON = (
    "logger=csv",
    "seed=3",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=2",
    "pictures_every_n_epochs=1",
    "checkpoint_every_n_steps=3",
)
FEW = ("epochs=2", "trainer.limit_train_batches=8", "trainer.limit_val_batches=2", "trainer.limit_test_batches=1")
SPEAKERS = {"low": 110.0, "high": 210.0}
MODELS: dict[str, tuple[str, ...]] = {
    "polynomial": ("data.steps=20", "epochs=3", "model.optimizer.lr=0.05"),
    "cat_vae": (*FEW, *(option for option in SMALL if option.startswith(("nets", "model"))), "data.batch_size=20"),
    "actor_critic": (*SMALL_AGENT, "epochs=2", "data.eval_episodes=2", "data.test_episodes=2"),
    "world_model": (
        *("model.latents=2", "model.categories=3", "model.memory=8", "model.hidden=8", "model.length=4"),
        *("model.horizon=3", "model.starts=8", "model.batch_size=4", "data.envs=8", "data.epoch_steps=160"),
        *("data.start=64", "data.eval_episodes=2", "data.test_episodes=2", "epochs=2"),
    ),
    "pointer_net": (
        *("model.encoder.width=16", "model.encoder.heads=2", "model.decoder.heads=2", "model.starts=4"),
        *("model.optimizer.warmup_steps=0", "data.size=8", "data.epoch_batches=10", "data.val_instances=20"),
        *("data.test_instances=20", "data.batch_size=32", "epochs=2"),
    ),
    "speech_judge": (
        "data.speech.speakers=[low,high]",
        "model.classifier.channels=4",
        "data.batch_size=40",
        "epochs=2",
    ),
    "speaker_generator": (
        *("data=fsdd", "data.speakers=[low,high]", "data.mix=[0.7,0.3]", "data.labelled=0.1", "data.batch_size=10"),
        *("model.speaker_encoder.width=8", "model.residual_encoder.width=8", "model.decoder.width=8"),
        *("data.judged=0", "epochs=2"),
    ),
}
"""Runs of a few seconds."""
PHASES = ("preparation", "training", "saving", "validation", "pictures", "test", "end")
CLOCKS = ("train/steps_per_second",)
LONGEST = 600  # seconds of a run, beyond which it hangs
KILLS_OF_A_RUN = 5  # at most


@dataclass
class Undisturbed:
    """A run that nothing has disturbed.

    Attributes:
        folder: of it.
        seconds: that each phase took when it was longest.
    """

    folder: Path
    seconds: dict[str, float]


@dataclass
class Tally:
    """What was done."""

    runs: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    by_model: Counter[str] = field(default_factory=Counter)
    missed: int = 0  # a run was over before the moment came

    def __str__(self) -> str:
        each = [
            ", ".join(f"{name} {count}" for name, count in one.most_common()) for one in (self.kills, self.by_model)
        ]
        return (
            f"{self.kills.total()} kills of {self.runs} runs ({'; '.join(each)}); {self.missed} came too late. "
            "All ended in the same bits, and nothing was left behind."
        )


# One run --------------------------------------------------------------------------------------------------------------


class Run:
    """A run in a process of its own, which says in which phase it is.

    Args:
        folder: of the run.
        options: of it.
    """

    def __init__(self, folder: Path, options: Iterable[str]) -> None:
        self.output = folder.with_name(f"{folder.name}.txt")
        self.output.touch()
        self.phases, theirs = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            os.close(self.phases)
            in_child(folder, options, theirs, self.output)
        os.close(theirs)
        self.status: int | None = None

    def phase(self, seconds: float) -> str | None:
        """The next phase; None if there is none within so many ``seconds``, and "" if the run is over."""
        if not select.select([self.phases], [], [], max(0, seconds))[0]:
            return None
        read = os.read(self.phases, 1)
        return PHASES[read[0]] if read else ""

    def wait(self) -> int:
        """Its exit status, negative of a signal."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self.phases)
        return self.status

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)


def in_child(folder: Path, options: Iterable[str], phases: int, output: Path) -> None:
    """Become the run."""
    status = 70
    try:
        os.chdir(folder.parent)
        with output.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.argv = [str(ROOT / "scripts/train.py"), *options, f"run={folder}"]
        tell_phases(phases)
        from zoo.cli import main

        main("train")
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
        if isinstance(ended.code, str):
            print(ended.code, flush=True)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def tell_phases(file: int) -> None:
    """Write a byte to ``file`` whenever this process comes to another phase. Nothing that is computed changes."""
    from lightning import Callback, Trainer

    from zoo.training import callbacks, checkpointing, train

    def tell(phase: str) -> None:
        os.write(file, bytes([PHASES.index(phase)]))

    def telling(owner: Any, name: str, phase: str, after: str = "") -> None:
        function = getattr(owner, name)

        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            tell(phase)
            result = function(*args, **kwargs)
            if after:
                tell(after)
            return result

        setattr(owner, name, wrapped)

    class Telling(Callback):
        def on_train_start(self, *_: Any) -> None:
            tell("training")

        def on_validation_start(self, *_: Any) -> None:
            tell("validation")

        def on_validation_end(self, *_: Any) -> None:
            tell("training")

        def on_test_start(self, *_: Any) -> None:
            tell("test")

    build = train.build_trainer

    def build_trainer(config: dict[str, Any], parts: list[Callback], **objects: Any) -> Trainer:
        return build(config, [*parts, Telling()], **objects)

    setattr(train, "build_trainer", build_trainer)  # noqa: B010
    telling(checkpointing.AtomicCheckpointIO, "save_checkpoint", "saving", "training")
    telling(callbacks.Pictures, "_draw", "pictures", "validation")
    telling(callbacks, "save_curves", "end")
    tell("preparation")


# Many -----------------------------------------------------------------------------------------------------------------


class Soak:
    """Runs below ``place`` that are killed.

    Args:
        place: a new folder for everything.
        data: a directory that holds MNIST.
        models: of :data:`MODELS`.
        seed: of the moments.
    """

    def __init__(self, place: Path, *, data: str, models: Iterable[str] = tuple(MODELS), seed: int = 0) -> None:
        self.place, self.models, self.random = place, list(models), random.Random(seed)
        self.tally = Tally()
        self.data, self.temporary, self.runs = place / "data", place / "tmp", place / "runs"
        for folder in (self.data, self.temporary, self.runs):
            folder.mkdir(parents=True)
        os.symlink(Path(data) / "MNIST", self.data / "MNIST")
        write_digits(self.data / "fsdd/recordings", SPEAKERS, takes=11)
        variables = {"TMPDIR": self.temporary, "ZOO_DATA_DIR": self.data, "WANDB_MODE": "disabled"}
        os.environ |= {name: str(value) for name, value in variables.items()}
        tempfile.tempdir = None  # it is remembered
        self.undisturbed: dict[str, Undisturbed] = {}

    def __call__(self, kills: int) -> Tally:
        """Kill ``kills`` times, the models in turn.

        Raises:
            AssertionError: if a run fails, ends in other bits, or leaves something behind.
        """
        for model in self.models:
            self.undisturbed[model] = self.run_undisturbed(model)
        before = self.around()
        while (left := kills - self.tally.kills.total()) > 0:
            model = self.models[self.tally.runs % len(self.models)]
            self.run_disturbed(model, min(left, self.random.randint(1, KILLS_OF_A_RUN)))
            after = self.around()
            print(f"{self.tally.kills.total()} of {kills}: {model} ends in the same bits", flush=True)
            assert after == before, f"left behind: {sorted(after - before)}; gone: {sorted(before - after)}"
        return self.tally

    def options(self, model: str) -> tuple[str, ...]:
        return (f"model={model}", *COMMON, *MODELS[model])

    def run_undisturbed(self, model: str) -> Undisturbed:
        run = Run(folder := self.runs / model, self.options(model))
        seconds: dict[str, float] = {}
        phase, since = run.phase(LONGEST), time.monotonic()
        while phase:
            following, now = run.phase(LONGEST), time.monotonic()
            seconds[phase] = max(seconds.get(phase, 0.0), now - since)
            phase, since = following, now
        assert run.wait() == 0, run.output.read_text()
        run.output.unlink()
        return Undisturbed(folder, seconds)

    def run_disturbed(self, model: str, kills: int) -> None:
        """Kill a run of ``model`` so many times, resume it until it is complete, and compare it."""
        undisturbed = self.undisturbed[model]
        folder, history = self.runs / f"{model}.killed", ""
        for _ in range(kills):
            phase = self.random.choice(PHASES)
            wait = self.random.random() * undisturbed.seconds.get(phase, 0.0)
            number = signal.SIGTERM if self.random.random() < 0.15 else signal.SIGKILL
            occurrence = self.random.randint(1, 3)
            run = Run(folder, self.options(model))
            now = self.reach(run, phase, occurrence, wait)
            if now:
                run.signal(number)
            status = run.wait()
            printed = run.output.read_text(errors="replace")
            if status == -signal.SIGKILL or status == 128 + signal.SIGTERM:
                self.tally.kills[now] += 1
                self.tally.by_model[model] += 1
                history += f"killed in {now} {step_in(folder)}\n"
            else:
                assert status == 0, f"{model}, signal {number} in {phase}: status {status}\n{printed}"
                self.tally.missed += 1
                break
        run = Run(folder, self.options(model))
        assert run.wait() == 0, run.output.read_text()
        self.tally.runs += 1
        differing = difference(undisturbed.folder, folder)
        assert not differing, f"{model}: {differing}\n{history}{run.output.read_text()}"
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
        run.output.unlink()

    def reach(self, run: Run, phase: str, occurrence: int, wait: float) -> str:
        """Wait until ``run`` has come to ``phase`` for so many times, and then ``wait`` seconds.

        Returns:
            the phase that it is in then; empty if it is over.
        """
        now: str | None = ""
        while occurrence > 0:
            now = run.phase(LONGEST)
            assert now is not None, f"hangs: {run.output.read_text()}"
            if not now:
                return ""
            occurrence -= now == phase
            if phase in ("test", "end", "preparation") and now == phase:
                break  # there is only one
        until = time.monotonic() + wait
        while (left := until - time.monotonic()) > 0:
            following = run.phase(left)
            if following == "":
                return ""
            now = following or now
        return now or ""

    def around(self) -> set[str]:
        """What is there beside the files of complete runs."""
        return {str(path) for folder in (self.place, Path("/dev/shm")) for path in listed(folder)}


def step_in(folder: Path) -> str:
    """Where the run in ``folder`` stood."""
    return f"after {max((path.stem for path in folder.glob('checkpoints/step-*.ckpt')), default='nothing')}"


def listed(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.name.startswith("sem.")] if folder.is_dir() else []


def difference(a: Path, b: Path) -> str:
    """How the run folder ``b`` differs from ``a``; empty if in nothing but times."""
    names = [sorted(str(path.relative_to(run)) for path in run.rglob("*")) for run in (a, b)]
    if names[0] != names[1]:
        return f"other files: {sorted(set(names[0]) ^ set(names[1]))}"
    for name in names[0]:
        first, second = a / name, b / name
        if first.suffix == ".ckpt":
            if not same(*(without_times(read_checkpoint(path)) for path in (first, second))):
                return f"{name} differs"
        elif first.suffix in (".png", ".gif", ".wav") and first.read_bytes() != second.read_bytes():
            return f"{name} differs"
    points = [
        {
            (name, *at)
            for name, series in read_metrics(run / "metrics.csv").items()
            if name not in CLOCKS
            for at in series
        }
        for run in (a, b)
    ]
    if points[0] != points[1]:
        return f"metrics.csv has {sorted(points[1] - points[0])[:10]} in place of {sorted(points[0] - points[1])[:10]}"
    results = [json.loads((run / "results.json").read_text()) for run in (a, b)]
    for one in results:
        one.pop("seconds")
        one.pop("cpu_seconds")
    return "" if same(*results) else "results.json differs"


def without_times(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What of a checkpoint the numbers of a run depend on; the Trainer's counts of what was begun are not the same."""
    return {
        name: checkpoint[name] for name in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")
    }


def same(a: Any, b: Any) -> bool:
    """Whether two nests of plain containers, numbers and tensors are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


def preload() -> None:
    """Import what runs import."""
    import importlib

    from zoo import hub

    torch.set_num_threads(1)
    modules = [
        "zoo.cli.train",
        "zoo.training.train",
        "zoo.data",
        "zoo.config.composition",
        "matplotlib.figure",
        "hydra._internal.utils",
    ]
    for module in [*modules, *(entry.target.rpartition(".")[0] for entry in hub.models().values())]:
        importlib.import_module(module)


def main(words: list[str]) -> None:
    given = dict(word.split("=", 1) for word in words)
    kills, seed = int(given.get("kills", 200)), int(given.get("seed", random.SystemRandom().randrange(10**6)))
    models = given["models"].split(",") if "models" in given else list(MODELS)
    data = os.environ.get("ZOO_DATA_DIR", "data")
    print(f"seed {seed}", flush=True)
    preload()
    place = tempfile.mkdtemp(dir=given.get("folder"))  # a TemporaryDirectory would end with the first forked process
    try:
        soak = Soak(Path(place) / "soak", data=str(Path(data).absolute()), models=models, seed=seed)
        began = time.monotonic()
        print(soak(kills))
        print(f"{time.monotonic() - began:.0f} seconds")
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main(sys.argv[1:])
