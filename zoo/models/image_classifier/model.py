"""A classifier of images: what an encoder has learned is worth, and the judge of samples of generative models."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Config
from zoo.training import AdamW, ZooModule


class ImageClassifier(ZooModule):
    """Classifier of images, linear in the features of an encoder.

    Its features are what samples are compared in with real images; see :func:`zoo.lab.samples.scores`.

    Args:
        encoder: with ``features(x)``, images ``(batch, channels, height, width)`` to ``(batch, encoder.width)``, such
            as :class:`zoo.models.cat_vae.ConvEncoder`. What it makes of them beyond is not used, and not trained.
        optimizer: with its learning-rate schedule.
        classes: number of them.

    Raises:
        ValueError: if there are fewer than two classes, or the encoder has no ``features`` and ``width``.
    """

    def __init__(self, *, encoder: nn.Module, optimizer: AdamW, classes: int = 10) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"need classes >= 2, got {classes}")
        if not (hasattr(encoder, "features") and hasattr(encoder, "width")):
            raise ValueError(f"{type(encoder).__name__} has no features(x) and width, which a classifier is built upon")
        self.encoder, self.optimizer, self.classes = encoder, optimizer, classes
        self.linear = nn.Linear(encoder.width, classes)  # type: ignore[arg-type]
        self.monitor = "val/loss"

    def setup(self, stage: str) -> None:
        """Leave out of training what ``features`` does not use: several processes have to know it."""
        weights = [weight for weight in self.parameters() if weight.requires_grad]
        if stage == "fit":
            with torch.enable_grad():
                logits = self(self.example_input_array)
            for weight, gradient in zip(weights, torch.autograd.grad(logits.sum(), weights, allow_unused=True)):
                weight.requires_grad_(gradient is not None)

    @classmethod
    def without_effect(cls, arguments: Config) -> str:
        return "an image classifier makes no choice"

    def features(self, x: Tensor) -> Tensor:
        """What the logits are a linear function of, ``(batch, encoder.width)``."""
        features: Any = self.encoder.features
        return features(x)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits ``(batch, classes)``."""
        return self.linear(self.features(x))

    def terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """The cross-entropy and the accuracy."""
        x, y = batch
        logits = self(x).float()
        return {"loss": F.cross_entropy(logits, y), "accuracy": (logits.argmax(-1) == y).float().mean()}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self.terms(batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self.terms(batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self.terms(batch)

    @property
    def example_input_array(self) -> Tensor:
        """Two black images: what :func:`zoo.export` traces ``forward`` with."""
        return torch.zeros(2, *getattr(self.encoder, "shape", (1, 28, 28)), device=self.device)
