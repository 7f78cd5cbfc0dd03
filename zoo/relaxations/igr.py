"""Invertible Gaussian reparameterisation."""

from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations.base import InEval, Pathwise, Tempered
from zoo.relaxations.distributions import Distribution, OneOfK
from zoo.relaxations.noise import Noise
from zoo.relaxations.straight_through import one_of_k


class IGR(Pathwise, Tempered):
    """Gaussian instead of Gumbel noise: ``softmax((logits + sigma e) / tau)`` with no noise on the last category.

    With the last category as the reference this is the paper's softmax++ with delta = 1 of a Gaussian with means
    ``logits_k - logits_K``, an invertible map. Its arg max does not follow ``softmax(logits)``; in ``eval()`` it is
    drawn in the same way, hard. Biased. One program run. Works for tau in about [0.1, 1].

    Args:
        tau: temperature.
        sigma: standard deviation of the noise, > 0.

    Raises:
        ValueError: if ``sigma`` is not positive.

    Source: Potapczynski et al. 2020, arXiv 1912.09588, section 3.1 and eq. 6.
    """

    hard = False
    needs = (OneOfK,)

    def __init__(self, *, tau: float | Tensor = 0.5, sigma: float = 1.0, in_eval: InEval | None = None) -> None:
        super().__init__(tau=tau, in_eval=in_eval)
        if not sigma > 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.sigma = sigma

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return igr(distribution, self.temperature_for(distribution), noise, self.sigma)

    def law(self, distribution: Distribution) -> Distribution:
        raise ZooError("IGR draws from a law that has no closed form")

    def sample_in_eval(self, distribution: Any, noise: Noise) -> Tensor:
        choice = distribution.as_categorical()
        return distribution.from_one_hot(choice.harden(perturb(choice, noise, self.sigma)))


def igr(distribution: OneOfK, tau: Tensor | float, noise: Noise, sigma: float) -> Tensor:
    choice, tau = one_of_k(distribution, tau)
    return distribution.from_one_hot(choice.relax_(perturb(choice, noise, sigma), tau))


def perturb(choice: Any, noise: Noise, sigma: float) -> Tensor:
    """``logits + sigma e``, with no noise on the last category."""
    drawn = noise.normal(choice.logits, choice.batch_dim)
    last = torch.arange(drawn.shape[-1], device=drawn.device) == drawn.shape[-1] - 1
    return choice.logits + sigma * drawn.masked_fill(last, 0.0)
