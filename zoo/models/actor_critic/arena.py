"""Copies of an environment, each in the middle of an episode.

Two words are kept apart throughout. An episode is *terminated* when the task is over, so that nothing is to be gained
after it; it is *truncated* when only the clock ran out, and the value of its last observation still counts.
"""

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from zoo.errors import ZooError
from zoo.models.actor_critic.environments import make, one_line, stored_dtype


class Copy:
    """One copy of an environment, with its mistakes turned into :class:`ZooError`.

    Args:
        name: of the environment.
        options: for its constructor, such as ``render_mode``.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        if options.get("render_mode") == "rgb_array":  # pictures in memory need no screen and no sound
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
            os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
        self.env = make(name, **options)
        self.space = self.env.action_space
        self.single = not self.space.shape  # Discrete: a number, not an array
        self.start = getattr(self.space, "start", 0)
        self.dtype = stored_dtype(self.env.observation_space.dtype)
        self.steps = 0

    def reset(self, seed: int) -> np.ndarray:
        self.steps = 0
        game: Any = getattr(self.env.unwrapped, "game", None)
        if hasattr(game, "last_action"):  # MinAtar's sticky actions would reach over from the episode before
            game.last_action = 0
        try:
            observation = self.env.reset(seed=seed)[0]
        except Exception as error:
            raise ZooError(f"the environment {self.name} failed in reset(seed={seed}): {one_line(error)}") from error
        return self._checked(observation)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """``action``, int64 ``(choices,)``, to observation, reward, terminated, truncated."""
        self.steps += 1
        value = int(action[0]) + self.start if self.single else action.reshape(self.space.shape) + self.start
        try:
            observation, reward, terminated, truncated, _ = self.env.step(value)
        except Exception as error:
            raise ZooError(
                f"the environment {self.name} failed in step {self.steps} of an episode, action {value}: "
                f"{one_line(error)}"
            ) from error
        if not math.isfinite(reward):
            raise ZooError(f"the environment {self.name} gave the reward {reward} in step {self.steps} of an episode")
        return self._checked(observation), float(reward), bool(terminated), bool(truncated)

    def _checked(self, observation: Any) -> np.ndarray:
        observation = np.asarray(observation, self.dtype)
        # Not all(): that takes eight times as long for few entries, most of the time of a step beside the environment.
        if self.dtype is np.float32 and np.count_nonzero(np.isfinite(observation)) < observation.size:
            raise ZooError(
                f"the environment {self.name} gave an observation that is not finite in step {self.steps} of an "
                f"episode: {np.array2string(observation.flatten(), threshold=8)}"
            )
        return observation

    def render(self) -> np.ndarray:
        """A picture of the present state, uint8 ``(height, width, 3)``."""
        try:
            frame = np.asarray(self.env.render())
        except Exception as error:
            raise ZooError(f"the environment {self.name} cannot be shown: {one_line(error)}") from error
        if np.issubdtype(frame.dtype, np.floating):  # MinAtar: colours in [0, 1]
            frame = (frame * 255).clip(0, 255).astype(np.uint8)
        return frame

    def close(self) -> None:
        self.env.close()


class Arena:
    """Copies of an environment, each always in the middle of an episode.

    Every episode has its own seed, a function of the copy and the episode's number. So an arena can be rebuilt from
    the actions of the episodes under way, with nothing else to save.

    Args:
        name: of the environment.
        count: of copies.
        seed: (copy, episode) -> the seed of its reset.
    """

    def __init__(self, name: str, count: int, seed: Callable[[int, int], int]) -> None:
        self.name, self.count, self.seed = name, count, seed
        self.copies = [Copy(name) for _ in range(count)]
        self.episode = [-1] * count
        self.actions: list[list[np.ndarray]] = [[] for _ in range(count)]
        self.returns = [0.0] * count
        self.observation = np.stack([self._begin(i) for i in range(count)])

    def _begin(self, i: int) -> np.ndarray:
        self.episode[i] += 1
        self.actions[i], self.returns[i] = [], 0.0
        return self.copies[i].reset(self.seed(i, self.episode[i]))

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[float]]:
        """Act once in every copy; an episode that ends is followed by the next one at once.

        Args:
            actions: int64 ``(count, choices)``.

        Returns:
            What the actions led to, ``(count, *observation)``, where an episode ended its last observation; rewards,
            float32 ``(count,)``; terminated and truncated, bool ``(count,)``; the returns of the episodes that ended.
        """
        following = np.empty_like(self.observation)
        rewards = np.empty(self.count, np.float32)
        terminated, truncated = np.empty(self.count, bool), np.empty(self.count, bool)
        finished = []
        for i, (copy, action) in enumerate(zip(self.copies, actions)):
            following[i], rewards[i], terminated[i], truncated[i] = copy.step(action)
            self.actions[i].append(action)
            self.returns[i] += float(rewards[i])
        self.observation = following
        if (terminated | truncated).any():
            self.observation = following.copy()
            for i in np.flatnonzero(terminated | truncated).tolist():
                finished.append(self.returns[i])
                self.observation[i] = self._begin(i)
        return following, rewards, terminated, truncated, finished

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
        for i, (episode, actions) in enumerate(zip(state["episode"].tolist(), state["actions"])):
            self.episode[i] = episode - 1
            self.observation[i] = self._begin(i)
            for action in actions.numpy():
                self.observation[i], reward, terminated, truncated = self.copies[i].step(action)
                self.actions[i].append(action)
                self.returns[i] += float(np.float32(reward))
                if terminated or truncated:
                    break
        if np.array_equal(self.observation, state["observation"].numpy()):
            return True
        self.skip(state["episode"].tolist())
        return False

    def skip(self, episodes: list[int]) -> None:
        """Leave the episodes with these numbers, and begin those after them."""
        self.episode = list(episodes)
        self.observation = np.stack([self._begin(i) for i in range(self.count)])
