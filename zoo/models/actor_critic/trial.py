"""What an evaluation loader gives to a step: whole episodes on fresh environments."""

import numpy as np
import torch
from torch import Tensor

from zoo.models.actor_critic.arena import Copy
from zoo.models.actor_critic.experience import Act


class Trial:
    """What an evaluation loader gives to a step: whole episodes on fresh environments.

    Args:
        name: of the environment.
        seeds: of the episodes.
    """

    def __init__(self, name: str, seeds: list[int]) -> None:
        self.name, self.seeds = name, seeds

    @torch.no_grad()
    def play(self, act: Act, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """One episode from each seed: returns, float32 ``(episodes,)``, and lengths in steps, int64 ``(episodes,)``."""
        copies = [Copy(self.name) for _ in self.seeds]
        running = list(range(len(copies)))
        observations = [copy.reset(seed) for copy, seed in zip(copies, self.seeds)]
        returns, lengths = torch.zeros(len(running)), torch.zeros(len(running), dtype=torch.int64)
        while running:
            batch = torch.from_numpy(np.stack([observations[i] for i in running])).to(device)
            actions = act(batch).cpu().numpy()
            still = []
            for i, action in zip(running, actions):
                observations[i], reward, terminated, truncated = copies[i].step(action)
                returns[i] += reward
                lengths[i] += 1
                if not (terminated or truncated):
                    still.append(i)
                else:
                    copies[i].close()
            running = still
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
    ) -> list[np.ndarray]:
        """Pictures of the first seed's episode, each uint8 ``(height, width, 3)``.

        Args:
            act: the policy.
            device: for the observations.
            every: steps from one picture to the next.
            most: pictures, after which the film ends.
            render_mode: ``human`` shows the episode in a window and returns no pictures.

        Raises:
            ZooError: if the environment cannot be shown.
        """
        copy = Copy(self.name, render_mode=render_mode)
        try:
            observation, done = copy.reset(self.seeds[0]), False
            frames = [copy.render()] if render_mode != "human" else []
            while not done and len(frames) < most:
                action = act(torch.from_numpy(observation[None]).to(device)).cpu().numpy()[0]
                observation, _, terminated, truncated = copy.step(action)
                done = terminated or truncated
                if render_mode != "human" and (done or copy.steps % every == 0):
                    frames.append(copy.render())
            return frames
        finally:
            copy.close()
