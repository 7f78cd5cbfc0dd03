"""Make a pretrained model of a run.

    python scripts/publish.py run=runs/mine name=cat_vae.mine                          or runs/mine cat_vae.mine alone
    python scripts/publish.py run=runs/mine name=cat_vae.mine model.iwae_samples=1000  with settings that eval takes
    python scripts/publish.py run=runs/mine name=cat_vae.mine small=true               half as large, or less

It is a folder in checkpoints/. The best weights of the run are scored on the test set, and the scores go into the model
card.
"""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import hub
from zoo.cli.arguments import command
from zoo.cli.eval import TAKES, configure, evaluate
from zoo.errors import ZooError, cause
from zoo.hub.files import read_checkpoint
from zoo.hub.own import foreign, own, sign

if TYPE_CHECKING:
    from zoo.training.runs import RunFolder


def make(
    run: Path, name: str, *overrides: str, folder: Path | None = None, small: bool = False, trust: Sequence[str] = ()
) -> None:
    """Make a pretrained model, and print where it is.

    Args:
        run: the folder of a run.
        name: arch.tag, such as cat_vae.mine.
        folder: in which the model's own is made; the default is checkpoints.
        small: store matrices in half precision, and weights of one bit as bits. The scores are those of what is stored.
        trust: packages whose classes it may name beside those of this project, such as mypkg: their code runs.
        overrides: data=, trainer=, seed=, and any option of model., data. and trainer. Those of model. are kept.
    """
    from zoo.training.runs import RunFolder, set_up_logging

    set_up_logging(None)
    print(publish(RunFolder(run), name, list(overrides), folder=folder, small=small, trust=trust))


main = command(make, text=str(__doc__), takes=lambda: TAKES)


def publish(
    run: "RunFolder",
    name: str,
    overrides: list[str],
    *,
    folder: Path | None = None,
    small: bool = False,
    trust: Sequence[str] = (),
) -> Path:
    """Score the best weights of ``run`` and write them to ``checkpoints/<name>``, or to ``<folder>/<name>``.

    Raises:
        ZooError: if ``name`` is not ``arch.tag`` with the arch of the run, or ``run`` is not a run folder.
    """
    from zoo.config import Trust, composition, from_config
    from zoo.training.runs import pictures, sounds

    if not run.config.is_file():
        raise ZooError(f"{run.path} is not a run folder: it has no config.yaml")
    saved = hub.read(run.path, trust)
    arch, _, tag = name.partition(".")
    if arch != saved.arch or not tag.replace("_", "").replace("-", "").isalnum():
        raise ZooError(f"the name of this model must be {saved.arch}.TAG, with letters, digits, - and _; got {name!r}")
    for place in (run.pictures, run.sounds):
        if not place.resolve().is_relative_to(run.path.resolve()):
            raise ZooError(f"{place} is a link to {place.resolve()}, outside of the run: put the files in its place")
    parsed = {override.key_or_group: override.value() for override in composition.parse(overrides)}
    config, trusting = configure(saved, parsed)
    try:
        started = run.commands(read_checkpoint(run.best)["global_step"])
    except (OSError, ValueError) as error:
        raise ZooError(f"{run.command}, which says how the run was started, cannot be read: {cause(error)}") from error
    model = trusting.build(config["model"])
    if small:  # the scores are to be those of what is stored
        saved = replace(saved, state=hub.rounded(model))
    changed = [override for override in overrides if override.startswith("model.")]  # they are a part of the model now
    where = hub.save_pretrained(
        model,
        folder / name if folder else hub.pretrained_folder(name),
        metrics=evaluate(saved, parsed),
        data=config["data"],
        command=" ".join([started, *map(shlex.quote, changed)]),
        pictures=pictures(run.pictures) | sounds(run.sounds),
        small=small,
        notice=getattr(from_config(config["data"], where="data", trust=Trust.of(trusting.trust)), "notice", ""),
    )
    if foreign([config["model"], config["data"]]) and own(run.path):
        sign(where, [config["model"], config["data"]])  # it is one's own as the run is
    return where
