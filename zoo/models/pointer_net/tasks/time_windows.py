"""Vehicle routing with time windows: the shortest routes that are at every customer in time."""

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.models.pointer_net.tasks.base import Progress, each, gather, pick
from zoo.models.pointer_net.tasks.routing import SLACK, at_depot
from zoo.models.pointer_net.tasks.vehicle_routing import VehicleRouting

HORIZON = 4.6  # in sides of the square: to a corner and back is at most 2.83
WINDOW = 1.0


class TimeWindows(VehicleRouting):
    """As :class:`VehicleRouting`, and each customer is to be reached before its window closes.

    A vehicle that comes before a window opens waits; serving takes no time, the speed is 1, every route begins at time
    0 and ends before the depot's window closes. Elements are the depot ``(a, b, capacity, 0, horizon, 1)`` and
    customers ``(a, b, demand, opens, closes, 0)``. Random windows are 1 wide, their beginnings uniform where a vehicle
    can come from the depot in time and return.
    """

    features = 6
    columns = ("x", "y", "demand", "opens", "closes", "is_depot")
    contexts = 2
    stored = "time_windows"
    lengths = (3, 4)

    def random(self, count: int, size: int, random: np.random.RandomState) -> np.ndarray:
        x = super().random(count, size, random)
        way = np.linalg.norm(x[:, :, :2] - x[:, :1, :2], axis=-1)
        opens = way + random.uniform(size=way.shape) * (HORIZON - WINDOW - 2 * way)
        opens[:, 0] = 0
        closes = opens + WINDOW
        closes[:, 0] = HORIZON
        return np.concatenate([x[..., :3], opens[..., None], closes[..., None], x[..., 3:]], -1)

    def check(self, x: Tensor) -> None:
        super().check(x)
        way = (x[..., :2] - x[:, :1, :2]).square().sum(-1).sqrt()
        late = (way > x[..., 4]) | (torch.maximum(way, x[..., 3]) + way > x[:, :1, 4] * (1 + SLACK))
        if late.any():
            raise ZooError(
                f"{type(self).__name__}: a customer cannot be reached from the depot in time, and left for it"
            )

    def begin(self, x: Tensor, starts: int) -> Progress:
        so_far = super().begin(x, starts)
        return {**so_far, "time": x.new_zeros(so_far["last"].shape)}

    def advance(self, x: Tensor, progress: Progress, chosen: Tensor) -> Progress:
        arrival = progress["time"] + self.trip(x, progress["last"], chosen)
        time = torch.where(chosen == 0, 0.0, torch.maximum(arrival, gather(x[..., 3], chosen)))
        return {**super().advance(x, progress, chosen), "time": time}

    def mask(self, x: Tensor, progress: Progress) -> Tensor:
        taken, last = progress["taken"], progress["last"]
        arrival = progress["time"].unsqueeze(-1) + self.trip(x, last)
        back = each(self.trip(x, torch.zeros(x.shape[0], 1, dtype=torch.int64, device=x.device))[:, 0], taken)
        horizon = each(x[..., 4], taken)[..., :1] * (1 + SLACK)
        leaves = torch.maximum(arrival, each(x[..., 3], taken))
        # From the depot each customer is reached as `check` has found, whatever the rounding.
        fresh = at_depot(progress).unsqueeze(-1)
        in_time = fresh | (arrival <= each(x[..., 4], taken)) & (leaves + back <= horizon)
        depot = torch.ones_like(in_time[..., :1])
        return super().mask(x, progress) & torch.cat([depot, in_time[..., 1:]], -1)

    def context(self, x: Tensor, progress: Progress) -> Tensor:
        """The share of the capacity that is left, and that of the time that is over."""
        time = progress["time"] / each(x[..., 4], progress["taken"])[..., 0].clamp_min(1e-30)
        return torch.cat([super().context(x, progress), time.unsqueeze(-1)], -1)

    def valid(self, x: Tensor, order: Tensor) -> Tensor:
        """And, driven stop by stop in float64, nowhere too late."""
        x = x.double()
        depot = x[:, None, 0, :].expand(-1, order.shape[1], -1)
        here, time = depot[..., :2], x.new_zeros(order.shape[:2])
        in_time = torch.ones_like(time, dtype=torch.bool)
        for stop in [*order.unbind(-1), torch.zeros_like(order[..., 0])]:
            there = pick(x, stop)
            time = time + (there[..., :2] - here).square().sum(-1).sqrt()
            in_time &= time <= there[..., 4] + SLACK * (1 + depot[..., 4])
            time = torch.where(stop == 0, 0.0, torch.maximum(time, there[..., 3]))
            here = there[..., :2]
        return super().valid(x, order) & in_time
