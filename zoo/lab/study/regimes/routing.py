"""Routing of rows of a small table to experts."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zoo.lab.study.tensors import Examples, Params, Run, Seeds, TensorRegime, mlp, mlp_params, rows


class Routing(TensorRegime):
    """Send each row to one of some linear experts; the rows are of as many kinds, each with a rule of its own.

    Router and experts are learned together. The score is the error of the most probable expert alone, as a share of the
    variance; ``used`` is to how many of them at least one row in a hundred is sent.

    Args:
        start: ``even``; or ``dead``: the router begins with all rows at one expert.
        balance: weight of a loss that wants all experts to be used alike.
        experts: how many, and kinds of rows.
        features: of a row.
        steps, batch: as every :class:`TensorRegime`.
    """

    slow: ClassVar[Mapping[str, float]] = {"experts": 0.03}

    def __init__(
        self,
        *,
        start: Literal["even", "dead"] = "even",
        balance: float = 0.0,
        experts: int = 4,
        features: int = 3,
        steps: int = 600,
        batch: int = 32,
    ) -> None:
        super().__init__(steps=steps, batch=batch)
        self.start, self.balance, self.experts, self.features = start, balance, experts, features

    def begin(self, seeds: Seeds) -> tuple[Params, Any]:
        e, f = self.experts, self.features
        center = seeds.each(lambda g: 2 * torch.randn(e, f, generator=g))
        rule = seeds.each(lambda g: 2 * torch.randn(e, f + 1, generator=g))

        def make(count: int) -> dict[str, Tensor]:
            kind = seeds.each(lambda g: torch.randint(e, (count,), generator=g))
            first = torch.arange(len(kind)).unsqueeze(1)
            x = center[first, kind] + seeds.each(lambda g: torch.randn(count, f, generator=g))
            one = torch.cat([x - center[first, kind], torch.ones_like(x[..., :1])], -1)
            return {"x": x, "y": (one * rule[first, kind]).sum(-1)}

        params = mlp_params(seeds, "router", f, 16, e)
        if self.start == "dead":
            params["router.1.b"][..., 0] += 4.0
        params["experts"] = seeds.normal(f + 1, e, scale=0.5)
        return params, Examples.of(seeds, make, self.batch)

    def answers(self, params: Params, x: Tensor) -> Tensor:
        """Of every expert, ``(cells, batch, experts)``."""
        return torch.cat([x, torch.ones_like(x[..., :1])], -1) @ params["experts"]

    def loss(self, params: Params, data: Examples, step: int, run: Run) -> Tensor:
        batch = data.batch(step)
        logits = mlp(params, "router", batch["x"])
        answers, y, flat = rows(self.answers(params, batch["x"])), rows(batch["y"]), rows(logits)
        loss = run.expectation(lambda draw: ((draw(flat) * answers).sum(-1) - y).square())
        if self.balance:
            share = logits.softmax(-1).mean(1)
            loss = loss + self.balance * (self.experts * share.square().sum(-1) - 1)
        return loss

    def scores(self, params: Params, data: Examples) -> dict[str, Tensor]:
        scores = {}
        for name, one in data.held_out().items():
            choice = mlp(params, "router", one["x"]).argmax(-1, keepdim=True)
            answer = self.answers(params, one["x"]).gather(2, choice).squeeze(-1)
            scores[name] = (answer - one["y"]).square().mean(1) / one["y"].var(1)
            share = torch.nn.functional.one_hot(choice.squeeze(-1), self.experts).float().mean(1)
            scores["used"] = (share >= 0.01).float().sum(1)
        return scores
