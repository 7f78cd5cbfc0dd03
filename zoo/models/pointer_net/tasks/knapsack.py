"""The knapsack problem: a subset of items, of the greatest value that a capacity can hold."""

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from zoo.models.pointer_net.metrics import OptimalityGap, Validity
from zoo.models.pointer_net.tasks.base import Task, pick, with_stop

UNITS = 100  # weights are whole numbers of hundredths, so that dynamic programming is exact


class Knapsack(Task):
    """Point at items, one after another, as long as any fits; then at the stop. The cost is minus their value.

    Elements are the stop ``(0, 0, 1)`` and items ``(weight, value, 0)``; weights are uniform on 0.01, 0.02, ..., 1,
    values uniform in [0, 1], and the capacity is a quarter of the number of items, 12.5 for 50 (Bello et al. 2016,
    arXiv 1611.09940, section 5.4).
    """

    features = 3
    columns = ("weight", "value", "is_stop")
    contexts = 2
    smallest = 2  # an item and the stop

    def generate(self, count: int, size: int, g: torch.Generator) -> Tensor:
        weight = torch.randint(1, UNITS + 1, (count, size), generator=g, device=g.device) / UNITS
        return with_stop(torch.stack([weight, torch.rand(count, size, generator=g, device=g.device)], -1))

    def weights(self, x: Tensor) -> Tensor:
        """In whole hundredths, int64 ``(batch, elements)``."""
        return (x[..., 0] * UNITS).round().long()

    def capacity(self, x: Tensor) -> int:
        """In whole hundredths."""
        return (x.shape[1] - 1) * UNITS // 4

    def remaining(self, x: Tensor, taken: Tensor) -> Tensor:
        """Of the capacity, in whole hundredths, ``(batch, ...)``."""
        return self.capacity(x) - (taken * self.per_step(self.weights(x), taken)).sum(-1)

    def per_step(self, values: Tensor, taken: Tensor) -> Tensor:
        """``values`` ``(batch, elements)`` with the dimensions of ``taken``."""
        return values.view(len(values), *[1] * (taken.dim() - 2), -1)

    def mask(self, x: Tensor, taken: Tensor, last: Tensor | None) -> Tensor:
        fits = ~taken & (self.per_step(self.weights(x), taken) <= self.remaining(x, taken).unsqueeze(-1))
        items = fits[..., 1:]
        return torch.cat([~items.any(-1, keepdim=True), items], -1)

    def context(self, x: Tensor, taken: Tensor) -> Tensor:
        """What remains of the capacity: its share of the whole, and in units of the heaviest item, at most 2."""
        remaining = self.remaining(x, taken).float()
        return torch.stack([remaining / max(1, self.capacity(x)), (remaining / UNITS).clamp_max(2.0)], -1)

    def cost(self, x: Tensor, order: Tensor) -> Tensor:
        return -pick(x[..., 1:2], order).sum((-2, -1))

    def cost_of_choices(self, x: Tensor, choices: Tensor) -> Tensor:
        return -(choices @ x[..., 1:2].unsqueeze(1)).sum((-2, -1))

    @torch.no_grad()
    def optimum(self, x: Tensor) -> Tensor:
        """By dynamic programming over capacities, all instances at once (Bellman 1957)."""
        best = x.new_zeros(len(x), self.capacity(x) + 1)
        at = torch.arange(best.shape[1], device=x.device)
        for weight, value in zip(self.weights(x).T[1:], x[..., 1].T[1:]):
            source = at - weight.unsqueeze(1)
            added = best.gather(1, source.clamp_min(0)) + value.unsqueeze(1)
            best = torch.where((source >= 0) & (added > best), added, best)
        return -best[:, -1]

    def valid(self, x: Tensor, order: Tensor) -> Tensor:
        """Within the capacity, no item twice, none after the stop, and no further item would fit."""
        used = torch.nn.functional.one_hot(order, x.shape[1]).sum(-2)[..., 1:]
        weight = self.weights(x)[:, None, 1:]
        spare = self.capacity(x) - (used * weight).sum(-1)
        stop = order == 0
        full = ((used > 0) | (weight > spare.unsqueeze(-1))).all(-1)
        return (used <= 1).all(-1) & (spare >= 0) & (stop[..., 1:] | ~stop[..., :-1]).all(-1) & full

    def metrics(self) -> nn.ModuleDict:
        return nn.ModuleDict({"validity": Validity(), "gap": OptimalityGap()})

    def update(self, metrics: dict[str, Metric], x: Tensor, order: Tensor, optimum: Tensor) -> None:
        metrics["validity"].update(self.valid(x, order.unsqueeze(1)))
        metrics["gap"].update(self.cost(x, order.unsqueeze(1)).squeeze(1), optimum)
