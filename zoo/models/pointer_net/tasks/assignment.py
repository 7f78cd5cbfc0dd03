"""Assignment: each worker a job of its own, all as near as possible together."""

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from zoo.models.pointer_net.metrics import OptimalityGap
from zoo.models.pointer_net.tasks.base import Progress, Task, pick
from zoo.models.pointer_net.tasks.tsp import single


class Assignment(Task):
    """Point at the job of the first worker, the second, and so on; the cost is the sum of their distances.

    Element i is ``(a, b, c, d)``: job i is at ``(a, b)``, worker i at ``(c, d)``, all uniform in the unit square. It
    is a sum over choices, as in :class:`Sorting`.
    """

    features = 4
    columns = ("job_x", "job_y", "worker_x", "worker_y")
    contexts = 2
    train_starts = 8

    def generate(self, count: int, size: int, g: torch.Generator) -> Tensor:
        return torch.rand(count, size, 4, generator=g, device=g.device)

    def distances(self, x: Tensor) -> Tensor:
        """Of worker t, at step t, to job j: ``(batch, steps, elements)``."""
        x = single(x)
        return (x[:, :, None, 2:] - x[:, None, :, :2]).square().sum(-1).sqrt()

    def begin(self, x: Tensor, starts: int) -> Progress:
        so_far = super().begin(x, starts)
        return {**so_far, "step": torch.zeros_like(so_far["last"])}

    def advance(self, x: Tensor, progress: Progress, chosen: Tensor) -> Progress:
        return {**super().advance(x, progress, chosen), "step": progress["step"] + 1}

    def context(self, x: Tensor, progress: Progress) -> Tensor:
        """Where the worker is whose turn it is."""
        return pick(x[..., 2:], progress["step"].clamp_max(x.shape[1] - 1))

    def cost(self, x: Tensor, order: Tensor) -> Tensor:
        distances = self.distances(x).unsqueeze(1).expand(-1, order.shape[1], -1, -1)
        return distances.gather(-1, order.unsqueeze(-1)).sum((-2, -1))

    def cost_of_choices(self, x: Tensor, choices: Tensor) -> Tensor:
        return (choices * self.distances(x).unsqueeze(1)).sum((-2, -1))

    def optimal_order(self, x: Tensor) -> Tensor:
        """By scipy's Jonker-Volgenant algorithm: ``pip install 'discrete-latent-zoo[permutations]'``."""
        try:
            from scipy.optimize import linear_sum_assignment
        except ImportError:
            return super().optimal_order(x)
        columns = [linear_sum_assignment(costs)[1] for costs in self.distances(x).double().cpu().numpy()]
        return torch.from_numpy(np.stack(columns)).to(x.device)

    def optimum(self, x: Tensor) -> Tensor | None:
        from importlib.util import find_spec

        if find_spec("scipy") is None:
            return None
        return self.cost(x, self.optimal_order(x).unsqueeze(1)).squeeze(1)

    def metrics(self) -> nn.ModuleDict:
        return nn.ModuleDict({"gap": OptimalityGap()})

    def update(self, metrics: dict[str, Metric], x: Tensor, order: Tensor, optimum: Tensor) -> None:
        metrics["gap"].update(self.cost(x, order.unsqueeze(1)).squeeze(1), optimum)
