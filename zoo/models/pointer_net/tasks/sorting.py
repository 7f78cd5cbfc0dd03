"""Sorting numbers: a permutation whose every position can be judged by itself."""

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from zoo.models.pointer_net.metrics import ExactMatch, KendallTau
from zoo.models.pointer_net.tasks.base import Task, pick


class Sorting(Task):
    """Point at numbers of [0, 1] in ascending order; the cost of a step is the squared difference to the right one.

    Its sum is linear in each choice, so that straight-through is right for it.
    """

    features = 1
    columns = ("number",)
    train_starts = 1

    def generate(self, count: int, size: int, g: torch.Generator) -> Tensor:
        return torch.rand(count, size, 1, generator=g, device=g.device)

    def errors(self, x: Tensor) -> Tensor:
        """``(x_j - sorted_t)^2``, ``(batch, steps, elements)``."""
        return (x.sort(1).values - x.transpose(1, 2)).square()

    def cost(self, x: Tensor, order: Tensor) -> Tensor:
        return (pick(x, order) - x.sort(1).values.unsqueeze(1)).square().sum((-2, -1))

    def cost_of_choices(self, x: Tensor, choices: Tensor) -> Tensor:
        return (choices * self.errors(x).unsqueeze(1)).sum((-2, -1))

    def optimum(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0])

    def optimal_order(self, x: Tensor) -> Tensor:
        return x.squeeze(-1).argsort(-1)

    def metrics(self) -> nn.ModuleDict:
        return nn.ModuleDict({"exact": ExactMatch(), "kendall_tau": KendallTau()})

    def update(self, metrics: dict[str, Metric], x: Tensor, order: Tensor, optimum: Tensor) -> None:
        values = pick(x, order).squeeze(-1)  # equal numbers may stand in either order
        metrics["exact"].update(values, x.squeeze(-1).sort(-1).values)
        metrics["kendall_tau"].update(values)
