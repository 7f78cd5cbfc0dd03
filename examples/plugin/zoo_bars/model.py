"""A whole model: a plain LightningModule. It counts the bars."""

from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn


class BarJudge(LightningModule):
    """How many bars there are in a picture.

    Args:
        size: of a side.
        width: of the hidden layer.
        lr: learning rate.
    """

    monitor = "val/loss"  # by which the best weights are kept; lower is better

    def __init__(self, size: int = 8, width: int = 64, lr: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.size, self.lr = size, lr
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(size * size, width), nn.ReLU(), nn.Linear(width, 2 * size + 1)
        )
        self.example_input_array = torch.zeros(2, 1, size, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return {"loss": self.loss(batch)}

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        accuracy = (self(batch[0]).argmax(-1) == batch[1]).float().mean()
        return {"loss": self.loss(batch), "accuracy": accuracy}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)
