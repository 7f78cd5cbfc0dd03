"""Small sets of spoken digits for the tests: each digit a rhythm of harmonics, each speaker a pitch and a timbre."""

import math
from pathlib import Path

import torch

from zoo.data import audio


def digit(number: int, hertz: float, take: int) -> torch.Tensor:
    """About a fifth of a second; takes differ a little in pitch, length and noise."""
    g = torch.Generator().manual_seed(1000 * number + take)
    seconds = 0.18 + 0.06 * torch.rand((), generator=g).item()
    pitch = hertz * (0.97 + 0.06 * torch.rand((), generator=g).item())
    time = torch.arange(int(seconds * audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
    order = torch.arange(1, 15)[:, None]
    formant = 300 + 150 * number  # of the digit
    loud = torch.exp(-(((order * pitch - formant) / 400) ** 2)) + 0.3 * torch.exp(-order * hertz / 900)
    sound = (loud * torch.sin(2 * math.pi * pitch * order * time)).sum(0)
    return audio.level(sound * torch.sin(math.pi * time / seconds) + 0.02 * torch.randn(len(time), generator=g))


def write_digits(folder: Path, speakers: dict[str, float], takes: int) -> None:
    """``<digit>_<speaker>_<take>.wav`` for speakers of the given pitches in Hz."""
    folder.mkdir(parents=True)
    for name, hertz in speakers.items():
        for number in range(10):
            for take in range(takes):
                audio.write_wav(folder / f"{number}_{name}_{take}.wav", digit(number, hertz, take))
