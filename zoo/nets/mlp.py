"""Residual multi-layer perceptrons from images to logits of latents, and back."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from zoo.config import Configurable


class MLPBlock(nn.Module):
    """``x + linear(silu(linear(norm(x))))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class MLPEncoder(Configurable, nn.Module):
    """Images ``(batch, *shape)`` to logits ``(batch, latents, categories)``.

    Args:
        latents, categories: the size of the code.
        width: of the hidden layers.
        blocks: residual blocks between the first and the last layer.
        shape: of an image: channels, height, width.

    Raises:
        ValueError: if a size is less than 1.
    """

    def __init__(
        self, *, latents: int, categories: int, width: int = 512, blocks: int = 1, shape: Sequence[int] = (1, 28, 28)
    ) -> None:
        super().__init__()
        check_positive(latents=latents, categories=categories, width=width, shape=shape)
        self.layers = nn.Sequential(
            nn.Flatten(),
            *residual_mlp(math.prod(shape), width, blocks, latents * categories),
            nn.Unflatten(1, (latents, categories)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class MLPDecoder(Configurable, nn.Module):
    """Codes ``(batch, latents, categories)`` to Bernoulli logits ``(batch, *shape)``.

    Args:
        latents, categories: the size of the code.
        width: of the hidden layers.
        blocks: residual blocks between the first and the last layer.
        shape: of an image: channels, height, width.

    Raises:
        ValueError: if a size is less than 1.
    """

    def __init__(
        self, *, latents: int, categories: int, width: int = 512, blocks: int = 2, shape: Sequence[int] = (1, 28, 28)
    ) -> None:
        super().__init__()
        check_positive(latents=latents, categories=categories, width=width, shape=shape)
        self.layers = nn.Sequential(
            nn.Flatten(),
            *residual_mlp(latents * categories, width, blocks, math.prod(shape)),
            nn.Unflatten(1, tuple(shape)),
        )

    def forward(self, code: Tensor) -> Tensor:
        return self.layers(code)


def residual_mlp(inputs: int, width: int, blocks: int, outputs: int) -> list[nn.Module]:
    """A linear layer, ``blocks`` residual blocks, and a linear layer behind a norm and an activation."""
    return [
        nn.Linear(inputs, width),
        *(MLPBlock(width) for _ in range(blocks)),
        nn.LayerNorm(width),
        nn.SiLU(),
        nn.Linear(width, outputs),
    ]


def check_positive(**sizes: int | Sequence[int]) -> None:
    """Raise ``ValueError`` for the first of ``sizes`` with a number less than 1."""
    for name, size in sizes.items():
        if any(number < 1 for number in ([size] if isinstance(size, int) else size)):
            raise ValueError(f"{name} must be at least 1, got {size}")
