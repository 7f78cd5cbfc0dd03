"""What a world model is made of: perceptrons, and numbers of any size as distributions over bins."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.models.layers import ACTIVATIONS


def perceptron(inputs: int, hidden: Sequence[int], outputs: int, *, zero: bool = False) -> nn.Sequential:
    """Linear layers with RMSNorm and SiLU between them; with ``zero`` the last one begins at zero."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width, bias=False), nn.RMSNorm(width), ACTIVATIONS["silu"]()]
        inputs = width
    layers.append(last := nn.Linear(inputs, outputs))
    if zero:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return nn.Sequential(*layers)


def symlog(x: Tensor) -> Tensor:
    """The logarithm of the absolute value, plus one, with its sign."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """The inverse of :func:`symlog`."""
    return x.sign() * x.abs().expm1()


class TwoHot(nn.Module):
    """Numbers of any size as distributions over bins that are even in :func:`symlog`.

    Args:
        bins: how many, an odd number.
        largest: absolute value of the outermost, in symlog.
    """

    def __init__(self, bins: int, largest: float = 10.0) -> None:
        super().__init__()
        self.centers: Tensor
        self.register_buffer("centers", torch.linspace(-largest, largest, bins), persistent=False)

    def value(self, logits: Tensor) -> Tensor:
        """Logits ``(..., bins)`` to the number they stand for, ``(...)``."""
        return symexp((logits.softmax(-1) * self.centers).sum(-1))

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of logits ``(..., bins)`` to the two bins beside each target, ``(...)``."""
        place = symlog(target).clamp(self.centers[0], self.centers[-1])
        at = (place - self.centers[0]) / (self.centers[1] - self.centers[0])
        below = at.floor().clamp(0, len(self.centers) - 2).long()
        share = at - below
        log_p = logits.log_softmax(-1)
        low, high = (log_p.gather(-1, i.unsqueeze(-1)).squeeze(-1) for i in (below, below + 1))
        return -((1 - share) * low + share * high)
