"""Train a model as a configuration says, or resume a run, and test the result."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from zoo import signals
from zoo.config import from_config
from zoo.data.seeding import seed_default_generators
from zoo.errors import ZooError
from zoo.hub.files import atomic, read_checkpoint
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
from zoo.training.runs import RunFolder, set_up_logging
from zoo.training.trainer import build_trainer

log = logging.getLogger(__name__)


def train(config: dict[str, Any], folder: Path, *, command: str) -> float:
    """Train as ``config`` says, from the newest checkpoint in ``folder`` if there is one, and test the best weights.

    Args:
        config: plain and resolved, with the keys of ``configs/train.yaml``.
        folder: of the run; made if missing.
        command: for the records.

    Returns:
        the best validation score, lower is better.

    Raises:
        ZooError: if the run cannot start or go on. What was saved before is untouched.
    """
    with signals.handled():
        if rank_zero_only.rank:  # a process started by a distributed strategy: the first one keeps the folder
            set_up_logging(None, level=logging.WARNING)
            run = RunFolder(folder)
            return _train(run.settled(config, command), run, newest_checkpoint(run.checkpoints))
        with RunFolder(folder) as run, said(run):
            set_up_logging(run.log)
            if not run.locked:
                log.warning("%s is on a file system without locks: do not start a second run in it.", run.path)
            config = run.settled(config, command)
            if run.results.exists() and run.read_results().get("limits") == limits(config):
                run.changes(config)
                log.info("%s is complete; nothing to train.", run.path)
            else:
                newest = newest_checkpoint(run.checkpoints)
                run.claim(config, command, step_of(newest) if newest else 0)
                log.info("run folder: %s (the same command with run=%s resumes it)", run.path, run.path)
                with wandb_run():
                    _train(config, run, newest)
            results = run.read_results()
            report(run, results)
            return results["best"]


def limits(config: dict[str, Any]) -> dict[str, Any]:
    """How long a run is to be."""
    return {name: config["trainer"][name] for name in ("max_epochs", "max_steps", "max_time")}


@contextmanager
def said(run: RunFolder) -> Iterator[None]:
    """Where a signal stops the run and nothing had to be saved, let it say how to go on."""
    try:
        yield
    except signals.Stopped as stopped:
        if not stopped.saved and (newest := next(iter(resume_checkpoints(run.checkpoints)), None)):
            stopped.saved = f"{newest} is kept. The same command with run={run.path} resumes the run."
        raise


def _train(config: dict[str, Any], run: RunFolder, newest: Path | None) -> float:
    began = time.time()
    seed_default_generators(config["seed"])
    model = from_config(config["model"], where="model")
    data = from_config(config["data"], where="data")
    if config["compile"]:
        model.compile_networks()
    loggers: list[Any] = [CSVLogger(run.metrics)]
    if config["logger"]["wandb"]:
        wandb = from_config(config["logger"]["wandb"], where="logger.wandb").logger(run.path, config)
        loggers += [wandb] if wandb else []
    best = BestCheckpoint(run.best, monitor=model.monitor)
    trainer = build_trainer(
        config["trainer"],
        [
            callbacks.SeedEachBatch(config["seed"]),
            *([from_config(config["annealing"], where="annealing")] if config.get("annealing") else []),
            callbacks.LogMetrics(),
            callbacks.Pictures(run.pictures, run.sounds, every_n_epochs=config["pictures_every_n_epochs"]),
            ResumeCheckpoints(run.checkpoints, every_n_steps=config["checkpoint_every_n_steps"]),
            best,  # after the one before, which lets signals wait
        ],
        logger=loggers,
        plugins=[AtomicCheckpointIO(), *environment_plugins()],
        default_root_dir=str(run.path),
    )
    batch_size, processes = config["data"].get("batch_size"), trainer.world_size
    if batch_size and batch_size % processes:  # the mean of their gradients would not be that of the batch
        raise ZooError(f"data.batch_size={batch_size} cannot be split evenly among {processes} processes: change one")
    if newest:
        log.info("resuming from %s", newest)
    with joint_work(trainer):
        trainer.fit(model, data, ckpt_path=newest, weights_only=True)
        score = float(best.best_model_score)
        read_checkpoint(run.best)  # whose errors say what is wrong with it
        metrics = trainer.test(model, data, ckpt_path=run.best, weights_only=True, verbose=False)[0]
    if trainer.is_global_zero:
        callbacks.save_curves(run.metrics, run.pictures / "curves.png", trainer)
        results = {
            "metrics": metrics,
            "best": score,
            "steps": trainer.fit_loop.epoch_loop.global_step,
            "seconds": round(time.time() - began, 1),
            "limits": limits(config),
        }
        with atomic(run.results) as temporary:
            temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        for logger in loggers:
            logger.finalize("success")
    return score


def report(run: RunFolder, results: dict[str, Any]) -> None:
    """Tell where everything is and how good it is."""
    log.info("\nTest scores")
    for name, value in results["metrics"].items():
        log.info("    %-24s %10.3f", name.removeprefix("test/"), value)
    log.info("Run folder  %s", run.path)
    log.info("Pictures    %s", ", ".join(str(path) for path in sorted(run.pictures.glob("*.[pg][ni][gf]"))))
    if run.sounds.is_dir():
        log.info("Sounds      %s", ", ".join(str(path) for path in sorted(run.sounds.glob("*.wav"))))
    log.info("Checkpoint  %s", run.best)
