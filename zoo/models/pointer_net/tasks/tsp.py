"""The travelling salesman problem: the shortest closed tour through points of the plane."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from zoo.data.seeding import TEST
from zoo.errors import ZooError
from zoo.models.pointer_net.metrics import OptimalityGap
from zoo.models.pointer_net.tasks.base import Task, pick
from zoo.models.pointer_net.tasks.heuristics import farthest_insertion, nearest_neighbour

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STANDARD_SEEDS = {False: 4321, True: 1234}  # of validation and test in the literature
STANDARD = 10_000
OPTIMA = Path(__file__).parent / "optima"
CLUSTERS, DEVIATION = (3, 8), 0.07
SLACK = 1e-6  # about the unit square


class TSP(Task):
    """Closed tours through points of the plane, the cost their Euclidean length.

    Args:
        gradient: of the length in the choices, for pathwise relaxations.

            - ``counterfactual``: for element j at step t the least change of length by one move that puts it there:
              a 2-opt move, an insertion or a swap, each exact. The value is the length of the hard tour.
            - ``edges``: of the bilinear form ``sum_t z_t' D z_(t+1)``; the only one with soft choices.
            - ``next_edge``: only of the edge that leads to the element, in ``edges``.

        points: how random ones are spread.

            - ``uniform``: over the unit square.
            - ``clustered``: normally about three to eight centres, with deviation 0.07, cut off at the square.
            - ``mixed``: half of the instances this way, half that.

        scaled: whether the networks see the points shifted and scaled so that their bounding box touches 0 and has a
            longer side of 1: then tours do not depend on the unit. Up to version 0.2 they were seen as they are.

    Where points are uniform, the test instances are the standard ones, ``np.random.seed(1234)``,
    ``np.random.uniform(size=(10000, n, 2))``, those of validation the same from 4321 (Kool et al. 2019, arXiv
    1803.08475).
    """

    features = 2
    columns = ("x", "y")
    relational = True
    cyclic = True

    def __init__(
        self,
        *,
        gradient: Literal["counterfactual", "edges", "next_edge"] = "counterfactual",
        points: Literal["uniform", "clustered", "mixed"] = "uniform",
        scaled: bool = True,
    ) -> None:
        self.gradient, self.points, self.scaled = gradient, points, scaled

    def generate(self, count: int, size: int, g: torch.Generator) -> Tensor:
        uniform = torch.rand(count, size, 2, generator=g, device=g.device)
        if self.points == "uniform":
            return uniform
        centres = torch.rand(count, CLUSTERS[1], 2, generator=g, device=g.device)
        number = torch.randint(CLUSTERS[0], CLUSTERS[1] + 1, (count, 1), generator=g, device=g.device)
        cluster = (torch.rand(count, size, generator=g, device=g.device) * number).long()
        noise = torch.randn(count, size, 2, generator=g, device=g.device)
        clustered = (pick(centres, cluster) + DEVIATION * noise).clamp(0, 1)
        if self.points == "clustered":
            return clustered
        half = torch.rand(count, 1, 1, generator=g, device=g.device) < 0.5
        return torch.where(half, uniform, clustered)

    def standard(self, count: int, size: int, stage: int, device: torch.device | str) -> Tensor:
        if self.points != "uniform":
            return super().standard(count, size, stage, device)
        random = np.random.RandomState(STANDARD_SEEDS[stage == TEST])
        return torch.from_numpy(random.uniform(size=(max(count, STANDARD), size, 2))[:count]).float().to(device)

    def standard_optimum(self, x: Tensor, stage: int) -> Tensor:
        """As stored for the standard test instances; ``scripts/optima.py`` makes them."""
        known = stage == TEST and self.points == "uniform"
        return stored_optima("tsp" if known else None, x.shape[1], x)

    def normal(self, x: Tensor) -> Tensor:
        return unit_square(x) if self.scaled else single(x)

    def check(self, x: Tensor) -> None:
        self.check_points(x)
        if not self.scaled and (x.amin() < -SLACK or x.amax() > 1 + SLACK):
            raise ZooError(f"{type(self).__name__}: this network knows points of the unit square: scale them into it")

    def check_points(self, x: Tensor) -> None:
        """:meth:`check`, wherever the points lie."""
        super().check(x)
        extent = (single(x).amax(1) - single(x).amin(1)).amax(1)
        square, precision = extent.square(), torch.finfo(extent.dtype)
        # Of smaller squares those of shorter distances would lose digits.
        fits = (square * x.shape[1]).isfinite() & (square > precision.tiny / precision.eps)
        wrong = (extent > 0) & ~fits
        if wrong.any():
            raise ZooError(
                f"{type(self).__name__}: instance {int(wrong.nonzero()[0])} is {float(extent[wrong][0]):g} wide, whose "
                f"square {x.dtype} cannot hold: give it in another unit"
            )

    def as_trained(self, x: Tensor) -> Tensor:
        self.check_points(x)
        return unit_square(x)

    def relation(self, x: Tensor) -> Tensor:
        """Euclidean distances ``(batch, n, n)``, exactly zero between a point and itself."""
        return plane_distances(x)

    def distances_from(self, x: Tensor, index: Tensor) -> Tensor:
        return plane_distances(x, index)

    def cost(self, x: Tensor, order: Tensor) -> Tensor:
        points = pick(single(x), order)
        return (points - points.roll(-1, -2)).square().sum(-1).sqrt().sum(-1)

    def cost_of_choices(self, x: Tensor, choices: Tensor) -> Tensor:
        if self.gradient == "counterfactual":
            order = choices.detach().argmax(-1)
            slopes = self.counterfactual(x, order)
            return self.cost(x, order) + ((choices - choices.detach()) * slopes).sum((-2, -1))
        distances = self.relation(x).unsqueeze(1)
        before = choices.roll(1, -2)
        if self.gradient == "next_edge":
            before = before.detach()
        return ((before @ distances) * choices).sum((-2, -1))

    @torch.no_grad()
    def counterfactual(self, x: Tensor, order: Tensor) -> Tensor:
        """The least change of length by one move that puts element j at step t, ``(batch, starts, n, n)`` as [t, j].

        Zero for elements that are already taken at step t, and at the first step, since a cycle can start anywhere.
        """
        if order.shape[-1] < 3:
            return torch.zeros(*order.shape, order.shape[-1], device=x.device)
        changes = torch.stack(self.moves(x, order)).amin(0)  # by position: [t, p]
        changes[..., 0, :] = torch.inf
        changes = changes.masked_fill(changes == torch.inf, 0.0)
        return torch.zeros_like(changes).scatter_(-1, order.unsqueeze(-2).expand_as(changes), changes)

    def moves(self, x: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Changes of length when the element at position p comes to an earlier position t, each ``(..., n, n)`` as
        [t, p]: by reversing t..p (2-opt), by moving it, by swapping the two. Infinite where p <= t."""
        points = pick(x, order)
        d = (points.unsqueeze(-2) - points.unsqueeze(-3)).square().sum(-1).sqrt()  # by position
        back = d.roll(1, -2)  # back[t, p] = d(t - 1, p)
        ahead = d.roll(-1, -2)  # ahead[t, p] = d(t + 1, p)
        edge = back.diagonal(dim1=-2, dim2=-1)  # edge[t] = d(t - 1, t)
        left, right = edge.unsqueeze(-1), edge.roll(-1, -1).unsqueeze(-2)  # into t, out of p
        into = edge.unsqueeze(-2)  # into p
        out = edge.roll(-1, -1).unsqueeze(-1)  # out of t
        across = d.roll(-1, -1)  # d(t, p + 1)
        reverse = back + across - left - right
        around = d.roll(1, -2).roll(-1, -1).diagonal(dim1=-2, dim2=-1).unsqueeze(-2)  # d(p - 1, p + 1)
        insert = back + d - left + around - into - right
        swap = back + ahead + d.roll(1, -1) + across - left - out - into - right
        n = order.shape[-1]
        t, p = torch.arange(n, device=x.device).unsqueeze(1), torch.arange(n, device=x.device)
        never = (p <= t) | ((t == 0) & (p == n - 1))  # the last of these are neighbours across the seam
        return (
            reverse.masked_fill(never, torch.inf),
            insert.masked_fill(never, torch.inf),
            swap.masked_fill(never | (p == t + 1), torch.inf),
        )

    @torch.no_grad()
    def improve(self, x: Tensor, order: Tensor, rounds: int) -> Tensor:
        """Best-improvement local search over the moves of :meth:`moves`, in turn on the tour and on its reversal: an
        insertion brings an element forward, there backward."""
        n = order.shape[-1]
        if n < 4:
            return order
        steps = torch.arange(n, device=x.device)
        for _ in range(rounds):
            stacked = torch.stack(self.moves(x, order), 1).flatten(1)  # (batch, kinds * n * n)
            change, best = stacked.min(1)
            kind, t, p = (part.unsqueeze(1) for part in (best // (n * n), best // n % n, best % n))
            inside = (steps >= t) & (steps <= p)
            reverse = torch.where(inside, t + p - steps, steps)
            insert = torch.where(inside, torch.where(steps == t, p, steps - 1), steps)
            swap = torch.where(steps == t, p, torch.where(steps == p, t, steps))
            source = torch.where(kind == 0, reverse, torch.where(kind == 1, insert, swap))
            source = torch.where(change.unsqueeze(1) < -1e-6, source, steps)
            order = order.gather(1, source).flip(1)
        return order.flip(1) if rounds % 2 else order

    def symmetries(self, x: Tensor) -> Tensor:
        """The eight reflections and rotations of the bounding box (Kwon et al. 2020, arXiv 2010.16011, table 1), or of
        the unit square, where points are seen as they are."""
        return reflections(x) if self.scaled else reflections(x, 1.0)

    def heuristics(self, x: Tensor) -> dict[str, Tensor]:
        return {
            "nearest_neighbour": self.cost(x, nearest_neighbour(x).unsqueeze(1)).squeeze(1),
            "farthest_insertion": self.cost(x, farthest_insertion(x).unsqueeze(1)).squeeze(1),
        }

    def draw(self, x: Tensor, order: Tensor) -> "dict[str, Figure]":
        """Tours, and below them optimal ones; where no solver is installed, the same after a local search."""
        from zoo.models.pointer_net import solvers
        from zoo.models.pointer_net.plots import tours

        try:
            better, name = (
                [torch.from_numpy(solvers.fast_tour(solvers.distances(p))) for p in x.double().cpu().numpy()],
                "optimal",
            )
        except ZooError:
            better, name = list(self.improve(x, order, 200).cpu()), "after local search"
        points, orders = [*x.cpu(), *x.cpu()], [*order.cpu(), *better]
        names = ["network"] * len(x) + [name] * len(x)
        lengths = [solvers.length(p.numpy(), o.numpy()) for p, o in zip(points, orders)]
        titles = [f"{name}: {length:.3f}" for name, length in zip(names, lengths)]
        return {"tours": tours(points, orders, titles, columns=len(x))}

    def metrics(self) -> nn.ModuleDict:
        return nn.ModuleDict({"gap": OptimalityGap()})

    def update(self, metrics: dict[str, Metric], x: Tensor, order: Tensor, optimum: Tensor) -> None:
        metrics["gap"].update(self.cost(x, order.unsqueeze(1)).squeeze(1), optimum)


def single(x: Tensor) -> Tensor:
    """``x`` in at least float32."""
    return x if x.dtype == torch.float64 else x.float()


def plane_distances(x: Tensor, index: Tensor | None = None) -> Tensor:
    """Euclidean distances ``(batch, n, n)`` of points ``(batch, n, 2)``, exactly zero between a point and itself; from
    the points ``index`` ``(batch, ...)`` to all, ``(batch, ..., n)``."""
    some = x if index is None else pick(x, index)
    return (some.unsqueeze(-2) - x.view(x.shape[0], *[1] * (some.dim() - 2), *x.shape[1:])).square().sum(-1).sqrt()


def unit_square(x: Tensor) -> Tensor:
    """Points ``(batch, n, 2)`` shifted and scaled so that their bounding box touches 0 and has a longer side of 1."""
    x = single(x)
    low = x.amin(1, keepdim=True)
    extent = (x.amax(1, keepdim=True) - low).amax(2, keepdim=True)
    return (x - low) / torch.where(extent > 0, extent, 1.0)


def reflections(x: Tensor, side: float | None = None) -> Tensor:
    """Points ``(batch, n, 2)`` and their seven other reflections and rotations, ``(8, batch, n, 2)``.

    Args:
        x: points.
        side: of the square from 0 that is reflected; by default that is each instance's bounding box.
    """
    a, b = x.unbind(-1)
    c, d = ((x.amin(1, keepdim=True) + x.amax(1, keepdim=True) if side is None else side) - x).unbind(-1)
    pairs = ((a, b), (c, b), (a, d), (c, d), (b, a), (d, a), (b, c), (d, c))
    return torch.stack([torch.stack(pair, -1) for pair in pairs])


def stored_optima(name: str | None, size: int, x: Tensor) -> Tensor:
    """Least costs of the first standard test instances ``x``, ``(batch,)``, NaN where none are stored."""
    optimum = torch.full((len(x),), torch.nan)
    path = OPTIMA / f"{name}{size}.npz"
    if name and path.is_file():
        stored = torch.from_numpy(np.load(path)["length"].astype(np.float32))[: len(x)]
        optimum[: len(stored)] = stored
    return optimum.to(x.device)
