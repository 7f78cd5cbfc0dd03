"""An actor of many factors, whose actions are too many to enumerate."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zoo.lab.study.regimes.bandit import Bandit
from zoo.lab.study.tensors import Examples, Params, Run, Seeds, mlp, mlp_params, rows


class Factored(Bandit):
    """As :class:`.bandit.Bandit`, with ``factors`` choices of ``actions`` each; all critics see them concatenated.

    The reward is a sum over factors, by the context, and over pairs of neighbours, so that the best action is found by
    dynamic programming.

    Args:
        factors: of an action.
        explores, actions, features, noise, entropy, steps, batch: as of :class:`.bandit.Bandit`.
    """

    dims: ClassVar[int] = 2

    def __init__(
        self,
        *,
        factors: int = 6,
        explores: Literal["alike", "own"] = "alike",
        actions: int = 10,
        features: int = 4,
        noise: float = 0.5,
        entropy: float = 0.01,
        steps: int = 2000,
        batch: int = 32,
    ) -> None:
        super().__init__(
            explores=explores,
            actions=actions,
            features=features,
            noise=noise,
            entropy=entropy,
            steps=steps,
            batch=batch,
        )
        self.factors = factors

    def begin(self, seeds: Seeds) -> tuple[Params, Any]:
        a, f, n = self.actions, self.features, self.factors
        hidden = seeds.each(lambda g: torch.randn(f, 16, generator=g))
        out = seeds.each(lambda g: torch.randn(16, n * a, generator=g) / 4)
        pairs = seeds.each(lambda g: 0.5 * torch.randn(n - 1, a, a, generator=g))

        def make(count: int) -> dict[str, Tensor]:
            x = seeds.each(lambda g: torch.randn(count, f, generator=g))
            return {"x": x, "reward": (torch.tanh(x @ hidden) @ out).unflatten(-1, (n, a))}

        params = mlp_params(seeds, "actor", f, 32, n * a, 0.1) | mlp_params(seeds, "critic", f + n * a, 64, 1)
        data = Examples.of(seeds, make, self.batch, (8192, 256, 512))
        return params, (data, pairs[seeds.index])

    def value(self, params: Params, x: Tensor, z: Tensor) -> Tensor:
        return super().value(params, x, z.flatten(2))

    def reward(self, each: Tensor, pairs: Tensor, z: Tensor) -> Tensor:
        """``(cells, examples)`` of one-hot ``(cells, examples, factors, actions)``."""
        together = torch.einsum("cefa,cfab,cefb->ce", z[:, :, :-1], pairs, z[:, :, 1:])
        return (each * z).sum((-1, -2)) + together

    def loss(self, params: Params, data: Any, step: int, run: Run) -> Tensor:
        examples, pairs = data
        batch = examples.batch(step)
        x = batch["x"]
        logits = mlp(params, "actor", x).unflatten(-1, (self.factors, self.actions))
        taken = self.act(logits.detach(), run)
        reward = self.reward(batch["reward"], pairs, taken)
        reward = reward + self.noise * torch.randn(reward.shape, generator=run.generator)
        learning = (self.value(params, x, taken) - reward).square().mean(1)
        fixed = {name: value.detach() for name, value in params.items()}
        wanted = run.expectation(lambda draw: -rows(self.value(fixed, x, draw(rows(logits)).view_as(logits))))
        log_p = logits.log_softmax(-1)
        return learning + wanted + self.entropy * (log_p.exp() * log_p).sum((-1, -2)).mean(1)

    def act(self, logits: Tensor, run: Run) -> Tensor:
        return super().act(logits.flatten(1, 2), run).view_as(logits)

    def scores(self, params: Params, data: Any) -> dict[str, Tensor]:
        examples, pairs = data
        scores = {}
        for name, one in examples.held_out().items():
            each = one["reward"]
            choice = mlp(params, "actor", one["x"]).view_as(each).argmax(-1)
            got = self.reward(each, pairs, torch.eye(self.actions)[choice])
            best = each[:, :, 0]
            for i in range(1, self.factors):
                best = (best.unsqueeze(-1) + pairs[:, None, i - 1]).amax(-2) + each[:, :, i]
            mean = each.mean(-1).sum(-1) + pairs.mean((-1, -2)).sum(-1, keepdim=True)
            best = best.amax(-1)
            scores[name] = (best - got).mean(1) / (best - mean).mean(1)
        return scores
