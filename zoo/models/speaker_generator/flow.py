"""Words drawn frame by frame, at their own pace, by flow matching."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Configurable, check_positive
from zoo.data.audio import FRAMES, MELS
from zoo.data.speech import STEP, Speech
from zoo.relaxations import Noise

LETTERS = 256  # texts are bytes of UTF-8, as of zoo.data.text.letters
PATCH = 2  # frames that are one step of the network
WINDOW = 64  # frames of a word that are looked at in training: half a second
LATEST = 0.9  # from here on an error weighs no more than at this time
TIMES = 64  # features of the time
STEPS = 3  # of Euler's method; with more takes differ more, and voices are a little less like the speaker
AT_ONCE = 64  # words that are drawn side by side


class Plan(NamedTuple):
    """How words are to be said, before a frame is drawn.

    Attributes:
        letters: what is known of each letter, ``(batch, letters, width)``.
        log_durations: the logarithm of the share of the word that each takes, up to a constant, ``(batch, letters)``;
            -inf for none.
        speaker: ``(batch, width)``.
    """

    letters: Tensor
    log_durations: Tensor
    speaker: Tensor


class Conv(nn.Conv1d):
    """A convolution over ``(batch, steps, channels)``, as a product of matrices.

    That makes a sampler a fifth faster for a few short words, and no faster for one or for many.
    """

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__(inputs, outputs, size, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        (size,), (stride,), padding = self.kernel_size, self.stride, int(self.padding[0])
        windows = F.pad(x, (0, 0, padding, padding)).unfold(1, size, stride).flatten(2)
        return F.linear(windows, self.weight.flatten(1), self.bias)


class Block(nn.Module):
    """``x + conv(act(modulate(conv(act(x)))))``: a condition scales and shifts every channel (FiLM).

    Source: Perez et al. 2018, arXiv 1709.07871, equation 2. It begins as the identity.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before = Conv(width, width, 3, padding=1)
        self.after = Conv(width, width, 3, padding=1)
        self.modulation = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.after.weight)

    def forward(self, x: Tensor, condition: Tensor, there: Tensor) -> Tensor:
        """``x`` ``(batch, steps, width)``, and ``there`` ``(batch, steps, 1)``, beyond which there is nothing."""
        scale, shift = self.modulation(condition).unsqueeze(1).chunk(2, -1)
        hidden = scaled(self.before(F.silu(scaled(x)))) * (1 + scale) + shift
        return (x + self.after(F.silu(hidden) * there)) * there


def scaled(x: Tensor) -> Tensor:
    """``x`` ``(batch, steps, channels)`` with channels of mean square 1 at each step by itself, so that what comes
    after the end of a word has no part in it."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-5)


class FlowSampler(Configurable, nn.Module):
    """Draws words from their letters, a speaker and the mean spectrogram that a decoder gives.

    Each letter has a duration. Together they say where in a word its letters lie: a step sees the letters near it,
    weighted by a Gaussian (Shen et al. 2020, arXiv 2010.04301, section 3), so that durations are learned with all else
    and without an alignment. Then a network tells the spectrogram behind a noisy one, ``(1 - t) noise + t mel``, as
    what has to be added to the mean at the pace of the word; following it from noise in a few steps of Euler's draws a
    word (flow matching, Lipman et al. 2023, arXiv 2210.02747; on what a variational autoencoder gives: Pandey et al.
    2022, arXiv 2201.00308).

    Args:
        speakers: how many; they come one-hot, or as any vector of weights.
        width: of the hidden layers.
        blocks: of the network; half of them see steps of four frames, the others of two.

    Raises:
        ValueError: if a number is less than 1.
    """

    def __init__(self, *, speakers: int, width: int = 96, blocks: int = 6) -> None:
        super().__init__()
        check_positive(speakers=speakers, width=width, blocks=blocks)
        self.embedding = nn.Embedding(LETTERS, width)
        self.speaker = nn.Linear(speakers, width, bias=False)
        nn.init.normal_(self.speaker.weight)
        self.reading = nn.ModuleList(Block(width) for _ in range(2))
        self.duration = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.duration.weight)  # at first all letters are as long
        self.time = nn.Sequential(nn.Linear(TIMES, width), nn.SiLU(), nn.Linear(width, width))
        self.first = Conv(2 * PATCH * MELS + width, width, 3, padding=1)
        ends = max(1, blocks // 4)
        self.early = nn.ModuleList(Block(width) for _ in range(ends))
        self.down = Conv(width, width, 2, stride=2)
        self.coarse = nn.ModuleList(Block(width) for _ in range(max(1, blocks - 2 * ends)))
        self.up = nn.ConvTranspose1d(width, width, 2, stride=2)
        self.merge = Conv(2 * width, width, 1)
        self.late = nn.ModuleList(Block(width) for _ in range(ends))
        self.last = Conv(width, PATCH * MELS, 1)
        for parameter in self.last.parameters():  # at first nothing is added
            nn.init.zeros_(parameter)

    def plan(self, letters: Tensor, speaker: Tensor) -> Plan:
        """Of words, int64 ``(batch, letters)`` with 0 after the end, by speakers ``(batch, speakers)``."""
        there = (letters > 0).unsqueeze(-1).float()
        voice = self.speaker(speaker)
        x = self.embedding(letters) * there
        for block in self.reading:
            x = block(x, voice, there)
        log_durations = self.duration(x).squeeze(-1).masked_fill(letters == 0, -torch.inf)
        return Plan(x, log_durations, voice)

    def seen(self, plan: Plan, frames: Tensor, start: Tensor, steps: int) -> Tensor:
        """What ``steps`` of ``PATCH`` frames see of the letters, ``(batch, steps, width)``, in words of so many
        ``frames`` ``(batch,)`` from the frame ``start`` ``(batch,)`` on."""
        durations = plan.log_durations.softmax(-1) * frames.unsqueeze(-1)
        centres = durations.cumsum(-1) - durations / 2
        at = start.unsqueeze(-1) + PATCH * (torch.arange(steps, device=frames.device) + 0.5)
        distance = (at.unsqueeze(-1) - centres.unsqueeze(1)) / (0.5 * durations + 1).unsqueeze(1)
        score = (-0.5 * distance.square()).masked_fill(plan.log_durations.isinf().unsqueeze(1), -torch.inf)
        return score.softmax(-1) @ plan.letters

    def denoised(
        self, noisy: Tensor, time: Tensor, sketch: Tensor, seen: Tensor, speaker: Tensor, there: Tensor
    ) -> Tensor:
        """The spectrogram to expect behind a noisy one.

        Args:
            noisy: ``(batch, frames, mels)``; the frames are divisible by four.
            time: in [0, 1), ``(batch,)``.
            sketch: the mean, at the pace of the word, as ``noisy``.
            seen: of :meth:`seen`.
            speaker: of the plan.
            there: frames of the word, up to four at a time, ``(batch, frames)``.
        """
        batch, frames, mels = noisy.shape
        condition = self.time(time_features(time)) + speaker
        fine, coarse = (there[:, ::every, None].to(noisy) for every in (PATCH, 2 * PATCH))
        x = torch.cat([noisy, sketch], -1).reshape(batch, frames // PATCH, 2 * PATCH * mels)
        x = self.first(torch.cat([x, seen], -1) * fine) * fine
        for block in self.early:
            x = block(x, condition, fine)
        skip, x = x, self.down(x) * coarse
        for block in self.coarse:
            x = block(x, condition, coarse)
        x = self.up(x.transpose(1, 2)).transpose(1, 2)
        x = self.merge(torch.cat([x, skip], -1)) * fine
        for block in self.late:
            x = block(x, condition, fine)
        return sketch + self.last(scaled(x)).reshape(batch, frames, mels)

    def cost(self, x: Speech, sketch: Tensor, speaker: Tensor, noise: Noise) -> Tensor:
        """What words cost, ``(batch,)``: the squared error of the velocity, half its sum over a word, with one time and
        one noise drawn for each.

        Args:
            x: the words.
            sketch: their mean spectrograms, time-normalised, ``(batch, FRAMES, mels)``.
            speaker: weights ``(batch, speakers)``.
            noise: where what is drawn comes from.
        """
        lengths = x.lengths()
        plan = self.plan(x.letters, speaker)
        chance, time = noise.uniform(x.mel[:, :2, 0]).unbind(-1)
        start = (chance * ((lengths - WINDOW).clamp(min=0) / STEP + 1)).long() * STEP
        place = start.unsqueeze(-1) + torch.arange(WINDOW, device=start.device)
        there = place < ceil(lengths).unsqueeze(-1)
        index = place.clamp(max=x.frames.shape[1] - 1).unsqueeze(-1).expand(-1, -1, MELS)
        mel = x.frames.gather(1, index)
        noisy = torch.lerp(noise.normal(mel), mel, time[:, None, None]) * there.unsqueeze(-1)
        seen = self.seen(plan, lengths.float(), start.float(), WINDOW // PATCH)
        mean = stretched(sketch, lengths, start, WINDOW)
        wrong = (self.denoised(noisy, time, mean, seen, plan.speaker, there) - mel).square().sum(-1)
        weight = 0.5 / (1 - time.clamp(max=LATEST)).square()
        whole = ceil(lengths) / there.sum(-1)  # of a long word a window alone is seen
        return weight * whole * (wrong * there).sum(-1)

    @torch.no_grad()
    def sample(
        self,
        letters: Tensor,
        sketch: Tensor,
        frames: Tensor,
        speaker: Tensor,
        generators: Sequence[torch.Generator],
        *,
        spread: float = 1.0,
    ) -> list[Tensor]:
        """Spectrograms of words, each ``(frames, mels)``.

        Args:
            letters: of the words, int64 ``(batch, letters)``.
            sketch: their mean spectrograms, time-normalised, ``(batch, FRAMES, mels)``.
            frames: their lengths, int64 ``(batch,)``.
            speaker: weights ``(batch, speakers)``.
            generators: of what is drawn for each, on the CPU.
            spread: share of the standard deviation of the noise.
        """
        words: list[Tensor] = []
        for i in range(0, len(letters), AT_ONCE):
            part = slice(i, i + AT_ONCE)
            plan, lengths = self.plan(letters[part], speaker[part]), frames[part]
            most = int(ceil(lengths).max())
            x = torch.zeros(len(lengths), most, MELS)
            for row, g, n in zip(x, generators[part], ceil(lengths).tolist()):
                row[:n] = spread * torch.randn(n, MELS, generator=g)
            x = x.to(speaker)
            there = torch.arange(most, device=x.device) < ceil(lengths).unsqueeze(-1)
            begin = torch.zeros_like(lengths, dtype=x.dtype)
            seen = self.seen(plan, lengths.float(), begin, most // PATCH)
            mean = stretched(sketch[part], lengths, begin, most)
            for step in range(STEPS):
                time = torch.full_like(begin, step / STEPS)
                mel = self.denoised(x, time, mean, seen, plan.speaker, there)
                x = torch.lerp(x, mel, 1 / (STEPS - step)) * there.unsqueeze(-1)
            words += [row[:n] for row, n in zip(x, lengths.tolist())]
        return words


def ceil(frames: Tensor) -> Tensor:
    """``frames``, or the next number that is divisible by four."""
    return (frames + STEP - 1) // STEP * STEP


def stretched(sketch: Tensor, lengths: Tensor, start: Tensor, frames: int) -> Tensor:
    """Time-normalised spectrograms ``(batch, FRAMES, mels)`` at the pace of words of so many frames, linear in between:
    ``frames`` of each from ``start`` on, where the last one goes on after the end.

    Args:
        sketch: the spectrograms.
        lengths: of the words, ``(batch,)``.
        start: the first frame, ``(batch,)``.
        frames: how many.
    """
    at = start.unsqueeze(-1) + torch.arange(frames, device=start.device)
    place = (at * ((FRAMES - 1) / (lengths - 1).clamp(min=1)).unsqueeze(-1)).clamp(max=FRAMES - 1)
    below = place.floor().clamp(max=FRAMES - 2)
    index = below.long().unsqueeze(-1).expand(-1, -1, sketch.shape[-1])
    return torch.lerp(sketch.gather(1, index), sketch.gather(1, index + 1), (place - below).unsqueeze(-1).to(sketch))


def time_features(time: Tensor) -> Tensor:
    """Cosines and sines of ``time`` ``(batch,)`` in [0, 1]: ``(batch, TIMES)``."""
    rates = torch.exp(torch.linspace(0, math.log(1000), TIMES // 2, device=time.device))
    angle = time.unsqueeze(-1) * rates
    return torch.cat([angle.cos(), angle.sin()], -1)
