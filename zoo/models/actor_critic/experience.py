"""What the training loader gives to a step: environments to act in, and transitions to learn from."""

from collections import deque
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from zoo.models.actor_critic.arena import Arena
from zoo.models.actor_critic.replay import Replay, Transitions

Act = Callable[[Tensor], Tensor]
"""Observations ``(envs, *observation)`` to actions, int64 ``(envs, choices)``."""
RECENT = 40  # finished episodes behind the return that is shown during training


class Experience:
    """What the training loader gives to a step: environments to act in, and transitions to learn from.

    Args:
        arena: the environments.
        replay: where their transitions go.
        steps: n of the n-step returns.
        gamma: the discount of one step.
        start: transitions to collect before the first batch is sampled.
        reward_scale: a factor of the rewards in transitions, not of the returns that are shown.
    """

    def __init__(
        self, arena: Arena, replay: Replay, *, steps: int, gamma: float, start: int = 1, reward_scale: float = 1.0
    ) -> None:
        self.arena, self.replay = arena, replay
        self.steps, self.gamma, self.start, self.reward_scale = steps, gamma, start, reward_scale
        self.env_steps = 0
        self.recent: deque[float] = deque(maxlen=RECENT)

    def collect(self, act: Act) -> None:
        """Act once in every environment; before the first update, until there are ``start`` transitions."""
        self._collect(act)
        while len(self.replay) < self.start:
            self._collect(act)

    @torch.no_grad()
    def _collect(self, act: Act) -> None:
        device = self.replay.tensors["reward"].device
        observation = torch.from_numpy(self.arena.observation).to(device)
        action = act(observation)
        following, rewards, terminated, truncated, finished = self.arena.step(action.cpu().numpy())
        rows = {
            "following": following,
            "reward": rewards * np.float32(self.reward_scale),
            "terminated": terminated,
            "ended": terminated | truncated,
        }
        tensors = {name: torch.from_numpy(row).to(device) for name, row in rows.items()}
        self.replay.add(observation=observation, action=action, **tensors)
        self.env_steps += self.arena.count
        self.recent.extend(finished)

    def sample(self, batch: int) -> Transitions:
        """``batch`` transitions of the replay."""
        return self.replay.sample(batch, steps=self.steps, gamma=self.gamma)

    @property
    def recent_return(self) -> float:
        """The mean return of the episodes that ended lately; 0 before the first."""
        return sum(self.recent) / max(1, len(self.recent))
