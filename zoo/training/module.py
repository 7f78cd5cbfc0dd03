"""What all models of the zoo have in common."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor
from torchmetrics import Metric

from zoo.config import Config, Configurable, locate, to_config, with_defaults
from zoo.errors import ZooError
from zoo.hub import from_pretrained
from zoo.relaxations import Noise, Program, Relaxation
from zoo.relaxations.distributions.categorical import categorical
from zoo.relaxations.noise import DEFAULT
from zoo.training.optim import AdamW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure


class ZooModule(Configurable, LightningModule):
    """A LightningModule that writes its configuration into its checkpoints, and can be made from them.

    A step returns a dict of values; a callback averages and logs them. A subclass has the attributes
    ``optimizer`` and ``monitor``, the validation score, lower is better, by which the best weights are kept.
    """

    optimizer: AdamW
    relaxation: Relaxation
    monitor: str
    progress: tuple[str, ...] = ("loss",)
    """Which of the values that a training step returns the progress bar shows."""
    curves: tuple[str, ...] = ()
    """Values of training that the picture of the curves shows beside those that validation has too."""
    annealed: tuple[str, ...] = ()
    """Those of which training has another meaning at first, by something else than tau: they are drawn apart."""
    steps_per_batch: int = 1
    """Steps of the optimiser in one training batch; more than 1 where the module makes them itself."""
    trained_on: Mapping[str, Any] = MappingProxyType({})
    """Of a model that was loaded, the configuration of the data it was trained on: the names of what it knows."""
    noise_source: Noise = DEFAULT
    """The source of what the module draws itself; :class:`SeedEachBatch` sets it, and that of the relaxations."""

    @property
    def units(self) -> str:
        """What the scores are in, for people; empty where their names say it."""
        return ""

    @classmethod
    def without_effect(cls, arguments: Config) -> str:
        """Why nothing is drawn through a relaxation in training with these arguments; empty if something is.

        Args:
            arguments: configuration of the model, as it is checked before anything is built.
        """
        return "" if cls.relaxations(arguments) else f"{cls.__name__} makes no choice"

    @classmethod
    def paced(cls, arguments: Config) -> str:
        """What in a training with these arguments depends on how long it is to be; empty if nothing does.

        Args:
            arguments: configuration of the model.
        """
        optimizer = arguments.get("optimizer") or {}
        decays = "_target_" in optimizer and with_defaults(optimizer).get("decay_from", 0) < 1
        return "the learning rate decays towards the end (model.optimizer.decay_from)" if decays else ""

    @classmethod
    def relaxations(cls, arguments: Config) -> list[type[Relaxation]]:
        """The kinds of relaxation in ``arguments``, however deep."""
        found = []
        parts: list[Any] = list(arguments.values())
        for part in parts:
            if isinstance(part, dict):
                kind = locate(part["_target_"], "model") if "_target_" in part else None
                if isinstance(kind, type) and issubclass(kind, Relaxation):
                    found.append(kind)
                parts.extend(part.values())
            elif isinstance(part, list):
                parts.extend(part)
        return found

    def expected_cost(self, program: Program) -> Any:
        """``E[program(draw)]``: by the relaxation in training; in ``eval()`` on exact samples, whatever it is."""
        if self.training:
            return self.relaxation.expectation(program)
        return program(lambda x, mask=None: categorical(x, mask).sample(noise=self.noise_source))

    def given(self, value: Any) -> Tensor:
        """``value``, a tensor, a NumPy array or nested lists of numbers, as a tensor where the model is; float64, which
        NumPy makes of everything, becomes float32."""
        tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value, order="C"))
        return tensor.to(self.device, torch.float32 if tensor.dtype == torch.float64 else tensor.dtype)

    @property
    def total_steps(self) -> float:
        """Steps of the optimiser in the whole training."""
        steps = self.trainer.estimated_stepping_batches * self.steps_per_batch
        return steps if self.trainer.max_steps < 0 else min(steps, self.trainer.max_steps)

    def configure_optimizers(self) -> dict[str, Any]:
        return self.optimizer.configure(self.parameters(), self.total_steps)

    def compile_networks(self) -> None:
        """Compile the networks, in place: what their weights, draws and names are does not change."""
        for child in self.children():
            if not isinstance(child, (Relaxation, Metric)):
                child.compile()

    def pictures(self, batch: Any) -> "dict[str, Figure]":
        """Figures that show what the model does, by name."""
        return {}

    def films(self, batch: Any) -> "dict[str, Sequence[np.ndarray]]":
        """Moving pictures by name: frames, uint8 ``(height, width, 3)``."""
        return {}

    def sounds(self, batch: Any) -> dict[str, Tensor]:
        """Sounds at 8 kHz by name, each ``(samples,)``."""
        return {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = to_config(self)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, map_location: Any = "cpu", **changes: Any) -> Self:
        """The model of a training checkpoint, in ``eval()``: :func:`zoo.from_pretrained` for a file.

        Raises:
            ZooError: if the file is not a checkpoint of such a model, or damaged.
        """
        model = from_pretrained(Path(checkpoint_path), map_location=map_location, **changes)
        if not isinstance(model, cls):
            raise ZooError(f"{checkpoint_path} holds a {type(model).__name__}, not a {cls.__name__}")
        return model
