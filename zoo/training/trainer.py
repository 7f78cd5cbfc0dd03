"""The Trainer of the scripts."""

import logging
import os
import sys
import time
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar
from torch import nn

from zoo.config import from_config
from zoo.errors import ZooError

log = logging.getLogger(__name__)

EVERY_STEP = (
    *("on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_optimizer_step"),
    *("on_before_backward", "on_after_backward"),
)
"""Hooks that Lightning calls in each step."""


def build_trainer(config: dict[str, Any], callbacks: list[Callback], **objects: Any) -> Trainer:
    """A Trainer of the options in ``config`` with ``callbacks``, a progress bar and other ``objects``.

    Where nobody watches, in a file or a pipe, the progress bar is a line for each validation.

    Raises:
        ZooError: for options that do not go together or ask for what this machine lacks.
    """
    if not torch.accelerator.is_available():
        # PyTorch looks for one in every step of an optimiser, half a millisecond each, unless it is told not to.
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    if config["enable_progress_bar"]:
        callbacks = [*callbacks, Bar(refresh_rate=20) if sys.stderr.isatty() else Lines()]
    # The loaders of this project know the ranks: Lightning must not put a sampler of its own into them.
    objects = {"use_distributed_sampler": False} | objects | {"callbacks": callbacks}
    trainer = from_config(config, where="trainer", objects=objects)
    # zoo.signals handles them. Lightning's handler communicates from wherever it interrupts, and ends nothing but fits.
    trainer._signal_connector.register_signal_handlers = lambda: None
    for callback in trainer.callbacks:
        if type(callback).__module__.startswith(("zoo.", "lightning.")):  # others may call their own
            leave_out_empty_hooks(callback)
    return trainer


def leave_out_empty_hooks(callback: Callback) -> None:
    """Make Lightning pass over the hooks of every step that ``callback`` has not defined: it would open a profiler's
    section to call each of them, which is up to a twentieth of the time that a small network takes to train."""
    for name in EVERY_STEP:
        if getattr(getattr(callback, name), "__func__", None) is getattr(Callback, name):
            setattr(callback, name, None)


def check_precision(trainer: Trainer, model: nn.Module) -> None:
    """Let ``trainer`` begin only if this processor can compute ``model`` in its precision.

    Raises:
        ZooError: if ``model`` has an LSTM and this processor none in the precision of ``trainer``, as those without
            AVX-512 have none in bfloat16: PyTorch says so in words of oneDNN's, and only where no gradient is wanted.
    """
    if trainer.strategy.root_device.type != "cpu" or not any(isinstance(part, nn.LSTM) for part in model.modules()):
        return
    try:
        with trainer.precision_plugin.forward_context(), torch.no_grad():
            lstm = nn.LSTM(1, 1, device="meta").to_empty(device="cpu")  # which draws nothing
            lstm(torch.zeros(1, 1))
    except RuntimeError as error:
        raise ZooError(
            f"trainer.precision={trainer.precision}: this processor has no LSTM in that precision, and the model has "
            "one. Leave trainer.precision out, or use a GPU"
        ) from error


class Bar(TQDMProgressBar):
    """Lightning's, without the name of the logger's run."""

    def get_metrics(self, trainer: Trainer, pl_module: Any) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics


class Lines(ProgressBar):
    """A line for each validation: where training stands, the score, and how fast it is."""

    def __init__(self) -> None:
        super().__init__()
        self.enabled = True
        self._since = (time.monotonic(), 0)

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._since = (time.monotonic(), trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or not self.enabled:
            return
        began, step = self._since
        rate = (trainer.global_step - step) / max(1e-9, time.monotonic() - began)
        score = trainer.callback_metrics.get(name := getattr(pl_module, "monitor", "val/loss"))
        log.info(
            "epoch %d, step %d: %s%.4g steps/s",
            trainer.current_epoch + 1,
            trainer.global_step,
            "" if score is None else f"{name} {score:.6g}, ",
            rate,
        )
        self._since = (time.monotonic(), trainer.global_step)
