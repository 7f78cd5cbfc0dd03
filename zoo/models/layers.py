"""Layers that the networks of several rooms are built of."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

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
