"""Residual convolutional networks from images to a grid of features, and back."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from zoo.config import Configurable, check_positive
from zoo.models.layers import ResidualBlock, check_images


def widths(channels: int, halvings: int) -> list[int]:
    """Channels after each halving of the size: twice as many each time."""
    return [channels * 2**i for i in range(halvings)]


class GridEncoder(Configurable, nn.Module):
    """Images ``(batch, *shape)`` to features ``(batch, features, height, width)`` of a coarser grid.

    Args:
        features: of a place of the grid.
        shape: of an image: channels, height, width.
        channels: at half the size; twice as many after each further halving.
        halvings: of the size: 2 make 32 x 32 pixels a grid of 8 x 8.
        blocks: residual blocks after each halving.

    Raises:
        ValueError: if a number is less than 1, or the height or width cannot be halved so often.
    """

    def __init__(
        self,
        *,
        features: int = 64,
        shape: Sequence[int] = (3, 32, 32),
        channels: int = 32,
        halvings: int = 2,
        blocks: int = 1,
    ) -> None:
        super().__init__()
        check_positive(features=features, shape=shape, channels=channels, halvings=halvings)
        check_halvings(shape, halvings)
        self.shape = tuple(shape)
        layers: list[nn.Module] = []
        for before, width in pairwise([shape[0], *widths(channels, halvings)]):
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1)]
            layers += [*(ResidualBlock(width) for _ in range(blocks)), nn.SiLU()]
        layers.append(nn.Conv2d(width, features, 1))
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # a quarter faster on a CPU

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.shape)
        return self.layers(x - 0.5)


class GridDecoder(Configurable, nn.Module):
    """Features ``(batch, features, height, width)`` of a grid to what is said of pixels: the encoder turned round.

    The result is ``(batch, out_channels, height, width)``.

    Args:
        features, shape, channels, halvings, blocks: as :class:`GridEncoder` has them.
        out_channels: of the result, if not those of the images.
        start: the bias of the last layer at first.

    Raises:
        ValueError: as :class:`GridEncoder`.
    """

    def __init__(
        self,
        *,
        features: int = 64,
        shape: Sequence[int] = (3, 32, 32),
        channels: int = 32,
        halvings: int = 2,
        blocks: int = 1,
        out_channels: int | None = None,
        start: float = 0.5,
    ) -> None:
        super().__init__()
        check_positive(features=features, shape=shape, channels=channels, halvings=halvings)
        check_halvings(shape, halvings)
        down = widths(channels, halvings)[::-1]
        layers: list[nn.Module] = [nn.Conv2d(features, down[0], 3, padding=1)]
        for width, after in pairwise([*down, out_channels or shape[0]]):
            layers += [*(ResidualBlock(width) for _ in range(blocks)), nn.SiLU()]
            layers += [nn.ConvTranspose2d(width, after, 4, stride=2, padding=1)]
        last = layers[-1].bias
        assert isinstance(last, nn.Parameter)
        nn.init.constant_(last, start)
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


def check_halvings(shape: Sequence[int], halvings: int) -> None:
    """Raise ``ValueError`` unless the height and width of ``shape`` can be halved so often."""
    if len(shape) != 3 or shape[1] % 2**halvings or shape[2] % 2**halvings:
        raise ValueError(
            f"with {halvings} halvings the height and width must be multiples of {2**halvings}, got an image of "
            f"{list(shape)} (channels, height, width)"
        )
