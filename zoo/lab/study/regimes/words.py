"""The next word, by the two before it."""

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from zoo.lab.study.tensors import Examples, Params, Run, Seeds, TensorRegime, mlp, mlp_params, rows

if TYPE_CHECKING:
    from zoo.lab.study.plan import Estimator

SMALL = 0.01
"""The least weight in the logarithm: a wrong word costs at most minus its logarithm."""


class NextWord(TensorRegime):
    """Predict the next word of a source whose probabilities, given two words, are known.

    - ``cross_entropy``: the cost is ``-log`` of the weight that the right word has in what the relaxation gives, at
      least ``SMALL``. With a softmax at temperature one it is the cross-entropy but for that; with Gumbel-softmax it is
      the noise inside the cross-entropy that people try. Who sees the cost of whole words alone, a score function or an
      exact expectation, has no part in it: to these it would be the other task.
    - ``right``: the cost is 1 for a wrong word, 0 for the right one. It is linear, so a softmax at temperature one has
      the exact gradient.

    The score is the error of the most probable word beyond that of the best prediction: 0 for the best, 1 for a guess.

    Args:
        cost: which of these.
        words: of the vocabulary.
        steps, batch: as every :class:`TensorRegime`.
    """

    def __init__(
        self,
        *,
        cost: Literal["cross_entropy", "right"] = "cross_entropy",
        words: int = 12,
        steps: int = 600,
        batch: int = 32,
    ) -> None:
        super().__init__(steps=steps, batch=batch)
        self.cost, self.words = cost, words

    def begin(self, seeds: Seeds) -> tuple[Params, Any]:
        v = self.words
        source = seeds.each(lambda g: 2 * torch.randn(v, 1, v, generator=g) + 2 * torch.randn(1, v, v, generator=g))
        source = (source / 2**0.5).softmax(-1)

        def make(count: int) -> dict[str, Tensor]:
            pair = seeds.each(lambda g: torch.randint(v, (count, 2), generator=g))
            p = source[torch.arange(len(pair)).unsqueeze(1), pair[..., 0], pair[..., 1]]
            u = seeds.each(lambda g: torch.rand(count, 1, generator=g))
            word = (p.cumsum(-1) < u).sum(-1).clamp_max(v - 1)
            x = torch.nn.functional.one_hot(pair, v).float().flatten(-2)
            return {"x": x, "p": p, "word": torch.nn.functional.one_hot(word, v).float()}

        return mlp_params(seeds, "net", 2 * v, 32, v, 0.1), Examples.of(seeds, make, self.batch, (8192, 512, 1024))

    def serves(self, estimator: "Estimator") -> str:
        if self.cost == "cross_entropy" and estimator.family in ("score", "exact"):
            return "it sees the cost of whole words alone, which is that of being right or wrong"
        return super().serves(estimator)

    def loss(self, params: Params, data: Examples, step: int, run: Run) -> Tensor:
        batch = data.batch(step)
        logits, word = rows(mlp(params, "net", batch["x"])), rows(batch["word"])

        def cost(z: Tensor) -> Tensor:
            weight = (z * word).sum(-1)
            return 1 - weight if self.cost == "right" else -(SMALL + (1 - SMALL) * weight).log()

        return run.expectation(lambda draw: cost(draw(logits)))

    def scores(self, params: Params, data: Examples) -> dict[str, Tensor]:
        scores = {}
        for name, one in data.held_out().items():
            choice = mlp(params, "net", one["x"]).argmax(-1, keepdim=True)
            right, best = one["p"].gather(-1, choice).mean((1, 2)), one["p"].amax(-1).mean(1)
            scores[name] = (best - right) / (best - 1 / self.words)
        return scores
