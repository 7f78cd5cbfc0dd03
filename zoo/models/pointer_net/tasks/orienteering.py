"""Orienteering: the greatest prize that a tour from the depot and back can collect within a length."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from zoo.models.pointer_net.tasks.base import Progress, each, pick
from zoo.models.pointer_net.tasks.routing import SLACK, Routes, assemble, one_route, with_depot

LIMITS = {20: 2.0, 50: 3.0, 100: 4.0}


class Orienteering(Routes):
    """Point at customers that can still be visited, and at the depot to end; the cost is minus the prizes.

    Elements are the depot ``(a, b, longest, 0, 1)``, with the greatest length of the tour, and customers ``(a, b, 0,
    prize, 0)``. Random ones are uniform in the unit square, the length 2, 3, 4 for 20, 50, 100 customers (Kool et al.
    2019, after Fischetti et al. 1998).

    Args:
        prizes: of random instances: ``distance`` from the depot, in hundredths of the greatest; ``uniform`` hundredths;
            or ``constant``, 1.
    """

    features = 5
    columns = ("x", "y", "limit", "prize", "is_depot")
    contexts = 1
    stored: str | None = "orienteering"
    lengths = (2,)

    def __init__(self, *, prizes: Literal["distance", "uniform", "constant"] = "distance") -> None:
        self.prizes = prizes
        if prizes != "distance":
            self.stored = None

    def random(self, count: int, size: int, random: np.random.RandomState) -> np.ndarray:
        depot, places = random.uniform(size=(count, 2)), random.uniform(size=(count, size, 2))
        if self.prizes == "constant":
            prize = np.ones((count, size))
        elif self.prizes == "uniform":
            prize = (1 + random.randint(0, 100, size=(count, size))) / 100
        else:
            distance = np.linalg.norm(depot[:, None] - places, axis=-1)
            prize = (1 + (distance / distance.max(-1, keepdims=True) * 99).astype(int)) / 100
        longest = np.interp(size, list(LIMITS), list(LIMITS.values()))
        return assemble(depot, places, with_depot(longest, np.zeros_like(prize)), with_depot(0.0, prize))

    def fewest_steps(self, elements: int) -> int:
        return 1

    def begin(self, x: Tensor, starts: int) -> Progress:
        so_far = super().begin(x, starts)
        return {**so_far, "length": x.new_zeros(so_far["last"].shape)}

    def advance(self, x: Tensor, progress: Progress, chosen: Tensor) -> Progress:
        length = progress["length"] + self.trip(x, progress["last"], chosen)
        return {**super().advance(x, progress, chosen), "length": length}

    def mask(self, x: Tensor, progress: Progress) -> Tensor:
        taken = progress["taken"]
        back = each(self.trip(x, torch.zeros(x.shape[0], 1, dtype=torch.int64, device=x.device))[:, 0], taken)
        length = progress["length"].unsqueeze(-1) + self.trip(x, progress["last"]) + back
        allowed = ~taken & (length <= each(x[..., 2], taken)[..., :1]) & ~taken[..., :1]
        return torch.cat([torch.ones_like(allowed[..., :1]), allowed[..., 1:]], -1)

    def context(self, x: Tensor, progress: Progress) -> Tensor:
        """The share of the length that is left."""
        longest = each(x[..., 2], progress["taken"])[..., 0].clamp_min(1e-30)
        return (1 - progress["length"] / longest).unsqueeze(-1)

    def cost(self, x: Tensor, order: Tensor) -> Tensor:
        return -pick(x[..., 3:4], order).sum((-2, -1))

    def valid(self, x: Tensor, order: Tensor) -> Tensor:
        """One route, no customer twice, and within the length."""
        return one_route(order, x.shape[1]) & (
            self.length(x.double(), order) <= x[:, :1, 2].double() * (1 + SLACK) + SLACK
        )
