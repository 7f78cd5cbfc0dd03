"""A task for ``pointer_net``."""

import torch
from torch import Tensor

from zoo.models.pointer_net import Task


class OpenPath(Task):
    """The shortest path through random points of the unit square, which need not end where it began."""

    features = 2
    differentiable = False
    smallest = 2

    def generate(self, count: int, size: int, g: torch.Generator) -> Tensor:
        return torch.rand(count, size, 2, generator=g, device=g.device)

    def cost(self, x: Tensor, order: Tensor) -> Tensor:
        points = x.unsqueeze(1).expand(-1, order.shape[1], -1, -1)
        path = points.gather(2, order.unsqueeze(-1).expand(*order.shape, 2))
        return path.diff(dim=2).norm(dim=-1).sum(-1)
