"""Layers that the networks of several rooms are built of."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from zoo.errors import ZooError

Activation = Literal["silu", "relu", "leaky_relu", "tanh"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
}


def hidden_layers(widths: Sequence[int], activation: Activation) -> list[nn.Module]:
    """The activation of the first width, and linear layers with one to each of the others."""
    layers: list[nn.Module] = [ACTIVATIONS[activation]()]
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
    return layers


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
