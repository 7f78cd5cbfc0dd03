"""Training from Python, as from the command line."""

import logging
import shlex
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lightning import LightningModule

from zoo import signals
from zoo.config import composition, to_config
from zoo.errors import ZooError
from zoo.hub import from_pretrained
from zoo.hub.own import foreign
from zoo.hub.registry import architecture
from zoo.training.runs import RunFolder
from zoo.training.train import train as run_training

log = logging.getLogger(__name__)

SEVERAL = ("callbacks", "logger")
"""Groups of which there may be several."""


class Trained(NamedTuple):
    """What :func:`train` returns: the model with its best weights, in ``eval()``, and its scores on the test set; under
    the name ``model.monitor`` also the best score of the validation, by which options are chosen."""

    model: LightningModule
    scores: dict[str, float]


def train(model: "str | LightningModule", *words: str, run: str | Path | None = None, **options: Any) -> Trained:
    """Train a model, or resume a run, and test the result: the command ``zoo train``, with the same checks.

    ::

        model, scores = zoo.train("cat_vae", latents=20, epochs=5)
        model, scores = zoo.train("cat_vae", "relaxation.tau=0.7", relaxation="reinmax", data=MyData(root="pictures"))

    Args:
        model: the name of one, or an object, which is built again from its arguments.
        words: options as the command line has them.
        run: the run folder; a run in an existing folder is resumed. The default is a new one in ``runs``.
        options: options by name. The name of a group, such as ``data`` or ``relaxation``, takes that of a file, an
            object, a configuration with ``_target_``, or a dict of some of its options; ``callbacks`` and ``logger``
            take lists, too; any other name is an option of the whole, such as ``epochs`` and ``seed``, else of the
            model.

    Returns:
        the model with the best weights, in ``eval()``, and its scores, by name. ``model, scores = zoo.train(...)``

    Raises:
        ZooError: as the command line: for a name that does not exist or a value that is not valid, before anything
            starts, and for what stops a run.
        KeyboardInterrupt: after Ctrl-C, once the step under way is finished and saved; the second time at once.
        SystemExit: the same after SIGTERM, with status 143.
    """
    if isinstance(model, str):
        chosen = [f"model={model}"]
    else:
        config = to_config(model)
        model = architecture(config["_target_"])
        chosen = ["~model", *([] if "relaxation" in options else ["relaxation=null", "annealing=null"])]
        chosen += [composition.word(f"+model.{key}", value) for key, value in config.items()]
    overrides = [*chosen, *(word for name, value in options.items() for word in as_words(name, value)), *words]
    composed = composition.compose(overrides)
    composition.check(composed, overrides)
    folder = Path(run).expanduser() if run else composition.claim(Path("runs") / model)
    composed.run = str(folder)
    values = composition.plain(composed)
    try:
        run_training(values, folder, command=shlex.join(["zoo", "train", *overrides]))
    except signals.Stopped as stopped:
        if stopped.number == signal.SIGINT:
            raise KeyboardInterrupt(str(stopped)) from None
        log.warning("%s", stopped)
        raise SystemExit(stopped.status) from None
    results = RunFolder(folder).read_results()
    trained = from_pretrained(folder, trust=foreign([values["model"], values["data"]]))
    scores = {name.removeprefix("test/"): value for name, value in results["metrics"].items()}
    return Trained(trained, scores | {str(trained.monitor): results["best"]})


def as_words(name: str, value: Any) -> Iterator[str]:
    """An option of :func:`train` as words of the command line."""
    named = value is None or isinstance(value, (str, list, tuple))
    group = name in composition.GROUPS and (named or name not in composition.FILLING)
    if name in SEVERAL and isinstance(value, (list, tuple)) and not all(isinstance(one, str) for one in value):
        for one in value:
            yield from as_words(name, one)
        return
    of_the_whole = name.split(".")[0] in (*composition.KEYS, *composition.GROUPS) and name not in composition.FILLING
    key = name if group or of_the_whole else f"model.{name}"
    if group and named:
        yield f"{key}=" + ("null" if value is None else value if isinstance(value, str) else f"[{','.join(value)}]")
        return
    config = to_config(dict(value) if isinstance(value, Mapping) else value)
    if not isinstance(config, dict):
        if group:
            raise ZooError(f"{name}={value!r} is not valid: give a name, an object or a dict of options")
        yield composition.word(key, config)
        return
    new = "_target_" in config
    if new and name in SEVERAL:
        key = f"{name}.{architecture(config['_target_'])}"
    for part, one in config.items():
        yield composition.word(f"{'++' if new else ''}{key}.{part}", one)
