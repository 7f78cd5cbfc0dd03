"""A relaxation: one method."""

import torch
from torch import Tensor

from zoo.relaxations import Noise, Pathwise, Tempered
from zoo.relaxations.distributions import Relaxable


class Laplace(Pathwise, Tempered):
    """``softmax((logits + e) / tau)`` with Laplace noise ``e``."""

    hard = False
    needs = (Relaxable,)

    def pathwise(self, distribution: Relaxable, noise: Noise) -> Tensor:
        u = noise.uniform(distribution.logits, distribution.batch_dim) - 0.5
        laplace = -u.sign() * torch.log1p(-2 * u.abs())
        return distribution.relax(distribution.logits + laplace, self.temperature_for(distribution))
