"""A mixture of experts: each example is sent to k of E small networks."""

from zoo.models.mixture_of_experts.model import MixtureOfExperts
from zoo.models.mixture_of_experts.nets import Experts, Router

__all__ = ["Experts", "MixtureOfExperts", "Router"]
