"""A mixture of experts: each example is sent to k of E small networks."""

from zoo.models.experts import Experts, Router
from zoo.models.mixture_of_experts.model import MixtureOfExperts

__all__ = ["Experts", "MixtureOfExperts", "Router"]
