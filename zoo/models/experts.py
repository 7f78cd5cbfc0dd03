"""Experts, the router that sends examples or tokens to them, and what comes of that.

Weights are ``(..., experts)`` and sum to k: k of them 1 and the others 0, or between where the choice is relaxed.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from zoo.config import Configurable, check_positive
from zoo.relaxations import Categorical, Distribution, Subset

__all__ = ["Experts", "Router"]


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


def routes(logits: Tensor, k: int) -> Distribution:
    """What is drawn: one of the experts, or k of them."""
    return Categorical(logits) if k == 1 else Subset(logits, k)


def check_routing(experts: int, k: int, balance: float, capacity: float | None) -> None:
    """Raise ``ValueError`` if a number is out of range."""
    if not 1 <= k <= experts:
        raise ValueError(f"k={k} of {experts} experts: k must be from 1 to the number of experts")
    if not balance >= 0 or (capacity is not None and not capacity > 0):
        raise ValueError(f"need balance >= 0 and capacity > 0, got {balance}, {capacity}")


def limited(weights: Tensor, load: Tensor, k: int, capacity: float | None) -> Tensor:
    """``weights`` without those for which an expert has no room: in order, each takes ``capacity`` even shares.

    Args:
        load: how much of each example goes to each expert; of weights that sum to k themselves.
    """
    if capacity is None:
        return weights
    flat = load.detach().flatten(0, -2)
    room = math.ceil(capacity * k * len(flat) / flat.shape[-1])
    return weights * (flat.cumsum(0) <= room + 1e-3).view_as(weights)


def imbalance(logits: Tensor, load: Tensor, k: int) -> Tensor:
    """The load-balance loss ``E sum_e f_e p_e``, ``(batch,)``, whose mean is that of a batch; 1 where all is even.

    f is the share of all that goes to an expert, without gradient, p its probability (Fedus et al. 2022, equation 4).
    Of a relaxed choice, and of the mean of several, f is the mean of the weights.
    """
    share = load.detach().float().flatten(0, -2).mean(0) / k
    return logits.shape[-1] * (share * logits.softmax(-1)).sum(-1).reshape(len(logits), -1).mean(1)


class Use(nn.Module):
    """How often each expert was used, in how many layers there are, and what was dropped; never saved.

    Args:
        experts, layers: how many.
    """

    used: Tensor
    dropped: Tensor

    def __init__(self, experts: int, layers: int = 1) -> None:
        super().__init__()
        self.register_buffer("used", torch.zeros(layers, experts, dtype=torch.float64), persistent=False)
        self.register_buffer("dropped", torch.zeros(2, dtype=torch.float64), persistent=False)

    def count(self, weights: Tensor, kept: Tensor, layer: int = 0) -> None:
        """Add where things were sent, and what was left of it."""
        sent = (kept > 0).flatten(0, -2).sum(0)
        self.used[layer] += sent
        total = (weights > 0).sum()
        self.dropped += torch.stack([total - sent.sum(), total])

    def report(self, strategy: Any) -> dict[str, Tensor]:
        """The scores of all processes since the last report: ``least_used``, ``most_used`` and ``dropped``."""
        used, dropped = (strategy.reduce(value.clone(), reduce_op="sum") for value in (self.used, self.dropped))
        share = (used / used.sum(-1, keepdim=True).clamp_min(1)).float()
        self.used.zero_()
        self.dropped.zero_()
        lost = (dropped[0] / dropped[1].clamp_min(1)).float()
        return {"least_used": share.min(), "most_used": share.max(), "dropped": lost}
