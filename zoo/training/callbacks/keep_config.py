"""What a model was built of, in its checkpoints."""

from typing import Any

from lightning import Callback, LightningModule, Trainer

from zoo.config import to_config


class KeepConfig(Callback):
    """Writes the configuration that built the model into every checkpoint, whatever its class.

    In its place Lightning's hyperparameters are left out: they may hold objects, which no file of numbers can have, so
    that the checkpoint could not be read safely.
    """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = to_config(pl_module)
        for owner in (pl_module, getattr(trainer, "datamodule", None)):
            if owner is not None:
                for part in (owner.CHECKPOINT_HYPER_PARAMS_KEY, "hparams_name", "hparams_type"):
                    checkpoint.pop(part, None)
