"""Where the numbers go: a CSV file always; Weights & Biases, TensorBoard, MLflow, any logger of Lightning beside it."""

import atexit
import csv
import logging
import os
import shlex
import ssl
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from zoo.config import Configurable
from zoo.errors import ZooError, cause, did_you_mean
from zoo.files import atomic, temporary

log = logging.getLogger(__name__)

MODES = ("online", "offline", "shared", "disabled", "dryrun", "run")
ONLINE_TIMEOUT = 20  # seconds W&B gets to answer before the run goes offline
OFFLINE_TRIES = 15  # a second apart


class CSVLogger(Logger):
    """Appends ``step,name,value`` lines to ``metrics.csv``.

    Unlike Lightning's own it never rewrites the file, so a run killed at any moment keeps its history and
    a resumed one goes on with it. Steps done twice have two lines; the later one counts.

    Args:
        path: of the file.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The run folder's ``config.yaml`` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "name", "value"])
            writer.writerows([step, name, value] for name, value in metrics.items() if name != "epoch")


def read_metrics(path: str | Path) -> dict[str, list[tuple[int, float]]]:
    """What :class:`CSVLogger` wrote: name -> (step, value) in the order of steps.

    A line cut short by a crash is left out.
    """
    series: dict[str, dict[int, float]] = {}
    with Path(path).open(newline="", encoding="utf-8", errors="replace") as file:
        for line in csv.reader(file):
            try:
                step, name, value = int(line[0]), line[1], float(line[2])
            except (ValueError, IndexError):
                continue
            series.setdefault(name, {})[step] = value
    return {name: sorted(points.items()) for name, points in series.items()}


class WandbSettings(Configurable):
    """How a run appears at Weights & Biases.

    Args:
        project: its project there.
        name: its display name; the default is the run folder's.
        tags: any.

    Raises:
        ZooError: if ``WANDB_MODE`` is not a mode.
    """

    def __init__(self, *, project: str, name: str | None = None, tags: list[str] | None = None) -> None:
        mode = os.environ.get("WANDB_MODE")
        if mode and mode not in MODES:
            raise ZooError(
                f"WANDB_MODE={mode} is not valid.{did_you_mean(mode, list(MODES))} Choose from: {', '.join(MODES)}."
            )
        self.project, self.name, self.tags = project, name, tags or []

    def logger(self, folder: Path, config: dict[str, Any]) -> WandbLogger | None:
        """A logger that works on any machine and continues the run of ``folder`` if there is one.

        An explicit ``WANDB_MODE`` wins. Else the run is online if this machine is logged in and W&B
        answers in time, and offline if not. None where W&B cannot even write its folder: no reason not to train.
        """
        wandb = import_wandb()
        arguments: dict[str, Any] = {
            "project": self.project,
            "name": self.name or folder.name,
            "tags": self.tags,
            "dir": str(folder),
            "id": run_id(folder),
            "resume": "allow",
            "config": config,
        }
        if rank_zero_only.rank:
            return WandbLogger(log_model=False)
        settings: dict[str, Any] = {"console": "off", "silent": True}
        mode: Any = os.environ.get("WANDB_MODE") or ("online" if logged_in() else "offline")
        if mode == "online" and (reason := unreachable(wandb.Settings().base_url)):
            log.warning("W&B: not online (%s); this run is offline", reason)
            mode = "offline"
        try:
            try:
                timed = wandb.Settings(init_timeout=ONLINE_TIMEOUT, **settings)
                run = wandb.init(**arguments, mode=mode, settings=timed)
            except Exception as error:
                if mode == "offline":
                    raise
                log.warning("W&B: not online (%s); this run is offline", cause(error))
                (folder / "wandb").mkdir(exist_ok=True)  # where that fails, no second try will do
                for left in reversed(range(OFFLINE_TRIES)):
                    wandb.teardown()  # which else remembers the run that failed as one in use
                    try:
                        run = wandb.init(**arguments, mode="offline", settings=wandb.Settings(**settings))
                        break
                    except Exception:  # on a busy machine the run that failed is in use for a while
                        if not left:
                            raise
                        time.sleep(1)
        except Exception as error:
            log.warning("W&B: cannot write to %s (%s); this run goes on without it", folder / "wandb", cause(error))
            return None
        if run.settings.mode == "online":
            log.info("W&B: %s", run.url)
        elif run.settings.mode == "offline":
            log.info("W&B: offline. To sync: wandb sync %s", shlex.join(offline_parts(folder, Path(run.dir).parent)))
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return WandbLogger(experiment=run, log_model=False)

    def show_table(self, folder: Path, header: list[str], rows: list[list[Any]]) -> None:
        """Show the table that compares the jobs of the sweep in ``folder`` in a run of the same project.

        Args:
            folder: of the sweep, whose name is the run's.
            header: names of the columns.
            rows: of the table; an empty text is a missing value.
        """
        settings = WandbSettings(project=self.project, name=f"{self.name or 'sweep'} {folder.name}", tags=self.tags)
        with wandb_run():
            if logger := settings.logger(folder, {"jobs": len(rows)}):
                cells = [[None if cell == "" else cell for cell in row] for row in rows]
                logger.log_table("comparison", columns=header, data=cells)


class TensorBoardSettings(Configurable):
    """A run as TensorBoard shows it.

    Args:
        folder: of its files, in the run folder. A resumed run goes on there.

    Raises:
        ZooError: if the package is missing.
    """

    def __init__(self, *, folder: str = "tensorboard") -> None:
        if not folder or Path(folder).is_absolute() or ".." in Path(folder).parts:
            raise ValueError(f"folder must be a name in the run folder, got {folder!r}")
        need("tensorboard", "tensorboardX")
        self.folder = folder

    def logger(self, folder: Path, config: dict[str, Any]) -> Logger:
        return TensorBoardLogger(str(folder), name="", version=self.folder, default_hp_metric=False)


class MLflowSettings(Configurable):
    """A run as MLflow keeps it.

    Args:
        experiment: its experiment there.
        name: its display name; the default is the run folder's.
        uri: of the tracking server; the default is the environment's ``MLFLOW_TRACKING_URI``, else a database in the
            run folder.

    Raises:
        ZooError: if the package is missing.
    """

    def __init__(self, *, experiment: str, name: str | None = None, uri: str | None = None) -> None:
        if not experiment:
            raise ValueError("experiment must not be empty")
        need("mlflow")
        self.experiment, self.name, self.uri = experiment, name, uri

    def logger(self, folder: Path, config: dict[str, Any]) -> Logger:
        """A logger that goes on with the run of ``folder`` if there is one."""
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI")
        files = None if uri else (folder / "mlflow").absolute().as_uri()  # else in the working directory
        uri = uri or f"sqlite:///{(folder / 'mlflow.db').absolute()}"
        known = folder / "mlflow_id.txt"
        logger = MLFlowLogger(
            experiment_name=self.experiment,
            run_name=self.name or folder.name,
            tracking_uri=uri,
            artifact_location=files,
            run_id=(known.read_text(encoding="utf-8").strip() if known.is_file() else "") or None,
        )
        if not rank_zero_only.rank:
            try:
                with atomic(known) as temporary:
                    temporary.write_text(str(logger.run_id), encoding="utf-8")
            except Exception as error:  # of the server, the network, the database
                raise ZooError(f"MLflow cannot keep this run at {uri}: {cause(error)}") from error
        return logger


def need(*packages: str) -> None:
    """Check that one of ``packages`` is installed.

    Raises:
        ZooError: naming the extra that has them.
    """
    if not any(find_spec(package) for package in packages):
        raise ZooError(f"logger={packages[0]} needs a package: pip install 'discrete-latent-zoo[loggers]'")


def show_picture(logger: Logger, name: str, path: Path, step: int) -> None:
    """Hand the picture ``path`` to ``logger``, if it shows pictures."""
    if isinstance(logger, WandbLogger):
        logger.log_image(f"pictures/{name}", [str(path)], step=step)
    elif isinstance(logger, TensorBoardLogger):
        from matplotlib.image import imread

        logger.experiment.add_image(f"pictures/{name}", imread(path), step, dataformats="HWC")
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_artifact(logger.run_id, str(path), "pictures")


@contextmanager
def wandb_run() -> Iterator[None]:
    """Finish the run at W&B that starts inside, if there is one: else the next job of a sweep would log into it."""
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        if (wandb := sys.modules.get("wandb")) and wandb.run:
            wandb.finish(exit_code=exit_code)


def offline_parts(folder: Path, newest: Path) -> list[str]:
    """What W&B has kept on this machine of the run in ``folder``: a folder each time that it was resumed, in order."""
    earlier = [part for part in folder.glob(f"wandb/offline-run-*-{run_id(folder)}") if part.name != newest.name]
    return [*map(str, sorted(earlier)), str(newest)]  # their names begin with the time


@cache
def import_wandb() -> Any:
    """W&B. When it is imported it makes a folder for what is on its way, which stays behind if the process is killed:
    it gets a place where the next run finds that."""
    before, stack = tempfile.tempdir, ExitStack()
    with suppress(OSError):
        tempfile.tempdir = str(stack.enter_context(temporary("wandb")))
        atexit.register(stack.close)
    try:
        import wandb
    finally:
        tempfile.tempdir = before
    return wandb


def logged_in() -> bool:
    """Whether this machine has W&B credentials, without asking for them."""
    try:
        return bool(import_wandb().login(prompt=False))
    except Exception:
        return False


def unreachable(address: str) -> str:
    """Why nobody answers there; empty if somebody does, whatever the answer.

    W&B itself would try for long, and then not let go of the run that it could not begin.
    """
    try:
        urllib.request.urlopen(address, timeout=ONLINE_TIMEOUT).close()
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return "" if isinstance(reason, ssl.SSLError) else f"{address}: {reason}"  # W&B may know other certificates
    return ""


def run_id(folder: Path) -> str:
    """The W&B id of the run in ``folder``, the same after every resume."""
    path = folder / "wandb_id.txt"
    if not (path.is_file() and path.read_text().strip()):  # a crash can leave it empty
        with atomic(path) as temporary:
            temporary.write_text(uuid.uuid4().hex[:12])
    return path.read_text().strip()
