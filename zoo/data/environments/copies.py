"""One copy of an environment, and several of them in this process."""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zoo.data.environments.making import LONGEST, Observer, Recipe, allowed, make, options_of_choices
from zoo.errors import ZooError, one_line

Answer = tuple[np.ndarray, np.ndarray | None, float, bool, bool]
"""Of one copy: observation, mask, reward, terminated, truncated."""


class Copy:
    """One copy of an environment, with its mistakes turned into :class:`ZooError`.

    Args:
        recipe: which environment, or its name.
        options: for its constructor, such as ``render_mode``.

    Attributes:
        mask: which options are allowed now, bool ``(choices, categories)``; None where the environment does not say, by
            ``info["action_mask"]`` or a method ``action_masks()``.
        steps: of the episode under way.
        cut_off: whether it was truncated for want of a limit.
    """

    def __init__(self, recipe: "str | Recipe", **options: Any) -> None:
        self.recipe = recipe = Recipe.of(recipe)
        self.name = recipe.env
        if options.get("render_mode") == "rgb_array":  # pictures in memory need no screen and no sound
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
            os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
        self.env = make(recipe, **options)
        self.space = self.env.action_space
        self.actions = options_of_choices(self.env)
        self.single = not self.space.shape  # Discrete: a number, not an array
        self.start = getattr(self.space, "start", 0)
        self.observer = Observer(self.env)
        self.dtype = self.observer.dtype
        limit = recipe.max_episode_steps
        self.limited = limit is not None or (self.env.spec is not None and self.env.spec.max_episode_steps is not None)
        self.limit = limit if limit is not None else math.inf if self.limited else LONGEST
        self.masks = self.env.get_wrapper_attr("action_masks") if self.env.has_wrapper_attr("action_masks") else None
        self.mask: np.ndarray | None = None
        self.steps, self.cut_off = 0, False
        self.frames: list[np.ndarray] = []

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode: its first observation."""
        self.steps, self.cut_off = 0, False
        game: Any = getattr(self.env.unwrapped, "game", None)
        if hasattr(game, "last_action"):  # MinAtar's sticky actions would reach over from the episode before
            game.last_action = 0
        observation, info = self._ask(f"failed in reset(seed={seed})", self._begun, seed)
        self.mask = self._mask(info, done=False)
        first = self._checked(observation)
        if self.recipe.history == 1:
            return first
        self.frames = [first] * self.recipe.history
        return np.stack(self.frames)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """``action``, int64 ``(choices,)``, to observation, reward, terminated, truncated."""
        self.steps += 1
        value = int(action[0]) + self.start if self.single else action.reshape(self.space.shape) + self.start
        what = f"failed in step {self.steps} of an episode, action {value}"
        observation, reward, terminated, truncated, info = self._ask(what, self._stepped, value)
        if not math.isfinite(reward):
            raise ZooError(f"the environment {self.name} gave the reward {reward} in step {self.steps} of an episode")
        if self.steps >= self.limit and not terminated:
            truncated, self.cut_off = True, not self.limited
        self.mask = self._mask(info, done=terminated or truncated)
        array = self._checked(observation)
        if self.recipe.history == 1:
            return array, reward, terminated, truncated
        self.frames = [*self.frames[1:], array]
        return np.stack(self.frames), reward, terminated, truncated

    def _begun(self, seed: int) -> tuple[Any, dict[str, Any]]:
        answer = self.env.reset(seed=seed)
        if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], dict):
            raise ValueError(f"reset must return (observation, info), where info is a dict; it gave {kinds(answer)}")
        return answer

    def _stepped(self, value: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        answer = self.env.step(value)
        if not isinstance(answer, tuple) or len(answer) != 5 or not isinstance(answer[4], dict):
            raise ValueError(
                "step must return (observation, reward, terminated, truncated, info), where info is a dict; it gave "
                + kinds(answer)
            )
        observation, reward, terminated, truncated, info = answer
        try:
            number = reward.item() if isinstance(reward, np.ndarray) else float(reward)
            return observation, float(number), bool(terminated), bool(truncated), info
        except (TypeError, ValueError):
            raise ValueError(
                f"it gave the reward {reward!r}, terminated {terminated!r} and truncated {truncated!r}: "
                "a number and two booleans are needed"
            ) from None

    def _checked(self, observation: Any) -> np.ndarray:
        what = f"gave an observation that is not of its space in step {self.steps} of an episode"
        array = self._ask(what, self.observer, observation)
        # Not all(): that takes eight times as long for few entries, most of the time of a step beside the environment.
        if self.dtype is np.float32 and np.count_nonzero(np.isfinite(array)) < array.size:
            raise ZooError(
                f"the environment {self.name} gave an observation that is not finite in step {self.steps} of an "
                f"episode: {np.array2string(array.flatten(), threshold=8)}"
            )
        return array

    def _mask(self, info: dict[str, Any], *, done: bool) -> np.ndarray | None:
        if self.masks is None and "action_mask" not in info:
            return None
        what = f"gave no action mask of its actions in step {self.steps} of an episode"
        given = info["action_mask"] if self.masks is None else self._ask(what, self.masks)
        mask = self._ask(what, allowed, given, self.actions)
        for i, n in enumerate(self.actions):
            if not mask[i].any():
                if not done:
                    raise ZooError(f"the environment {self.name} allows no action in step {self.steps} of an episode")
                mask[i, :n] = True
        return mask

    def _ask(self, what: str, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        # Not a context manager, which would take as long as a step of CartPole.
        try:
            return call(*args, **options)
        except ZooError:
            raise
        except (Exception, SystemExit) as error:  # also of an environment that would end the program
            raise ZooError(f"the environment {self.name} {what}: {one_line(error)}") from error

    def render(self) -> np.ndarray:
        """A picture of the present state, uint8 ``(height, width, 3)``."""
        try:
            frame = np.asarray(self.env.render())
        except Exception as error:
            raise ZooError(f"the environment {self.name} cannot be shown: {one_line(error)}") from error
        if frame.ndim != 3:
            raise ZooError(f"the environment {self.name} cannot be shown: it has no pictures of itself")
        if np.issubdtype(frame.dtype, np.floating):  # MinAtar: colours in [0, 1]
            frame = (frame * 255).clip(0, 255).astype(np.uint8)
        return frame

    # In one form, so that copies may be in other processes ------------------------------------------------------------

    def answer(self, call: str, argument: Any) -> Answer:
        """``reset`` with a seed or ``step`` with an action."""
        if call == "reset":
            return self.reset(argument), self.mask, 0.0, False, False
        observation, reward, terminated, truncated = self.step(argument)
        return observation, self.mask, reward, terminated, truncated

    def close(self) -> None:
        self.env.close()


def kinds(answer: Any) -> str:
    """What an environment returned, for a message."""
    if not isinstance(answer, tuple):
        return type(answer).__name__
    return f"({', '.join(type(part).__name__ for part in answer)})"


class Here:
    """Copies in this process."""

    def __init__(self, recipe: Recipe, count: int) -> None:
        self.copies = [Copy(recipe) for _ in range(count)]

    def ask(self, calls: Sequence[tuple[int, str, Any]]) -> list[Answer]:
        """What copies answer to calls, each the copy's number, ``reset`` or ``step``, and its argument."""
        return [self.copies[i].answer(call, argument) for i, call, argument in calls]

    def close(self) -> None:
        for copy in self.copies:
            copy.close()
