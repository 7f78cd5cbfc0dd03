"""What tasks with a depot share: routes that begin and end at element 0.

Elements are ``(a, b, ..., is_depot)``: coordinates of the plane first, what a customer asks for, and 1 for the depot.
What the depot's row holds in the place of a demand is a number of the whole instance, such as the capacity.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from zoo.data.seeding import TEST
from zoo.errors import ZooError
from zoo.models.pointer_net.metrics import OptimalityGap
from zoo.models.pointer_net.tasks.base import Progress, Task, pick
from zoo.models.pointer_net.tasks.tsp import (
    STANDARD,
    STANDARD_SEEDS,
    plane_distances,
    reflections,
    single,
    stored_optima,
)

SLACK = 1e-5  # of a limit, for the rounding of sums


class Routes(Task):
    """Routes from and to a depot, all lengths Euclidean.

    The test instances are those of the literature where there are any for the size, from NumPy's generator with seed
    1234, of validation from 4321 (Kool et al. 2019, arXiv 1803.08475, and its code).
    """

    relational = True
    differentiable = False
    smallest = 2  # the depot and a customer
    extra = 1
    stored: str | None = None
    """Of the file of best known costs of the standard test instances, which ``scripts/optima.py`` makes."""
    lengths: tuple[int, ...] = ()
    """Features beside the coordinates that are lengths, so that they are scaled with them."""

    def random(self, count: int, size: int, random: np.random.RandomState) -> np.ndarray:
        """``count`` instances ``(count, 1 + size, features)`` as the literature draws them."""
        raise NotImplementedError

    def generate(self, count: int, size: int, g: torch.Generator) -> Tensor:
        seed = int(torch.randint(2**31, (), generator=g, device=g.device))
        return torch.from_numpy(self.random(count, size, np.random.RandomState(seed))).float().to(g.device)

    def standard(self, count: int, size: int, stage: int, device: torch.device | str) -> Tensor:
        random = np.random.RandomState(STANDARD_SEEDS[stage == TEST])
        return torch.from_numpy(self.random(max(count, STANDARD), size, random)[:count]).float().to(device)

    def standard_optimum(self, x: Tensor, stage: int) -> Tensor:
        return stored_optima(self.stored if stage == TEST else None, x.shape[1] - 1, x)

    def check(self, x: Tensor) -> None:
        super().check(x)
        depot = torch.zeros(x.shape[1], device=x.device)
        depot[0] = 1
        if not (x[..., -1] == depot).all():
            raise ZooError(
                f"{type(self).__name__}: the last feature is 1 for the depot, element 0, and 0 for the others"
            )
        if (x[..., 2:-1] < 0).any():
            raise ZooError(f"{type(self).__name__}: demands, limits, prizes and times must not be negative")

    def normal(self, x: Tensor) -> Tensor:
        """Scaled so that the longer side of the bounding box is 1, with all that are lengths."""
        x = single(x)
        places = x[..., :2]
        low = places.amin(1, keepdim=True)
        extent = (places.amax(1, keepdim=True) - low).amax(2, keepdim=True)
        extent = torch.where(extent > 0, extent, 1.0)
        rest = [x[..., i : i + 1] / extent if i in self.lengths else x[..., i : i + 1] for i in range(2, x.shape[-1])]
        return torch.cat([(places - low) / extent, *rest], -1)

    def as_trained(self, x: Tensor) -> Tensor:
        self.check(x)
        return Routes.normal(self, x)  # loads stay as they are: whole numbers are exact

    def relation(self, x: Tensor) -> Tensor:
        return plane_distances(x[..., :2])

    def distances_from(self, x: Tensor, index: Tensor) -> Tensor:
        return plane_distances(x[..., :2], index)

    def symmetries(self, x: Tensor) -> Tensor:
        return torch.stack([torch.cat([places, x[..., 2:]], -1) for places in reflections(x[..., :2])])

    def length(self, x: Tensor, order: Tensor) -> Tensor:
        """From the depot through ``order`` and back to it, ``(batch, starts)``."""
        places = pick(single(x)[..., :2], order)
        depot = single(x)[:, None, :1, :2].expand(-1, order.shape[1], -1, -1)
        return torch.cat([depot, places, depot], 2).diff(dim=2).square().sum(-1).sqrt().sum(-1)

    def trip(self, x: Tensor, last: Tensor, to: Tensor | None = None) -> Tensor:
        """Distances from the elements ``last`` ``(batch, ...)``, the depot where that is -1, to elements ``to`` of the
        same shape, or to all, ``(batch, ..., elements)``."""
        here = pick(x[..., :2], last.clamp_min(0))
        if to is not None:
            return (here - pick(x[..., :2], to)).square().sum(-1).sqrt()
        places = x[..., :2].view(x.shape[0], *[1] * (last.dim() - 1), -1, 2)
        return (here.unsqueeze(-2) - places).square().sum(-1).sqrt()

    def metrics(self) -> nn.ModuleDict:
        return nn.ModuleDict({"gap": OptimalityGap()})

    def update(self, metrics: dict[str, Metric], x: Tensor, order: Tensor, optimum: Tensor) -> None:
        metrics["gap"].update(self.cost(x, order.unsqueeze(1)).squeeze(1), optimum)


def one_route(order: Tensor, elements: int) -> Tensor:
    """Whether no customer is visited twice and nothing follows the first return, boolean ``(batch, starts)``."""
    stop = order == 0
    visits = torch.nn.functional.one_hot(order, elements)[..., 1:].sum(-2)
    return (stop[..., 1:] | ~stop[..., :-1]).all(-1) & (visits <= 1).all(-1)


def at_depot(progress: Progress) -> Tensor:
    """Where a vehicle stands at the depot, boolean ``(batch, ...)``."""
    return progress["last"] <= 0


def assemble(depot: np.ndarray, places: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """Instances from depots ``(count, 2)``, places of customers ``(count, n, 2)`` and columns ``(count, 1 + n)``."""
    is_depot = np.zeros((len(depot), places.shape[1] + 1))
    is_depot[:, 0] = 1
    return np.concatenate(
        [np.concatenate([depot[:, None], places], 1), *(c[..., None] for c in (*columns, is_depot))], -1
    )


def with_depot(of_depot: float | np.ndarray, of_customers: np.ndarray) -> np.ndarray:
    """A column ``(count, 1 + n)``: the depot's number, then the customers'."""
    first = np.broadcast_to(np.asarray(of_depot, dtype=float), (len(of_customers),))
    return np.concatenate([first[:, None], of_customers], 1)
