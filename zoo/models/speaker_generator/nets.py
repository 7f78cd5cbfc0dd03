"""Small convolutional networks over time for spectrograms of speech: mel bands are their channels."""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Configurable, check_positive
from zoo.data.audio import FRAMES, MELS, excitation

ACTIVATION = nn.SiLU


class SpeechEncoder(Configurable, nn.Module):
    """Features over time ``(batch, frames, mels + 2)`` to ``(batch, outputs)``.

    Three strided convolutions; then the mean and the standard deviation over time, or each frame by its place.

    Args:
        outputs: how many numbers.
        width: of the hidden layers.
        pool: whether the order of frames is forgotten, which is right for what does not change within a word.

    Raises:
        ValueError: if a number is less than 1.
    """

    def __init__(self, *, outputs: int, width: int = 64, pool: bool = True) -> None:
        super().__init__()
        check_positive(outputs=outputs, width=width)
        self.pool = pool
        self.layers = nn.Sequential(
            nn.Conv1d(MELS + 2, width, 5, stride=2, padding=2),
            nn.GroupNorm(1, width),
            ACTIVATION(),
            nn.Conv1d(width, width, 5, stride=2, padding=2),
            ACTIVATION(),
            nn.Conv1d(width, width, 3, stride=2, padding=1),
            ACTIVATION(),
        )
        features = 2 * width if pool else width * FRAMES // 8
        self.head = nn.Sequential(nn.Linear(features, width), ACTIVATION(), nn.Linear(width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x.transpose(1, 2))
        x = torch.cat([x.mean(-1), x.std(-1)], -1) if self.pool else x.flatten(1)
        return self.head(x)


class Voice(NamedTuple):
    """What a decoder says of words: the parameters of the distribution of their spectrogram, pitch and length.

    Attributes:
        envelope: of the log-mel spectrogram, ``(batch, frames, mels)``.
        ripple: how strongly harmonics stand out of it where it is voiced, not negative, ``(batch, frames, mels)``.
        pitch: in [-1, 1], ``(batch, frames)``.
        voiced: logits, ``(batch, frames)``.
        log_frames: logarithm of the number of frames, ``(batch,)``.
    """

    envelope: Tensor
    ripple: Tensor
    pitch: Tensor
    voiced: Tensor
    log_frames: Tensor

    def mel(self, pitch: Tensor, voiced: Tensor) -> Tensor:
        """The log-mel spectrogram at ``pitch`` where ``voiced``: envelope plus harmonics, ``(batch, frames, mels)``."""
        return self.envelope + voiced.unsqueeze(-1) * self.ripple * excitation(pitch)


class ModulatedBlock(nn.Module):
    """``x + conv(act(modulate(conv(act(x)))))``: a condition scales and shifts every channel (FiLM).

    Source: Perez et al. 2018, arXiv 1709.07871, equation 2.
    """

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.before = nn.Conv1d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(1, width)
        self.after = nn.Conv1d(width, width, 3, padding=1)
        self.modulation = nn.Linear(condition, 2 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition).unsqueeze(-1).chunk(2, 1)
        hidden = self.norm(self.before(F.silu(x))) * (1 + scale) + shift
        return x + self.after(F.silu(hidden))


class SpeechDecoder(Configurable, nn.Module):
    """A word, a speaker and a residual to a :class:`Voice`; the speaker modulates every block, and has a spectrum and a
    pitch of its own that are added, whatever the word. So what is learned first of a speaker is what all words share.

    The spectrogram is an envelope plus the harmonics of a pitch (the source-filter model of speech), so that they are
    sharp whatever is uncertain about the envelope.

    Args:
        contents: how many words.
        speakers: how many speakers; they come one-hot, or as any vector of weights.
        residual: size of what else there is.
        width: of the hidden layers.
        blocks: at each of the resolutions: a quarter, half and all of the frames.

    Raises:
        ValueError: if a number is less than 1.
    """

    def __init__(
        self, *, contents: int = 10, speakers: int, residual: int = 16, width: int = 64, blocks: int = 1
    ) -> None:
        super().__init__()
        check_positive(contents=contents, speakers=speakers, residual=residual, width=width, blocks=blocks)
        self.width = width
        self.content = nn.Embedding(contents, width * FRAMES // 4)
        self.speaker = nn.Linear(speakers, width, bias=False)
        nn.init.normal_(self.speaker.weight)
        self.word = nn.Embedding(contents, width)
        self.residual = nn.Linear(residual, width)
        self.timbre = nn.Linear(speakers, MELS + 1, bias=False)
        nn.init.zeros_(self.timbre.weight)
        self.stages = nn.ModuleList(
            nn.ModuleList(ModulatedBlock(width, width) for _ in range(blocks)) for _ in range(3)
        )
        self.spectrum = nn.Conv1d(width, 2 * MELS, 1)
        self.prosody = nn.Conv1d(width, 2, 1)
        last = nn.Linear(width, 1)
        nn.init.constant_(last.bias, 3.9)  # the usual word has 50 frames
        self.length = nn.Sequential(nn.Linear(width, width), ACTIVATION(), last)

    def forward(self, content: Tensor, speaker: Tensor, residual: Tensor) -> Voice:
        """Words int64 ``(batch,)``, speakers ``(batch, speakers)`` and residuals ``(batch, residual)``."""
        condition = self.speaker(speaker) + self.residual(residual)
        x = self.content(content).view(-1, self.width, FRAMES // 4)
        for i, stage in enumerate(cast("list[nn.ModuleList]", self.stages)):
            if i:
                x = F.interpolate(x, scale_factor=2)
            for block in stage:
                x = block(x, condition)
        envelope, ripple = self.spectrum(F.silu(x)).transpose(1, 2).chunk(2, -1)
        pitch, voiced = self.prosody(F.silu(x)).unbind(1)
        timbre = self.timbre(speaker).unsqueeze(1)
        log_frames = self.length(condition + self.word(content)).squeeze(-1)
        return Voice(envelope + timbre[..., :-1], F.softplus(ripple), pitch + timbre[..., -1], voiced, log_frames)
