"""Invertible Gaussian reparameterisation."""

from torch import Tensor

from zoo.relaxations.base import Relaxation
from zoo.relaxations.splitting import randn_like


class IGR(Relaxation):
    """Gaussian instead of Gumbel noise: ``softmax((logits + sigma e) / tau)`` with no noise on the last category.

    With the last category as the reference this is the paper's softmax++ with delta = 1 of a Gaussian with means
    ``logits_k - logits_K``, an invertible map. Its arg max does not follow ``softmax(logits)``: what is sampled in
    ``eval()`` has another law than what was drawn in training. Biased. One program run. Works for tau in about
    [0.1, 1].

    Args:
        tau: temperature.
        sigma: standard deviation of the noise, > 0.

    Raises:
        ValueError: if ``sigma`` is not positive.

    Source: Potapczynski et al. 2020, arXiv 1912.09588, section 3.1 and eq. 6.
    """

    hard = False
    follows_softmax = False

    def __init__(self, *, tau: float = 0.5, sigma: float = 1.0) -> None:
        super().__init__(tau=tau)
        if not sigma > 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.sigma = sigma

    def relax(self, logits: Tensor) -> Tensor:
        noise = randn_like(logits)
        noise[..., -1] = 0.0
        return ((logits + self.sigma * noise) / self.tau).softmax(-1)
