"""Small residual convolutional networks from 28 x 28 images to logits of latents, and back."""

import torch
from torch import Tensor, nn

from zoo.config import Configurable, check_positive
from zoo.models.cat_vae.code_layers import code_input, code_logits, start_at

ACTIVATION = nn.SiLU


class ResidualBlock(nn.Module):
    """``x + conv1x1(act(conv3x3(act(x))))``, the shape unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ACTIVATION(),
            nn.Conv2d(channels, channels, 3, padding=1),
            ACTIVATION(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ConvEncoder(Configurable, nn.Module):
    """Images ``(batch, 1, 28, 28)`` to logits ``(batch, latents, categories)``.

    Two strided convolutions with residual blocks between them, then a hidden layer.

    Args:
        latents, categories: the size of the code.
        channels: at 14 x 14; twice as many at 7 x 7.
        blocks: residual blocks at each resolution.
        hidden: width of the layer between the feature maps and the logits.

    Raises:
        ValueError: if a number is less than 1.
    """

    def __init__(
        self, *, latents: int, categories: int, channels: int = 16, blocks: int = 1, hidden: int = 512
    ) -> None:
        super().__init__()
        check_positive(latents=latents, categories=categories, channels=channels, hidden=hidden)
        wide = 2 * channels
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 4, stride=2, padding=1),
            *(ResidualBlock(channels) for _ in range(blocks)),
            ACTIVATION(),
            nn.Conv2d(channels, wide, 4, stride=2, padding=1),
            *(ResidualBlock(wide) for _ in range(blocks)),
            ACTIVATION(),
            nn.Flatten(),
            nn.Linear(wide * 7 * 7, hidden),
            ACTIVATION(),
            code_logits(hidden, latents, categories),
            nn.Unflatten(1, (latents, categories)),
        ).to(memory_format=torch.channels_last)  # a quarter faster on a CPU
        self.width = hidden

    def features(self, x: Tensor) -> Tensor:
        """What the logits are a linear function of, ``(batch, hidden)``."""
        return self.layers[:-2](x)

    def logits(self, features: Tensor) -> Tensor:
        return self.layers[-2:](features)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.features(x))


class ConvDecoder(Configurable, nn.Module):
    """Codes ``(batch, latents, categories)`` to logits or features of pixels: the encoder turned round.

    The result is ``(batch, out_channels, 28, 28)``.

    Args:
        latents, categories: the size of the code.
        channels: at 14 x 14; twice as many at 7 x 7.
        blocks: residual blocks at each resolution.
        hidden: width of the layer between the code and the feature maps.
        out_channels: of the result.
        start: the bias of the last layer at first.

    Raises:
        ValueError: if a number is less than 1.
    """

    def __init__(
        self,
        *,
        latents: int,
        categories: int,
        channels: int = 16,
        blocks: int = 1,
        hidden: int = 512,
        out_channels: int = 1,
        start: float = -2.0,
    ) -> None:
        super().__init__()
        check_positive(
            latents=latents, categories=categories, channels=channels, hidden=hidden, out_channels=out_channels
        )
        wide = 2 * channels
        self.layers = nn.Sequential(
            nn.Flatten(),
            code_input(latents, categories, hidden),
            ACTIVATION(),
            nn.Linear(hidden, wide * 7 * 7),
            nn.Unflatten(1, (wide, 7, 7)),
            *(ResidualBlock(wide) for _ in range(blocks)),
            ACTIVATION(),
            nn.ConvTranspose2d(wide, channels, 4, stride=2, padding=1),
            *(ResidualBlock(channels) for _ in range(blocks)),
            ACTIVATION(),
            start_at(start, nn.ConvTranspose2d(channels, out_channels, 4, stride=2, padding=1)),
        ).to(memory_format=torch.channels_last)

    def forward(self, code: Tensor) -> Tensor:
        return self.layers(code)
