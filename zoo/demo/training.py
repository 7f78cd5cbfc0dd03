"""Train a little: a small model for a minute, with its curves and pictures as they come; and two runs to compare.

A training is ``zoo train`` in a process of its own, whose options are chosen from lists here. It ends by itself when
its time is over, when it is stopped, and when the page that started it is closed.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.config.resources import PACKAGE
from zoo.demo import drawing, editing
from zoo.demo.shared import polite, uploaded
from zoo.errors import ZooError, printable

AT_ONCE = 2
"""Trainings in all sessions together: there may be no more cores."""
KEPT = 2
"""Runs of a session that are compared."""
MINUTES = (0.25, 3.0)
GRACE = 120.0
"""Seconds beyond its time after which a training is ended."""


@dataclass(frozen=True)
class Recipe:
    """What can be trained here.

    Attributes:
        options: of ``zoo train``.
        estimators: relaxations that serve it.
        curve: the metric that is shown, and what it is.
        pictures: files of the run that are shown, by preference.
        needs: what must be there: data, or a package.
        table: whether it is trained on a table that is handed in.
    """

    options: tuple[str, ...]
    estimators: tuple[str, ...]
    curve: tuple[str, str]
    pictures: tuple[str, ...]
    needs: str = ""
    table: bool = False


@dataclass(frozen=True)
class OwnTable:
    """A table that is handed in, and what is asked of it.

    Attributes:
        file: CSV or Parquet.
        target: the column to predict.
        k: how many of the others may be looked at.
    """

    file: str | None
    target: str
    k: int

    def options(self) -> list[str]:
        """Of ``zoo train``.

        Raises:
            ZooError: if it cannot be read, has no such column, or not as many others.
        """
        from zoo.config.composition import word
        from zoo.data import Table

        path = str(uploaded(self.file))
        columns = Table.inputs({"path": path, "target": str(self.target or "").strip()}).columns
        if not (isinstance(self.k, (int, float)) and 1 <= int(self.k) <= columns):
            raise ZooError(f"the table has {columns} columns to select from: give a number from 1 to {columns}")
        target = word("data.target", str(self.target).strip())
        return [word("data.path", path), target, f"model.k={int(self.k)}"]


PATHWISE = ("gumbel_softmax", "st_gumbel_softmax", "straight_through", "reinmax", "softmax", "rloo", "reinforce")
RECIPES = {
    "Digits (cat_vae)": Recipe(
        (
            *(
                "model=cat_vae",
                "nets=mlp",
                "model.latents=12",
                "model.encoder.hidden=[128]",
                "model.decoder.hidden=[128]",
            ),
            *("model.optimizer.warmup_steps=20", "model.iwae_samples=2", "epochs=40", "pictures_every_n_epochs=1"),
            *("trainer.limit_train_batches=100", "trainer.limit_val_batches=2", "trainer.limit_test_batches=1"),
        ),
        PATHWISE,
        ("train/neg_elbo", "negative ELBO in nats"),
        ("samples.png", "reconstructions.png"),
        "MNIST",
    ),
    "Sorting (pointer_net)": Recipe(
        (
            *("model=pointer_net", "data=sort", "data.epoch_batches=50", "data.val_instances=200"),
            *(
                "data.test_instances=200",
                "data.eval_batch_size=100",
                "model.encoder.width=64",
                "model.encoder.layers=2",
            ),
            *("model.encoder.feedforward=128", "model.decoder.feedforward=64", "model.optimizer.warmup_steps=20"),
            *("epochs=40", "pictures_every_n_epochs=1"),
        ),
        ("straight_through", "st_gumbel_softmax", "reinmax", "rloo", "reinforce"),
        ("train/cost", "cost"),
        ("sorting.png", "pointers.png"),
    ),
    "Round trips of 10 points (pointer_net)": Recipe(
        (
            *("model=pointer_net", "data=tsp", "data.size=10", "data.epoch_batches=30", "data.val_instances=100"),
            *("data.test_instances=100", "model.encoder.width=64", "model.encoder.layers=2"),
            *("model.encoder.feedforward=128", "model.decoder.feedforward=64", "model.optimizer.warmup_steps=20"),
            *("epochs=60", "pictures_every_n_epochs=1"),
        ),
        ("rloo", "reinforce", "st_gumbel_softmax", "straight_through"),
        ("train/cost", "length of a tour"),
        ("tours.png", "pointers.png"),
    ),
    "CartPole (actor_critic)": Recipe(
        (
            *("model=actor_critic", "data.epoch_steps=1000", "data.envs=20", "data.start=200", "data.eval_episodes=4"),
            *("data.test_episodes=2", "model.policy.hidden=[32]", "model.critic.hidden=[32]", "epochs=60"),
            "pictures_every_n_epochs=100",
        ),
        ("st_gumbel_softmax", "gumbel_softmax", "straight_through", "reinmax", "rloo"),
        ("train/return", "return of an episode"),
        (),
        "gymnasium",
    ),
    "Columns of your own table (selector)": Recipe(
        ("model=selector", "data=table", "epochs=15", "pictures_every_n_epochs=1", "data.batch_size=32"),
        ("st_gumbel_softmax", "gumbel_softmax", "imle", "rloo", "reinforce"),
        ("train/cost", "cross-entropy of the label in nats"),
        ("selection.png",),
        "tables",
        table=True,
    ),
}
COMMON = ("logger=csv", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "trainer.log_every_n_steps=10")


def lacking(recipe: Recipe) -> str:
    """What a recipe needs that is not here, or nothing."""
    from importlib.util import find_spec

    if recipe.needs == "MNIST" and editing.digits() is None:
        return "MNIST is not on this machine: zoo train cat_vae fetches it once"
    if recipe.needs == "gymnasium" and find_spec("gymnasium") is None:
        return "it needs Gymnasium: pip install 'discrete-latent-zoo[rl]'"
    if recipe.needs == "tables" and (find_spec("pandas") is None or find_spec("sklearn") is None):
        return "it needs pandas and scikit-learn: pip install 'discrete-latent-zoo[tables]'"
    return ""


@dataclass
class Run:
    """A training.

    Attributes:
        title: what it is, for people.
        process: of ``zoo train``.
        folder: a temporary one, with the run and what it says.
    """

    title: str
    recipe: Recipe
    seconds: float
    process: subprocess.Popen
    folder: Path
    began: float = field(default_factory=time.monotonic)
    stopped: bool = False

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        from zoo.training.loggers import read_metrics

        path = self.folder / "run" / "metrics.csv"
        return read_metrics(path) if path.exists() else {}

    def picture(self) -> Path | None:
        """The newest that it has drawn."""
        found = (self.folder / "run" / "pictures" / name for name in self.recipe.pictures)
        return next((path for path in found if path.exists()), None)

    def says(self) -> str:
        """How it stands."""
        took = time.monotonic() - self.began
        if self.running:
            return f"{self.title}: {took:.0f} of {self.seconds:.0f} seconds"
        if self.stopped:
            return f"{self.title}: stopped"
        if self.process.returncode:
            lines = (self.folder / "output").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            error = next(
                (line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "no word"
            )
            return f"{self.title}: failed: {printable(error.removeprefix('error: '))[:300]}"
        return f"{self.title}: done"

    def stop(self) -> None:
        """Ask it to end; it saves what it has. After a while it is ended."""
        self.stopped = self.stopped or self.running
        if self.running:
            self.process.terminate()
            threading.Timer(10.0, self._kill).start()

    def _kill(self) -> None:
        if self.running:
            self.process.kill()

    def remove(self) -> None:
        self._kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        shutil.rmtree(self.folder, ignore_errors=True)


class Trainings:
    """The runs of all sessions; each session sees its own."""

    def __init__(self) -> None:
        self._runs: dict[str, list[Run]] = {}
        self._lock = threading.Lock()
        atexit.register(self.close_all)

    def start(
        self, session: str, name: str, estimator: str, minutes: float, table: OwnTable | None = None, seed: int = 0
    ) -> Run:
        """Begin a training; the oldest of more than two of a session is forgotten.

        Raises:
            ZooError: if there is no such recipe or estimator, one of this session runs, too many in all, or the table
                that it needs is missing or cannot be used.
        """
        if name not in RECIPES or estimator not in RECIPES[name].estimators:
            raise ZooError("choose a model and an estimator from their lists")
        recipe = RECIPES[name]
        if why := lacking(recipe):
            raise ZooError(f"{name} cannot be trained here: {why}")
        if not (isinstance(minutes, (int, float)) and MINUTES[0] <= minutes <= MINUTES[1]):
            raise ZooError(f"from {MINUTES[0]:g} to {MINUTES[1]:g} minutes")
        options = (table or OwnTable(None, "", 1)).options() if recipe.table else []
        with self._lock:
            mine = self._runs.setdefault(session, [])
            if any(run.running for run in mine):
                raise ZooError("a training of yours is running: stop it first, or wait")
            if sum(run.running for runs in self._runs.values() for run in runs) >= AT_ONCE:
                raise ZooError(
                    f"{AT_ONCE} trainings of other people are running, which is all there is room for: try soon"
                )
            while len(mine) >= KEPT:
                mine.pop(0).remove()
            run = started(f"{name}, {estimator}", recipe, estimator, 60 * minutes, seed, options)
            mine.append(run)
        watchdog = threading.Timer(run.seconds + GRACE, run.stop)
        watchdog.daemon = True
        watchdog.start()
        return run

    def of(self, session: str) -> list[Run]:
        return list(self._runs.get(session, ()))

    def stop(self, session: str) -> None:
        for run in self.of(session):
            run.stop()

    def close(self, session: str) -> None:
        """End and forget what a session has started."""
        with self._lock:
            runs = self._runs.pop(session, [])
        for run in runs:
            run.remove()

    def close_all(self) -> None:
        for session in list(self._runs):
            self.close(session)


def started(title: str, recipe: Recipe, estimator: str, seconds: float, seed: int, more: Sequence[str] = ()) -> Run:
    """A process that trains, with ``more`` options than the recipe has."""
    folder = Path(tempfile.mkdtemp(prefix="zoo-demo-"))
    minutes, rest = divmod(round(seconds), 60)
    options = [
        *recipe.options,
        *COMMON,
        *more,
        f"relaxation={estimator}",
        f"trainer.max_time=00:00:{minutes:02d}:{rest:02d}",
        f"seed={int(seed)}",
        f"run={folder / 'run'}",
    ]
    here = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
    own = {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": here}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "zoo", "train", *options],
            cwd=folder,
            env=os.environ | own,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Run(title, recipe, seconds, process, folder)


def pictures(runs: Sequence[Run]) -> str:
    """Curves of a session's runs over each other, and the newest picture of each."""
    if not runs:
        return drawing.page(say="Choose a model, an estimator and a time, and press “Train”.")
    kinds = ("a", "b")
    groups: dict[tuple[str, str], list[tuple[str, list[float], list[float], str]]] = {}
    ends = []
    for run, kind in zip(runs, kinds):
        points = run.metrics.get(run.recipe.curve[0], [])
        groups.setdefault(run.recipe.curve, []).append(
            (run.title.rpartition(", ")[2], [float(s) for s, _ in points], [v for _, v in points], kind)
        )
        last = f" at {points[-1][1]:.4g} after {points[-1][0]} steps" if points else ""
        ends.append(f"{run.says()}{last}.")
    parts = [
        drawing.figure(
            f"{about[0].upper()}{about[1:]}, in training",
            drawing.curves(series, f"{about} over steps: {' '.join(ends)}", names=("step", "")),
            "" if any(xs for _, xs, _, _ in series) else "The first value comes after some seconds.",
        )
        for (_, about), series in groups.items()
    ]
    for run in runs:
        if path := run.picture():
            with suppress(OSError):
                parts.append(
                    drawing.figure(
                        run.title,
                        drawing.image(path.read_bytes(), "png", f"{path.stem} of {run.title}", "wide film"),
                    )
                )
    return drawing.page(*parts, say=" ".join(ends))


def build(gr: Any, blocks: Any) -> None:
    """Controls, and what they change."""
    trainings = Trainings()
    ready = [name for name, recipe in RECIPES.items() if not lacking(recipe)]
    first = ready[0]
    gr.Markdown(
        "Train a small model for a minute, then another with a different estimator, and compare the two. It is the "
        "command `zoo train`, in a process of its own, that ends when you close the page."
    )
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            name = gr.Dropdown(ready, value=first, label="Model")
            estimator = gr.Dropdown(
                list(RECIPES[first].estimators), value=RECIPES[first].estimators[0], label="Estimator"
            )
            with gr.Column(visible=RECIPES[first].table) as own:
                file = gr.File(label="A table, CSV or Parquet, 10 MB at most", type="filepath", height=150)
                target = gr.Textbox("", label="Column to predict", max_lines=1, max_length=200)
                k = gr.Number(5, label="How many of the others to select", precision=0, minimum=1)
            minutes = gr.Slider(*MINUTES, 1.0, step=0.25, label="Minutes")
            train = gr.Button("Train", variant="primary", elem_id="train")
            stop = gr.Button("Stop", elem_id="stop")
        with gr.Column(scale=3, min_width=320):
            shown = gr.HTML(pictures([]), elem_id="training")
    timer = gr.Timer(1.0, active=False)

    def fit(name: str) -> Any:
        known = list(RECIPES[name].estimators)
        return gr.update(choices=known, value=known[0]), gr.update(visible=RECIPES[name].table)

    @polite
    def begin(
        name: str, estimator: str, minutes: float, file: str | None, target: str, k: int, request: gr.Request
    ) -> tuple[str, Any]:
        trainings.start(str(request.session_hash), name, estimator, minutes, OwnTable(file, target, k))
        return pictures(trainings.of(str(request.session_hash))), gr.Timer(active=True)

    def tick(request: gr.Request) -> tuple[str, Any]:
        runs = trainings.of(str(request.session_hash))
        return pictures(runs), gr.Timer(active=any(run.running for run in runs))

    def halt(request: gr.Request) -> str:
        trainings.stop(str(request.session_hash))
        return pictures(trainings.of(str(request.session_hash)))

    def leave(request: gr.Request) -> None:
        trainings.close(str(request.session_hash))

    name.input(fit, name, [estimator, own], show_progress="hidden")
    train.click(begin, [name, estimator, minutes, file, target, k], [shown, timer])
    timer.tick(tick, None, [shown, timer], show_progress="hidden", concurrency_limit=4)
    stop.click(halt, None, shown)
    blocks.unload(leave)
