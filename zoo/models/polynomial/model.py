"""Polynomial programming: the smallest problem on which a biased gradient goes the wrong way.

``min E 1/N sum_i |z_i - c|^p`` over the probabilities of N independent choices, ``z_i`` the first entry of a one-hot
draw. Tucker et al. 2017, arXiv 1703.07370, section 5.1, have N = 1, p = 2 and c = 0.45; Liu et al. 2023, arXiv
2304.08612, other powers.
"""

from typing import Any

import torch
from torch import Tensor, nn

from zoo.relaxations import Categorical, Distribution, Relaxation
from zoo.training import AdamW, ZooModule


class PolynomialProgram(ZooModule):
    """Logits of independent choices, trained with sampled costs and scored with their exact expectation.

    A batch has no content: its size is the number of samples of a step.

    Args:
        relaxation: how gradients pass through the choices; any of :mod:`zoo.relaxations`.
        optimizer: with its learning-rate schedule.
        latents: N.
        categories: of each choice.
        target: c. Below 0.5 the best draw has ``z_i = 0``.
        power: p.
        separate: make every choice an example of its own, which leaves the expectation as it is. ``exact`` then
            enumerates the categories of one choice; otherwise all ``categories ** latents`` combinations.

    Raises:
        ValueError: if a number is out of range.
    """

    monitor = "val/cost"

    def __init__(
        self,
        *,
        relaxation: Relaxation,
        optimizer: AdamW,
        latents: int = 128,
        categories: int = 2,
        target: float = 0.45,
        power: float = 2.0,
        separate: bool = False,
    ) -> None:
        super().__init__()
        if latents < 1 or categories < 2 or not power > 0:
            raise ValueError(f"need latents >= 1, categories >= 2 and power > 0, got {latents}, {categories}, {power}")
        self.relaxation, self.optimizer = relaxation, optimizer
        self.target, self.power, self.separate = target, power, separate
        self.logits = nn.Parameter(torch.empty(latents, categories).uniform_(-0.01, 0.01))

    def choices(self) -> list[Distribution]:
        return [Categorical(torch.zeros(1, *self.logits.shape[self.separate :]))]

    def cost(self, z: Tensor) -> Tensor:
        """``|z_1 - c|^p`` of draws ``(batch, ..., categories)``, mean over the choices, ``(batch,)``."""
        return (z[..., 0] - self.target).abs().pow(self.power).view(len(z), -1).mean(-1)

    def exact_cost(self) -> Tensor:
        """The expectation of :meth:`cost` at the present logits, a scalar."""
        one, other = self.cost(torch.eye(2, device=self.device))
        return (other + self.logits.softmax(-1)[:, 0] * (one - other)).mean()

    @property
    def probabilities(self) -> Tensor:
        """Of every choice, ``(latents, categories)``."""
        return self.logits.detach().softmax(-1)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draws of all choices, int64 ``(n, latents)``."""
        return Categorical(self.logits).sample((n,)).argmax(-1)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> dict[str, Tensor]:
        logits = self.logits.expand(len(batch[0]), -1, -1)
        if self.separate:
            logits = logits.flatten(0, 1)
        cost = self.relaxation.expectation(lambda draw: self.cost(draw(logits))).mean()
        return {"loss": cost, "cost": cost.detach()}

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return {"cost": self.exact_cost()}

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return {"cost": self.exact_cost()}
