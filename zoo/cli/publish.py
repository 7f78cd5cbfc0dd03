"""Make a pretrained model of a run."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import hub
from zoo.cli import options
from zoo.cli.eval import configure, evaluate
from zoo.config import composition, from_config
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.training.runs import RunFolder

HELP = """Make a pretrained model of a run: python scripts/publish.py RUN_FOLDER NAME [option=value ...]

    python scripts/publish.py runs/mine cat_vae.mine                          in checkpoints/cat_vae.mine
    python scripts/publish.py runs/mine cat_vae.mine model.iwae_samples=1000  with settings of scripts/eval.py

The best weights of the run are scored on the test set, and the scores go into the model card.
"""


@options.fail_politely
def main() -> None:
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments) or len(arguments) < 2:
        print(options.usage(HELP))
        return
    from zoo.training.runs import RunFolder, set_up_logging

    set_up_logging(None)
    run, name, *rest = arguments
    print(publish(RunFolder(run), name, rest))


def publish(run: "RunFolder", name: str, overrides: list[str]) -> Path:
    """Score the best weights of ``run`` and write them to ``checkpoints/<name>``.

    Raises:
        ZooError: if ``name`` is not ``arch.tag`` with the arch of the run, or ``run`` is no run folder.
    """
    from zoo.training.runs import pictures, sounds

    if not run.config.is_file():
        raise ZooError(f"{run.path} is no run folder: it has no config.yaml")
    saved = hub.read(run.path)
    arch, _, tag = name.partition(".")
    if arch != saved.arch or not tag.replace("_", "").replace("-", "").isalnum():
        raise ZooError(f"the name of this model must be {saved.arch}.TAG, with letters, digits, - and _; got {name!r}")
    parsed = {override.key_or_group: override.value() for override in composition.parse(overrides)}
    config = configure(saved, parsed)
    changed = [override for override in overrides if override.startswith("model.")]  # they are a part of the model now
    return hub.save_pretrained(
        saved.build(config["model"]),
        hub.pretrained_folder(name),
        metrics=evaluate(saved, parsed),
        data={key: None if key == "root" else value for key, value in config["data"].items()},
        command=shlex.join([*shlex.split(run.command.read_text(encoding="utf-8")), *changed]),
        pictures=pictures(run.pictures) | sounds(run.sounds),
        notice=getattr(from_config(config["data"], where="data"), "notice", ""),
    )
