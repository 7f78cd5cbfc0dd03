"""Train a model, or resume a run, and test the result."""

import shlex
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from zoo.cli import options
from zoo.config import composition
from zoo.errors import ZooError

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
    for job in composition.jobs(overrides):
        composition.check(composition.compose(job), job)
    hydra.main(version_base="1.3", config_path=str(composition.CONFIGS), config_name="train")(run_job)()


@options.fail_politely
def run_job(config: DictConfig) -> float:
    """One job of Hydra: train in its output folder. The score is for sweepers that optimise it."""
    from zoo.training.train import train

    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())
    config.run = str(folder)
    overrides = [override for override in job.overrides.task if not override.startswith("run=")]
    return train(composition.plain(config), folder, command=shlex.join(["python", "scripts/train.py", *overrides]))
