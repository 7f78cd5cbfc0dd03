"""Reinforcement-learning environments: made, stepped, remembered and played, for every model that acts."""

from zoo.data.environments.making import Recipe, Spaces, spaces
from zoo.data.environments.module import Environments
from zoo.data.environments.returns import EpisodeReturns

__all__ = ["Environments", "EpisodeReturns", "Recipe", "Spaces", "spaces"]
