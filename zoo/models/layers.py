"""Layers that the networks of several rooms are built of."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn

from zoo.errors import ZooError

Activation = Literal["silu", "relu", "leaky_relu", "tanh"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
}


RARE = 5.0
"""How many standard deviations the largest deviation may be worth."""
CONSTANT = 1e-10
"""A variance that is rounding."""


def hidden_layers(widths: Sequence[int], activation: Activation) -> list[nn.Module]:
    """The activation of the first width, and linear layers with one to each of the others."""
    layers: list[nn.Module] = [ACTIVATIONS[activation]()]
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
    return layers


class RunningNorm(nn.Module):
    """Observations less their running mean, by their running standard deviation, each entry by itself.

    An entry that has been constant is not divided at all, and one that has changed lately by at least a fifth of the
    largest deviation that was seen: else a change would be worth as much as ``limit`` for long.

    The statistics are buffers: they are in the checkpoints. With several processes they are of all of them.

    Args:
        observation: shape of an observation; of a history that of one.
        limit: of the absolute value of what comes out.
    """

    def __init__(self, observation: Sequence[int], *, limit: float = 10.0) -> None:
        super().__init__()
        self.limit = limit
        self.count: Tensor
        self.register_buffer("count", torch.zeros(()))
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(*observation))
        self.variance: Tensor
        self.register_buffer("variance", torch.ones(*observation))
        self.largest: Tensor
        self.register_buffer("largest", torch.zeros(*observation))

    def forward(self, x: Tensor) -> Tensor:
        """float32 ``(batch, *observation)`` to the same shape; of a history ``(batch, history, *observation)``."""
        variance = self.variance.maximum((self.largest / RARE).square())
        variance = torch.where(variance < CONSTANT, 1.0, variance + 1e-8)
        return ((x - self.mean) * variance.rsqrt()).clamp(-self.limit, self.limit)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take in a batch ``(batch, *observation)``, of the same size in every process.

        Source: Chan et al. 1983, "Algorithms for computing the sample variance", for the union of two sets.
        """
        x = x.float()
        variance, mean = torch.var_mean(x, 0, correction=0)
        largest = (x - torch.where(self.count > 0, self.mean, mean)).abs().amax(0)
        count = len(x)
        if distributed.is_available() and distributed.is_initialized():
            mine = torch.stack([mean, variance, largest])
            parts = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
            distributed.all_gather(parts, mine)
            means, variances, every_largest = torch.stack(parts).unbind(1)
            mean, variance = means.mean(0), variances.mean(0) + means.var(0, correction=0)
            largest = every_largest.amax(0)
            count *= len(parts)
        self.count += count
        share, off = count / self.count, mean - self.mean
        self.variance += share * (variance - self.variance + (1 - share) * off**2)
        self.mean += share * off
        torch.maximum(self.largest, largest, out=self.largest)

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        state.setdefault(f"{prefix}largest", torch.zeros_like(self.largest))  # of versions that did not know it
        super()._load_from_state_dict(state, prefix, *rest)


class ResidualBlock(nn.Module):
    """``x + conv1x1(silu(conv3x3(silu(x))))``, the shape ``(batch, channels, height, width)`` unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def check_images(x: Tensor, shape: Sequence[int]) -> None:
    """Check that ``x`` is images of the ``shape``, channels, height, width, that a network was built for.

    Raises:
        ZooError: if it is not.
    """
    if x.shape[1:] != tuple(shape):
        wanted, got = ("x".join(map(str, size)) for size in (shape, x.shape[1:]))
        raise ZooError(f"the network is for images of {wanted} (channels, height, width), and got {got}")
