"""An actor with a learned critic, on a contextual bandit."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zoo.lab.study.tensors import Examples, Params, Run, Seeds, TensorRegime, linear, mlp, mlp_params, rows


class Bandit(TensorRegime):
    """Choose an action for each context. A critic learns rewards of actions taken; the actor follows the critic alone.

    The critic is asked about what the relaxation puts in the place of an action. The score is the regret of the most
    probable action: 0 for the best one, 1 for a random one.

    Args:
        critic: ``concatenated``, the action beside the context; ``linear`` in the action, a value each.
        explores: ``alike``: whatever the estimator, one action in five is uniform and the others are drawn from
            ``softmax(logits)``; ``own``: deterministic estimators act by the mode, the others draw, and that is all.
        actions, features: sizes.
        noise: of the reward.
        entropy: weight of the policy's entropy.
        steps, batch: as every :class:`TensorRegime`.
    """

    slow: ClassVar[Mapping[str, float]] = dict.fromkeys(("critic.0.w", "critic.0.b", "critic.1.w", "critic.1.b"), 0.01)

    def __init__(
        self,
        *,
        critic: Literal["concatenated", "linear"] = "concatenated",
        explores: Literal["alike", "own"] = "alike",
        actions: int = 8,
        features: int = 4,
        noise: float = 0.5,
        entropy: float = 0.01,
        steps: int = 600,
        batch: int = 32,
    ) -> None:
        super().__init__(steps=steps, batch=batch)
        self.critic, self.explores, self.actions, self.features = critic, explores, actions, features
        self.noise, self.entropy = noise, entropy

    def begin(self, seeds: Seeds) -> tuple[Params, Any]:
        a, f = self.actions, self.features
        hidden = seeds.each(lambda g: torch.randn(f, 16, generator=g))
        out = seeds.each(lambda g: torch.randn(16, a, generator=g) / 4)

        def make(count: int) -> dict[str, Tensor]:
            x = seeds.each(lambda g: torch.randn(count, f, generator=g))
            return {"x": x, "reward": torch.tanh(x @ hidden) @ out}

        concatenated = self.critic == "concatenated"
        params = mlp_params(seeds, "actor", f, 16, a, 0.1)
        params |= mlp_params(seeds, "critic", f + a * concatenated, 32, 1 if concatenated else a)
        return params, Examples.of(seeds, make, self.batch, (4096, 256, 512))

    def value(self, params: Params, x: Tensor, z: Tensor) -> Tensor:
        """``(cells, batch)``."""
        if self.critic == "linear":
            return (mlp(params, "critic", x) * z).sum(-1)
        hidden = torch.nn.functional.silu(linear(params, "critic.0", torch.cat([x, z], -1)))
        return linear(params, "critic.1", hidden).squeeze(-1)

    def loss(self, params: Params, data: Examples, step: int, run: Run) -> Tensor:
        batch = data.batch(step)
        x, logits = batch["x"], mlp(params, "actor", batch["x"])
        taken = self.act(logits.detach(), run)
        reward = (batch["reward"] * taken).sum(-1)
        reward = reward + self.noise * torch.randn(reward.shape, generator=run.generator)
        learning = (self.value(params, x, taken) - reward).square().mean(1)
        fixed = {name: value.detach() for name, value in params.items()}
        flat = rows(logits)
        wanted = run.expectation(lambda draw: -rows(self.value(fixed, x, draw(flat).view_as(logits))))
        log_p = logits.log_softmax(-1)
        return learning + wanted + self.entropy * (log_p.exp() * log_p).sum(-1).mean(1)

    def act(self, logits: Tensor, run: Run) -> Tensor:
        """One-hot ``(cells, batch, actions)``."""
        p = logits.softmax(-1)
        if self.explores == "alike":
            p = 0.8 * p + 0.2 / self.actions
        elif not run.relaxation.stochastic:
            return torch.eye(self.actions)[logits.argmax(-1)]
        index = torch.multinomial(p.flatten(0, 1), 1, generator=run.generator).view(p.shape[:-1])
        return torch.eye(self.actions)[index]

    def scores(self, params: Params, data: Examples) -> dict[str, Tensor]:
        scores = {}
        for name, one in data.held_out().items():
            choice = mlp(params, "actor", one["x"]).argmax(-1, keepdim=True)
            best, mean = one["reward"].amax(-1), one["reward"].mean(-1)
            got = one["reward"].gather(2, choice).squeeze(-1)
            scores[name] = (best - got).mean(1) / (best - mean).mean(1)
        return scores
