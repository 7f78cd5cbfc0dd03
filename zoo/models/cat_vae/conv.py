"""Small residual convolutional networks from images to logits of latents, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.config import Configurable, check_positive
from zoo.models.cat_vae.code_layers import code_input, code_logits, start_at
from zoo.models.layers import ResidualBlock, check_images

ACTIVATION = nn.SiLU


class ConvEncoder(Configurable, nn.Module):
    """Images ``(batch, *shape)`` to logits ``(batch, latents, categories)``.

    Two strided convolutions with residual blocks between them, then a hidden layer.

    Args:
        latents, categories: the size of the code.
        channels: at half the size; twice as many at a quarter.
        blocks: residual blocks at each resolution.
        hidden: width of the layer between the feature maps and the logits.
        shape: of an image: channels, height, width, of which the last two are multiples of 4.

    Raises:
        ValueError: if a number is less than 1, or the height or width no multiple of 4.
    """

    def __init__(
        self,
        *,
        latents: int,
        categories: int,
        channels: int = 16,
        blocks: int = 1,
        hidden: int = 512,
        shape: Sequence[int] = (1, 28, 28),
    ) -> None:
        super().__init__()
        check_positive(latents=latents, categories=categories, channels=channels, hidden=hidden, shape=shape)
        colours, height, width = quarter(shape)
        wide = 2 * channels
        self.shape = tuple(shape)
        self.layers = nn.Sequential(
            nn.Conv2d(colours, channels, 4, stride=2, padding=1),
            *(ResidualBlock(channels) for _ in range(blocks)),
            ACTIVATION(),
            nn.Conv2d(channels, wide, 4, stride=2, padding=1),
            *(ResidualBlock(wide) for _ in range(blocks)),
            ACTIVATION(),
            nn.Flatten(),
            nn.Linear(wide * height * width, hidden),
            ACTIVATION(),
            code_logits(hidden, latents, categories),
            nn.Unflatten(1, (latents, categories)),
        ).to(memory_format=torch.channels_last)  # a quarter faster on a CPU
        self.width = hidden

    def features(self, x: Tensor) -> Tensor:
        """What the logits are a linear function of, ``(batch, hidden)``."""
        check_images(x, self.shape)
        return self.layers[:-2](x)

    def logits(self, features: Tensor) -> Tensor:
        return self.layers[-2:](features)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.features(x))


class ConvDecoder(Configurable, nn.Module):
    """Codes ``(batch, latents, categories)`` to logits or features of pixels: the encoder turned round.

    The result is ``(batch, out_channels, height, width)``.

    Args:
        latents, categories: the size of the code.
        channels: at half the size; twice as many at a quarter.
        blocks: residual blocks at each resolution.
        hidden: width of the layer between the code and the feature maps.
        shape: of an image: channels, height, width, of which the last two are multiples of 4.
        out_channels: of the result, if not those of the images.
        start: the bias of the last layer at first.

    Raises:
        ValueError: if a number is less than 1, or the height or width no multiple of 4.
    """

    def __init__(
        self,
        *,
        latents: int,
        categories: int,
        channels: int = 16,
        blocks: int = 1,
        hidden: int = 512,
        shape: Sequence[int] = (1, 28, 28),
        out_channels: int | None = None,
        start: float = -2.0,
    ) -> None:
        super().__init__()
        check_positive(latents=latents, categories=categories, channels=channels, hidden=hidden, shape=shape)
        colours, height, width = quarter(shape)
        wide = 2 * channels
        self.layers = nn.Sequential(
            nn.Flatten(),
            code_input(latents, categories, hidden),
            ACTIVATION(),
            nn.Linear(hidden, wide * height * width),
            nn.Unflatten(1, (wide, height, width)),
            *(ResidualBlock(wide) for _ in range(blocks)),
            ACTIVATION(),
            nn.ConvTranspose2d(wide, channels, 4, stride=2, padding=1),
            *(ResidualBlock(channels) for _ in range(blocks)),
            ACTIVATION(),
            start_at(start, nn.ConvTranspose2d(channels, out_channels or colours, 4, stride=2, padding=1)),
        ).to(memory_format=torch.channels_last)

    def forward(self, code: Tensor) -> Tensor:
        return self.layers(code)


def quarter(shape: Sequence[int]) -> tuple[int, int, int]:
    """Channels of an image of ``shape``, and a quarter of its height and width.

    Raises:
        ValueError: if those are not multiples of 4.
    """
    channels, height, width = shape
    if height % 4 or width % 4:
        raise ValueError(f"convolutional networks need a height and width that are multiples of 4, got {list(shape)}")
    return channels, height // 4, width // 4
