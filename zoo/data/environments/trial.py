"""What an evaluation loader gives to a step: whole episodes on environments of their own."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.environments.copies import Copy
from zoo.data.environments.experience import Act, Seen
from zoo.data.environments.making import LONGEST, Recipe

log = logging.getLogger(__name__)

OPEN = 16
"""The most environments that are open at a time."""


class Trial:
    """What an evaluation loader gives to a step: whole episodes on environments of their own.

    Args:
        recipe: which environment, or its name.
        seeds: of the episodes.
    """

    def __init__(self, recipe: "str | Recipe", seeds: list[int]) -> None:
        self.recipe, self.seeds = Recipe.of(recipe), seeds

    @torch.no_grad()
    def play(self, act: Act, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """One episode from each seed: returns, float32 ``(episodes,)``, and lengths in steps, int64 ``(episodes,)``."""
        count = len(self.seeds)
        returns, lengths = torch.zeros(count), torch.zeros(count, dtype=torch.int64)
        copies: list[Copy] = []
        waiting = list(range(count))[::-1]
        episode: dict[int, int] = {}  # copy -> episode
        now: dict[int, np.ndarray] = {}  # copy -> observation
        first: dict[int, bool] = {}
        cut_off = 0
        try:
            for _ in range(min(OPEN, count)):
                copies.append(Copy(self.recipe))  # one by one: those before one that cannot be made are closed
            for i, copy in enumerate(copies):
                episode[i] = waiting.pop()
                now[i], first[i] = copy.reset(self.seeds[episode[i]]), True
            while episode:
                running = sorted(episode)
                seen = Seen.of(
                    np.stack([now[i] for i in running]),
                    [copies[i].mask for i in running],
                    np.array([first[i] for i in running]),
                    device,
                    slots=running,
                )
                for i, action in zip(running, actions_of(act(seen))):
                    number = episode[i]
                    now[i], reward, terminated, truncated = copies[i].step(action)
                    first[i] = False
                    returns[number] += reward
                    lengths[number] += 1
                    if terminated or truncated:
                        cut_off += copies[i].cut_off
                        del episode[i]
                        if waiting:
                            episode[i] = waiting.pop()
                            now[i], first[i] = copies[i].reset(self.seeds[episode[i]]), True
        finally:
            for copy in copies:
                copy.close()
        if cut_off:
            log.warning(
                "%d of %d episodes of %s, which has no limit, were cut off after %d steps: data.max_episode_steps sets "
                "another.",
                *(cut_off, count, self.recipe, LONGEST),
            )
        return returns, lengths

    @torch.no_grad()
    def film(
        self,
        act: Act,
        device: torch.device | str = "cpu",
        *,
        every: int = 1,
        most: int = 10_000,
        render_mode: str = "rgb_array",
        beside: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> list[np.ndarray]:
        """Pictures of the first seed's episode, each uint8 ``(height, width, 3)``.

        Args:
            act: the policy.
            device: for the observations.
            every: steps from one picture to the next.
            most: pictures, after which the film ends.
            render_mode: ``human`` shows the episode in a window and returns no pictures.
            beside: what to make of a picture; such as to put something beside it.

        Raises:
            ZooError: if the environment cannot be shown.
        """
        copy = Copy(self.recipe, render_mode=render_mode)
        shown, done = render_mode != "human", False
        frames: list[np.ndarray] = []
        try:
            observation, first = copy.reset(self.seeds[0]), True
            while not done and len(frames) < most:
                picture = copy.render() if shown and copy.steps % every == 0 else None
                acted = act(Seen.of(observation[None], [copy.mask], np.array([first]), device))
                if picture is not None:  # now that the policy has looked at the same state
                    frames.append(beside(picture) if beside else picture)
                observation, _, terminated, truncated = copy.step(actions_of(acted)[0])
                first, done = False, terminated or truncated
            if shown and done and len(frames) < most:
                frames.append(beside(copy.render()) if beside else copy.render())
            return frames
        finally:
            copy.close()


def actions_of(acted: Any) -> np.ndarray:
    """The actions in what a policy returned."""
    return (acted[0] if isinstance(acted, tuple) else acted).cpu().numpy()
