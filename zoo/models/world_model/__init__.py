"""A world model with discrete latents, and an actor-critic that learns in what it imagines."""

from zoo.models.world_model.model import WorldModel

__all__ = ["WorldModel"]
