"""Pickup and delivery: the shortest tour in which what is delivered was picked up before."""

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.models.pointer_net.tasks.base import Progress, Task
from zoo.models.pointer_net.tasks.routing import Routes, assemble
from zoo.models.pointer_net.tasks.tsp import single


class PickupDelivery(Routes):
    """Point at pickups and at deliveries whose pickup is done; the tour begins and ends at the depot.

    Elements are the depot ``(a, b, a, b, 0, 1)``, then pickups and as many deliveries in the same order, ``(a, b, c, d,
    is_pickup, 0)`` with the place ``(c, d)`` of the partner. All are uniform in the unit square (Li et al. 2021, arXiv
    2110.02634). The number of customers is even.
    """

    features = 6
    columns = ("x", "y", "partner_x", "partner_y", "is_pickup", "is_depot")
    stored = "pickup_delivery"
    smallest = 3

    def check_size(self, size: int) -> None:
        super().check_size(size)
        if size % 2:
            raise ValueError(f"pickups and deliveries are pairs: size must be even, got {size}")

    def random(self, count: int, size: int, random: np.random.RandomState) -> np.ndarray:
        depot, places = random.uniform(size=(count, 2)), random.uniform(size=(count, size, 2))
        partner = np.concatenate([depot[:, None], np.roll(places, size // 2, 1)], 1)
        pickup = np.broadcast_to(np.arange(size + 1) <= size // 2, (count, size + 1)).astype(float).copy()
        pickup[:, 0] = 0
        return assemble(depot, places, partner[..., 0], partner[..., 1], pickup)

    def check(self, x: Tensor) -> None:
        Task.check(self, x)
        rest = self.random(1, x.shape[1] - 1, np.random.RandomState(0))[0, :, 4:]
        partner = torch.cat([x[:, :1, :2], x[:, 1:, :2].roll((x.shape[1] - 1) // 2, 1)], 1)
        if (
            x.shape[1] % 2 == 0
            or not torch.equal(x[..., 2:4], partner)
            or not (x[..., 4:].double().cpu() == torch.from_numpy(rest)).all()
        ):
            raise ZooError("PickupDelivery: elements are the depot, the pickups, then their deliveries, with partners")

    def normal(self, x: Tensor) -> Tensor:
        x = single(x)
        low = x[..., :2].amin(1, keepdim=True)
        extent = (x[..., :2].amax(1, keepdim=True) - low).amax(2, keepdim=True)
        extent = torch.where(extent > 0, extent, 1.0)
        return torch.cat([(x[..., :2] - low) / extent, (x[..., 2:4] - low) / extent, x[..., 4:]], -1)

    def as_trained(self, x: Tensor) -> Tensor:
        self.check(x)
        return self.normal(x)

    def symmetries(self, x: Tensor) -> Tensor:
        copies = super().symmetries(x)
        half = (x.shape[1] - 1) // 2
        partner = torch.cat([copies[:, :, :1, :2], copies[:, :, 1:, :2].roll(half, 2)], 2)
        return torch.cat([copies[..., :2], partner, copies[..., 4:]], -1)

    def steps(self, elements: int) -> int:
        return elements - 1  # all but the depot

    def mask(self, x: Tensor, progress: Progress) -> Tensor:
        taken = progress["taken"]
        half = (x.shape[1] - 1) // 2
        ready = torch.cat([torch.ones_like(taken[..., 1 : half + 1]), taken[..., 1 : half + 1]], -1)
        return torch.cat([torch.zeros_like(taken[..., :1]), ~taken[..., 1:] & ready], -1)

    def cost(self, x: Tensor, order: Tensor) -> Tensor:
        return self.length(x, order)

    def valid(self, x: Tensor, order: Tensor) -> Tensor:
        """Each customer once, and each pickup at an earlier position than its delivery."""
        n = x.shape[1] - 1
        once = (order.sort(-1).values == torch.arange(1, n + 1, device=x.device)).all(-1)
        place = order.argsort(-1)
        return once & (place[..., : n // 2] < place[..., n // 2 :]).all(-1)
