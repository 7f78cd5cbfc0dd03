"""Policies and critics for discrete actions: of vectors by perceptrons, of images with a convolution before, of a
history with a memory.

An action consists of one or several choices, each among ``categories`` options, the number of the largest choice; the
smaller choices never use the rest. One-hot it has the shape ``(choices, categories)``.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.config import Configurable, check_positive
from zoo.models.layers import ACTIVATIONS, Activation, RunningNorm, hidden_layers

__all__ = ["Critic", "MemberLinear", "Policy", "RunningNorm"]

Convolution = Literal["small", "atari"]
LARGEST_SMALL = 96  # pixels of the images whose convolution is small by default


class Policy(Configurable, nn.Module):
    """Observations ``(batch, *observation)`` to logits ``(batch, choices, categories)``, at first nearly uniform.

    Args:
        observation: shape of an observation: features; or height, width, channels.
        actions: number of options of each choice.
        hidden: width of each hidden layer.
        activation: between the layers.
        channels: of the convolution, for images.
        convolution: ``small``, two layers of 3 x 3; ``atari``, the three of Mnih et al. 2015; null for the second from
            97 pixels on.
        memory: units of a GRU that reads the history; 0 to have it side by side, an image's as channels.
        parts: shapes of what an observation that is a vector consists of, where images are among them.

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
        convolution: Convolution | None = None,
        memory: int = 0,
        parts: Sequence[Sequence[int]] = (),
    ) -> None:
        super().__init__()
        check_positive(observation=observation, actions=actions, hidden=hidden, channels=channels)
        eyes, features = observation_layers(observation, channels, activation, convolution, memory, parts)
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
        head: ``linear`` or ``concatenated``; null for the first where an action is one choice, and else the second.
        members: critics. Of images they share the convolution.
        channels: of the convolution.
        convolution, memory, parts: as those of the policy. Members share what reads images and histories.

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
        head: Literal["linear", "concatenated"] | None = None,
        members: int = 2,
        channels: int = 16,
        convolution: Convolution | None = None,
        memory: int = 0,
        parts: Sequence[Sequence[int]] = (),
    ) -> None:
        super().__init__()
        check_positive(observation=observation, actions=actions, hidden=hidden, members=members, channels=channels)
        self.head = head = head or ("linear" if len(actions) == 1 else "concatenated")
        entries = len(actions) * max(actions)
        self.eyes, features = observation_layers(observation, channels, activation, convolution, memory, parts)
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
        if self.head == "linear":
            return self.rate(self.table(observation), action)
        batch, candidates = len(observation), action.shape[1]
        action = action.flatten(2)  # (batch or 1, candidates, entries)
        h = self.first(self.eyes(observation).unsqueeze(0)).unsqueeze(2)  # (members, batch, 1, width)
        h = h + self.action(action.flatten(0, 1).unsqueeze(0)).unflatten(1, (len(action), candidates))
        return self._rest(h.flatten(1, 2)).view(-1, batch, candidates)

    def table(self, observation: Tensor) -> Tensor:
        """Of the head ``linear``: what each option is worth, ``(members, batch, choices * categories)``."""
        return self._rest(self.first(self.eyes(observation).unsqueeze(0)))

    def rate(self, table: Tensor, action: Tensor) -> Tensor:
        """Values ``(members, batch, candidates)`` of actions by the :meth:`table` of their observations."""
        return (table.unsqueeze(2) * action.flatten(2)).sum(-1)

    def _rest(self, h: Tensor) -> Tensor:
        for layer in self.hidden:
            h = layer(self.activation(h))
        return self.last(self.activation(h))


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


def observation_layers(
    observation: Sequence[int],
    channels: int,
    activation: Activation,
    convolution: Convolution | None = None,
    memory: int = 0,
    parts: Sequence[Sequence[int]] = (),
) -> tuple[nn.Module, int]:
    """A module from observations to vectors, and the length of those.

    Raises:
        ValueError: if the sizes do not fit together.
    """
    if memory < 0 or (memory and len(observation) not in (2, 4)):
        raise ValueError(f"need memory >= 0, and more than 0 only with a history, got {memory} with {observation}")
    if parts:
        if len(observation) != 1 or sum(map(math.prod, parts)) != observation[0]:
            raise ValueError(f"parts={parts} are not those of observations {observation}")
        layers: nn.Module = Parts(
            [tuple(part) for part in parts],
            [observation_layers(part, channels, activation, convolution)[0] for part in parts],
        )
    elif memory:
        frame, features = observation_layers(observation[1:], channels, activation, convolution)
        return Reader(frame, features, memory), memory
    elif len(observation) in (1, 2):
        return nn.Flatten(), math.prod(observation)
    else:
        fold = len(observation) == 4
        height, width, planes = observation[-3:]
        planes *= observation[0] if fold else 1
        layers = nn.Sequential(
            *([HistoryAsChannels()] if fold else []),
            ChannelsFirst(),
            *convolutions(height, width, planes, channels, activation, convolution),
            nn.Flatten(),
        )
    with torch.no_grad():
        features = layers(torch.zeros(1, *observation)).shape[1]
    return layers, features


def convolutions(
    height: int, width: int, planes: int, channels: int, activation: Activation, convolution: Convolution | None
) -> list[nn.Module]:
    """Layers from images ``(batch, planes, height, width)`` to smaller ones."""
    if (convolution or ("small" if max(height, width) <= LARGEST_SMALL else "atari")) == "small":
        # Two convolutions reduce an image until it is at most 12 pixels wide; a smaller one keeps its size.
        shrink = max(1, round((max(height, width) / 12) ** 0.5))
        sizes = [(planes, channels, 3, shrink, 1), (channels, channels, 3, shrink, 1)]
    else:
        if min(height, width) < 36:
            raise ValueError(f"convolution=atari needs images of 36 x 36 or more, got {height} x {width}")
        sizes = [(planes, 2 * channels, 8, 4, 0), (2 * channels, 4 * channels, 4, 2, 0)]
        sizes += [(4 * channels, 4 * channels, 3, 1, 0)]
    return [
        layer
        for inputs, outputs, kernel, stride, padding in sizes
        for layer in (nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding), ACTIVATIONS[activation]())
    ]


class ChannelsFirst(nn.Module):
    """``(batch, height, width, channels)`` to ``(batch, channels, height, width)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class HistoryAsChannels(nn.Module):
    """``(batch, history, height, width, channels)`` to ``(batch, height, width, history * channels)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1, 4).flatten(3)


class Reader(nn.Module):
    """A history ``(batch, history, *observation)`` to what a GRU remembers at its end, ``(batch, memory)``.

    Args:
        frame: of one observation, to ``features``.
        features: its outputs.
        memory: units.
    """

    def __init__(self, frame: nn.Module, features: int, memory: int) -> None:
        super().__init__()
        self.frame, self.gru = frame, nn.GRU(features, memory, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        frames = self.frame(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.gru(frames)[1][0]


class Parts(nn.Module):
    """A vector made of several things to what ``layers`` make of each, side by side.

    Args:
        shapes: of the parts.
        layers: a module for each.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.shapes, self.layers = list(shapes), nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split([math.prod(shape) for shape in self.shapes], 1)
        seen = [layer(part.unflatten(1, shape)) for layer, part, shape in zip(self.layers, parts, self.shapes)]
        return torch.cat(seen, 1)
