"""The convex hull of points of the plane: a solution whose length is for the network to find."""

import math

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from zoo.models.pointer_net.metrics import AreaRatio, ExactMatch
from zoo.models.pointer_net.tasks.base import Progress, Task, each, gather, pick, with_stop


class ConvexHull(Task):
    """Point at the corners of the convex hull, counterclockwise from the lowest point, then at the stop.

    Elements are the stop ``(0, 0, 1)`` and the points ``(a, b, 0)``. The rules: begin at the lowest point, go on in
    the order of the angle about it, stop after three corners at the earliest unless no point is left. So the polygon
    never crosses itself, and its largest area is the hull's. The cost is the share of that area that it misses.

    Source: Vinyals et al. 2015, arXiv 1506.03134, section 4.2, where labels are given and no rules.
    """

    features = 3
    extra = 1
    columns = ("a", "b", "is_stop")
    smallest = 4  # three points and the stop

    def generate(self, count: int, size: int, g: torch.Generator) -> Tensor:
        return with_stop(torch.rand(count, size, 2, generator=g, device=g.device))

    def angles(self, x: Tensor) -> Tensor:
        """Of each element about the lowest point, in [0, pi]; ``-inf`` for that point, ``inf`` for the stop."""
        points = x[:, 1:, :2]
        lowest = points[..., 1].argmin(1, keepdim=True)
        a, b = (points - points.gather(1, lowest.unsqueeze(-1).expand(-1, -1, 2))).unbind(-1)
        angles = torch.atan2(b, a).scatter(1, lowest, -torch.inf)
        return torch.cat([torch.full_like(angles[:, :1], torch.inf), angles], 1)

    def mask(self, x: Tensor, progress: Progress) -> Tensor:
        taken, last = progress["taken"], progress["last"]
        angles = self.angles(x)
        every = each(angles, taken)
        points = (every > gather(angles, last.clamp_min(0)).unsqueeze(-1))[..., 1:]
        stop = (taken[..., 1:].sum(-1, keepdim=True) >= 3) | ~points.any(-1, keepdim=True)
        return torch.where(last.unsqueeze(-1) < 0, every == -torch.inf, torch.cat([stop, points], -1))

    def corners(self, x: Tensor) -> Tensor:
        """Coordinates of the elements, ``(batch, elements, 2)``; the stop goes back to the lowest point."""
        points = x[..., 1:, :2]
        lowest = points[..., 1].argmin(1)
        return torch.cat([points[torch.arange(x.shape[0], device=x.device), lowest].unsqueeze(1), points], 1)

    def cost(self, x: Tensor, order: Tensor) -> Tensor:
        return 1 - area(pick(self.corners(x), order)) / self.hull_area(x).unsqueeze(1)

    def cost_of_choices(self, x: Tensor, choices: Tensor) -> Tensor:
        return 1 - area(choices @ self.corners(x).unsqueeze(1)) / self.hull_area(x).unsqueeze(1)

    def hull_area(self, x: Tensor) -> Tensor:
        """Of the whole hull, ``(batch,)``; tiny, not zero, where all points are on a line."""
        return area(pick(self.corners(x), self.optimal_order(x))).clamp_min(1e-12)

    def optimum(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0])

    @torch.no_grad()
    def optimal_order(self, x: Tensor) -> Tensor:
        """By wrapping: from each corner on to the point with the least turn to the left (Jarvis 1973)."""
        points = x[:, 1:, :2].double()
        rows = torch.arange(x.shape[0], device=x.device)
        start = current = points[..., 1].argmin(1)
        heading = points.new_zeros(x.shape[0])
        order = torch.zeros(x.shape[0], x.shape[1], dtype=torch.int64, device=x.device)
        done = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
        for step in range(x.shape[1] - 1):
            order[:, step] = (current + 1).masked_fill(done, 0)
            a, b = (points - points[rows, current].unsqueeze(1)).unbind(-1)
            direction = torch.atan2(b, a)
            turn = (direction - heading.unsqueeze(1) + 1e-9) % (2 * math.pi)
            distance = (a.square() + b.square()).sqrt()
            # Of points in one line the farthest; never one in the same place.
            turn = (turn - 1e-9 * distance).masked_fill(distance == 0, torch.inf)
            following = turn.argmin(1)
            heading = direction[rows, following]
            done |= (points[rows, following] == points[rows, start]).all(-1) | (turn[rows, following] == torch.inf)
            current = following
        return order

    def valid(self, x: Tensor, order: Tensor) -> Tensor:
        """Corners in counterclockwise order about the first, none twice, then stops to the end."""
        points = pick(self.corners(x), order)
        stop = order == 0
        stops_last = (stop[..., 1:] | ~stop[..., :-1]).all(-1)
        arms = points - points[..., :1, :]
        cross = arms[..., 1:-1, 0] * arms[..., 2:, 1] - arms[..., 1:-1, 1] * arms[..., 2:, 0]
        used = torch.nn.functional.one_hot(order, x.shape[1])[..., 1:].sum(-2)
        return stops_last & (cross >= -1e-6).all(-1) & (used <= 1).all(-1) & ~stop[..., 0]

    def metrics(self) -> nn.ModuleDict:
        return nn.ModuleDict({"exact": ExactMatch(), "area_ratio": AreaRatio()})

    def update(self, metrics: dict[str, Metric], x: Tensor, order: Tensor, optimum: Tensor) -> None:
        metrics["exact"].update(order, self.optimal_order(x))
        metrics["area_ratio"].update(area(pick(self.corners(x), order)), self.hull_area(x))


def area(points: Tensor) -> Tensor:
    """Of counterclockwise polygons ``(..., corners, 2)``: ``(...)``."""
    following = points.roll(-1, -2)
    return (points[..., 0] * following[..., 1] - points[..., 1] * following[..., 0]).sum(-1) / 2
