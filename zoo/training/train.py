"""Train a model as a configuration says, or resume a run, and test the result."""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden

from zoo import signals
from zoo.config import from_config, to_config
from zoo.data.batches import DataModule, follow_position
from zoo.data.seeding import seed_default_generators
from zoo.errors import ZooError, did_you_mean, one_line
from zoo.files import atomic
from zoo.hub import own
from zoo.hub.files import read_checkpoint
from zoo.hub.loading import start_from
from zoo.training import callbacks
from zoo.training.checkpointing import (
    AtomicCheckpointIO,
    BestCheckpoint,
    ResumeCheckpoints,
    newest_checkpoint,
    resume_checkpoints,
    step_of,
)
from zoo.training.distributed import environment_plugins, joint_work
from zoo.training.loggers import CSVLogger, wandb_run
from zoo.training.module import ZooModule
from zoo.training.runs import RunFolder, set_up_logging
from zoo.training.trainer import build_trainer, check_precision

log = logging.getLogger(__name__)


def train(config: dict[str, Any], folder: Path, *, command: str) -> float:
    """Train as ``config`` says, from the newest checkpoint in ``folder`` if there is one, and test the best weights.

    Everything is built before the folder is claimed: what cannot start leaves nothing behind.

    Args:
        config: plain and resolved, with the keys of ``configs/train.yaml``.
        folder: of the run; made if missing.
        command: for the records.

    Returns:
        the best validation score, lower is better.

    Raises:
        ZooError: if the run cannot start or go on. What was saved before is untouched.
    """
    run = RunFolder(folder)
    with signals.handled():
        if rank_zero_only.rank:  # a process started by a distributed strategy: the first one keeps the folder
            set_up_logging(None, level=logging.WARNING)
            parts = Parts.of(run.settled(config, command), run)
            return _train(parts, run, newest_checkpoint(run.checkpoints))
        set_up_logging(None)
        try:
            with said(run):
                return _train_in(run, config, command)
        finally:
            with suppress(OSError):  # whoever made it for a run that never began; what has anything in it stays
                run.path.rmdir() if run.path.is_absolute() else os.removedirs(run.path)  # runs/MODEL, too


def _train_in(run: RunFolder, config: dict[str, Any], command: str) -> float:
    config = run.settled(config, command)
    complete = run.results.exists() and run.read_results().get("limits") == limits(config)
    parts = None if complete else Parts.of(config, run)
    with run, unless_it_began(run, parts):
        set_up_logging(run.log)
        if not run.locked:
            log.warning("%s is on a file system without locks: do not start a second run in it.", run.path)
        newest = newest_checkpoint(run.checkpoints) if parts else None
        if parts:
            run.claim(config, command, step_of(newest) if newest else 0)
        else:
            run.changes(config)
        own.sign(run.path, [config["model"], config["data"]])
        if parts:
            log.info("run folder: %s (the same command with run=%s resumes it)", run.path, run.path)
            with wandb_run():
                _train(parts, run, newest)
        else:
            log.info("%s is complete; nothing to train.", run.path)
        results = run.read_results()
        report(run, results)
        return results["best"]


@contextmanager
def unless_it_began(run: RunFolder, parts: "Parts | None") -> Iterator[None]:
    """Remove what a new run has written that fails before its first step, so that its folder is as it was."""
    before = set(run.path.iterdir()) - {run.path / ".lock"}
    try:
        yield
    except Exception:
        if run.config not in before and parts and not parts.trainer.global_step:
            set_up_logging(None)  # closes the file
            for path in set(run.path.iterdir()) - before:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        raise


def limits(config: dict[str, Any]) -> dict[str, Any]:
    """How long a run is to be."""
    return {name: config["trainer"].get(name) for name in ("max_epochs", "max_steps", "max_time")}


@contextmanager
def said(run: RunFolder) -> Iterator[None]:
    """Where a signal stops the run and nothing had to be saved, let it say how to go on."""
    try:
        yield
    except signals.Stopped as stopped:
        if not stopped.saved and (newest := next(iter(resume_checkpoints(run.checkpoints)), None)):
            stopped.saved = f"{newest} is kept. The same command with run={run.path} resumes the run."
        raise


@dataclass
class Parts:
    """What a run is made of."""

    config: dict[str, Any]
    began: tuple[float, float]  # by the clock, and in CPU seconds of this process
    model: LightningModule
    data: LightningDataModule
    loggers: list[Any]
    best: BestCheckpoint
    trainer: Trainer

    @classmethod
    def of(cls, config: dict[str, Any], run: RunFolder) -> "Parts":
        """Everything that ``config`` describes, built and checked. Nothing is written.

        Raises:
            ZooError: if something cannot be built, cannot be trained here, or could not be loaded again.
        """
        began = time.time(), time.process_time()
        seed_default_generators(config["seed"])
        model = built(config["model"], "model", LightningModule, ("training_step", "validation_step", "test_step"))
        data = built(
            config["data"], "data", LightningDataModule, ("train_dataloader", "val_dataloader", "test_dataloader")
        )
        if not isinstance(getattr(model, "monitor", None), str):
            raise ZooError(
                f"{type(model).__name__} does not say by which score of the validation the best weights are kept, "
                'lower is better: give the class an attribute, such as monitor = "val/loss"'
            )
        if isinstance(model, ZooModule) and (choices := model.choices()):
            model.relaxation.check(choices, dependent=model.chained)
        own.check_storable(to_config(model), "model")
        own.check_storable(config["data"], "data")
        own.check_weights(model)
        if config.get("init"):
            start_from(model, config["init"])
        freeze(model, config.get("freeze") or [])
        if config["compile"]:
            compile_networks(model)
        mine = isinstance(data, DataModule)
        if not mine:
            follow_position(data, config["seed"])
        best = BestCheckpoint(run.best, monitor=model.monitor)
        trainer = build_trainer(
            config["trainer"],
            [
                callbacks.SeedEachBatch(config["seed"]),
                callbacks.KeepConfig(),
                *([built(config["annealing"], "annealing", Callback)] if config.get("annealing") else []),
                callbacks.LogMetrics(),
                callbacks.Pictures(run.pictures, run.sounds, every_n_epochs=config["pictures_every_n_epochs"]),
                *(
                    built(value, f"callbacks.{name}", Callback)
                    for name, value in (config.get("callbacks") or {}).items()
                    if value
                ),
                ResumeCheckpoints(run.checkpoints, every_n_steps=config["checkpoint_every_n_steps"]),
                best,  # after the one before, which lets signals wait
            ],
            logger=False,  # they come with the run
            use_distributed_sampler=not mine,
            plugins=[AtomicCheckpointIO(), *environment_plugins()],
            default_root_dir=str(run.path),
        )
        check_precision(trainer, model)
        batch_size, processes = config["data"].get("batch_size"), trainer.world_size
        if mine and batch_size and batch_size % processes:  # the mean of their gradients would not be the batch's
            raise ZooError(
                f"data.batch_size={batch_size} cannot be split evenly among {processes} processes: change one"
            )
        loggers = [
            built(value, f"logger.{name}", object) for name, value in (config.get("logger") or {}).items() if value
        ]
        return cls(config, began, model, data, loggers, best, trainer)


def built(config: dict[str, Any], where: str, kind: type, methods: tuple[str, ...] = ()) -> Any:
    """What ``config`` describes, if it is a ``kind`` with ``methods`` of its own.

    Raises:
        ZooError: if it is something else, or lacks one of them.
    """
    value = from_config(config, where=where)
    if not isinstance(value, kind):
        raise ZooError(f"{where}: {type(value).__name__} is not a {kind.__name__} of Lightning")
    missing = [name for name in methods if not is_overridden(name, value, parent=kind)]
    if missing:
        raise ZooError(f"{where}: {type(value).__name__} has no {' and no '.join(missing)}, which a run needs")
    return value


def freeze(model: LightningModule, names: list[str]) -> None:
    """Let the weights of the parts with these dotted names stay as they are.

    Raises:
        ZooError: if there is no such part, or nothing is left to train.
    """
    for name in names:
        try:
            part: Any = model.get_submodule(name) if name else None
        except AttributeError:
            part = None
        if part is None:
            known = [child for child, value in model.named_children() if any(True for _ in value.parameters())]
            raise ZooError(f"freeze={name!r} is not a part of the model.{did_you_mean(name, known)} Its parts: {known}")
        part.requires_grad_(False)
    if names and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ZooError(f"freeze={names} leaves nothing to train")


def compile_networks(model: LightningModule) -> None:
    """Compile the networks of ``model``, in place."""
    if isinstance(model, ZooModule):
        model.compile_networks()
    else:
        for child in model.children():
            child.compile()


def _train(parts: Parts, run: RunFolder, newest: Path | None) -> float:
    config, model, data, best, trainer = parts.config, parts.model, parts.data, parts.best, parts.trainer
    loggers = [CSVLogger(run.metrics)]
    for settings in parts.loggers:
        logger = settings.logger(run.path, config) if hasattr(settings, "logger") else settings
        loggers += [logger] if logger else []
    trainer.loggers = loggers
    if newest:
        log.info("resuming from %s", newest)
    with joint_work(trainer):
        try:
            trainer.fit(model, data, ckpt_path=newest, weights_only=True)
        except Exception as error:
            if isinstance(error, (ZooError, OSError)):
                raise
            explain(error, trainer, model)
            if newest or trainer.global_step:
                raise
            raise ZooError(f"the first batch does not pass through the model: {one_line(error)}") from error
        if best.best_model_score is None:
            raise ZooError(
                f"there was no validation that gave {model.monitor}, by which the best weights are kept: see "
                "trainer.limit_val_batches, trainer.check_val_every_n_epoch and what the validation_step returns"
            )
        score = float(best.best_model_score)
        read_checkpoint(run.best)  # whose errors say what is wrong with it
        metrics = trainer.test(model, data, ckpt_path=run.best, weights_only=True, verbose=False)[0]
    if trainer.is_global_zero:
        callbacks.save_curves(run.metrics, run.pictures / "curves.png", trainer)
        results = {
            "metrics": metrics,
            "best": score,
            "steps": trainer.fit_loop.epoch_loop.global_step,
            "seconds": round(time.time() - parts.began[0], 1),
            "cpu_seconds": round(time.process_time() - parts.began[1], 1),
            "limits": limits(config),
            "units": getattr(model, "units", ""),
        }
        with atomic(run.results) as temporary:
            temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        for logger in loggers:
            logger.finalize("success")
    return score


def explain(error: Exception, trainer: Trainer, model: LightningModule) -> None:
    """Raise ``ZooError`` from ``error`` if the training had diverged: an index made of NaN does not name the cause."""
    if trainer.world_size > 1:
        return  # one process must not wait here for the others
    for callback in trainer.callbacks:
        if isinstance(callback, callbacks.LogMetrics):
            try:
                callback.refuse_nan(trainer, model)
            except ZooError as diverged:
                raise diverged from error
            except RuntimeError:  # a GPU that has refused an index answers nothing more
                return


def report(run: RunFolder, results: dict[str, Any]) -> None:
    """Tell where everything is and how good it is."""
    units = results.get("units")
    log.info("\nTest scores%s", f" ({units})" if units else "")
    for name, value in results["metrics"].items():
        log.info("    %-24s %10.3f", name.removeprefix("test/"), value)
    log.info("Run folder  %s", run.path)
    for kind, paths in (("Pictures", run.pictures.glob("*.[pg][ni][gf]")), ("Sounds", run.sounds.glob("*.wav"))):
        if found := sorted(map(str, paths)):
            log.info("%-11s %s", kind, ", ".join(found))
    log.info("Checkpoint  %s", run.best)
