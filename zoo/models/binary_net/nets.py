"""Networks whose weights are chosen: ``forward(x, choose)``, where ``choose`` makes a value of a distribution.

In training a choice is a draw, later the most probable value. ``weights="real"`` is the same network without choices.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Configurable, check_positive
from zoo.relaxations import Bernoulli, Categorical, Distribution

Choose = Callable[[Distribution], Tensor]
"""A distribution with a first dimension of 1, as all rows of a batch share the weights, to a value of it."""

SLOPE = 4.0
"""Log-odds of +1 for a stored weight of 1: ``sigmoid(4 w)`` is near BinaryConnect's ``clip((w + 1) / 2, 0, 1)``."""


class BinaryMLP(Configurable, nn.Module):
    """A multi-layer perceptron with batch normalisation, whose weights are -1 or +1.

    A stored weight w in [-1, 1] is drawn as +1 with probability ``sigmoid(4 w)``, and later has its sign.

    Args:
        features: numbers of an example.
        outputs: classes.
        hidden: width of each hidden layer, at least one.
        weights: ``binary``, or ``real``: the stored weights themselves, of the same number.
        dropout: of inputs and of hidden units, each in [0, 1).

    Raises:
        ValueError: if a number is out of range.

    Source: Courbariaux et al. 2015, BinaryConnect, arXiv 1511.00363.
    """

    def __init__(
        self,
        *,
        features: int,
        outputs: int,
        hidden: Sequence[int] = (1024, 1024, 1024),
        weights: Literal["binary", "real"] = "binary",
        dropout: Sequence[float] = (0.0, 0.0),
    ) -> None:
        super().__init__()
        check_positive(features=features, outputs=outputs, hidden=hidden)
        if len(dropout) != 2 or not all(0 <= p < 1 for p in dropout):
            raise ValueError(f"dropout must be two numbers in [0, 1), got {list(dropout)}")
        widths = [features, *hidden, outputs]
        self.chosen = weights == "binary"
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(wide, narrow).uniform_(-1, 1)) for narrow, wide in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in widths[1:])
        self.dropout = tuple(dropout)
        with torch.no_grad():
            for weight in self.weights:
                weight.mul_(0.1 if self.chosen else math.sqrt(6.0 / weight.shape[1]))

    def forward(self, x: Tensor, choose: Choose) -> Tensor:
        x = F.dropout(x.flatten(1), self.dropout[0], self.training)
        for i, (weight, norm) in enumerate(zip(self.weights, self.norms)):
            if i:
                x = F.dropout(x.relu(), self.dropout[1], self.training)
            x = norm(F.linear(x, self.signs(weight, choose) if self.chosen else weight))
        return x

    def signs(self, weight: Tensor, choose: Choose) -> Tensor:
        """-1 or +1 for each stored weight; what a relaxed choice gives lies between."""
        return 2.0 * choose(Bernoulli(SLOPE * weight.unsqueeze(0))).squeeze(0) - 1.0

    @torch.no_grad()
    def clip(self) -> None:
        """Bring stored weights back into [-1, 1]: outside nothing changes but how long they take to come back."""
        if self.chosen:
            for weight in self.weights:
                weight.clamp_(-1.0, 1.0)


class BrickNet(Configurable, nn.Module):
    """A convolutional network whose filters are put together from bricks, which all filters of a layer share.

    A filter of ``channels`` inputs consists of ``fragments``; each is one of ``bricks``, chosen one-hot, times a number
    of its own, of either sign.

    Args:
        shape: of an image, (channels, height, width).
        outputs: classes.
        widths: of the layers; the first is an ordinary convolution. Each but the last is followed by a halving.
        fragments: in a filter; they divide every width but the last.
        bricks: that a layer has; 0 for ordinary convolutions, the same network with real weights.

    Raises:
        ValueError: if a number is out of range, or the shape is not that of an image that can be halved so often.

    Source: Yang et al. 2019, LegoNet, ICML.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int] = (1, 28, 28),
        outputs: int = 10,
        widths: Sequence[int] = (32, 64, 128, 256),
        fragments: int = 4,
        bricks: int = 240,
    ) -> None:
        super().__init__()
        check_positive(shape=shape, outputs=outputs, widths=widths, fragments=fragments)
        if len(shape) != 3 or min(shape[1:]) < 2 ** (len(widths) - 1):
            raise ValueError(f"{len(widths)} layers of convolutions need larger images than {list(shape)}")
        if bricks < 0 or len(widths) < 2 or (bricks and any(width % fragments for width in widths[:-1])):
            raise ValueError(
                f"need bricks >= 0, two widths or more, and fragments that divide them, got {bricks}, {list(widths)}, "
                f"{fragments}"
            )
        self.chosen = bricks > 0
        self.first = nn.Conv2d(shape[0], widths[0], 3, padding=1, bias=False)
        self.layers = nn.ModuleList(
            BrickConv(narrow, wide, fragments, bricks) if bricks else nn.Conv2d(narrow, wide, 3, padding=1, bias=False)
            for narrow, wide in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor, choose: Choose) -> Tensor:
        x = self.norms[0](self.first(x)).relu()
        for layer, norm in zip(self.layers, self.norms[1:]):
            x = F.max_pool2d(x, 2)
            x = norm(layer(x, choose) if self.chosen else layer(x)).relu()
        return self.head(x.mean((2, 3)))

    def clip(self) -> None:
        """Nothing is bounded."""


class BrickConv(nn.Module):
    """A 3 x 3 convolution put together from bricks: a fragment of a filter is one of them times a number of its own."""

    def __init__(self, channels: int, outputs: int, fragments: int, bricks: int) -> None:
        super().__init__()
        self.bricks = nn.Parameter(torch.empty(bricks, channels // fragments, 3, 3))
        nn.init.normal_(self.bricks, std=math.sqrt(2.0 / (9 * channels)))
        self.scales = nn.Parameter(torch.randn(outputs, fragments))
        self.logits = nn.Parameter(torch.randn(outputs, fragments, bricks))

    def forward(self, x: Tensor, choose: Choose) -> Tensor:
        chosen = choose(Categorical(self.logits.unsqueeze(0))).squeeze(0) * self.scales.unsqueeze(-1)
        return F.conv2d(x, torch.einsum("ofb,bchw->ofchw", chosen, self.bricks).flatten(1, 2), padding=1)
