"""Pictures and sounds of what a model does, to the run folder and to W&B."""

import gc
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from matplotlib.figure import Figure

from zoo.data.audio import write_wav
from zoo.data.seeding import PREDICT, seed_default_generators
from zoo.training.loggers import show_picture
from zoo.training.plots import curves, film_strip, save_film, style

LONGEST_NAME = 200  # bytes of the name of a file, without its ending
Series = dict[str, list[tuple[int, float]]]
"""Names of values -> their steps and values."""


class Pictures(Callback):
    """Draws ``module.pictures(batch)``, shows ``module.films(batch)`` and plays ``module.sounds(batch)`` after
    validation and test.

    Args:
        folder: for ``<name>.png``, and of a film ``<name>.gif`` beside a strip of its frames; W&B keeps every version.
        sounds: for ``<name>.wav``.
        every_n_epochs: of validation.
    """

    def __init__(self, folder: str | Path, sounds: str | Path, *, every_n_epochs: int = 10) -> None:
        self.folder, self.sounds = Path(folder), Path(sounds)
        self.every_n_epochs = every_n_epochs

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._draw(trainer, pl_module, trainer.val_dataloaders)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, trainer.test_dataloaders)

    def _draw(self, trainer: Trainer, pl_module: LightningModule, loader: Iterable[Any]) -> None:
        shown: list[Any] = [getattr(pl_module, part, None) for part in ("pictures", "films", "sounds")]
        if not trainer.is_global_zero or not any(shown) or not isinstance(loader, Iterable):
            return
        draw, film, speak = (part or nothing for part in shown)
        seed_default_generators(0, PREDICT)  # the same samples each time, so that progress can be seen
        batch = trainer.strategy.batch_to_device(next(iter(loader)))
        with style():
            for name, figure in draw(batch).items():
                save_picture(figure, self.folder / f"{name}.png", trainer)
        for name, frames in film(batch).items():
            with style():
                save_picture(film_strip(frames), self.folder / f"{name}.png", trainer)
            save_film(frames, self.folder / f"{name}.gif")
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    path = str(self.folder / f"{name}.gif")
                    logger.log_video(f"films/{name}", [path], step=trainer.global_step, format=["gif"])
        for name, sound in speak(batch).items():
            wav = self.sounds / f"{file_name(name)}.wav"
            self.sounds.mkdir(parents=True, exist_ok=True)
            write_wav(wav, sound)
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    import wandb  # a single sound: its lists of sounds need the package soundfile

                    logger.log_metrics({f"sounds/{name}": wandb.Audio(str(wav))}, step=trainer.global_step)
        gc.collect()  # figures hold themselves in cycles: by Python's own rhythm a long run would keep dozens of them


def file_name(name: str) -> str:
    """``name``, which may have the name of a speaker in it, as that of a file: with codes for what leads elsewhere, and
    not too long."""
    coded = re.sub(r"[/\\\0:]|^\.", lambda found: f"%{ord(found[0]):02X}", name).encode()
    if len(coded) > LONGEST_NAME:
        mark = f"~{hashlib.sha256(coded).hexdigest()[:8]}".encode()
        coded = coded[: LONGEST_NAME - len(mark)] + mark
    return coded.decode(errors="ignore")


def nothing(batch: Any) -> dict[str, Any]:
    """What a module that draws nothing shows."""
    return {}


def save_curves(metrics: Path, path: Path, trainer: Trainer) -> None:
    """Draw the losses, what else the module names, tau and the learning rate of a run from its ``metrics.csv``."""
    from zoo.hub.cards import about
    from zoo.training.loggers import read_metrics

    module = trainer.lightning_module
    panels = panels_of(read_metrics(metrics), module)
    known = about(f"{type(module).__module__}.{type(module).__qualname__}")
    units = {name: score.unit for name in panels if (score := known.score(name.split(",")[0]))}
    if panels:  # a short run may not have logged anything
        with style():
            save_picture(curves(panels, "step", units), path, trainer)


def panels_of(series: Series, module: LightningModule) -> dict[str, Series]:
    """Names of panels -> stages, or the name of the value, -> points.

    First the loss, then what training and validation both have: beside each other, but for what training makes harder
    as it goes on.
    """
    validated = (name.removeprefix("val/") for name in series if name.startswith("val/"))
    both = sorted(name for name in validated if f"train/{name}" in series)
    apart = [name for name in both if name in getattr(module, "annealed", ())]
    loss = series.get("train/loss")
    shown = [] if any(series[f"train/{name}"] == loss for name in both) else ["loss"]
    panels: dict[str, Series] = {}
    for name in dict.fromkeys([*shown, *both, *getattr(module, "curves", ())]):
        stages = {stage: series[f"{stage}/{name}"] for stage in ("train", "val") if f"{stage}/{name}" in series}
        if name in apart:
            panels[f"{name}, annealed in training"] = {"train": stages.pop("train")}
        if stages:
            panels[name] = stages
    return panels | {name: {name: series[name]} for name in sorted(series) if name == "lr" or name.startswith("tau")}


def save_picture(figure: Figure, path: Path, trainer: Trainer) -> None:
    """Write ``figure`` to ``path`` and hand it to the loggers of ``trainer``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    for logger in trainer.loggers:
        show_picture(logger, path.stem, path, trainer.global_step)
