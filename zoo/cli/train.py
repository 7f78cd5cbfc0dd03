"""Train a model, or resume a run, and test the result."""

import json
import logging
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from zoo.cli import options
from zoo.errors import ZooError
from zoo.runs import RunFolder, set_up_logging

log = logging.getLogger(__name__)

HELP = """Train a model of the zoo.

    python scripts/train.py model=cat_vae                             with the default settings
    python scripts/train.py model=cat_vae relaxation=rloo             with another gradient estimator
    python scripts/train.py model=cat_vae model.latents=20 seed=1     with other values
    python scripts/train.py model=cat_vae run=runs/mine               in a folder of your choice; the same
                                                                      command again resumes the run
    python scripts/train.py -m model=cat_vae relaxation=reinmax,rloo  one run after the other
    python scripts/train.py model=cat_vae --cfg job                   show every option and its value

Choose a file of each group by its name. Any value in it can be overridden, as in relaxation.tau=0.7.

{choices}
"""


@options.fail_politely
def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        print(options.usage(HELP).format(choices=options.describe_choices()))
        return
    overrides = options.without_flags(arguments)
    if (launcher := options.external_launcher()) and not any(override.startswith("run=") for override in overrides):
        raise ZooError(f"{launcher} started several processes: say which run folder they share, run=FOLDER")
    sweep = {"-m", "--multirun"} & set(arguments)
    if not sweep and any(override.startswith("hydra/launcher=") for override in overrides):
        raise ZooError("hydra/launcher= starts the jobs of a sweep: add -m, also for a single one")
    # All jobs are checked before the first one starts.
    for job in options.jobs(overrides):
        check(options.compose(job))
    hydra.main(version_base="1.3", config_path=str(options.CONFIGS), config_name="train")(run_job)()


def check(config: DictConfig) -> None:
    """Check every value against the signature of its class.

    Raises:
        ZooError: naming the option that is wrong.
    """
    from zoo.config import check_config

    known = {*options.GROUPS, *options.KEYS} - {"nets", "experiment"}  # these two only fill in others
    values = OmegaConf.to_container(config)
    del values["run"]  # only Hydra's job can resolve it
    values = options.plain(OmegaConf.create(values))
    for name, value in values.items():
        if name not in known:
            raise ZooError(f"there is no option {name!r}. Options: {', '.join(sorted(known))}.")
        check_config(value, where=name)
    if type(values["compile"]) is not bool:
        raise ZooError(f"compile={values['compile']!r} is not valid: it must be true or false.")
    for name, least in {"seed": 0, "epochs": 1, "pictures_every_n_epochs": 1, "checkpoint_every_n_steps": 1}.items():
        if type(values[name]) is not int or values[name] < least:
            raise ZooError(f"{name}={values[name]!r} is not valid: it must be a whole number, {least} or more.")


@options.fail_politely
def run_job(config: DictConfig) -> float:
    """One job of Hydra: train in its output folder. The score is for sweepers that optimise it."""
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())
    config.run = str(folder)
    overrides = [override for override in job.overrides.task if not override.startswith("run=")]
    return train(options.plain(config), folder, command=shlex.join(["python", "scripts/train.py", *overrides]))


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
    from lightning.pytorch.utilities import rank_zero_only

    from zoo.loggers import wandb_run

    if rank_zero_only.rank:  # a process started by a distributed strategy: the first one keeps the folder
        set_up_logging(None, level=logging.WARNING)
        return _train(config, RunFolder(folder))
    with RunFolder(folder) as run:
        set_up_logging(run.log)
        run.claim(config, command)
        limits = {name: config["trainer"][name] for name in ("max_epochs", "max_steps", "max_time")}
        if run.results.exists() and run.read_results().get("limits") == limits:
            log.info("%s is complete; nothing to train.", run.path)
        else:
            log.info("run folder: %s (the same command with run=%s resumes it)", run.path, run.path)
            with wandb_run():
                _train(config, run)
        results = run.read_results()
        report(run, results)
        return results["best"]


def _train(config: dict[str, Any], run: RunFolder) -> float:
    from lightning.pytorch.callbacks import ModelCheckpoint

    from zoo import callbacks
    from zoo.checkpointing import AtomicCheckpointIO, ResumeCheckpoints, atomic, newest_checkpoint
    from zoo.cli.trainer import build_trainer
    from zoo.config import from_config
    from zoo.distributed import environment_plugins, joint_work
    from zoo.loggers import CSVLogger
    from zoo.seeding import seed_default_generators

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
    trainer = build_trainer(
        config["trainer"],
        [
            callbacks.SeedEachBatch(config["seed"]),
            *([from_config(config["annealing"], where="annealing")] if config.get("annealing") else []),
            callbacks.LogMetrics(),
            callbacks.Pictures(run.pictures, run.sounds, every_n_epochs=config["pictures_every_n_epochs"]),
            ModelCheckpoint(
                run.checkpoints,
                filename=run.best.stem,
                monitor=model.monitor,
                enable_version_counter=False,
                save_on_train_epoch_end=False,  # but after validation, so that the next one knows of it
            ),
            ResumeCheckpoints(run.checkpoints, every_n_steps=config["checkpoint_every_n_steps"]),
        ],
        logger=loggers,
        plugins=[AtomicCheckpointIO(), *environment_plugins()],
        default_root_dir=str(run.path),
    )
    batch_size, processes = config["data"].get("batch_size"), trainer.world_size
    if batch_size and batch_size % processes:  # the mean of their gradients would not be that of the batch
        raise ZooError(f"data.batch_size={batch_size} cannot be split evenly among {processes} processes: change one")
    newest = newest_checkpoint(run.checkpoints)
    if newest:
        log.info("resuming from %s", newest)
    with joint_work(trainer):
        trainer.fit(model, data, ckpt_path=newest, weights_only=True)
        best = trainer.checkpoint_callback.best_model_score
        metrics = trainer.test(model, data, ckpt_path=run.best, weights_only=True, verbose=False)[0]
    if trainer.is_global_zero:
        callbacks.save_curves(run.metrics, run.pictures / "curves.png", trainer)
        results = {
            "metrics": metrics,
            "best": best.item(),
            "steps": trainer.fit_loop.epoch_loop.global_step,
            "seconds": round(time.time() - began, 1),
            "limits": {name: config["trainer"][name] for name in ("max_epochs", "max_steps", "max_time")},
        }
        with atomic(run.results) as temporary:
            temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        for logger in loggers:
            logger.finalize("success")
    return best.item()


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
