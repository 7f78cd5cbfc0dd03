"""Gates that open features at a price, as in L0 regularisation."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zoo.lab.study.regimes.selection import least_squares
from zoo.lab.study.tensors import Examples, Params, Run, Seeds, TensorRegime, rows
from zoo.relaxations import Bernoulli


class Gates(TensorRegime):
    """A linear model in which every feature that is let in costs ``price``.

    Gates and weights are learned together. The score is the test error with the gates that are more probably open than
    not, and weights fitted to them, as a share of the variance, plus ``price`` a gate.

    Args:
        features: ``independent``, or in pairs that are almost the ``same``.
        n: features.
        used: that the answer is made of.
        price: of an open gate, as a share of the variance.
        steps, batch: as every :class:`TensorRegime`.

    Source: Louizos et al. 2018, arXiv 1712.01312, for the objective.
    """

    slow: ClassVar[Mapping[str, float]] = {"w": 0.02}

    def __init__(
        self,
        *,
        features: Literal["independent", "same"] = "independent",
        n: int = 20,
        used: int = 5,
        price: float = 0.02,
        steps: int = 400,
        batch: int = 32,
    ) -> None:
        super().__init__(steps=steps, batch=batch)
        self.features, self.n, self.used, self.price = features, n, used, price

    def begin(self, seeds: Seeds) -> tuple[Params, Any]:
        n, used = self.n, self.used
        chosen = seeds.each(lambda g: torch.randperm(n // 2, generator=g)[:used] * 2)
        weight = seeds.each(
            lambda g: (torch.rand(used, generator=g) + 0.5) * (torch.randint(2, (used,), generator=g) * 2 - 1)
        )
        weight = weight / weight.norm(dim=1, keepdim=True)  # so that the variance is one

        def make(count: int) -> dict[str, Tensor]:
            x = seeds.each(lambda g: torch.randn(count, n, generator=g))
            if self.features == "same":
                x = x[..., ::2].repeat_interleave(2, 2) + 0.1 * x
            y = torch.einsum("sck,sk->sc", x.gather(2, chosen.unsqueeze(1).expand(-1, count, -1)), weight)
            return {"x": x, "y": y + 0.1 * seeds.each(lambda g: torch.randn(count, generator=g))}

        return {"logits": seeds.normal(n, scale=0.1), "w": seeds.normal(n, scale=0.1)}, Examples.of(
            seeds, make, self.batch
        )

    def loss(self, params: Params, data: Examples, step: int, run: Run) -> Tensor:
        batch = data.batch(step)
        logits = rows(params["logits"].unsqueeze(1).expand(-1, self.batch, -1))
        seen, y = rows(batch["x"] * params["w"].unsqueeze(1)), rows(batch["y"])

        def program(draw: Any) -> Tensor:
            z = draw(Bernoulli(logits))
            return ((z * seen).sum(-1) - y).square() + self.price * z.sum(-1)

        return run.expectation(program)

    def scores(self, params: Params, data: Examples) -> dict[str, Tensor]:
        open_gates = (params["logits"] > 0).float()
        train = {name: value[data.seeds.index] for name, value in data.train.items()}
        w = least_squares(train["x"] * open_gates.unsqueeze(1), train["y"]) * open_gates
        scores = {"gates": open_gates.sum(1)}
        for name, one in data.held_out().items():
            error = (torch.einsum("cbn,cn->cb", one["x"], w) - one["y"]).square().mean(1) / one["y"].var(1)
            scores[name] = error + self.price * open_gates.sum(1)
        return scores
