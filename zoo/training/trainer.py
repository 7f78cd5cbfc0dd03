"""The Trainer of the scripts."""

import os
import sys
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from zoo.config import from_config
from zoo.errors import ZooError


def build_trainer(config: dict[str, Any], callbacks: list[Callback], **objects: Any) -> Trainer:
    """A Trainer of the options in ``config`` with ``callbacks``, a progress bar and other ``objects``.

    Raises:
        ZooError: for options that do not go together or ask for what this machine lacks.
    """
    if not torch.accelerator.is_available():
        # PyTorch looks for one in every step of an optimiser, half a millisecond each, unless it is told not to.
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    if config["enable_progress_bar"]:
        callbacks = [*callbacks, ProgressBar(refresh_rate=20 if sys.stderr.isatty() else 500)]
    # The loaders of this project know the ranks: Lightning must not put a sampler of its own into them.
    objects = {"use_distributed_sampler": False} | objects | {"callbacks": callbacks}
    try:
        return from_config(config, where="trainer", objects=objects)
    except (MisconfigurationException, RuntimeError) as error:
        raise ZooError(f"trainer: {' '.join(str(error).split())}") from error


class ProgressBar(TQDMProgressBar):
    """Lightning's, without the name of the logger's run."""

    def get_metrics(self, trainer: Trainer, pl_module: Any) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics
