"""Capacitated vehicle routing: the shortest routes that serve all customers, none with more than a vehicle holds."""

import numpy as np
import torch
from torch import Tensor

from zoo.config import check_positive
from zoo.errors import ZooError
from zoo.models.pointer_net.tasks.base import Progress, each, gather
from zoo.models.pointer_net.tasks.routing import SLACK, Routes, assemble, at_depot, with_depot

CAPACITIES = {10: 20, 20: 30, 50: 40, 100: 50}


class VehicleRouting(Routes):
    """Point at customers, and at the depot to begin a new route; the cost is the length of all routes.

    Elements are the depot ``(a, b, capacity, 1)`` and customers ``(a, b, demand, 0)``. Random customers and depots are
    uniform in the unit square, demands whole numbers from 1 to 9, the capacity 20, 30, 40, 50 for 10, 20, 50, 100
    customers (Nazari et al. 2018, arXiv 1802.04240; Kool et al. 2019).

    Args:
        capacity: of random instances; null for that of the literature, between its sizes in proportion.

    Raises:
        ValueError: if the capacity is less than the largest demand, 9.
    """

    features = 4
    columns: tuple[str, ...] = ("x", "y", "demand", "is_depot")
    contexts = 1
    stored: str | None = "cvrp"

    def __init__(self, *, capacity: int | None = None) -> None:
        if capacity is not None:
            check_positive(capacity=capacity)
            if capacity < 9:
                raise ValueError(f"capacity must be at least 9, the largest demand, got {capacity}")
        self.capacity = capacity
        if capacity is not None:
            self.stored = None

    def random(self, count: int, size: int, random: np.random.RandomState) -> np.ndarray:
        depot, places = random.uniform(size=(count, 2)), random.uniform(size=(count, size, 2))
        demand = random.randint(1, 10, size=(count, size))
        capacity = self.capacity or round(np.interp(size, list(CAPACITIES), list(CAPACITIES.values())))
        return assemble(depot, places, with_depot(capacity, demand))

    def steps(self, elements: int) -> int:
        return 2 * (elements - 1) - 1  # at worst a return after each customer but the last

    def fewest_steps(self, elements: int) -> int:
        return elements - 1

    def first_elements(self, elements: int) -> range:
        return range(1, elements)

    def check(self, x: Tensor) -> None:
        super().check(x)
        if (x[:, 1:, 2] > x[:, :1, 2]).any():
            raise ZooError(f"{type(self).__name__}: a customer asks for more than the capacity")

    def normal(self, x: Tensor) -> Tensor:
        """Demands are shares of the capacity."""
        x = super().normal(x)
        capacity = x[:, :1, 2:3].clamp_min(1e-30)
        return torch.cat([x[..., :2], x[..., 2:3] / capacity, x[..., 3:]], -1)

    def begin(self, x: Tensor, starts: int) -> Progress:
        full = (x[:, 0, 2] + self.slack(x)).unsqueeze(1).expand(-1, starts)
        return {**super().begin(x, starts), "spare": full, "full": full}

    def advance(self, x: Tensor, progress: Progress, chosen: Tensor) -> Progress:
        spare = torch.where(chosen == 0, progress["full"], progress["spare"] - gather(x[..., 2], chosen))
        return {**super().advance(x, progress, chosen), "spare": spare, "full": progress["full"]}

    def mask(self, x: Tensor, progress: Progress) -> Tensor:
        allowed = ~progress["taken"] & (each(x[..., 2], progress["taken"]) <= progress["spare"].unsqueeze(-1))
        depot = ~at_depot(progress) | self.over(x, progress)
        return torch.cat([depot.unsqueeze(-1), allowed[..., 1:]], -1)

    def context(self, x: Tensor, progress: Progress) -> Tensor:
        """The share of the capacity that is left."""
        capacity = each(x[..., 2], progress["taken"])[..., 0].clamp_min(1e-30)
        return (progress["spare"] / capacity).unsqueeze(-1)

    def over(self, x: Tensor, progress: Progress) -> Tensor:
        return progress["taken"][..., 1:].all(-1)

    def cost(self, x: Tensor, order: Tensor) -> Tensor:
        return self.length(x, order)

    def valid(self, x: Tensor, order: Tensor) -> Tensor:
        """Each customer once, and the demands of each route, counted by its number, within the capacity."""
        visits = torch.nn.functional.one_hot(order, x.shape[1])[..., 1:].sum(-2)
        route = (order == 0).cumsum(-1)
        demand = gather(x[..., 2], order).double().masked_fill(order == 0, 0.0)
        loads = torch.zeros(*order.shape[:2], order.shape[2] + 1, dtype=torch.float64, device=x.device)
        loads.scatter_add_(-1, route, demand)
        most = x[:, 0, 2].double() + 2 * self.slack(x)
        return (visits == 1).all(-1) & (loads <= most.view(-1, 1, 1)).all(-1)

    def slack(self, x: Tensor) -> Tensor:
        """By how much a load may seem to exceed the capacity, ``(batch,)``: sums of whole numbers are exact."""
        demand = x[..., 2]
        return torch.where((demand == demand.round()).all(-1), 0.0, SLACK * demand[:, 0])
