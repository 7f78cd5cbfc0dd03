"""Permutations: to put items in order, and to give each a place."""

from typing import Any, Literal

import torch
from torch import Tensor

from zoo.lab.study.tensors import Examples, Params, Run, Seeds, TensorRegime, mlp, mlp_params, rows
from zoo.relaxations import Matching, Ranking


class Orders(TensorRegime):
    """Sort items by a hidden value of their features; told is how far the values in the order found are from sorted.

    Args:
        law: ``ranking``, Plackett-Luce scores of the items; ``matching``, a matrix of scores of items and places.
        answers: ``one``; ``several``: values are of two kinds, so that many orders are right.
        n: items.
        features: of an item.
        steps, batch: as every :class:`TensorRegime`.
    """

    def __init__(
        self,
        *,
        law: Literal["ranking", "matching"] = "ranking",
        answers: Literal["one", "several"] = "one",
        n: int = 5,
        features: int = 4,
        steps: int = 400,
        batch: int = 16,
    ) -> None:
        super().__init__(steps=steps, batch=batch)
        self.law, self.answers, self.n, self.features = law, answers, n, features
        self.dims = 1 if law == "ranking" else 2  # type: ignore[misc]

    def begin(self, seeds: Seeds) -> tuple[Params, Any]:
        n, f = self.n, self.features
        hidden = seeds.each(lambda g: torch.randn(f, 8, generator=g))
        out = seeds.each(lambda g: torch.randn(8, 1, generator=g) / 8**0.5)

        def make(count: int) -> dict[str, Tensor]:
            u = seeds.each(lambda g: torch.randn(count, n, f, generator=g))
            value = (torch.tanh(u @ hidden.unsqueeze(1)) @ out.unsqueeze(1)).squeeze(-1)
            if self.answers == "several":
                value = (value > 0).float()
            return {"u": u, "value": value}

        outputs = 1 if self.law == "ranking" else n
        return mlp_params(seeds, "net", f, 16, outputs), Examples.of(seeds, make, self.batch, (1024, 256, 512))

    def distribution(self, params: Params, u: Tensor) -> Any:
        scores = mlp(params, "net", u.flatten(1, 2)).view(*u.shape[:3], -1)  # of each item, for each place
        if self.law == "ranking":
            return Ranking(rows(scores.squeeze(-1)))
        return Matching(rows(scores.mT))

    def loss(self, params: Params, data: Examples, step: int, run: Run) -> Tensor:
        batch = data.batch(step)
        law, value = self.distribution(params, batch["u"]), rows(batch["value"])
        return run.expectation(lambda draw: self.cost(draw(law), value))

    def cost(self, z: Tensor, value: Tensor) -> Tensor:
        placed = (z @ value.unsqueeze(-1)).squeeze(-1)
        return (placed - value.sort(-1, descending=True).values).square().sum(-1)

    def scores(self, params: Params, data: Examples) -> dict[str, Tensor]:
        scores = {}
        for name, one in data.held_out().items():
            value = rows(one["value"])
            found = self.cost(self.distribution(params, one["u"]).mode(), value).view(len(data.seeds), -1)
            blind = 2 * (value - value.mean(-1, keepdim=True)).square().sum(-1)  # of a random order, in the mean
            scores[name] = found.mean(1) / blind.view(len(data.seeds), -1).mean(1)
        return scores
