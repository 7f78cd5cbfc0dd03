"""Networks for ``cat_vae``: plain modules of PyTorch."""

import torch
from torch import Tensor, nn


class BarsEncoder(nn.Module):
    """Pictures ``(batch, 1, size, size)`` to logits ``(batch, latents, categories)``."""

    def __init__(self, size: int, latents: int, categories: int, width: int = 64):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(size * size, width),
            nn.ReLU(),
            nn.Linear(width, latents * categories),
            nn.Unflatten(1, (latents, categories)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class BarsDecoder(nn.Module):
    """Codes ``(batch, latents, categories)`` to Bernoulli logits ``(batch, 1, size, size)``."""

    def __init__(self, size: int, latents: int, categories: int, width: int = 64):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(latents * categories, width),
            nn.ReLU(),
            nn.Linear(width, size * size),
            nn.Unflatten(1, (1, size, size)),
        )
        with torch.no_grad():
            self.layers[-2].bias.fill_(-1.0)  # most pixels are black

    def forward(self, code: Tensor) -> Tensor:
        return self.layers(code)
