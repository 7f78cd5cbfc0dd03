"""A family of costs of a few choices, from linear over curved to deceptive, with everything exact."""

from typing import Any, Literal

import torch
from torch import Tensor

from zoo.lab.study.tensors import Params, Run, Seeds, TensorRegime, rows
from zoo.relaxations import Exact

Kind = Literal["linear", "convex", "concave", "deceptive", "blend"]


class Costs(TensorRegime):
    """Find the cheapest of ``categories ** choices`` combinations by their factorised logits alone.

    - ``linear``: ``w . z``.
    - ``convex``: with ``bend`` times ``|A z - b|^2``: off the vertices lie better blends than any vertex.
    - ``concave``: less ``bend`` times ``|A z - b|^2 / 4``: blends are worse than vertices.
    - ``deceptive``: three choices together are best at an answer of which each alone makes it worse. Multilinear, so a
      softmax follows the exact gradient.
    - ``blend``: ``w . z`` less a reward for being blended, which is the same at all vertices.

    The score is the regret of the mode, 0 for the cheapest combination and 1 for the mean of all, over ``batch``
    instances of the problem.

    Args:
        kind: of the cost.
        bend: how much it is bent.
        choices, categories: sizes.
        steps, batch: as every :class:`TensorRegime`.
    """

    dims = 2

    def __init__(
        self,
        *,
        kind: Kind,
        bend: float = 1.0,
        choices: int = 6,
        categories: int = 3,
        steps: int = 300,
        batch: int = 24,
    ) -> None:
        super().__init__(steps=steps, batch=batch)
        self.kind, self.bend, self.choices, self.categories = kind, bend, choices, categories

    def begin(self, seeds: Seeds) -> tuple[Params, Any]:
        n, k, b = self.choices, self.categories, self.batch
        data = {
            "w": seeds.normal(b, n, k, scale=1 / n**0.5),
            "a": seeds.normal(b, 4, n * k, scale=1 / n**0.5),
            "b": seeds.normal(b, 4),
            "answer": seeds.cells(lambda g: torch.eye(k)[torch.randint(k, (b, n), generator=g)]),
        }
        data = {name: rows(value) for name, value in data.items()}
        index = torch.cartesian_prod(*[torch.arange(k)] * n)
        data["all"] = torch.eye(k)[index]
        data["table"] = self.costs(data["all"].unsqueeze(0), {name: v.unsqueeze(1) for name, v in data.items()})
        return {"logits": seeds.normal(b, n, k, scale=0.1)}, data

    def costs(self, z: Tensor, data: Any) -> Tensor:
        """``(rows, ..., choices, categories)`` to ``(rows, ...)``."""
        linear = (data["w"] * z).sum((-1, -2))
        if self.kind == "linear":
            return linear
        if self.kind == "blend":
            return linear + self.bend * z.square().sum((-1, -2))
        if self.kind == "deceptive":
            right = (z * data["answer"]).sum(-1)
            together = right.unflatten(-1, (-1, 3)).prod(-1).sum(-1)
            return self.bend * (right.sum(-1) - 4 * together) + 0.3 * linear
        error = ((data["a"] @ z.flatten(-2).unsqueeze(-1)).squeeze(-1) - data["b"]).square().sum(-1)
        return linear + self.bend * (error if self.kind == "convex" else -error / 4)

    def loss(self, params: Params, data: Any, step: int, run: Run) -> Tensor:
        logits = rows(params["logits"])
        if isinstance(run.relaxation, Exact):  # the same by a table, which is quicker than one program run each
            log_p = torch.einsum("rnk,cnk->rc", logits.log_softmax(-1), data["all"])
            return (log_p.exp() * data["table"]).sum(1).view(-1, self.batch).mean(1)
        return run.expectation(lambda draw: self.costs(draw(logits), data))

    def scores(self, params: Params, data: Any) -> dict[str, Tensor]:
        logits = rows(params["logits"])
        best, mean = data["table"].amin(1), data["table"].mean(1)

        def regret(cost: Tensor) -> Tensor:
            return ((cost - best) / (mean - best)).view(-1, self.batch).mean(1)

        mode = torch.eye(self.categories)[logits.argmax(-1)]
        log_p = torch.einsum("rnk,cnk->rc", logits.log_softmax(-1), data["all"])
        found = regret(self.costs(mode, data))
        sampled = regret((log_p.exp() * data["table"]).sum(1))
        entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum((-1, -2)).view(-1, self.batch).mean(1)
        return {"valid": found, "test": found, "sampled": sampled, "entropy": entropy}
