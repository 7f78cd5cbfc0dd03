"""The knapsack problem: a subset of items, of the greatest value that a capacity can hold."""

import logging

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from zoo.config import check_positive
from zoo.errors import ZooError
from zoo.models.pointer_net.metrics import OptimalityGap
from zoo.models.pointer_net.tasks.base import Progress, Task, each, gather, pick, with_stop

LARGEST = 10_000_000  # capacity in units up to which there is a dynamic programme, which has a number for each
MOST = 2**53  # units that can be counted exactly
HEAVIEST = 2**22  # units of a weight, up to which float32 tells halves of one apart
HEAVIEST_WHOLE = 2**24 - 1  # of weights that are whole as they stand; 2**24 may have been one more in a file
log = logging.getLogger(__name__)


class Knapsack(Task):
    """Point at items, one after another, as long as any fits; then at the stop. The cost is minus their value.

    Elements are the stop ``(0, 0, 1)`` and items ``(weight, value, 0)``. Weights are whole numbers of units, so that
    what fits is decided exactly, and the optimum by dynamic programming. Random weights are uniform on 0.01, 0.02,
    ..., 1, values uniform in [0, 1] (Bello et al. 2016, arXiv 1611.09940, section 5.4).

    Args:
        capacity: weight that it holds; null for a quarter of the number of items, 12.5 for 50.
        units: of a weight of 1.

    Raises:
        ValueError: if a number is out of range, or the capacity no whole number of units.
    """

    features = 3
    extra = 1
    columns = ("weight", "value", "is_stop")
    contexts = 2
    smallest = 2  # an item and the stop

    def __init__(self, *, capacity: float | None = None, units: int = 100) -> None:
        check_positive(units=units)
        if capacity is not None and not (0 < capacity * units <= MOST and whole(capacity * units, most=1e-3)):
            raise ValueError(
                f"capacity must be positive, a whole number of units of 1/{units} and at most {MOST} of them, "
                f"got {capacity}"
            )
        self.capacity, self.units = capacity, units

    def generate(self, count: int, size: int, g: torch.Generator) -> Tensor:
        weight = torch.randint(1, self.units + 1, (count, size), generator=g, device=g.device) / self.units
        return with_stop(torch.stack([weight, torch.rand(count, size, generator=g, device=g.device)], -1))

    def check(self, x: Tensor) -> None:
        super().check(x)
        if (x[:, 1:] < 0).any():
            raise ZooError("Knapsack: weights and values must not be negative")
        units = x[..., 0].double() * self.units
        most = HEAVIEST_WHOLE if (units == units.round()).all() else HEAVIEST
        if (units > most).any():
            raise ZooError(
                f"Knapsack: weights are at most {most:,} units of 1/{self.units}, got {float(units.max()):,.0f}: with "
                "larger ones they cannot be told apart; take a larger unit"
            )
        if not whole(units, most=0.25).all():
            raise ZooError(
                f"Knapsack: weights must be whole numbers of units of 1/{self.units}: set model.task.units, "
                "or multiply weights and capacity"
            )

    def weights(self, x: Tensor) -> Tensor:
        """In whole units, int64 ``(batch, elements)``."""
        return (x[..., 0].double() * self.units).round().long()

    def limit(self, x: Tensor) -> int:
        """The capacity in whole units."""
        if self.capacity is None:
            return (x.shape[1] - 1) * self.units // 4
        return round(self.capacity * self.units)

    def begin(self, x: Tensor, starts: int) -> Progress:
        so_far = super().begin(x, starts)
        return {**so_far, "spare": torch.full_like(so_far["last"], self.limit(x))}

    def advance(self, x: Tensor, progress: Progress, chosen: Tensor) -> Progress:
        spare = progress["spare"] - gather(self.weights(x), chosen)
        return {**super().advance(x, progress, chosen), "spare": spare}

    def mask(self, x: Tensor, progress: Progress) -> Tensor:
        fits = ~progress["taken"] & (each(self.weights(x), progress["taken"]) <= progress["spare"].unsqueeze(-1))
        items = fits[..., 1:]
        return torch.cat([~items.any(-1, keepdim=True), items], -1)

    def context(self, x: Tensor, progress: Progress) -> Tensor:
        """What remains of the capacity: its share of the whole, and in units of weight, at most 2."""
        spare = progress["spare"].float()
        return torch.stack([spare / max(1, self.limit(x)), (spare / self.units).clamp_max(2.0)], -1)

    def cost(self, x: Tensor, order: Tensor) -> Tensor:
        return -pick(x[..., 1:2], order).sum((-2, -1))

    def cost_of_choices(self, x: Tensor, choices: Tensor) -> Tensor:
        return -(choices @ x[..., 1:2].unsqueeze(1)).sum((-2, -1))

    def optimum(self, x: Tensor) -> Tensor | None:
        """By dynamic programming over capacities (Bellman 1957), of one instance at a time, which bounds the memory."""
        limit = self.limit(x)
        if limit > LARGEST:
            log.warning("a capacity of %d units is more than the %d whose optimum is looked for", limit, LARGEST)
            return None
        optimum = np.zeros(len(x))
        for i, (weights, values) in enumerate(zip(self.weights(x).cpu().numpy(), x[..., 1].double().cpu().numpy())):
            best = np.zeros(limit + 1)
            for weight, value in zip(weights[1:].tolist(), values[1:].tolist()):
                if weight <= limit:
                    np.maximum(best[weight:], best[: limit + 1 - weight] + value, out=best[weight:])
            optimum[i] = -best[-1]
        return torch.from_numpy(optimum).to(x)

    def valid(self, x: Tensor, order: Tensor) -> Tensor:
        """Within the capacity, no item twice, none after the stop, and no further item would fit."""
        used = torch.nn.functional.one_hot(order, x.shape[1]).sum(-2)[..., 1:]
        weight = self.weights(x)[:, None, 1:]
        spare = self.limit(x) - (used * weight).sum(-1)
        stop = order == 0
        full = ((used > 0) | (weight > spare.unsqueeze(-1))).all(-1)
        return (used <= 1).all(-1) & (spare >= 0) & (stop[..., 1:] | ~stop[..., :-1]).all(-1) & full

    def metrics(self) -> nn.ModuleDict:
        return nn.ModuleDict({"gap": OptimalityGap()})

    def update(self, metrics: dict[str, Metric], x: Tensor, order: Tensor, optimum: Tensor) -> None:
        metrics["gap"].update(self.cost(x, order.unsqueeze(1)).squeeze(1), optimum)


def whole(units: Tensor | float, *, most: float) -> Tensor:
    """Whether these are whole numbers, but for ``most`` and for the rounding of their multiples in float32."""
    units = torch.as_tensor(units, dtype=torch.float64)
    return (units - units.round()).abs() <= (torch.finfo(torch.float32).eps * units.abs()).clamp_max(most)
