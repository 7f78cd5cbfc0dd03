"""A relaxation and a distribution of your own, from outside the package.

Registered, they are in every table and test of the layer::

    python -m pytest -p examples.own_relaxation tests/relaxations -k "laplace or window"
"""

from typing import Any

import torch
from torch import Tensor

from zoo.relaxations import Categorical, Noise, Pathwise, Tempered, register
from zoo.relaxations.distributions import Relaxable, Scored


@register("laplace_softmax")
class LaplaceSoftmax(Pathwise, Tempered):
    """``softmax((logits + e) / tau)`` with Laplace noise ``e``. One method, and every distribution with a soft form."""

    hard = False
    needs = (Relaxable,)

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        u = noise.uniform(distribution.logits, distribution.batch_dim) - 0.5
        laplace = -u.sign() * torch.log1p(-2 * u.abs())
        return distribution.relax(distribution.logits + laplace, self.temperature_for(distribution))


@register("window")
class Window(Scored):
    """Two neighbours out of n + 1 in a row: the window at place i, with probability ``softmax(logits)[i]``.

    Three methods, and every score function.
    """

    def _sample(self, noise: Noise) -> Tensor:
        return self._open(self._first()._sample(noise))

    def _mode(self) -> Tensor:
        return self._open(self._first()._mode())

    def _log_prob(self, value: Tensor) -> Tensor:
        start = (value.cumsum(-1) == 1).to(value)[..., :-1]  # of a window, one-hot at its first place
        valid = (start.sum(-1) == 1) & (self._open(start) == value).all(-1)
        return self._first()._log_prob(start).masked_fill(~valid, -torch.inf)

    def _first(self) -> Categorical:
        first = Categorical(self.logits)
        first.batch_dim = self.batch_dim  # so that each example draws the same noise in any number of processes
        return first

    @staticmethod
    def _open(start: Tensor) -> Tensor:
        """A one-hot first place ``(..., n)`` as the window ``(..., n + 1)``."""
        nothing = torch.zeros_like(start[..., :1])
        return torch.cat([start, nothing], -1) + torch.cat([nothing, start], -1)
