"""Selection of k of n: one set for all or a set for each example, with one right answer or with several."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zoo.lab.study.tensors import Examples, Params, Run, Seeds, TensorRegime, mlp, mlp_params, rows
from zoo.relaxations import Subset


class SelectOne(TensorRegime):
    """Choose the k of n features that a linear model may use: one set for all examples.

    ``y`` is a weighted sum of k features. Selection and weights are learned together. With ``answers="several"`` every
    feature comes twice, so that either copy is as right as the other, and both are not. The score is the error on test
    data, as a share of the variance of ``y``, of the k most probable features with weights fitted to them by least
    squares: that of the selection, whatever the weights have come to; ``as_trained`` is that with the learned weights.

    Args:
        answers: ``one`` or ``several``.
        n, k: sizes, n even.
        steps, batch: as every :class:`TensorRegime`.
    """

    slow: ClassVar[Mapping[str, float]] = {"w": 0.02}

    def __init__(
        self,
        *,
        answers: Literal["one", "several"] = "one",
        n: int = 16,
        k: int = 4,
        steps: int = 400,
        batch: int = 32,
    ) -> None:
        super().__init__(steps=steps, batch=batch)
        self.answers, self.n, self.k = answers, n, k

    def begin(self, seeds: Seeds) -> tuple[Params, Any]:
        n, k = self.n, self.k
        distinct = n if self.answers == "one" else n // 2
        chosen = seeds.each(lambda g: torch.randperm(distinct, generator=g)[:k])
        weight = seeds.each(
            lambda g: (torch.rand(k, generator=g) + 0.5) * (torch.randint(2, (k,), generator=g) * 2 - 1)
        )
        mixing = seeds.each(lambda g: torch.eye(distinct) + 0.3 * torch.randn(distinct, distinct, generator=g))

        def make(count: int) -> dict[str, Tensor]:
            x = seeds.each(lambda g: torch.randn(count, distinct, generator=g)) @ mixing
            y = torch.einsum("sck,sk->sc", x.gather(2, chosen.unsqueeze(1).expand(-1, count, -1)), weight)
            y = y + 0.1 * seeds.each(lambda g: torch.randn(count, generator=g))
            return {"x": x if distinct == n else x.repeat_interleave(2, 2), "y": y}

        data = Examples.of(seeds, make, self.batch)
        return {"logits": seeds.normal(n, scale=0.1), "w": seeds.normal(n, scale=0.1)}, data

    def loss(self, params: Params, data: Examples, step: int, run: Run) -> Tensor:
        batch = data.batch(step)
        logits = rows(params["logits"].unsqueeze(1).expand(-1, self.batch, -1))
        seen = rows(batch["x"] * params["w"].unsqueeze(1))
        return run.expectation(lambda draw: ((draw(Subset(logits, self.k)) * seen).sum(-1) - rows(batch["y"])).square())

    def scores(self, params: Params, data: Examples) -> dict[str, Tensor]:
        kept = params["logits"].topk(self.k).indices
        train = {name: value[data.seeds.index] for name, value in data.train.items()}
        fitted = least_squares(columns(train["x"], kept), train["y"])
        learned = params["w"].gather(1, kept)
        scores = {}
        for name, one in data.held_out().items():
            for label, w in ((name, fitted), (f"{name}_as_trained", learned)):
                error = torch.einsum("cbk,ck->cb", columns(one["x"], kept), w) - one["y"]
                scores[label] = error.square().mean(1) / one["y"].var(1)
        scores.pop("valid_as_trained")
        return {"as_trained": scores.pop("test_as_trained"), **scores}


class SelectEach(TensorRegime):
    """Choose k of n items of each example by their features, so that the sum of their values is right.

    The right items are those of the largest hidden utility of their features; only the sum of their values is told.
    With ``answers="several"`` every item comes twice, with a little noise on its features: either copy will do. The
    score is the squared error of the sum of the k items of the largest scores, as a share of its variance.

    Args:
        answers: ``one`` or ``several``.
        n, k: sizes, n even.
        features: of an item.
        steps, batch: as every :class:`TensorRegime`.
    """

    def __init__(
        self,
        *,
        answers: Literal["one", "several"] = "one",
        n: int = 10,
        k: int = 3,
        features: int = 4,
        steps: int = 600,
        batch: int = 32,
    ) -> None:
        super().__init__(steps=steps, batch=batch)
        self.answers, self.n, self.k, self.features = answers, n, k, features

    def begin(self, seeds: Seeds) -> tuple[Params, Any]:
        n, k, f = self.n, self.k, self.features
        distinct = n if self.answers == "one" else n // 2
        hidden = seeds.each(lambda g: torch.randn(f, 8, generator=g))
        out = seeds.each(lambda g: torch.randn(8, 1, generator=g))

        def make(count: int) -> dict[str, Tensor]:
            u = seeds.each(lambda g: torch.randn(count, distinct, f, generator=g))
            value = seeds.each(lambda g: torch.randn(count, distinct, generator=g))
            utility = (torch.tanh(u @ hidden.unsqueeze(1)) @ out.unsqueeze(1)).squeeze(-1)
            y = value.gather(2, utility.topk(k).indices).sum(-1)
            if distinct < n:
                u, value = u.repeat_interleave(2, 2), value.repeat_interleave(2, 2)
                u = u + 0.1 * seeds.each(lambda g: torch.randn(count, n, f, generator=g))
            return {"u": u, "value": value, "y": y}

        return mlp_params(seeds, "net", f, 16, 1), Examples.of(seeds, make, self.batch, (2048, 512, 512))

    def logits(self, params: Params, u: Tensor) -> Tensor:
        return mlp(params, "net", u.flatten(1, 2)).view(*u.shape[:3])

    def loss(self, params: Params, data: Examples, step: int, run: Run) -> Tensor:
        batch = data.batch(step)
        logits, value, y = rows(self.logits(params, batch["u"])), rows(batch["value"]), rows(batch["y"])
        return run.expectation(lambda draw: ((draw(Subset(logits, self.k)) * value).sum(-1) - y).square())

    def scores(self, params: Params, data: Examples) -> dict[str, Tensor]:
        scores = {}
        for name, one in data.held_out().items():
            kept = self.logits(params, one["u"]).topk(self.k).indices
            error = one["value"].gather(2, kept).sum(-1) - one["y"]
            scores[name] = error.square().mean(1) / one["y"].var(1)
        return scores


def columns(x: Tensor, kept: Tensor) -> Tensor:
    """The columns ``kept`` ``(cells, k)`` of ``x`` ``(cells, batch, n)``."""
    return x.gather(2, kept.unsqueeze(1).expand(-1, x.shape[1], -1))


def least_squares(x: Tensor, y: Tensor, ridge: float = 1e-3) -> Tensor:
    """Weights ``(cells, k)``; columns may be the same."""
    gram = x.mT @ x / x.shape[1] + ridge * torch.eye(x.shape[2])
    return torch.linalg.solve(gram, (x.mT @ y.unsqueeze(-1) / x.shape[1])).squeeze(-1)
