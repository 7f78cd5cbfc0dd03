"""The initial weights of the layers at the two ends of a categorical code, and of the pixels.

With PyTorch's own a code hardly matters to the decoder at first, and the posterior is nearly uniform: the first
thousand steps of training go by before the code is used.
"""

from typing import TypeVar

from torch import nn

Linear = TypeVar("Linear", nn.Linear, nn.ConvTranspose2d)


def code_input(latents: int, categories: int, width: int) -> nn.Linear:
    """A linear layer for one-hot codes, flattened, with outputs of unit variance.

    Of its ``latents * categories`` inputs only ``latents`` are ever one.
    """
    layer = nn.Linear(latents * categories, width)
    nn.init.normal_(layer.weight, std=latents**-0.5)
    return layer


def code_logits(width: int, latents: int, categories: int) -> nn.Linear:
    """A linear layer for the logits of a code, with a standard deviation of one to two."""
    layer = nn.Linear(width, latents * categories)
    nn.init.normal_(layer.weight, std=3 * width**-0.5)
    nn.init.zeros_(layer.bias)
    return layer


def start_at(bias: float, layer: Linear) -> Linear:
    """``layer``, whose outputs are of pixels, with ``bias``: as logits, -2 is 12% ink, as in MNIST.

    From a bias of 0, half ink, the first steps would prefer whichever code is darkest, whatever the image.
    """
    assert layer.bias is not None
    nn.init.constant_(layer.bias, bias)
    return layer
