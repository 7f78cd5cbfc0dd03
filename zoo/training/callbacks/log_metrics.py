"""What the steps return, to the loggers and the progress bar."""

import math
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations import Tempered
from zoo.training.checkpointing import ResumeCheckpoints


class LogMetrics(Callback):
    """Logs the values that steps return: of training every ``log_every_n_steps``, of evaluation as means.

    A module's own ``self.log`` at each step costs more than the whole step of a small model; this costs
    nothing measurable. With the training values go the learning rate and tau. A loss that is not finite ends the run
    when values are logged, before a validation, and when a checkpoint is saved: to look at each would make an
    accelerator wait.

    Raises:
        ZooError: if the loss is NaN or infinite, naming the first step and batch with such a loss and the last
            checkpoint.
    """

    def __init__(self) -> None:
        self._losses: dict[str, Tensor] = {}  # by where they are of: the last one that was finite, and all since

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._relaxations = {name: m for name, m in pl_module.named_modules() if isinstance(m, Tempered)}
        self._losses = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._logged_at = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: dict[str, Tensor], batch: Any, batch_idx: int
    ) -> None:
        outputs = numbers(outputs)
        if "loss" not in outputs:  # of a module that optimises by itself, and says nothing
            return
        place = f"step {trainer.global_step} (epoch {trainer.current_epoch}, batch {batch_idx})"
        self._losses[place] = outputs["loss"].detach()
        every, logged = trainer.log_every_n_steps, self._logged_at
        if trainer.global_step // every == logged // every:  # a batch may have several steps
            return
        self._logged_at = trainer.global_step
        values = {f"train/{name}": value for name, value in mean_over_ranks(outputs, trainer).items()}
        self._refuse(trainer, "loss", values["train/loss"])
        if trainer.optimizers:
            values["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        for name, relaxation in self._relaxations.items():
            values["tau" if len(self._relaxations) == 1 else f"tau/{name}"] = (
                getattr(relaxation, relaxation.annealed).detach().mean().item()
            )
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        for name in getattr(pl_module, "progress", ("loss",)):
            pl_module.log(name, outputs[name], prog_bar=True, logger=False)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.refuse_nan(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:  # not one that is asked for by itself
            self.refuse_nan(trainer, pl_module)

    def refuse_nan(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise ``ZooError`` if the last loss or a weight is not finite."""
        if not self._losses:
            return
        weights = [p.detach().sum() for p in pl_module.parameters() if p.requires_grad]
        values = {"loss": list(self._losses.values())[-1]}
        if weights:
            values["sum of the weights"] = torch.stack(weights).sum()
        for name, value in mean_over_ranks(values, trainer).items():
            self._refuse(trainer, name, value)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: dict[str, Tensor],
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._log_means(pl_module, "val", outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: dict[str, Tensor],
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._log_means(pl_module, "test", outputs, batch)

    def _log_means(self, pl_module: LightningModule, stage: str, outputs: Any, batch: Any) -> None:
        values = {f"{stage}/{name}": value for name, value in numbers(outputs).items()}
        if values:  # else the module logs its own
            size = len(batch[0]) if isinstance(batch, (tuple, list)) else extract_batch_size(batch)
            pl_module.log_dict(values, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)

    def _refuse(self, trainer: Trainer, name: str, value: float) -> None:
        """Raise ``ZooError`` if ``value``, the same on every rank, is not finite."""
        if math.isfinite(value):
            self._losses = dict([self._losses.popitem()])
            return
        losses = list(mean_over_ranks(self._losses, trainer).items())
        place, loss = losses.pop()
        while losses and not math.isfinite(loss) and not math.isfinite(losses[-1][1]):
            place, loss = losses.pop()  # back to the first one
        if trainer.global_rank:
            raise SystemExit(1)  # the first rank says it
        last = next((c.last for c in trainer.callbacks if isinstance(c, ResumeCheckpoints)), None)
        raise ZooError(
            f"the {name} is not finite, but {loss if name == 'loss' else value}, at {place}. The last good checkpoint "
            f"is {last or 'none yet'}. Try a lower model.optimizer.lr, a higher relaxation.tau, or look for NaN in the "
            "data."
        )


def numbers(outputs: Any) -> dict[str, Tensor]:
    """What a step returned, as far as it is single numbers; a tensor alone is the loss."""
    outputs = {"loss": outputs} if isinstance(outputs, Tensor) else outputs
    if not isinstance(outputs, dict):
        return {}
    return {name: value for name, value in outputs.items() if isinstance(value, Tensor) and value.numel() == 1}


def mean_over_ranks(values: dict[str, Tensor], trainer: Trainer) -> dict[str, float]:
    """Single values as numbers: what one process would have of the whole batch, where they are means over its part."""
    if trainer.world_size == 1:
        return {name: value.item() for name, value in values.items()}
    device = trainer.strategy.root_device
    stacked = torch.tensor([value.item() for value in values.values()], dtype=torch.float64, device=device)
    return dict(zip(values, trainer.strategy.reduce(stacked, reduce_op="mean").tolist()))
