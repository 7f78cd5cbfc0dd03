"""Deterministic maps: no sample at all."""

from typing import Any

from torch import Tensor

from zoo.relaxations import eager
from zoo.relaxations.base import Pathwise, Tempered
from zoo.relaxations.distributions import Distribution, Relaxable
from zoo.relaxations.noise import Noise


class Softmax(Pathwise, Tempered):
    """``softmax(logits / tau)``, deterministic: the soft form of a choice, ``sigmoid(logits / tau)`` of a gate.

    Not an estimator of the discrete expectation: the program sees a blend of all choices, so a network trained with it
    is a deterministic autoencoder or mixture. It is here because it is the question: when is it enough? One program
    run. In ``eval()`` it is the most probable choice; with ``in_eval="sample"``, one drawn with the probabilities of
    the blend.

    Args:
        tau: temperature; as it goes to zero the blend goes to the arg max.
    """

    stochastic = False
    hard = False
    needs = (Relaxable,)

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return softmax(distribution, self.temperature_for(distribution))

    def law(self, distribution: Distribution) -> Distribution:
        return distribution.tempered(self.temperature_for(distribution))


class STArgmax(Pathwise, Tempered):
    """The most probable value forward, ``softmax(logits / tau)`` backward; deterministic, also in ``eval()``.

    It optimises the cost of the mode, not the expectation: no exploration, and an entropy of the choice that nothing
    but another term of the loss holds up. One program run.

    Args:
        tau: temperature of the backward pass.
    """

    stochastic = False
    needs = (Relaxable,)

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return st_argmax(distribution, self.temperature_for(distribution))

    def sample_in_eval(self, distribution: Distribution, noise: Noise) -> Tensor:
        return distribution._mode()


def softmax(distribution: Any, tau: Tensor | float) -> Tensor:
    return distribution.relax(distribution.logits, tau)


def st_argmax(distribution: Any, tau: Tensor | float) -> Tensor:
    return eager.straight_through(
        distribution.harden(distribution.logits), distribution.relax(distribution.logits, tau)
    )
