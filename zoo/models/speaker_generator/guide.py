"""The guide: a mixture of Gaussians of the same recordings, by which q(s | x) is led."""

import torch
from torch import Tensor

from zoo.data import Speech
from zoo.data.seeding import TRAIN, generator
from zoo.models.speaker_generator.mixtures import fit_mixture

GUIDE = 12  # a use of the seed, beside those of zoo.data.speech


@torch.no_grad()
def fit_guide(x: Speech, *, speakers: int, contents: int, seed: int) -> tuple[Tensor, Tensor]:
    """Fit the mixture of :func:`guess`, with what labels there are.

    Args:
        x: all recordings to train on.
        speakers: components.
        contents: words.
        seed: of the starts of the search.

    Returns:
        Weight ``(2 mels, speakers)`` and bias ``(contents, speakers)``.
    """
    features = timbre(x)
    total = features.new_zeros(contents, features.shape[1]).index_add_(0, x.content, features)
    mean = total / torch.bincount(x.content, minlength=contents).clamp(min=1)[:, None]
    weight, bias = fit_mixture(
        features - mean[x.content],
        speakers,
        label=x.label,
        generator=generator("cpu", seed, TRAIN, GUIDE),
    )
    return weight, bias - mean @ weight


def guess(x: Speech, weight: Tensor, bias: Tensor) -> Tensor:
    """Logits of the speaker, ``(batch, speakers)``, by the mixture.

    It takes a recording for the mean and the standard deviation over time of each band, less what they are in the
    mean of the word: the voice and the channel, which do not change within a word.
    """
    # No product of matrices, which has too few digits in mixed precision.
    return (timbre(x).unsqueeze(-1) * weight).sum(1) + bias[x.content]


def timbre(x: Speech) -> Tensor:
    """Mean and standard deviation over time of each band, ``(batch, 2 mels)``."""
    return torch.cat([x.mel.mean(1), x.mel.std(1)], -1)
