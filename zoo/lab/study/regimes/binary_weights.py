"""The binary weights of a small network."""

from typing import Any, Literal

import torch
from torch import Tensor

from zoo.lab.study.tensors import Examples, Params, Run, Seeds, TensorRegime
from zoo.relaxations import Bernoulli


class BinaryWeights(TensorRegime):
    """Learn weights of plus and minus one; the answer comes from a network of the same kind.

    One draw of all weights serves a batch of ``examples``. The score is the error with the more probable sign of every
    weight, as a share of the variance.

    Args:
        net: ``linear``, or ``layers``: a hidden layer of tanh units, whose order and signs are free.
        inputs, hidden: sizes.
        examples: of a step.
        steps: as every :class:`TensorRegime`.
    """

    def __init__(
        self,
        *,
        net: Literal["linear", "layers"] = "layers",
        inputs: int = 16,
        hidden: int = 6,
        examples: int = 64,
        steps: int = 600,
    ) -> None:
        super().__init__(steps=steps, batch=1)  # one draw of the weights in a step
        self.net, self.inputs, self.hidden, self.examples = net, inputs, hidden, examples
        self.size = inputs if net == "linear" else inputs * hidden + hidden

    def answer(self, x: Tensor, z: Tensor) -> Tensor:
        """``(cells, examples, inputs)`` and gates ``(cells, size)`` to ``(cells, examples)``."""
        w = 2 * z - 1
        if self.net == "linear":
            return (x @ w.unsqueeze(-1)).squeeze(-1) / self.inputs**0.5
        first = w[:, : self.inputs * self.hidden].unflatten(1, (self.inputs, self.hidden))
        hidden = torch.tanh(x @ first / self.inputs**0.5)
        return (hidden @ w[:, self.inputs * self.hidden :].unsqueeze(-1)).squeeze(-1) / self.hidden**0.5

    def begin(self, seeds: Seeds) -> tuple[Params, Any]:
        truth = seeds.each(lambda g: torch.randint(2, (self.size,), generator=g).float())

        def make(count: int) -> dict[str, Tensor]:
            x = seeds.each(lambda g: torch.randn(count, self.inputs, generator=g))
            noise = seeds.each(lambda g: torch.randn(count, generator=g))
            return {"x": x, "y": self.answer(x, truth) + 0.1 * noise}

        return {"logits": seeds.normal(self.size, scale=0.5)}, Examples.of(seeds, make, self.examples)

    def loss(self, params: Params, data: Examples, step: int, run: Run) -> Tensor:
        batch, logits = data.batch(step), params["logits"]

        def program(draw: Any) -> Tensor:
            return (self.answer(batch["x"], draw(Bernoulli(logits))) - batch["y"]).square().mean(1)

        return run.expectation(program)

    def scores(self, params: Params, data: Examples) -> dict[str, Tensor]:
        z = (params["logits"] > 0).float()
        return {
            name: (self.answer(one["x"], z) - one["y"]).square().mean(1) / one["y"].var(1)
            for name, one in data.held_out().items()
        }
