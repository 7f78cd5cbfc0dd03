"""CartPole-v1 without velocities: what an agent has to remember is how fast things move.

python scripts/train.py model=world_model data.env=zoo.lab.positions:CartPolePositions-v0
python scripts/train.py model=actor_critic data.env=zoo.lab.positions:CartPolePositions-v0 data.history=8
"""

from typing import Any

import gymnasium
import numpy as np

SHOWN = [0, 2]
"""The entries of the observation that are left: where the cart is, and how the pole leans."""


class CartPolePositions(gymnasium.ObservationWrapper):
    """CartPole-v1 that shows positions alone.

    Args:
        options: as CartPole-v1 takes them.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(gymnasium.make("CartPole-v1", disable_env_checker=True, **options))
        space: Any = self.env.observation_space
        self.observation_space = gymnasium.spaces.Box(space.low[SHOWN], space.high[SHOWN], dtype=np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return observation[SHOWN]


gymnasium.register("CartPolePositions-v0", CartPolePositions, max_episode_steps=500)
