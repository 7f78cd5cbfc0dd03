"""What the training loader gives to a step: environments to act in, and transitions to learn from."""

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from zoo import signals
from zoo.data.environments.arena import Arena
from zoo.data.environments.replay import Replay, Sequences, Transitions

RECENT = 40  # finished episodes behind the return that is shown during training


@dataclasses.dataclass(frozen=True)
class Seen:
    """What an agent knows when it acts, of several copies.

    Attributes:
        observation: ``(envs, *observation)``.
        mask: which options are allowed, bool ``(envs, choices, categories)``; None where all are.
        first: whether an episode begins, bool ``(envs,)``.
        slots: which copies these are.
    """

    observation: Tensor
    mask: Tensor | None
    first: Tensor
    slots: Sequence[int]

    @classmethod
    def of(
        cls,
        observation: np.ndarray,
        masks: "Sequence[np.ndarray | None] | np.ndarray | None",
        first: np.ndarray,
        device: torch.device | str,
        *,
        slots: Sequence[int] | None = None,
    ) -> "Seen":
        """The same of arrays; of masks where at least one copy has one."""
        mask = None
        if masks is not None:
            known = [one for one in masks if one is not None]
            if len(known) == len(masks):
                mask = torch.from_numpy(np.stack(known)).to(device)
            elif known:
                mask = torch.from_numpy(np.stack([np.ones_like(known[0]) if m is None else m for m in masks]))
                mask = mask.to(device)
        slots = range(len(observation)) if slots is None else slots
        return cls(torch.from_numpy(observation).to(device), mask, torch.from_numpy(first).to(device), slots)


Act = Callable[[Seen], "Tensor | tuple[Tensor, Tensor]"]
"""What is seen to actions, int64 ``(envs, choices)``; or to these and their log-probability ``(envs,)``."""


class Experience:
    """What the training loader gives to a step: environments to act in, and transitions to learn from.

    Args:
        arena: the environments.
        replay: where their transitions go.
        steps: n of the n-step returns.
        gamma: the discount of one step.
        start: transitions to collect before the first batch is sampled.
        ticks: how often a training step acts in every copy.
        reward_scale: a factor of the rewards in transitions, not of the returns that are shown.
        alone: whether there is a single process, which may stop while it collects the first transitions.
    """

    def __init__(
        self,
        arena: Arena,
        replay: Replay,
        *,
        steps: int,
        gamma: float,
        start: int = 1,
        ticks: int = 1,
        reward_scale: float = 1.0,
        alone: bool = True,
    ) -> None:
        self.arena, self.replay, self.alone = arena, replay, alone
        self.steps, self.gamma, self.start, self.reward_scale = steps, gamma, start, reward_scale
        self.ticks = ticks
        self.env_steps = 0
        self.recent: deque[float] = deque(maxlen=RECENT)

    def collect(self, act: Act) -> None:
        """Act once in every environment; before the first update, until there are ``start`` transitions."""
        self._collect(act)
        while len(self.replay) < self.start:
            if self.alone and signals.told():  # nothing is learned yet: there is nothing to save
                signals.allow()
            self._collect(act)

    @torch.no_grad()
    def _collect(self, act: Act) -> None:
        arena, replay = self.arena, self.replay
        seen = Seen.of(arena.observation, arena.mask, arena.first, replay.device)
        acted = act(seen)
        action, log_prob = acted if isinstance(acted, tuple) else (acted, None)
        step = arena.step(action.cpu().numpy())
        replay.add(
            observation=seen.observation,
            action=action,
            reward=torch.from_numpy(step.rewards * np.float32(self.reward_scale)),
            terminated=torch.from_numpy(step.terminated),
            ended=torch.from_numpy(step.terminated | step.truncated),
            following=torch.from_numpy(step.following),
            mask=seen.mask,
            following_mask=None if step.mask is None else torch.from_numpy(step.mask),
            log_prob=log_prob,
        )
        self.env_steps += arena.count
        self.recent.extend(step.finished)

    def sample(self, batch: int, *, paths: bool = False) -> Transitions:
        """``batch`` transitions of the replay; with ``paths`` also the experience between them and what follows."""
        return self.replay.sample(batch, steps=self.steps, gamma=self.gamma, paths=paths)

    def sequences(self, batch: int, length: int) -> Sequences:
        """``batch`` stretches of ``length`` steps of the replay."""
        return self.replay.sequences(batch, length)

    @property
    def recent_return(self) -> float:
        """The mean return of the episodes that ended lately; 0 before the first."""
        return sum(self.recent) / max(1, len(self.recent))
