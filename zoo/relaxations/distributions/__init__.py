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
from zoo.relaxations.distributions.matchings import Matching
from zoo.relaxations.distributions.rankings import Ranking
from zoo.relaxations.distributions.subsets import ConditionalBernoulli, Subset

__all__ = [
    "Bernoulli",
    "Categorical",
    "ConditionalBernoulli",
    "Distribution",
    "Enumerable",
    "Gibbs",
    "Linear",
    "Matching",
    "OneOfK",
    "Perturbed",
    "Ranking",
    "Recoupled",
    "Relaxable",
    "Scored",
    "Subset",
]
