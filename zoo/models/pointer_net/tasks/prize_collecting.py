"""The prize collecting travelling salesman problem: enough prizes by a short tour, a penalty for who is left out."""

import numpy as np
import torch
from torch import Tensor

from zoo.models.pointer_net.tasks.base import Progress, each, gather, pick
from zoo.models.pointer_net.tasks.orienteering import LIMITS
from zoo.models.pointer_net.tasks.routing import SLACK, Routes, assemble, one_route, with_depot

PENALTY = 3.0  # times what would make the penalties of all about the length of the tour


class PrizeCollecting(Routes):
    """Point at customers, and, once the prizes suffice, at the depot to end; the cost is the length and the penalties.

    Elements are the depot ``(a, b, least, 0, 1)``, with the prize to be collected, and customers ``(a, b, prize,
    penalty, 0)``. Who has visited all may end, whatever the prizes. Random customers are uniform in the unit square,
    prizes uniform, a quarter of what there is on average required, penalties uniform (Kool et al. 2019, after Balas
    1989).
    """

    features = 5
    columns = ("x", "y", "prize", "penalty", "is_depot")
    contexts = 1
    lengths = (3,)

    def random(self, count: int, size: int, random: np.random.RandomState) -> np.ndarray:
        depot, places = random.uniform(size=(count, 2)), random.uniform(size=(count, size, 2))
        most = np.interp(size, list(LIMITS), list(LIMITS.values())) * PENALTY / size
        penalty = random.uniform(size=(count, size)) * most
        prize = random.uniform(size=(count, size)) * 4 / size
        return assemble(depot, places, with_depot(1.0, prize), with_depot(0.0, penalty))

    def fewest_steps(self, elements: int) -> int:
        return 1

    def begin(self, x: Tensor, starts: int) -> Progress:
        return {**super().begin(x, starts), "missing": x[:, :1, 2].expand(-1, starts)}

    def advance(self, x: Tensor, progress: Progress, chosen: Tensor) -> Progress:
        prize = gather(x[..., 2], chosen).masked_fill(chosen == 0, 0.0)
        return {**super().advance(x, progress, chosen), "missing": progress["missing"] - prize}

    def mask(self, x: Tensor, progress: Progress) -> Tensor:
        taken = progress["taken"]
        customers = ~taken[..., 1:] & ~taken[..., :1]
        enough = progress["missing"].unsqueeze(-1) <= SLACK * each(x[..., 2], taken)[..., :1]
        return torch.cat([enough | ~customers.any(-1, keepdim=True), customers], -1)

    def context(self, x: Tensor, progress: Progress) -> Tensor:
        """The share of the prize that is missing."""
        least = each(x[..., 2], progress["taken"])[..., 0].clamp_min(1e-30)
        return (progress["missing"] / least).clamp_min(0.0).unsqueeze(-1)

    def cost(self, x: Tensor, order: Tensor) -> Tensor:
        penalties = x[:, None, 1:, 3].sum(-1) - pick(x[..., 3:4], order).sum((-2, -1))
        return self.length(x, order) + penalties

    def valid(self, x: Tensor, order: Tensor) -> Tensor:
        """One route, no customer twice, and enough prizes or all visited."""
        visited = torch.nn.functional.one_hot(order, x.shape[1])[..., 1:].sum(-2).double()
        prize = (visited * x[:, None, 1:, 2]).sum(-1)
        enough = prize >= x[:, :1, 2].double() * (1 - 2 * SLACK)
        return one_route(order, x.shape[1]) & (enough | (visited == 1).all(-1))
