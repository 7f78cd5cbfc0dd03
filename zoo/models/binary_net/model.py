"""A classifier whose weights are draws through the relaxation layer.

Each step draws the weights once, for the whole batch; what is learned is how probable each value is. In the test a
weight has its more probable value. (Courbariaux et al. 2015, arXiv 1511.00363: deterministic BinaryConnect is
``relaxation=st_argmax``, the stochastic one ``straight_through``.)
"""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Config
from zoo.data.inputs import check_shape
from zoo.data.seeding import PREDICT, generator
from zoo.models.binary_net import packing
from zoo.models.binary_net.nets import BinaryMLP, BrickConv
from zoo.relaxations import Distribution, Relaxation
from zoo.relaxations.base import drawn_by
from zoo.training import AdamW, ZooModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class BinaryNet(ZooModule):
    """A classifier with a network of chosen weights.

    Args:
        network: ``(x, choose)`` to logits ``(batch, classes)``; see :mod:`.nets`.
        relaxation: how gradients pass through the choices; any of :mod:`zoo.relaxations` that serves them.
        optimizer: with its learning-rate schedule.
        shape: of an example.
        margin: of a squared hinge loss, as BinaryConnect has it; 0 for a cross-entropy.

    Raises:
        ValueError: if the margin is negative.
    """

    monitor = "val/error"
    network: Any

    def __init__(
        self,
        *,
        network: nn.Module,
        relaxation: Relaxation,
        optimizer: AdamW,
        shape: list[int],
        margin: float = 0.0,
    ) -> None:
        super().__init__()
        if not margin >= 0:
            raise ValueError(f"margin must not be negative, got {margin}")
        self.network, self.relaxation, self.optimizer = network, relaxation, optimizer
        self.shape, self.margin = list(shape), margin

    @classmethod
    def without_effect(cls, arguments: Config) -> str:
        network = arguments.get("network") or {}
        if network.get("weights") == "real" or network.get("bricks") == 0:
            return "the weights of this network are not choices"
        return super().without_effect(arguments)

    def choices(self) -> list[Distribution]:
        training = self.network.training
        drawn = drawn_by(lambda draw: self.network.eval()(self.example_input_array, draw))
        self.network.train(training)
        return drawn

    def one_bit(self) -> list[str]:
        binary = isinstance(self.network, BinaryMLP) and self.network.chosen
        return [f"network.weights.{i}" for i in range(len(self.network.weights))] if binary else []

    # The objective ------------------------------------------------------------------------------------------------

    def cost(self, logits: Tensor, y: Tensor) -> Tensor:
        """Of each example, ``(batch,)``."""
        if self.margin:
            sign = 2.0 * F.one_hot(y, logits.shape[-1]) - 1.0
            return (self.margin - sign * logits.float()).clamp_min(0.0).square().mean(-1)
        return F.cross_entropy(logits.float(), y, reduction="none")

    def most_probable(self, distribution: Distribution) -> Tensor:
        """The value that a choice has in the end."""
        return distribution.mode()

    def setup(self, stage: str) -> None:
        """Refuse data that the model was not made for."""
        check_shape(getattr(self.trainer, "datamodule", None), self.shape)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        x, y = batch
        if not self.network.chosen:
            logits = self.network(x, self.most_probable)
            loss, right = self.cost(logits, y).mean(), (logits.argmax(-1) == y).float().mean()
        else:
            loss, right = self.expected_cost(lambda draw: self.drawn(x, y, draw))
        return {"loss": loss.mean(), "error": 1.0 - right.detach().mean()}

    def drawn(self, x: Tensor, y: Tensor, draw: Any) -> tuple[Tensor, Tensor]:
        """The program: the weights are one example, whose cost is the batch's mean, ``(1,)``."""
        logits = self.network(x, draw)
        return self.cost(logits, y).mean().unsqueeze(0), (logits.argmax(-1) == y).float().mean().unsqueeze(0)

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """Stored weights are bounded within the step: before a checkpoint is written."""
        super().optimizer_step(*arguments, **named)
        if hasattr(self.network, "clip"):
            self.network.clip()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(*batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        values = self._evaluate(*batch)
        for packed in self.packed:
            same = packed(batch[0]).argmax(-1) == self(batch[0]).argmax(-1)
            values["packed_differs"] = 1.0 - same.float().mean()
        return values

    def _evaluate(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        logits = self.network(x, self.most_probable)
        return {"error": (logits.argmax(-1) != y).float().mean(), "cost": self.cost(logits, y).mean()}

    def on_test_start(self) -> None:
        """Pack the network, to see how large that is and whether it computes the same."""
        self.packed: list[packing.Packed] = []  # a list is not a part of the model
        if self.network.chosen:
            content = packing.pack(self.network)
            self.packed, self.packed_size = [packing.unpack(content).to(self.device)], len(content)

    @property
    def stored(self) -> int:
        """How many weights there are; the logits of choices do not count."""
        return sum(parameter.numel() for name, parameter in self.network.named_parameters() if "logits" not in name)

    @property
    def real(self) -> int:
        """How many the same network without choices has."""
        bricks = [layer for layer in self.network.modules() if isinstance(layer, BrickConv)]
        return self.stored + sum(
            layer.scales.numel() * (layer.bricks[0].numel() - 1) - layer.bricks.numel() for layer in bricks
        )

    def on_test_epoch_end(self) -> None:
        if self.packed:
            self.log("test/packed_kilobytes", self.packed_size / 1000, sync_dist=True)
        self.log("test/weights", float(self.stored), sync_dist=True)

    # What it is for -----------------------------------------------------------------------------------------------

    @property
    def example_input_array(self) -> Tensor:
        """Two examples of noise: what :func:`zoo.export` traces ``forward`` with."""
        return torch.rand(2, *self.shape, generator=generator(self.device, 0, PREDICT), device=self.device)

    def forward(self, x: Tensor) -> Tensor:
        """Examples to log-probabilities of the classes, ``(batch, classes)``, with the most probable weights."""
        return self.network(x, self.most_probable).float().log_softmax(-1)

    def pictures(self, batch: Any) -> "dict[str, Figure]":
        """Where the stored weights lie: near -1 and +1 they are decided."""
        from zoo.models.binary_net.plots import weights

        return {"weights": weights(self.network)}
