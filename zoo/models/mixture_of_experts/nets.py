"""The experts, and the router that sends examples to them."""

import math

import torch
from torch import Tensor, nn

from zoo.config import Configurable, check_positive


class Experts(Configurable, nn.Module):
    """Perceptrons of one size side by side, each with one hidden layer.

    Args:
        features: numbers of an example.
        outputs: of each.
        experts: how many.
        hidden: width of each.

    Raises:
        ValueError: if a number is less than 1.
    """

    def __init__(self, *, features: int, outputs: int, experts: int = 8, hidden: int = 32) -> None:
        super().__init__()
        check_positive(features=features, outputs=outputs, experts=experts, hidden=hidden)
        self.experts = experts
        self.grow = nn.Parameter(torch.randn(experts, features, hidden) / math.sqrt(features))
        self.grow_bias = nn.Parameter(torch.zeros(experts, 1, hidden))
        self.shrink = nn.Parameter(torch.randn(experts, hidden, outputs) / math.sqrt(hidden))
        self.shrink_bias = nn.Parameter(torch.zeros(experts, 1, outputs))

    @property
    def multiplications(self) -> int:
        """Of one expert for one example."""
        return (self.grow.numel() + self.shrink.numel()) // self.experts

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """The sum of what all experts make of ``x`` ``(batch, features)``, by ``weights`` ``(batch, experts)``."""
        hidden = (torch.einsum("bf,efh->ebh", x, self.grow) + self.grow_bias).relu()
        return torch.einsum("ebo,be->bo", hidden @ self.shrink + self.shrink_bias, weights)

    def sparse(self, x: Tensor, weights: Tensor) -> Tensor:
        """The same, by those experts alone whose weight is not zero."""
        total = x.new_zeros(len(x), self.shrink.shape[-1])
        for i in range(self.experts):
            rows = weights[:, i].nonzero()[:, 0]
            hidden = (x[rows] @ self.grow[i] + self.grow_bias[i]).relu()
            result = hidden @ self.shrink[i] + self.shrink_bias[i]
            total = total.index_add(0, rows, result * weights[rows, i : i + 1])
        return total


class Router(Configurable, nn.Module):
    """Examples ``(batch, features)`` to logits of the experts, ``(batch, experts)``: a linear layer or a small network.

    Args:
        features: numbers of an example.
        experts: how many.
        hidden: width of a hidden layer; 0 for none.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(self, *, features: int, experts: int = 8, hidden: int = 0) -> None:
        super().__init__()
        check_positive(features=features, experts=experts)
        if hidden < 0:
            raise ValueError(f"hidden must not be negative, got {hidden}")
        before = [nn.Linear(features, hidden), nn.ReLU()] if hidden else []
        self.layers = nn.Sequential(*before, nn.Linear(hidden or features, experts))

    @property
    def multiplications(self) -> int:
        """For one example."""
        return sum(layer.weight.numel() for layer in self.layers if isinstance(layer, nn.Linear))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
