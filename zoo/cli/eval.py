"""Score a checkpoint on the test set.

    python scripts/eval.py checkpoint=cat_vae.mnist                            a pretrained model; its name alone does
    python scripts/eval.py checkpoint=runs/mine                                the best weights of a run
    python scripts/eval.py checkpoint=cat_vae.mnist model.iwae_samples=5000    with another setting
    python scripts/eval.py checkpoint=cat_vae.mnist data=fashion_mnist         on other data
    python scripts/eval.py checkpoint=cat_vae.mnist output=scores.json         also to a file

On the data it was trained with, where data= does not say otherwise.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo import hub
from zoo.cli.arguments import command
from zoo.cli.options import pretrained, written
from zoo.errors import ZooError

log = logging.getLogger(__name__)
TAKES = ("model", "data", "trainer", "relaxation", "seed")


def score(checkpoint: str, *overrides: str, output: Path | None = None, trust: Sequence[str] = ()) -> None:
    """Print the test scores of a checkpoint.

    Args:
        checkpoint: a pretrained model, its folder, a run folder or a checkpoint file of one.
        output: a JSON file for the scores.
        trust: packages whose classes it may name beside those of this project, such as mypkg: their code runs.
        overrides: data=, trainer=, relaxation=, seed=, and any option of model., data. and trainer.
    """
    from zoo.config import composition
    from zoo.training.runs import set_up_logging

    set_up_logging(None)
    parsed = {override.key_or_group: override.value() for override in composition.parse(list(overrides))}
    scores = evaluate(hub.read(checkpoint, trust), parsed)
    for name, value in scores.items():
        log.info("%-24s %10.3f", name, value)
    if output:
        with written(output) as path:
            path.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")


main = command(score, text=str(__doc__), takes=lambda: TAKES, notes=pretrained)


def evaluate(saved: hub.Saved, overrides: dict[str, Any]) -> dict[str, float]:
    """The test scores of a saved model, by name; what they are in is logged.

    Args:
        saved: as :func:`zoo.hub.read` gives it.
        overrides: option -> value, such as ``{"model.iwae_samples": 1000, "data": "fashion_mnist"}``.

    Raises:
        ZooError: for an option that does not exist or a value that is not valid.
    """
    from zoo.config import Trust, from_config
    from zoo.hub.private import check_given
    from zoo.training import callbacks
    from zoo.training.distributed import joint_work
    from zoo.training.trainer import build_trainer, check_precision

    config, saved = configure(saved, overrides)
    check_given(config["data"], saved.origin.parent)
    changed = [f"{key}={value}" for key, value in overrides.items() if key.split(".")[0] in ("model", "relaxation")]
    model = saved.build(config["model"], described=", ".join(changed) or "its configuration")
    data = from_config(config["data"], where="data", trust=Trust.of(saved.trust))
    trainer = build_trainer(
        config["trainer"],
        [callbacks.SeedEachBatch(config["seed"]), callbacks.LogMetrics()],
        logger=False,
        enable_checkpointing=False,
    )
    check_precision(trainer, model)
    with joint_work(trainer):
        scores = trainer.test(model, data, verbose=False)[0]
    if units := getattr(model, "units", ""):
        log.info("%s", units)
    return {name.removeprefix("test/"): value for name, value in scores.items()}


def configure(saved: hub.Saved, overrides: dict[str, Any]) -> tuple[dict[str, Any], hub.Saved]:
    """The configuration of an evaluation: what was saved, with ``overrides``.

    Returns:
        the configuration; ``saved`` with trust in the classes that the caller names himself in ``overrides``.
    """
    from omegaconf import OmegaConf

    from zoo.config import Trust, check_config, composition, with_defaults
    from zoo.hub.own import foreign

    groups = {key: value for key, value in overrides.items() if key in ("data", "trainer", "relaxation")}
    chosen = {key: composition.choose(key, value) for key, value in ({"trainer": "default"} | groups).items()}
    given = {key: value for key, value in overrides.items() if key not in groups}
    rest = {key: {"_target_": value} if key.endswith("_target_") else value for key, value in given.items()}
    saved = replace(saved, trust=(*saved.trust, *foreign([chosen.get("data"), chosen.get("relaxation"), rest])))
    relaxation = {"relaxation": chosen["relaxation"]} if "relaxation" in groups else {}
    config = OmegaConf.create(
        {
            "model": with_defaults(saved.model) | relaxation,
            "data": chosen.get("data", saved.data),
            "trainer": chosen["trainer"],
            "seed": 0,
        }
    )
    for key, value in overrides.items():
        if key not in groups:
            composition.check_key(config, key)
            OmegaConf.update(config, key, value, merge=not (isinstance(value, dict) and "_target_" in value))
    if not config["data"]:
        raise ZooError(f"{saved.origin} does not say what it was trained on: add data=, such as data=mnist")
    composition.retarget(config, list(given.items()))
    values = composition.plain(config)
    check_config(values["model"], where="model", trust=Trust.of(saved.trust))
    composition.check_effects(values["model"], list(overrides))
    return values, saved
