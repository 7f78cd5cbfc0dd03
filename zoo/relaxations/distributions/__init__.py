"""What can be drawn. How gradients pass is said by the relaxations beside it."""

from zoo.relaxations.distributions.base import (
    Distribution,
    Enumerable,
    Gibbs,
    Linear,
    OneOfK,
    Perturbed,
    Recoupled,
    Relaxable,
    Scored,
)
from zoo.relaxations.distributions.categorical import Categorical
from zoo.relaxations.distributions.gates import Bernoulli

__all__ = [
    "Bernoulli",
    "Categorical",
    "Distribution",
    "Enumerable",
    "Gibbs",
    "Linear",
    "OneOfK",
    "Perturbed",
    "Recoupled",
    "Relaxable",
    "Scored",
]
