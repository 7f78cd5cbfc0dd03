"""Multi-layer perceptrons from images to logits of latents, and back."""

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from zoo.config import Configurable, check_positive
from zoo.models.cat_vae.code_layers import code_input, code_logits, start_at
from zoo.models.layers import Activation, check_images, hidden_layers

Init = Literal["scaled", "pytorch"]


class MLPEncoder(Configurable, nn.Module):
    """Images ``(batch, *shape)`` to logits ``(batch, latents, categories)``.

    Args:
        latents, categories: the size of the code.
        hidden: width of each hidden layer, at least one.
        shape: of an image: channels, height, width.
        activation: after each hidden layer.
        init: of the weights: ``scaled`` as in :mod:`.code_layers`, or PyTorch's own, as most papers have it.

    Raises:
        ValueError: if a number is less than 1 or there is no hidden layer.
    """

    def __init__(
        self,
        *,
        latents: int,
        categories: int,
        hidden: Sequence[int] = (512, 256),
        shape: Sequence[int] = (1, 28, 28),
        activation: Activation = "silu",
        init: Init = "scaled",
    ) -> None:
        super().__init__()
        check_positive(latents=latents, categories=categories, hidden=hidden, shape=shape)
        self.shape = tuple(shape)
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(shape), hidden[0]),
            *hidden_layers(hidden, activation),
            code_logits(hidden[-1], latents, categories),
            nn.Unflatten(1, (latents, categories)),
        )
        self.width = hidden[-1]
        if init == "pytorch":
            reset(self.layers)

    def features(self, x: Tensor) -> Tensor:
        """What the logits are a linear function of, ``(batch, hidden[-1])``."""
        check_images(x, self.shape)
        return self.layers[:-2](x)

    def logits(self, features: Tensor) -> Tensor:
        return self.layers[-2:](features)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.features(x))


class MLPDecoder(Configurable, nn.Module):
    """Codes ``(batch, latents, categories)`` to logits or features of pixels, ``(batch, *shape)``.

    Args:
        latents, categories: the size of the code.
        hidden: width of each hidden layer, at least one.
        shape: of an image: channels, height, width.
        activation: after each hidden layer.
        init: of the weights: ``scaled`` as in :mod:`.code_layers`, or PyTorch's own, as most papers have it.
        out_channels: of the result, if not those of the images.
        start: the bias of the last layer at first.

    Raises:
        ValueError: if a number is less than 1 or there is no hidden layer.
    """

    def __init__(
        self,
        *,
        latents: int,
        categories: int,
        hidden: Sequence[int] = (256, 512),
        shape: Sequence[int] = (1, 28, 28),
        activation: Activation = "silu",
        init: Init = "scaled",
        out_channels: int | None = None,
        start: float = -2.0,
    ) -> None:
        super().__init__()
        check_positive(latents=latents, categories=categories, hidden=hidden, shape=shape)
        out_shape = (out_channels or shape[0], *shape[1:])
        self.layers = nn.Sequential(
            nn.Flatten(),
            code_input(latents, categories, hidden[0]),
            *hidden_layers(hidden, activation),
            start_at(start, nn.Linear(hidden[-1], math.prod(out_shape))),
            nn.Unflatten(1, out_shape),
        )
        if init == "pytorch":
            reset(self.layers)

    def forward(self, code: Tensor) -> Tensor:
        return self.layers(code)


def reset(layers: nn.Sequential) -> None:
    """Give linear layers the initial weights that PyTorch gives them."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
