"""An actor-critic for discrete actions, and the environments it acts in."""

from zoo.data.environments import Environments, spaces
from zoo.models.actor_critic.model import ActorCritic
from zoo.models.actor_critic.nets import Critic, Policy, RunningNorm

__all__ = ["ActorCritic", "Critic", "Environments", "Policy", "RunningNorm", "spaces"]
