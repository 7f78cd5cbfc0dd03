"""Structured arg max: the best path through a grid."""

import itertools
from typing import Any, Literal, Self

import torch
from torch import Tensor

from zoo.lab.study.tensors import Examples, Params, Run, Seeds, TensorRegime, mlp, mlp_params, rows
from zoo.relaxations.distributions.base import Linear

LOW = -1e9


class GridPath(Linear):
    """A path from the first to the last cell of a grid by steps right and down, as the 0-1 matrix of its cells.

    ``logits`` ``(batch, ..., n, n)`` are scores of the cells; the hard value is the path of the largest sum, by dynamic
    programming. Drawn by perturb-and-MAP, one noise a cell, which has no log-probability. Relaxed: the marginals of the
    Gibbs law of paths at temperature ``tau``, a softmax over all of them.
    """

    choice_dims = 2
    value_dims = 2

    @classmethod
    def example(cls) -> Self:
        return cls(torch.tensor([[[0.5, -0.3, 0.4], [0.1, 0.6, -0.5], [-0.2, 0.3, 0.7]]]))

    def relax(self, scores: Tensor, tau: Tensor | float) -> Tensor:
        s = skewed(scores / tau)
        ahead, behind = sums(s), sums(s.flip(-2)).flip(-2)
        total = ahead[..., -1, -1:].unsqueeze(-1)
        return straight((ahead + behind - s - total).exp())

    def harden(self, scores: Tensor) -> Tensor:
        s = skewed(scores.detach())
        best = sums(s, torch.maximum)
        n = scores.shape[-1]
        place = torch.full_like(s[..., 0, :1], n - 1, dtype=torch.int64)
        path = [place]
        for d in range(2 * n - 2, 0, -1):  # from the end back: which of the two before it is the better one
            row = best[..., d - 1, :]
            same = row.gather(-1, place)
            above = torch.where(place > 0, row.gather(-1, (place - 1).clamp_min(0)), LOW * 2)
            place = torch.where(above > same, place - 1, place)
            path.append(place)
        z = torch.zeros_like(s).scatter(-1, torch.stack(path[::-1], -2), 1.0)
        return straight(z) * torch.where(scores.isfinite().all(-1).all(-1), 1.0, torch.nan)[..., None, None]


def skewed(x: Tensor) -> Tensor:
    """``(..., n, n)`` with anti-diagonals as rows: entry ``(i, j)`` at ``(i + j, i)`` of ``(..., 2 n - 1, n)``."""
    n = x.shape[-1]
    i, j = torch.arange(n).repeat_interleave(n), torch.arange(n).repeat(n)
    flat = x.new_full((*x.shape[:-2], (2 * n - 1) * n), LOW)
    return flat.index_copy(-1, (i + j) * n + i, x.flatten(-2)).unflatten(-1, (2 * n - 1, n))


def straight(x: Tensor) -> Tensor:
    """The inverse of :func:`skewed`."""
    n = x.shape[-1]
    i, j = torch.arange(n).repeat_interleave(n), torch.arange(n).repeat(n)
    return x.flatten(-2)[..., (i + j) * n + i].unflatten(-1, (n, n))


def sums(s: Tensor, add: Any = torch.logaddexp) -> Tensor:
    """Of skewed scores, of all paths that end at each cell: the logarithm of the sum, or the largest. Flipped, too."""
    found = [s[..., 0, :]]
    # From the first cell a step keeps the row or goes to the next. From the last, backwards, it keeps it or goes back.
    forth = bool((s[..., 0, 0] > LOW / 2).all())
    for d in range(1, s.shape[-2]):
        before = found[-1]
        pad = torch.full_like(before[..., :1], LOW)
        moved = torch.cat([pad, before[..., :-1]], -1) if forth else torch.cat([before[..., 1:], pad], -1)
        found.append((add(before, moved) + s[..., d, :]).clamp_min(LOW))
    return torch.stack(found, -2)


def all_paths(n: int) -> Tensor:
    """Every path, ``(paths, n, n)``."""
    found = []
    for downs in itertools.combinations(range(2 * n - 2), n - 1):
        i = j = 0
        z = torch.zeros(n, n)
        z[0, 0] = 1.0
        for step in range(2 * n - 2):
            i, j = (i + 1, j) if step in downs else (i, j + 1)
            z[i, j] = 1.0
        found.append(z)
    return torch.stack(found)


class Paths(TensorRegime):
    """Learn to score the cells of a grid from their features, so that the best path by the scores is a good one.

    - ``imitate``: the cost is the Hamming distance from the truly cheapest path.
    - ``cost``: it is the true cost of the path, a sum over its cells: linear.
    - ``load``: that, and ``(load - wanted)^2`` of what the cells of the path carry: curved.

    The score is the regret of the best path by the scores: 0 for the best of all, 1 for the mean of all paths.

    Args:
        target: which of these.
        n: of the grid.
        features: of a cell.
        steps, batch: as every :class:`TensorRegime`.
    """

    dims = 2

    def __init__(
        self,
        *,
        target: Literal["imitate", "cost", "load"] = "cost",
        n: int = 5,
        features: int = 4,
        steps: int = 300,
        batch: int = 16,
    ) -> None:
        super().__init__(steps=steps, batch=batch)
        self.target, self.n, self.features = target, n, features
        self.paths = all_paths(n)

    def begin(self, seeds: Seeds) -> tuple[Params, Any]:
        n, f = self.n, self.features
        hidden = seeds.each(lambda g: torch.randn(f, 8, generator=g))
        out = seeds.each(lambda g: torch.randn(8, 1, generator=g) / 8**0.5)

        def make(count: int) -> dict[str, Tensor]:
            u = seeds.each(lambda g: torch.randn(count, n * n, f, generator=g))
            cost = torch.nn.functional.softplus(2 * torch.tanh(u @ hidden.unsqueeze(1)) @ out.unsqueeze(1))
            cost = cost.squeeze(-1).unflatten(-1, (n, n))
            load = seeds.each(lambda g: torch.rand(count, n * n, generator=g))
            wanted = seeds.each(lambda g: (2 * n - 1) * (0.3 + 0.4 * torch.rand(count, 1, generator=g)))
            table = torch.einsum("scij,pij->scp", cost, self.paths)
            best = self.paths[table.argmin(-1)]
            if self.target == "load":
                u = torch.cat([u, load.unsqueeze(-1), wanted.unsqueeze(-1).expand(-1, -1, n * n, 1) / n], -1)
            return {
                "u": u,
                "cost": cost,
                "load": load.unflatten(-1, (n, n)),
                "wanted": wanted.squeeze(-1),
                "best": best,
            }

        inputs = f + 2 * (self.target == "load")
        return mlp_params(seeds, "net", inputs, 16, 1), Examples.of(seeds, make, self.batch, (512, 128, 256))

    def distribution(self, params: Params, u: Tensor) -> GridPath:
        scores = mlp(params, "net", u.flatten(1, 2)).view(*u.shape[:2], self.n, self.n)
        return GridPath(rows(scores))

    def true_cost(self, z: Tensor, one: dict[str, Tensor]) -> Tensor:
        """``(examples, ...)`` of paths ``(examples, ..., n, n)``."""
        more = (slice(None), *[None] * (z.dim() - 3))
        cost = (z * one["cost"][more]).sum((-1, -2))
        if self.target != "load":
            return cost
        return cost + (((z * one["load"][more]).sum((-1, -2))) - one["wanted"][more]).square()

    def loss(self, params: Params, data: Examples, step: int, run: Run) -> Tensor:
        given = data.batch(step)
        batch = {name: rows(value) for name, value in given.items()}
        law = self.distribution(params, given["u"])
        if self.target == "imitate":
            best = batch["best"]
            return run.expectation(lambda draw: hamming(draw(law), best))
        return run.expectation(lambda draw: self.true_cost(draw(law), batch))

    def scores(self, params: Params, data: Examples) -> dict[str, Tensor]:
        scores = {}
        for name, given in data.held_out().items():
            one = {key: rows(value) for key, value in given.items()}
            found = self.true_cost(self.distribution(params, given["u"]).mode(), one)
            table = self.true_cost(self.paths.unsqueeze(0), one)
            best, mean = table.amin(1), table.mean(1)
            scores[name] = ((found - best) / (mean - best)).view(len(data.seeds), -1).mean(1)
        return scores


def hamming(z: Tensor, best: Tensor) -> Tensor:
    return (z * (1 - best) + (1 - z) * best).sum((-1, -2))
