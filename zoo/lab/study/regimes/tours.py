"""Tours: which city next, of those that are left."""

import itertools
from typing import Any

import torch
from torch import Tensor

from zoo.lab.study.tensors import Examples, Params, Run, Seeds, TensorRegime, mlp, mlp_params, rows
from zoo.relaxations import Program


class Tours(TensorRegime):
    """Choose one city after another; told is the length of the whole tour.

    A network scores the cities that are left by their distances from where the tour is, from where it began, and from
    the middle of the others. Where a relaxation puts a blend in the place of a city, the tour passes through the blend
    of their places; the city of its largest weight is the one that is not visited again.

    The score is the regret of the tour by the most probable choices: 0 for the shortest of all, 1 for the mean of all.

    Args:
        n: cities.
        steps, batch: as every :class:`TensorRegime`.
    """

    def __init__(self, *, n: int = 6, steps: int = 400, batch: int = 16) -> None:
        super().__init__(steps=steps, batch=batch)
        self.n = n
        self.orders = torch.tensor([(0, *order) for order in itertools.permutations(range(1, n))])

    def begin(self, seeds: Seeds) -> tuple[Params, Any]:
        def make(count: int) -> dict[str, Tensor]:
            return {"x": seeds.each(lambda g: torch.rand(count, self.n, 2, generator=g))}

        return mlp_params(seeds, "net", 4, 16, 1, 0.1), Examples.of(seeds, make, self.batch, (1024, 256, 512))

    def tour(self, params: Params, x: Tensor, draw: Any) -> Tensor:
        """Lengths ``(cells * examples,)`` for places ``(cells, examples, n, 2)``."""
        cells, examples, n, _ = x.shape
        place = rows(x)
        here = start = place[:, 0]
        visited = torch.zeros(cells * examples, n).index_fill(1, torch.tensor([0]), 1.0)
        length = torch.zeros(cells * examples)
        for _ in range(n - 1):
            left = 1 - visited
            middle = (left.unsqueeze(-1) * place).sum(1) / left.sum(1, keepdim=True)
            away = [distance(place, to.unsqueeze(1)) for to in (here, start, middle)]
            far = torch.stack([*away, distance(here, middle).unsqueeze(1).expand(-1, n)], -1)
            scores = mlp(params, "net", far.view(cells, -1, 4)).view(-1, n)
            z = draw(scores, visited == 0)
            there = (z.unsqueeze(-1) * place).sum(1)
            length = length + distance(here, there)
            here = there
            visited = visited.scatter(1, z.detach().masked_fill(visited > 0, -1).argmax(1, keepdim=True), 1.0)
        return length + distance(here, start)

    def loss(self, params: Params, data: Examples, step: int, run: Run) -> Tensor:
        x = data.batch(step)["x"]
        program: Program = lambda draw: self.tour(params, x, draw)  # noqa: E731
        return run.expectation(program)

    def scores(self, params: Params, data: Examples) -> dict[str, Tensor]:
        scores = {}
        for name, one in data.held_out().items():
            x = one["x"]
            found = self.tour(params, x, likeliest)
            ordered = rows(x)[:, self.orders]
            every = distance(ordered, ordered.roll(-1, 2)).sum(-1)
            best, mean = every.amin(1), every.mean(1)
            scores[name] = ((found - best) / (mean - best)).view(len(x), -1).mean(1)
        return scores


def distance(a: Tensor, b: Tensor) -> Tensor:
    """With a gradient where two places are the same."""
    return ((a - b).square().sum(-1) + 1e-12).sqrt()


def likeliest(scores: Tensor, mask: Tensor) -> Tensor:
    index = scores.masked_fill(~mask, -torch.inf).argmax(-1)
    return torch.nn.functional.one_hot(index, scores.shape[-1]).to(scores.dtype)
