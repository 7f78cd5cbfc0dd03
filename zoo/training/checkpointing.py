"""Checkpoints of training that survive a crash at any moment."""

import logging
import os
import time
from pathlib import Path
from typing import IO, Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from zoo import signals
from zoo.errors import ZooError
from zoo.files import atomic
from zoo.hub.files import read_checkpoint

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
            remembered: Any = Remembering(file)
            try:
                torch.save(checkpoint, remembered)
            except RuntimeError:  # all that PyTorch says of a full disk is that a write failed
                raise remembered.error or RuntimeError("PyTorch cannot write it") from None


class Remembering:
    """Writes to a file, and remembers why it could not."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


class BestCheckpoint(ModelCheckpoint):
    """Keeps the weights with the best score, in the folder where the run is now.

    Lightning's own writes absolute paths into every checkpoint, and forgets the best score where they differ.

    Args:
        path: of the checkpoint.
        monitor: the score, lower is better.
    """

    def __init__(self, path: Path, *, monitor: str) -> None:
        super().__init__(
            path.parent.absolute(),  # else Lightning takes a folder called ~ for the home
            filename=path.stem,
            monitor=monitor,
            enable_version_counter=False,
            save_on_train_epoch_end=False,  # but after validation, so that the next one knows of it
        )
        self.path = path

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "best_model_score": self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the score of ``state_dict``; of runs of earlier versions it has paths, too, which do not count.

        Raises:
            ZooError: if the weights with this score are gone.
        """
        score = state_dict.get("best_model_score")
        if score is None:
            return
        if not self.path.is_file():
            raise ZooError(
                f"{self.path}, the weights with the best score, {score:.6g}, is gone. Put it back, or train anew in "
                "another folder with run=."
            )
        try:
            read_checkpoint(self.path)
        except ZooError as error:
            raise ZooError(f"{error}. Put a copy back, or train anew in another folder with run=.") from error
        path = os.path.join(str(self.dirpath), self.path.name)  # as the Trainer spells it, which else removes the file
        self.best_model_score = self.kth_value = self.current_score = score
        self.best_model_path = self.kth_best_model_path = path
        self.best_k_models = {path: score}


AGREE_EVERY = 10
"""Batches after which several processes ask each other, at the latest, whether one was told to stop."""
AGREE_WITHIN = 0.5
"""Seconds of batches after which they do."""


class ResumeCheckpoints(Checkpoint):
    """Saves ``step-<n>.ckpt`` every so many steps and after each epoch, and keeps the two newest.

    Two, so that there is another if one is damaged. Where a validation follows a step it waits for its end: a run
    resumed from before it would go on without it. On a signal, which a machine sends that is about to be taken away, it
    finishes the step, saves and ends the run; a validation is cut short, and repeated when the run is resumed. Any one
    of several processes may get the signal.

    Args:
        folder: of the checkpoints.
        every_n_steps: of the optimiser.

    Raises:
        Stopped: after SIGTERM or Ctrl-C.
    """

    def __init__(self, folder: Path, *, every_n_steps: int) -> None:
        self.folder, self.every_n_steps = folder, every_n_steps
        self.last: Path | None = None
        self._step, self._saved_at = 0, 0
        self._batches, self._agree_at, self._agreed = 0, 1, time.monotonic()

    # Of training -----------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = self._saved_at = trainer.global_step
        signals.defer()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stepped, self._step = trainer.global_step != self._step, trainer.global_step
        if not stepped or validation_follows(trainer):  # gradients that are being accumulated are not saved
            return
        if trainer.global_step // self.every_n_steps > self._saved_at // self.every_n_steps:
            self._save(trainer)
        if told := self._told(trainer):
            self._save(trainer)
            self._stop(trainer, told)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)
        if told := self._told(trainer, now=True):
            self._stop(trainer, told)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        signals.allow()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep_two(trainer)  # a run killed right after its last save resumes without saving again

    # Of validation and test: at any moment, of several processes after a batch ---------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size == 1:
            signals.allow()

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.world_size > 1 and not trainer.sanity_checking and (told := self._told(trainer)):
            self._stop(trainer, told)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            signals.defer()  # the score and the weights that it is of are saved together

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            signals.defer()

    def on_test_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.world_size > 1 and (told := self._told(trainer)):
            self._stop(trainer, told)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        signals.allow()

    # The rest --------------------------------------------------------------------------------------------------------

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, signals.Stopped) and trainer.validating and trainer.state.fn == "fit":
            with signals.deferred():
                self._save(trainer, before_validation=True)
            exception.saved = self.saved
        signals.allow(stop=False)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._before_validation:  # as if its first batch had begun: then the Trainer does all of it again
            progress = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            loop = {"total": progress, "current": dict(progress), "is_last_batch": False}
            checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = loop

    _before_validation = False

    @property
    def saved(self) -> str:
        """What was saved last, for people."""
        return f"saved {self.last}. The same command with run={self.folder.parent} resumes the run."

    def _told(self, trainer: Trainer, *, now: bool = False) -> int:
        """The signal by which the run was told to stop, or 0.

        Of several processes this is asked for at the same moments in all, and they agree: with ``now`` or about twice
        a second.
        """
        if trainer.world_size == 1:
            return signals.told()
        self._batches += 1
        if self._batches < self._agree_at and not now:
            return 0
        seconds = (time.monotonic() - self._agreed) / self._batches
        mine = torch.tensor([signals.told(), seconds], dtype=torch.float64, device=trainer.strategy.root_device)
        told, seconds = trainer.strategy.reduce(mine, reduce_op="max").tolist()
        self._agree_at = max(1, min(AGREE_EVERY, int(AGREE_WITHIN / max(seconds, 1e-9))))
        self._batches, self._agreed = 0, time.monotonic()
        return int(told)

    def _stop(self, trainer: Trainer, told: int) -> None:
        stopped = signals.Stopped(told, self.saved if self.last else "")
        if trainer.global_rank:
            stopped.status = 0  # the first process says it
        raise stopped

    def _save(self, trainer: Trainer, *, before_validation: bool = False) -> None:
        path = self.folder / f"step-{trainer.global_step:08d}.ckpt"
        if path == self.last and not before_validation:  # the step stands still while gradients are accumulated
            return
        self._before_validation = before_validation
        try:
            with signals.saving():
                trainer.save_checkpoint(path)
        finally:
            self._before_validation = False
        self.last, self._saved_at = path, trainer.global_step
        self._keep_two(trainer)

    def _keep_two(self, trainer: Trainer) -> None:
        for old in resume_checkpoints(self.folder)[2:] if trainer.is_global_zero else ():
            old.unlink(missing_ok=True)


def validation_follows(trainer: Trainer) -> bool:
    """Whether the batch that has just ended is followed by a validation."""
    loop = trainer.fit_loop
    return trainer.is_last_batch or loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def step_of(path: Path) -> int:
    """The step of a checkpoint ``step-<n>.ckpt``; -1 of another file."""
    number = path.stem.removeprefix("step-")
    return int(number) if number.isascii() and number.isdecimal() else -1


def resume_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of :class:`ResumeCheckpoints` in ``folder``, the newest first."""
    paths = (path for path in folder.glob("step-*.ckpt") if step_of(path) >= 0 and path.is_file())
    return sorted(paths, key=step_of, reverse=True)


PARTS = {
    **{"state_dict": dict, "loops": dict, "callbacks": dict, "optimizer_states": list, "lr_schedulers": list},
    **{"epoch": int, "global_step": int, "pytorch-lightning_version": str},
}
"""What a run needs of a checkpoint to go on from it."""


def read_whole(path: Path) -> None:
    """Check that a run can go on from the checkpoint ``path``.

    Raises:
        ZooError: if it is damaged, or was altered.
    """
    content = read_checkpoint(path)
    for part, kind in PARTS.items():
        if not isinstance(content.get(part), kind):
            raise ZooError(f"checkpoint {path} was altered: it lacks {part}, which a run needs to go on")


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of ``folder`` to resume from, if there is one; a damaged one is named and passed over.

    Raises:
        ZooError: if all are damaged. To begin anew would overwrite the best weights.
    """
    paths = resume_checkpoints(folder)
    for path in paths:
        try:
            read_whole(path)
            return path
        except ZooError as error:
            log.warning("%s; trying the one before it", error)
    if paths:
        raise ZooError(
            f"no checkpoint of {folder} can be read: {', '.join(path.name for path in paths)}. Put back copies, "
            f"train anew in another folder with run=, or remove {folder} to train anew in this one. "
            f"{folder / 'best.ckpt'}, the best weights so far, is untouched."
        )
    return None
