"""Checkpoints of training that survive a crash at any moment."""

import logging
import signal
import threading
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from zoo.errors import ZooError
from zoo.hub.files import atomic, read_checkpoint

log = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all: beside its place first, flushed to the disk, then renamed.

    Lightning's own writes to the system's temporary directory, from where the last move is a copy if that is
    another file system.

    Raises:
        ZooError: if it cannot be written, such as on a full disk; earlier checkpoints are untouched.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with atomic(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)


AGREE_EVERY = 10
"""Batches with a step of the optimiser after which several processes ask each other whether one was told to stop."""


class Stopped(ZooError):
    """Training was told to stop by SIGTERM, and has saved where it stands."""

    status = 128 + signal.SIGTERM


class ResumeCheckpoints(Checkpoint):
    """Saves ``step-<n>.ckpt`` every so many steps and after each epoch, and keeps the two newest.

    Two, so that there is another if one is damaged. After an epoch's last step it waits for the validation: a run
    resumed from before it would go on without it. On SIGTERM, which a machine sends that is about to be taken
    away, it finishes the step, saves and ends the run; any one of several processes may get the signal.

    Args:
        folder: of the checkpoints.
        every_n_steps: of the optimiser.

    Raises:
        Stopped: after SIGTERM.
    """

    def __init__(self, folder: Path, *, every_n_steps: int) -> None:
        self.folder, self.every_n_steps = folder, every_n_steps
        self.last: Path | None = None
        self._told_to_stop, self._step, self._batches = False, 0, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step
        # In place of the Trainer's handler, which communicates from wherever it interrupts; the Trainer restores
        # what was there before it.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._tell_to_stop)

    def _tell_to_stop(self, *_: Any) -> None:
        self._told_to_stop = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stepped, self._step = trainer.global_step != self._step, trainer.global_step
        if trainer.is_last_batch or not stepped:  # gradients that are being accumulated are not saved
            return
        if trainer.global_step % self.every_n_steps == 0:
            self._save(trainer)
        self._batches += 1
        if trainer.world_size == 1 or self._batches % AGREE_EVERY == 0:
            self._stop_if_told(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)
        self._stop_if_told(trainer)

    def _stop_if_told(self, trainer: Trainer) -> None:
        told = self._told_to_stop
        if trainer.world_size > 1:
            told = trainer.strategy.reduce_boolean_decision(told, all=False)
        if told:
            self._save(trainer)
            if trainer.global_rank:
                raise SystemExit(0)  # the first rank says it
            raise Stopped(f"stopped by SIGTERM; saved {self.last}. The same command resumes the run.")

    def _save(self, trainer: Trainer) -> None:
        path = self.folder / f"step-{trainer.global_step:08d}.ckpt"
        if path == self.last:  # the step stands still while gradients are accumulated
            return
        trainer.save_checkpoint(path)
        self.last = path
        for old in resume_checkpoints(self.folder)[2:] if trainer.is_global_zero else ():
            old.unlink(missing_ok=True)


def resume_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of :class:`ResumeCheckpoints` in ``folder``, the newest first."""
    return sorted(folder.glob("step-*.ckpt"), reverse=True)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of ``folder`` to resume from; a damaged one is named and passed over."""
    for path in resume_checkpoints(folder):
        try:
            read_checkpoint(path)
            return path
        except ZooError as error:
            log.warning("%s; trying the one before it", error)
    return None
