"""Multi-layer perceptrons from images to logits of latents, and back."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from zoo.config import Configurable


class MLPEncoder(Configurable, nn.Module):
    """Images ``(batch, *shape)`` to logits ``(batch, latents, categories)``.

    Args:
        latents, categories: the size of the code.
        hidden: width of each hidden layer.
        shape: of an image: channels, height, width.
    """

    def __init__(
        self, *, latents: int, categories: int, hidden: Sequence[int] = (512, 256), shape: Sequence[int] = (1, 28, 28)
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            *mlp([math.prod(shape), *hidden, latents * categories]),
            nn.Unflatten(1, (latents, categories)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class MLPDecoder(Configurable, nn.Module):
    """Codes ``(batch, latents, categories)`` to Bernoulli logits ``(batch, *shape)``.

    Args:
        latents, categories: the size of the code.
        hidden: width of each hidden layer.
        shape: of an image: channels, height, width.
    """

    def __init__(
        self, *, latents: int, categories: int, hidden: Sequence[int] = (256, 512), shape: Sequence[int] = (1, 28, 28)
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), *mlp([latents * categories, *hidden, math.prod(shape)]), nn.Unflatten(1, tuple(shape))
        )

    def forward(self, code: Tensor) -> Tensor:
        return self.layers(code)


def mlp(widths: list[int]) -> list[nn.Module]:
    """Linear layers of the given widths with SiLU between them."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(zip(widths, widths[1:])):
        layers += [nn.SiLU()] if i else []
        layers.append(nn.Linear(fan_in, fan_out))
    return layers
