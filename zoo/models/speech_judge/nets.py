"""The network that a judge of speech hears with."""

import itertools

import torch
from torch import Tensor, nn

from zoo.config import Configurable, check_positive


class SpeechClassifier(Configurable, nn.Module):
    """Spectrograms ``(batch, frames, mels)`` to logits ``(batch, contents + speakers + 1)``: of the word, of who says
    it, and of whether the voice is a mix.

    Four strided two-dimensional convolutions; then mean and maximum over time and bands.

    Args:
        contents, speakers: how many.
        channels: of the first convolution; the others have twice and four times as many.
        dropout: share of features left out in training.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(self, *, contents: int = 10, speakers: int, channels: int = 24, dropout: float = 0.2) -> None:
        super().__init__()
        check_positive(contents=contents, speakers=speakers, channels=channels)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        widths = [1, channels, 2 * channels, 4 * channels, 4 * channels]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(8 * channels, contents + speakers + 1))

    def forward(self, mel: Tensor) -> Tensor:
        x = self.layers(mel.unsqueeze(1))
        return self.head(torch.cat([x.mean((2, 3)), x.amax((2, 3))], -1))
