"""Copies of an environment, each in the middle of an episode.

Two words are kept apart throughout. An episode is *terminated* when the task is over, so that nothing is to be gained
after it; it is *truncated* when only the clock ran out, and the value of its last observation still counts.

Gymnasium's vector environments do the same but for two things that a resumed run needs: every episode begins with a
seed of its own, and the episodes under way can be acted again, each as far as it had come.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from zoo.data.environments.copies import Here
from zoo.data.environments.making import Recipe, spaces
from zoo.data.environments.workers import There


class Step(NamedTuple):
    """What the actions of one step of every copy led to.

    Attributes:
        following: ``(count, *observation)``; where an episode ended its last observation.
        rewards: float32 ``(count,)``.
        terminated, truncated: bool ``(count,)``.
        finished: the returns of the episodes that ended.
        mask: which options are allowed after it, bool ``(count, choices, categories)``, or None.
    """

    following: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    finished: list[float]
    mask: np.ndarray | None


class Arena:
    """Copies of an environment, each always in the middle of an episode.

    Every episode has its own seed, a function of the copy and the episode's number. So an arena can be rebuilt from
    the actions of the episodes under way, with nothing else to save.

    Args:
        recipe: which environment, or its name.
        count: of copies.
        seed: (copy, episode) -> the seed of its reset.
        workers: processes among which the copies are divided, or 0: they are in this one.

    Attributes:
        observation: ``(count, *observation)``.
        mask: which options are allowed, bool ``(count, choices, categories)``, all of them in copies that do not say;
            None as long as none has.
        first: whether an episode begins with the observation, bool ``(count,)``.
    """

    def __init__(
        self, recipe: "str | Recipe", count: int, seed: Callable[[int, int], int], *, workers: int = 0
    ) -> None:
        self.recipe, self.count, self.seed = Recipe.of(recipe), count, seed
        if workers:
            self.copies: Here | There = There(self.recipe, count, min(workers, count))
        else:
            self.copies = Here(self.recipe, count)
        self.episode = [-1] * count
        self.actions: list[list[np.ndarray]] = [[] for _ in range(count)]
        self.returns = [0.0] * count
        self.mask: np.ndarray | None = None
        self._begin_all()

    def _begin_all(self) -> None:
        begun = self._begin(range(self.count))
        self.observation = np.stack([observation for observation, _ in begun])
        for i, (_, mask) in enumerate(begun):
            self._allow(i, mask)
        self.first = np.ones(self.count, bool)

    def _begin(self, which: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray | None]]:
        for i in which:
            self.episode[i] += 1
            self.actions[i], self.returns[i] = [], 0.0
        answers = self.copies.ask([(i, "reset", self.seed(i, self.episode[i])) for i in which])
        return [(observation, mask) for observation, mask, *_ in answers]

    def keep_masks(self) -> None:
        """Say from now on which options are allowed: all, until a copy says otherwise."""
        self.mask = np.repeat(self._all_allowed[None], self.count, 0)

    def _allow(self, i: int, mask: np.ndarray | None) -> None:
        if mask is not None and self.mask is None:
            self.keep_masks()
        if self.mask is not None:
            self.mask[i] = self._all_allowed if mask is None else mask

    def step(self, actions: np.ndarray) -> Step:
        """Act once in every copy; an episode that ends is followed by the next one at once.

        Args:
            actions: int64 ``(count, choices)``.
        """
        following = np.empty_like(self.observation)
        rewards = np.empty(self.count, np.float32)
        terminated, truncated = np.empty(self.count, bool), np.empty(self.count, bool)
        if self.mask is not None:
            self.keep_masks()
        finished = []
        answers = self.copies.ask([(i, "step", action) for i, action in enumerate(actions)])
        for i, (observation, allowed_now, reward, over, cut) in enumerate(answers):
            following[i], rewards[i], terminated[i], truncated[i] = observation, reward, over, cut
            if allowed_now is not None:
                self._allow(i, allowed_now)
            self.actions[i].append(actions[i])
            self.returns[i] += float(rewards[i])
        self.observation, mask, self.first = following, self.mask, terminated | truncated
        if self.first.any():
            self.observation = following.copy()
            self.mask = None if mask is None else mask.copy()
            which = np.flatnonzero(self.first).tolist()
            finished = [self.returns[i] for i in which]
            for i, (observation, allowed_now) in zip(which, self._begin(which)):
                self.observation[i] = observation
                self._allow(i, allowed_now)
        return Step(following, rewards, terminated, truncated, finished, mask)

    @cached_property
    def _all_allowed(self) -> np.ndarray:
        """Every option that there is, bool ``(choices, categories)``."""
        actions = spaces(self.recipe).actions
        return np.arange(max(actions)) < np.array(actions)[:, None]

    def state(self) -> dict[str, Any]:
        """The number and the actions of each episode under way, and where they have led."""
        return {
            "episode": torch.tensor(self.episode),
            "actions": [torch.from_numpy(np.array(actions, np.int64)) for actions in self.actions],
            "observation": torch.from_numpy(self.observation.copy()),
        }

    def restore(self, state: dict[str, Any]) -> bool:
        """Go back to ``state`` by acting as before.

        Returns:
            whether every copy is where it was. It is not if the environment is random beyond its seed; then new
            episodes begin.
        """
        self.episode = [episode - 1 for episode in state["episode"].tolist()]
        self._begin_all()
        played = [list(actions.numpy()) for actions in state["actions"]]
        for t in range(max(map(len, played), default=0)):
            which = [i for i in range(self.count) if t < len(played[i])]
            answers = self.copies.ask([(i, "step", played[i][t]) for i in which])
            for i, (observation, mask, reward, over, cut) in zip(which, answers):
                self.observation[i], self.first[i] = observation, False
                self._allow(i, mask)
                self.actions[i].append(played[i][t])
                self.returns[i] += float(np.float32(reward))
                if over or cut:
                    played[i] = played[i][: t + 1]
        if np.array_equal(self.observation, state["observation"].numpy()):
            return True
        self.skip(state["episode"].tolist())
        return False

    def skip(self, episodes: list[int]) -> None:
        """Leave the episodes with these numbers, and begin those after them."""
        self.episode = list(episodes)
        self._begin_all()

    def close(self) -> None:
        self.copies.close()
