"""Train a model, or resume a run, and test the result."""

import shlex
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli import sweeps
from zoo.cli.options import HELP, as_started, external_launcher, fail_politely, rank, tell
from zoo.config.jobs import set_swept
from zoo.errors import ZooError, cause, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

TEXT = """Train a model, or resume a run, and test the result.

    python scripts/train.py model=cat_vae                             with the default settings; or cat_vae alone
    python scripts/train.py model=cat_vae relaxation=rloo             with another gradient estimator
    python scripts/train.py model=cat_vae model.latents=20 seed=1     with other values
    python scripts/train.py model=cat_vae run=runs/mine               in a folder; the same again resumes the run
    python scripts/train.py -m model=cat_vae relaxation=reinmax,rloo  one run after the other
    python scripts/train.py model=cat_vae --cfg job                   show every option, its value and meaning

Choose a file of each group by its name. Any value in it can be overridden, as in relaxation.tau=0.7.
"""


def main(words: list[str]) -> None:
    if not [word for word in words if word not in HELP]:
        tell(as_started(f"{TEXT}\n{describe_choices()}"))
        return
    if set(HELP) & set(words):  # of what was chosen
        words = [*(word for word in words if word not in HELP), "--cfg", "job"]
    from hydra import version
    from hydra._internal.utils import _run_hydra, get_args_parser

    from zoo.config import composition

    # Hydra's own main would read sys.argv; and the processes that a strategy starts are to be started with all of it.
    parser = get_args_parser()
    flags = read(parser, words)
    overrides = flags.overrides
    if (launcher := external_launcher()) and not any(override.startswith("run=") for override in overrides):
        raise ZooError(f"{launcher} started several processes: say which run folder they share, run=FOLDER")
    if not flags.multirun and any(override.startswith("hydra/launcher=") for override in overrides):
        raise ZooError("hydra/launcher= starts the jobs of a sweep: add -m, also for a single one")
    parsed = composition.parse(overrides)
    given = [override.key_or_group for override in parsed]
    if "run" in given and not {"model", "experiment"} & {name.split(".")[0] for name in given}:
        refuse_unsaid(dict(composition.pairs(parsed))["run"])
    names, began = composition.swept(overrides), time.time()
    if names and not flags.multirun:
        raise ZooError(f"{names[0]}= has several values: add -m for a job of each")
    # All jobs are checked before the first one starts.
    for job in composition.jobs(overrides):
        composed = composition.compose(job)
        composition.check(composed, job)
    if flags.cfg == "job" and not flags.package and not flags.resolve:
        from omegaconf import OmegaConf

        from zoo.config.explaining import annotate

        tell(annotate(OmegaConf.to_yaml(composed), composition.meanings(composed, job)))
        return
    set_swept(names)
    shows = flags.cfg or flags.info or flags.hydra_help or flags.shell_completion
    if not shows and not flags.multirun:
        if "run" not in given:
            composition.claim(Path("runs") / model_of_run())
        folder = composition.folder("run.dir")
        make(folder)
        job_of(composed, folder)()
        return
    if flags.multirun and not shows:
        if "hydra.sweep.dir" not in given:
            composition.claim(Path("runs/sweep"))
        sweep = composition.folder("sweep.dir")  # which has the time stamp in it
        make(sweep)
    flags.overrides = composition.for_hydra(overrides)
    version.setbase("1.3")
    _run_hydra(
        args=flags,
        args_parser=parser,
        task_function=job_of_sweep,
        config_path=str(composition.CONFIGS),
        config_name="train",
    )
    if not shows and not rank():
        tell(sweeps.finish(sweep, began, composition.plain(composed.logger) if composed.logger else None))


def model_of_run() -> str:
    """The model, by its name, that a run folder is called after.

    Raises:
        ZooError: if none is chosen.
    """
    from hydra.core.hydra_config import HydraConfig

    name = HydraConfig.get().runtime.choices.get("model")
    if not name:
        raise ZooError("no model is chosen by its name, after which a run folder is called: say which, run=FOLDER")
    return name


def refuse_unsaid(folder: Any) -> None:
    """Where ``run=`` names a run and no model is chosen, say the command that resumes it.

    Raises:
        ZooError: with that command.
    """
    command = Path(str(folder)) / "command.txt"
    if command.is_file():
        from zoo.training.runs import RunFolder

        last = RunFolder(folder).commands().splitlines()[-1:] or ["the same options"]
        raise ZooError(f"to resume the run in {folder}, give its options again: {last[0]} run={folder}")


def make(folder: Path) -> None:
    """Make the folder of a run or a sweep. Hydra's own error would be a traceback.

    Raises:
        ZooError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZooError(f"cannot use {folder} as a run folder: {cause(error)}") from error


def read(parser: Any, words: list[str]) -> Any:
    """Hydra's flags and overrides in ``words``, wherever they stand. A bare first one is a model.

    Raises:
        ZooError: for a flag that does not exist, or whose value is missing or not valid.
    """

    def refuse(message: str) -> None:
        raise ZooError(message)

    parser.error = refuse
    flags, unknown = parser.parse_known_intermixed_args(words)
    if unknown:
        known = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
        name, _, value = unknown[0].lstrip("-").partition("=")
        from zoo.config.composition import GROUPS, KEYS, full_names

        if name in (*GROUPS, *KEYS):
            raise ZooError(f"options are written name=value: {name}={value or 'VALUE'}, not {unknown[0]}")
        chosen = [f"model={word}" if i == 0 and "=" not in word else word for i, word in enumerate(flags.overrides)]
        if name == "resume":
            raise ZooError("a run is resumed by the same command again, with its run=FOLDER")
        about = full_names(name, [word for word in chosen if word.partition("=")[0] in GROUPS])
        about = about or did_you_mean(unknown[0].partition("=")[0], known)
        raise ZooError(
            f"there is no flag {unknown[0]!r}.{about} Options are written "
            f"name=value, those of a part with its name before it, as in model.latents=20 or model.optimizer.lr=1e-3."
        )
    if flags.overrides and not any(mark in flags.overrides[0] for mark in "=~"):
        flags.overrides[0] = f"model={flags.overrides[0]}"
    for word in flags.overrides[1:]:
        if not any(mark in word for mark in "=~"):
            raise ZooError(
                f"cannot read {word!r}: only the model, the first word, stands alone. Options are name=value, as "
                "in relaxation=rloo or epochs=3."
            )
    return flags


def describe_choices() -> str:
    """Every group with its files, for people."""
    from zoo.config.composition import GROUPS, choices, serves

    lines = []
    for group in GROUPS:
        lines.append(f"{group}=")
        for name, about in choices(group).items():
            models = serves(group, name) if group != "experiment" else []  # which begins with the model's name
            only = f" For {' and '.join(models)}." if 0 < len(models) < 3 else ""
            lines.append(f"    {name:<20} {about}{only}".rstrip())
    return "\n".join(lines)


def job_of(config: "DictConfig", folder: Path) -> Callable[[], float]:
    """A training in ``folder``, whose result is the best validation score."""
    from hydra.core.hydra_config import HydraConfig

    from zoo.config import composition
    from zoo.training.train import train

    words = HydraConfig.get().overrides
    overrides = [word for word in words.task if not word.startswith("run=")]
    config.run = str(folder)
    command = shlex.join(["python", "scripts/train.py", *composition.with_doors(overrides, list(words.hydra))])
    return partial(train, composition.plain(config), folder, command=as_started(command))


@fail_politely
def job_of_sweep(config: "DictConfig") -> float:
    """One job of Hydra: train in its output folder. The score is for sweepers that optimise it."""
    from hydra.core.hydra_config import HydraConfig

    from zoo.config import composition

    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())
    overrides = list(job.overrides.task)
    composition.retarget(config, composition.pairs(composition.parse(overrides)))
    work = job_of(config, folder)
    if rank():
        return work()
    overrides = [override for override in overrides if not override.startswith("run=")]
    return sweeps.record(Path(job.sweep.dir), int(job.job.num), folder, overrides, work)
