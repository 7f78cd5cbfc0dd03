"""Exact marginals as the surrogate of a sample."""

from typing import Any

from torch import Tensor

from zoo.relaxations import eager
from zoo.relaxations.base import Pathwise
from zoo.relaxations.distributions import Distribution, Gibbs
from zoo.relaxations.noise import Noise


class Simple(Pathwise):
    """An exact sample forward, the exact marginals backward: SIMPLE.

    Of a subset it draws from ``p(z) ~ exp(sum of the chosen logits)``, the law of gates given that k are open, which is
    not that of k draws one after another; :meth:`law` gives it. For a categorical choice and a gate, whose marginals
    are softmax and sigmoid, it is straight-through at ``tau = 1``. Biased, no temperature. One program run.

    Source: Ahmed et al. 2023, arXiv 2210.01941, section 3 and algorithm 1.
    """

    needs = (Gibbs,)

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return simple(distribution, noise)

    def soft(self, distribution: Any) -> Tensor:
        return distribution.gibbs().marginals()

    def law(self, distribution: Any) -> Distribution:
        return distribution.gibbs()


def simple(distribution: Gibbs, noise: Noise) -> Tensor:
    law = distribution.gibbs()
    return eager.straight_through(law._sample(noise), law.marginals())
