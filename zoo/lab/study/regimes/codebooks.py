"""A codebook: points in place of which the nearest of a few vectors is passed on."""

from typing import Any, Literal

import torch
from torch import Tensor

from zoo.lab.study.tensors import Examples, Params, Run, Seeds, TensorRegime, mlp, mlp_params, rows


class Codebooks(TensorRegime):
    """Rows of a table through the narrow place of a codebook: an encoder's point, a code near it, a decoder.

    The logits are minus the squared distances to the vectors, as in vector quantisation. All is learned together. There
    are as many codes as kinds of rows, so that each kind can have its own.

    The score is the squared error by the nearest code, as a share of the rows' variance; 0.04 of it is noise.

    Args:
        start: ``spread``, all vectors among the points; ``idle``, a quarter of them, the others so far off that hardly
            one is ever chosen.
        codes: vectors and kinds of rows.
        features: of a row.
        width: of a vector.
        steps, batch: as every :class:`TensorRegime`.
    """

    def __init__(
        self,
        *,
        start: Literal["spread", "idle"] = "spread",
        codes: int = 12,
        features: int = 6,
        width: int = 3,
        steps: int = 600,
        batch: int = 32,
    ) -> None:
        super().__init__(steps=steps, batch=batch)
        self.start, self.codes, self.features, self.width = start, codes, features, width

    def begin(self, seeds: Seeds) -> tuple[Params, Any]:
        f, k, d = self.features, self.codes, self.width
        kinds = seeds.each(lambda g: torch.randn(k, f, generator=g))

        def make(count: int) -> dict[str, Tensor]:
            kind = seeds.each(lambda g: torch.randint(k, (count,), generator=g))
            noise = seeds.each(lambda g: 0.2 * torch.randn(count, f, generator=g))
            return {"x": kinds[torch.arange(len(kind)).unsqueeze(1), kind] + noise}

        book = seeds.normal(k, d, scale=0.5)
        if self.start == "idle":
            book[:, k // 4 :] += 1.5
        params = mlp_params(seeds, "encoder", f, 32, d) | {"book": book} | mlp_params(seeds, "decoder", d, 32, f)
        return params, Examples.of(seeds, make, self.batch, (4096, 512, 1024))

    def logits(self, params: Params, x: Tensor) -> Tensor:
        return -torch.cdist(mlp(params, "encoder", x), params["book"]).square()

    def error(self, params: Params, x: Tensor, z: Tensor) -> Tensor:
        """``(cells, examples)``."""
        return (mlp(params, "decoder", z @ params["book"]) - x).square().mean(-1)

    def loss(self, params: Params, data: Examples, step: int, run: Run) -> Tensor:
        x = data.batch(step)["x"]
        logits = self.logits(params, x)
        return run.expectation(lambda draw: rows(self.error(params, x, draw(rows(logits)).view_as(logits))))

    def scores(self, params: Params, data: Examples) -> dict[str, Tensor]:
        scores = {}
        for name, one in data.held_out().items():
            x = one["x"]
            z = torch.nn.functional.one_hot(self.logits(params, x).argmax(-1), self.codes).float()
            scores[name] = self.error(params, x, z).mean(1) / x.var((1, 2))
            scores["used"] = (z.mean(1) > 0.01).sum(-1).float()
        return scores
