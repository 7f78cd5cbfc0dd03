"""Policies and critics for discrete actions: of vectors by perceptrons, of small images with a convolution before.

An action consists of one or several choices, each among ``categories`` options, the number of the largest choice; the
smaller choices never use the rest. One-hot it has the shape ``(choices, categories)``.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, distributed, nn

from zoo.config import Configurable, check_positive
from zoo.models.layers import ACTIVATIONS, Activation, hidden_layers


class Policy(Configurable, nn.Module):
    """Observations ``(batch, *observation)`` to logits ``(batch, choices, categories)``, at first nearly uniform.

    Args:
        observation: shape of an observation: features; or height, width, channels.
        actions: number of options of each choice.
        hidden: width of each hidden layer.
        activation: between the layers.
        channels: of the convolution, for images.

    Raises:
        ValueError: if a number is less than 1, or there is no hidden layer.
    """

    def __init__(
        self,
        *,
        observation: Sequence[int],
        actions: Sequence[int],
        hidden: Sequence[int] = (64, 64),
        activation: Activation = "silu",
        channels: int = 16,
    ) -> None:
        super().__init__()
        check_positive(observation=observation, actions=actions, hidden=hidden, channels=channels)
        eyes, features = observation_layers(observation, channels, activation)
        self.layers = nn.Sequential(
            eyes,
            nn.Linear(features, hidden[0]),
            *hidden_layers(hidden, activation),
            last := nn.Linear(hidden[-1], len(actions) * max(actions)),
            nn.Unflatten(1, (len(actions), max(actions))),
        )
        nn.init.normal_(last.weight, std=0.01 * hidden[-1] ** -0.5)
        nn.init.zeros_(last.bias)

    def forward(self, observation: Tensor) -> Tensor:
        return self.layers(observation)


class Critic(Configurable, nn.Module):
    """Observations and actions, one-hot or relaxed, to values: several critics at once, each with its own weights.

    With the head ``concatenated`` the first layer takes the observation and the action, and the value is a nonlinear
    function of the action: what it is between the one-hot vertices that it was trained on is up to the network. With
    ``linear`` it is ``<q(observation), action>``: between the vertices it is the expectation, whatever it learned.
    Of several choices ``linear`` is the sum.

    Args:
        observation: shape of an observation: features; or height, width, channels.
        actions: number of options of each choice.
        hidden: width of each hidden layer.
        activation: between the layers.
        head: ``concatenated`` or ``linear``.
        members: critics. Of images they share the convolution.
        channels: of the convolution.

    Raises:
        ValueError: if a number is less than 1, or there is no hidden layer.
    """

    def __init__(
        self,
        *,
        observation: Sequence[int],
        actions: Sequence[int],
        hidden: Sequence[int] = (64, 64),
        activation: Activation = "silu",
        head: Literal["concatenated", "linear"] = "concatenated",
        members: int = 2,
        channels: int = 16,
    ) -> None:
        super().__init__()
        check_positive(observation=observation, actions=actions, hidden=hidden, members=members, channels=channels)
        self.head = head
        entries = len(actions) * max(actions)
        self.eyes, features = observation_layers(observation, channels, activation)
        # The first layer in two parts, so that many actions of one observation share the observation's part.
        fan_in = features + (entries if head == "concatenated" else 0)
        self.first = MemberLinear(members, features, hidden[0], fan_in=fan_in)
        if head == "concatenated":
            self.action = MemberLinear(members, entries, hidden[0], fan_in=fan_in, bias=False)
        self.activation = ACTIVATIONS[activation]()
        self.hidden = nn.ModuleList(MemberLinear(members, a, b) for a, b in pairwise(hidden))
        self.last = MemberLinear(members, hidden[-1], 1 if head == "concatenated" else entries)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Values ``(members, batch, candidates)``.

        Args:
            observation: ``(batch, *observation)``.
            action: ``(batch or 1, candidates, choices, categories)``.
        """
        batch, candidates = len(observation), action.shape[1]
        action = action.flatten(2)  # (batch or 1, candidates, entries)
        h = self.first(self.eyes(observation).unsqueeze(0)).unsqueeze(2)  # (members, batch, 1, width)
        if self.head == "concatenated":
            h = h + self.action(action.flatten(0, 1).unsqueeze(0)).unflatten(1, (len(action), candidates))
        h = h.flatten(1, 2)
        for layer in self.hidden:
            h = layer(self.activation(h))
        h = self.last(self.activation(h)).unflatten(1, (batch, -1))  # (members, batch, candidates or 1, outputs)
        return h.squeeze(-1) if self.head == "concatenated" else (h * action).sum(-1)


class MemberLinear(nn.Module):
    """A linear layer of each member, ``(members or 1, rows, inputs)`` to ``(members, rows, outputs)``, in one product.

    Args:
        members: layers.
        inputs, outputs: of each.
        fan_in: for the initial weights, which are those of ``nn.Linear``; by default ``inputs``.
        bias: whether there is one.
    """

    def __init__(
        self, members: int, inputs: int, outputs: int, *, fan_in: int | None = None, bias: bool = True
    ) -> None:
        super().__init__()
        bound = (fan_in or inputs) ** -0.5
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.shape[2] == 1:  # three times as fast as a product of matrices, one of which is a column
            product = (x * self.weight.view(len(self.weight), 1, -1)).sum(2, keepdim=True)
            return product if self.bias is None else product + self.bias
        x = x.expand(len(self.weight), -1, -1)
        return torch.bmm(x, self.weight) if self.bias is None else torch.baddbmm(self.bias, x, self.weight)


class RunningNorm(nn.Module):
    """Observations less their running mean, by their running standard deviation, each entry by itself.

    The statistics are buffers: they are in the checkpoints. With several processes they are of all of them.

    Args:
        observation: shape of an observation.
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

    def forward(self, x: Tensor) -> Tensor:
        """float32 ``(batch, *observation)`` to the same shape."""
        return ((x - self.mean) * (self.variance + 1e-8).rsqrt()).clamp(-self.limit, self.limit)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take in a batch ``(batch, *observation)``, of the same size in every process.

        Source: Chan et al. 1983, "Algorithms for computing the sample variance", for the union of two sets.
        """
        variance, mean = torch.var_mean(x.float(), 0, correction=0)
        count = len(x)
        if distributed.is_available() and distributed.is_initialized():
            parts = [torch.empty_like(torch.stack([mean, variance])) for _ in range(distributed.get_world_size())]
            distributed.all_gather(parts, torch.stack([mean, variance]))
            means, variances = torch.stack(parts).unbind(1)
            mean, variance = means.mean(0), variances.mean(0) + means.var(0, correction=0)
            count *= len(parts)
        self.count += count
        share, off = count / self.count, mean - self.mean
        self.variance += share * (variance - self.variance + (1 - share) * off**2)
        self.mean += share * off


def observation_layers(observation: Sequence[int], channels: int, activation: Activation) -> tuple[nn.Module, int]:
    """A module from observations to vectors, and the length of those."""
    if len(observation) != 3:
        return nn.Flatten(), math.prod(observation)
    height, width, planes = observation
    # Two convolutions reduce an image until it is at most 12 pixels wide; a smaller one keeps its size.
    shrink = max(1, round((max(height, width) / 12) ** 0.5))
    layers = nn.Sequential(
        ChannelsFirst(),
        nn.Conv2d(planes, channels, 3, stride=shrink, padding=1),
        ACTIVATIONS[activation](),
        nn.Conv2d(channels, channels, 3, stride=shrink, padding=1),
        ACTIVATIONS[activation](),
        nn.Flatten(),
    )
    with torch.no_grad():
        features = layers(torch.zeros(1, *observation)).shape[1]
    return layers, features


class ChannelsFirst(nn.Module):
    """``(batch, height, width, channels)`` to ``(batch, channels, height, width)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)
