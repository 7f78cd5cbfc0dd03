"""Speech as log-mel spectrograms, and back: wav files, mel filters, pitch, Griffin-Lim, mel-cepstral distortion.

Everything is at 8 kHz. Shapes: ``(batch, samples)`` for sound, ``(batch, frames, mels)`` for spectrograms; a frame is
8 ms. It needs PyTorch and the standard library alone; :mod:`zoo.data.recordings` reads files of all kinds.
"""

import math
import wave
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE = 8000
N_FFT = 256  # 32 ms: the harmonics of a voice of 100 Hz are still apart
HOP = 64
MELS = 64
FRAMES = 48  # of time-normalised speech
RMS = 0.1  # level to which sound is brought
FLOOR, CENTRE, SPREAD = math.log(1e-2), -1.8, 1.7  # of ln magnitude; the last two: about zero mean, unit variance
LOWEST, HIGHEST = 60.0, 400.0  # Hz, of the pitch of a voice
LAGS = slice(int(SAMPLE_RATE / HIGHEST), int(SAMPLE_RATE / LOWEST) + 1)  # samples, of the periods of such a voice
PITCH_WINDOW = 384  # samples: three periods of the lowest pitch
RIPPLE = 0.6  # of harmonics in speech, as a share of those of a pulse train, which stand out more
VOCODED = 16  # words at a time
LOWEST_RATE, HIGHEST_RATE = 1000, 384_000  # Hz, of a file
LONGEST = 60  # seconds of a file
CLICK, ALONE = 3, 18  # frames of a click, and of the silence from it to the word: a t after its stop is nearer
EDGE = 12  # frames of either end of a recording
STEADY, ABOVE = 2.5, 1.5  # how much louder the loudest of a steady noise may be than the quietest, and a word than all
ALIKE = 3.3  # dB by which the spectra of one noise may differ between two tenths of a second of it
VOICED = 0.5  # autocorrelation from which a frame counts as voiced


# Files ----------------------------------------------------------------------------------------------------------------


def read_wav(path: str | Path) -> tuple[Tensor, int]:
    """A mono wav file of 16-bit integers: float32 ``(samples,)`` in [-1, 1), and its sample rate.

    Raises:
        ValueError: if it is damaged, empty or in another format, or its header has a rate or a length of no sound.
        OSError: if it cannot be read.
    """
    try:
        with wave.open(str(path), "rb") as file:
            if file.getnchannels() != 1 or file.getsampwidth() != 2:
                raise ValueError(f"{file.getnchannels()} channels of {8 * file.getsampwidth()} bits, not 1 of 16")
            rate, frames = file.getframerate(), file.getnframes()
            if not LOWEST_RATE <= rate <= HIGHEST_RATE:
                raise ValueError(f"a sample rate of {rate}, not {LOWEST_RATE} to {HIGHEST_RATE}")
            if frames > LONGEST * rate:
                raise ValueError(f"{frames / rate:.0f} seconds, {LONGEST} are the most")
            content = file.readframes(frames)
            if len(content) < 2 * frames:
                raise ValueError(f"its header says {frames} samples, and it has {len(content) // 2}: truncated")
    except (wave.Error, EOFError, RuntimeError) as error:  # the module's own error for a size beyond the end
        raise ValueError(f"no wav file: {error or 'it ends too early'}") from error
    samples = np.frombuffer(content[: len(content) // 2 * 2], dtype="<i2")
    if not samples.any():
        raise ValueError("silence" if len(samples) else "it holds no sound")
    return torch.from_numpy(samples.astype(np.float32) / 32768), rate


def write_wav(path: str | Path | IO[bytes], sound: Tensor, sample_rate: int = SAMPLE_RATE) -> None:
    """Write ``sound`` ``(samples,)`` as a mono wav file of 16 bits, made quieter if it would be clipped."""
    sound = sound.detach().float().cpu()
    loudest = sound.abs().max().item() if len(sound) else 0.0
    sound = sound / max(loudest, 1.0)
    with wave.open(str(path) if isinstance(path, (str, Path)) else path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((sound * 32767).round().numpy().astype("<i2").tobytes())


# Spectrograms ---------------------------------------------------------------------------------------------------------


@cache
def mel_filters() -> Tensor:
    """Triangular filters ``(mels, bins)`` of unit height, on Slaney's scale: linear to 1 kHz, then logarithmic.

    In the linear part a filter is every 36 Hz, more than a bin, so that none is empty. (Slaney 1998, Auditory
    Toolbox, Interval Research report 1998-010.)
    """
    per_mel, bend, step = 200 / 3, 1000.0, math.log(6.4) / 27
    top = bend / per_mel + math.log(SAMPLE_RATE / 2 / bend) / step
    points = torch.linspace(0, top, MELS + 2, dtype=torch.float64)
    linear = points * per_mel
    edges = torch.where(linear < bend, linear, bend * ((points - bend / per_mel) * step).exp())
    bins = torch.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0).float()


def stft(sound: Tensor) -> Tensor:
    """The short-time Fourier transform, complex ``(batch, bins, frames)``: frame i is centred at sample 64 i."""
    window = torch.hann_window(N_FFT, device=sound.device)
    return torch.stft(sound, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True)


def log_mel(sound: Tensor) -> Tensor:
    """``sound`` ``(batch, samples)`` as a log-mel spectrogram ``(batch, 1 + samples // 64, mels)``.

    Natural logarithm of mel-filtered magnitudes, cut off below 0.01, shifted and scaled to about unit variance for
    sound of the level of :func:`level`.
    """
    return normalise(stft(sound).abs().transpose(1, 2) @ mel_filters().to(sound.device).T)


def normalise(mel: Tensor) -> Tensor:
    """Mel magnitudes in the units of :func:`log_mel`."""
    return (mel.clamp(min=math.exp(FLOOR)).log() - CENTRE) / SPREAD


def denormalise(mel: Tensor) -> Tensor:
    """The magnitudes of a log-mel spectrogram."""
    return (mel * SPREAD + CENTRE).exp()


def level(sound: Tensor) -> Tensor:
    """``sound`` ``(samples,)`` without its mean and with a root mean square of 0.1."""
    sound = sound - sound.mean()
    return sound * (RMS / sound.square().mean().sqrt().clamp(min=1e-8))


def trim(sound: Tensor, *, decibels: float = 35.0, margin: int = 2) -> Tensor:
    """``sound`` ``(samples,)`` less its mean, without what is before and after the word in it.

    The word is what is less than ``decibels`` quieter than the loudest frame and louder than the room, if the recording
    begins and ends with a tenth of a second of one steady noise without a voice. (Two consonants at its ends, as in
    "nine" and "six", are voiced or differ; a hum stays.) A click of up to 10 ms counts for nothing if it is a sixth of
    a second or more from the word, and one of 3 ms wherever it is. ``margin`` frames are kept on either side.
    """
    sound = sound - sound.mean()
    loudness = sound[: len(sound) // HOP * HOP].view(-1, HOP).square().mean(-1)
    if len(loudness) < 3 * EDGE:
        return sound
    steady = F.pad(loudness[None, None], (2, 2), mode="reflect")[0, 0].unfold(0, 5, 1).median(-1).values
    steady = without_clicks(steady, decibels)
    least = steady.max() * 10 ** (-decibels / 10)
    ends = torch.stack([steady[:EDGE], steady[-EDGE:]])
    still = ends.max() < STEADY * ends.min() and ends.max() * ABOVE < steady.max()
    if still and alike(sound) and not any(pitch(end)[1].mean() > 0.5 for end in ends_of(sound)):
        least = torch.maximum(least, ends.max() * ABOVE)
    loud = (steady >= least).nonzero()[:, 0]
    first, last = max(0, int(loud[0]) - margin), int(loud[-1]) + margin + 1
    return sound[first * HOP : last * HOP]


def without_clicks(steady: Tensor, decibels: float) -> Tensor:
    """Loudnesses ``(frames,)`` with those of a click before or after the word, in long silence, set to 0.

    What touches an end of the recording may be the rest of something longer, and stays.
    """
    steady = steady.clone()
    while True:
        loud = (steady >= steady.max() * 10 ** (-decibels / 10)).nonzero()[:, 0]
        gaps = (loud.diff() > ALONE).nonzero()[:, 0]
        if not len(gaps):
            return steady
        before, after = loud[: gaps[0] + 1], loud[gaps[-1] + 1 :]
        whole = [part for part in (before, after) if part[0] > 0 and part[-1] < len(steady) - 1]
        clicks = [part for part in whole if part[-1] - part[0] < CLICK]
        if not clicks or sum(map(len, clicks)) == len(loud):
            return steady
        steady[torch.cat(clicks)] = 0


def alike(sound: Tensor) -> bool:
    """Whether both ends of ``sound`` ``(samples,)`` have the spectrum of one noise."""
    first, last = log_mel(ends_of(level(sound))).mean(1)
    return bool((first - last).abs().mean() * SPREAD * 20 / math.log(10) < ALIKE)


def ends_of(sound: Tensor) -> Tensor:
    """The first and the last tenth of a second of ``sound`` ``(samples,)``, ``(2, samples)``."""
    return torch.stack([sound[: EDGE * HOP], sound[-EDGE * HOP :]])


def resize(values: Tensor, frames: int) -> Tensor:
    """``values`` ``(batch, frames, channels)`` at another number of frames, linear in between."""
    return F.interpolate(values.transpose(1, 2), frames, mode="linear", align_corners=True).transpose(1, 2)


# Pitch ----------------------------------------------------------------------------------------------------------------


def pitch(sound: Tensor) -> tuple[Tensor, Tensor]:
    """The pitch of ``sound`` ``(samples,)``: Hz and whether voiced, each float32 ``(1 + samples // 64,)``.

    The highest peak of the autocorrelation of each frame, divided by that of its window (Boersma 1993, IFA Proceedings
    17, 97-110); then once more within a factor of 1.6 of the median, against errors of an octave. Frames without
    voice get the pitch between their neighbours.
    """
    correlation, energy = autocorrelation(sound)
    loud = energy[:, 0] > 1e-3 * energy.max()
    lags = torch.arange(LAGS.start, LAGS.stop, device=sound.device)
    strength = correlation[:, LAGS] - 0.02 * lags.log2()  # of equal peaks the first
    best = strength.argmax(-1)
    voiced = loud & (correlation.gather(1, lags[best, None])[:, 0] > VOICED)
    if not voiced.any():
        return torch.full_like(energy[:, 0], math.sqrt(LOWEST * HIGHEST)), torch.zeros_like(energy[:, 0])
    middle = lags[best][voiced].float().median()
    near = (lags > middle / 1.6) & (lags < middle * 1.6)
    lag = lags[strength.masked_fill(~near, -math.inf).argmax(-1)]
    before, at, after = (correlation.gather(1, lag[:, None] + i)[:, 0] for i in (-1, 0, 1))
    shift = (before - after) / (2 * (before - 2 * at + after)).clamp(max=-1e-6)  # the top of the parabola
    voiced = loud & (at > VOICED)
    hertz = SAMPLE_RATE / (lag + shift.clamp(-0.5, 0.5))
    if not voiced.any():
        return torch.full_like(hertz, float(SAMPLE_RATE / middle)), voiced.float()
    hertz = F.pad(fill(hertz, voiced)[None, None], (2, 2), mode="replicate")[0, 0].unfold(0, 5, 1).median(-1).values
    return hertz, voiced.float()


def autocorrelation(sound: Tensor) -> tuple[Tensor, Tensor]:
    """That of each frame of ``sound`` ``(samples,)``, divided by that of its window, and the energy of the frame.

    ``(1 + samples // 64, lags)``, 1 at lag 0, and ``(1 + samples // 64, 1)``.
    """
    frames, window = in_windows(sound)
    size = 2 * PITCH_WINDOW
    correlation = torch.fft.irfft(torch.fft.rfft(frames, size).abs().square(), size)
    own = torch.fft.irfft(torch.fft.rfft(window, size).abs().square(), size)
    energy = correlation[:, :1]
    return correlation / energy.clamp(min=1e-8) / (own / own[0]).clamp(min=1e-3), energy


def in_windows(sound: Tensor) -> tuple[Tensor, Tensor]:
    """The frames of ``sound`` ``(samples,)``, less their means and windowed, ``(1 + samples // 64, 384)``, and the
    window."""
    frames = F.pad(sound, (PITCH_WINDOW // 2, PITCH_WINDOW // 2)).unfold(0, PITCH_WINDOW, HOP)
    window = torch.hann_window(PITCH_WINDOW, device=sound.device)
    return (frames - frames.mean(-1, keepdim=True)) * window, window


def periodicity(sound: Tensor) -> float:
    """How much ``sound`` ``(samples,)`` repeats itself at the pitch of a voice, about 0.2 in noise of any colour.

    The mean over loud frames of the highest peak of the autocorrelation of what is left by :func:`whiten`: coloured
    noise is like itself a little later, whitened noise is not.
    """
    energy = in_windows(sound)[0].square().sum(-1)
    loud = energy > 1e-3 * energy.max()
    return autocorrelation(level(whiten(sound)))[0][loud, LAGS].max(-1).values.mean().item()


def whiten(sound: Tensor, *, order: int = 10) -> Tensor:
    """``sound`` ``(samples,)`` less what linear prediction from the ``order`` samples before says: of a flat spectrum.

    The prediction is by the autocorrelation of all of it (Makhoul 1975, Proceedings of the IEEE 63, 561-580), and
    takes a spectrum to be no more than 40 dB below its mean.
    """
    samples = sound.double()
    correlation = torch.stack([samples[lag:] @ samples[: len(samples) - lag] for lag in range(order + 1)])
    correlation[0] = correlation[0] * (1 + 1e-4) + 1e-9
    lags = torch.arange(order, device=sound.device)
    weights = torch.linalg.solve(correlation[(lags[:, None] - lags).abs()], correlation[1:])
    before = F.pad(samples, (order, 0)).unfold(0, order, 1)[: len(samples)]
    return (samples - before @ weights.flip(0)).float()


def share_above(sound: Tensor, hertz: float) -> float:
    """The share of the power of ``sound`` ``(samples,)`` at frequencies above ``hertz``."""
    power = torch.fft.rfft(sound.double()).abs().square()
    return (power[torch.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE) > hertz].sum() / power.sum()).item()


def fill(values: Tensor, known: Tensor) -> Tensor:
    """``values`` ``(n,)`` with those that are not ``known`` interpolated from those that are."""
    at = known.nonzero()[:, 0].cpu().numpy()
    everywhere = np.interp(np.arange(len(values)), at, values.cpu().numpy()[at])
    return torch.from_numpy(everywhere.astype(np.float32)).to(values.device)


@cache
def harmonics(steps: int = 128) -> Tensor:
    """What pulses of each pitch look like: ``(steps, mels)``, of pitches spaced evenly in the logarithm.

    The log-mel spectrum of a pulse train through the window, less the mean over all pitches, which has no harmonics.
    """
    time = torch.arange(SAMPLE_RATE // 4, dtype=torch.float64) / SAMPLE_RATE
    rows = []
    for hertz in torch.logspace(math.log10(LOWEST), math.log10(HIGHEST), steps, dtype=torch.float64):
        partials = torch.arange(1, int(SAMPLE_RATE / 2 / hertz) + 1, dtype=torch.float64)
        phase = math.pi * partials**2 / len(partials)  # Schroeder's: a flat envelope
        sound = torch.cos(2 * math.pi * hertz * partials[:, None] * time + phase[:, None]).sum(0).float()
        mel = (stft(sound[None]).abs().mean(-1) @ mel_filters().T)[0].clamp(min=1e-3).log()
        rows.append(mel)
    table = torch.stack(rows)
    return (table - table.mean(0)) / SPREAD


def pitch_to_unit(hertz: Tensor) -> Tensor:
    """Hz as a number in [-1, 1], linear in the logarithm."""
    low, high = math.log(LOWEST), math.log(HIGHEST)
    return 2 * (hertz.clamp(LOWEST, HIGHEST).log() - low) / (high - low) - 1


def excitation(unit: Tensor) -> Tensor:
    """The harmonics of pitches ``(...)`` in [-1, 1], as :func:`pitch_to_unit` gives them: ``(..., mels)``."""
    table = harmonics().to(unit.device)
    place = (unit.clamp(-1, 1) + 1) / 2 * (len(table) - 1)
    below = place.floor().clamp(max=len(table) - 2)
    share = (place - below).unsqueeze(-1)
    return torch.lerp(table[below.long()], table[below.long() + 1], share.to(table.dtype))


def envelope(mel: Tensor, *, coefficients: int = 14) -> Tensor:
    """``mel`` ``(batch, frames, mels)`` without the harmonics: its first cepstral coefficients alone."""
    cosines = cepstrum_basis(coefficients).to(mel)
    return mel @ cosines.T @ cosines


@cache
def cepstrum_basis(coefficients: int) -> Tensor:
    """The first cosines of the discrete cosine transform over mel bands, orthonormal: ``(coefficients, mels)``."""
    order, bands = torch.arange(coefficients)[:, None], torch.arange(MELS)
    cosines = torch.cos(math.pi / MELS * (bands + 0.5) * order) * math.sqrt(2 / MELS)
    cosines[0] /= math.sqrt(2)
    return cosines


# Sound from spectrograms ----------------------------------------------------------------------------------------------


def invert_mel(mel: Tensor, *, iterations: int = 20) -> Tensor:
    """Magnitudes ``(batch, frames, bins)`` that the mel filters take to ``exp`` of a log-mel spectrogram.

    Non-negative least squares by multiplicative updates (Lee & Seung 2001, NIPS 13, theorem 1), from the clipped
    pseudo-inverse.
    """
    filters, inverse = mel_filters().to(mel.device), mel_inverse().to(mel.device)
    wanted = denormalise(mel)
    magnitude = (wanted @ inverse.T).clamp(min=1e-5)
    target, gram = wanted @ filters, filters.T @ filters
    for _ in range(iterations):
        magnitude = magnitude * target / (magnitude @ gram).clamp(min=1e-8)
    return magnitude


@cache
def mel_inverse() -> Tensor:
    """The pseudo-inverse ``(bins, mels)`` of :func:`mel_filters`."""
    return torch.linalg.pinv(mel_filters())


def griffin_lim(
    mel: Tensor, *, frames: Sequence[int] | None = None, iterations: int = 20, momentum: float = 0.99, seed: int = 0
) -> Tensor:
    """Sound ``(batch, 64 (frames - 1))`` with about the log-mel spectrogram ``mel`` ``(batch, frames, mels)``.

    The fast Griffin-Lim algorithm (Perraudin et al. 2013, WASPAA, algorithm 2), from :func:`first_phases`, which spare
    it a third of the iterations. After as many as ``frames`` of a row there is nothing, whatever the row has.

    Args:
        mel: the spectrogram.
        frames: of each row.
        iterations: how many.
        momentum: of the algorithm, 0 for Griffin and Lim's own.
        seed: of the phases of the first frame, the same for each row.
    """
    magnitude = invert_mel(mel.detach().float())
    longest = magnitude.shape[1]
    phase = first_phases(magnitude, seed)
    if frames is not None:
        counts = torch.as_tensor(frames, device=magnitude.device)
        magnitude = magnitude * (torch.arange(longest, device=magnitude.device) < counts[:, None]).unsqueeze(-1)
    window = torch.hann_window(N_FFT, device=mel.device)
    cover = overlap_add(window.square().expand(1, longest, N_FFT))
    within = slice(N_FFT // 2, cover.shape[-1] - N_FFT // 2)  # what is before and after counts as silence
    share = torch.zeros_like(cover)
    share[:, within] = 1 / cover[:, within]

    def sound(spectrum: Tensor) -> Tensor:
        return overlap_add(torch.fft.irfft(spectrum, N_FFT) * window) * share

    spectrum = torch.polar(magnitude, phase)
    before = torch.zeros_like(spectrum)
    for _ in range(iterations):
        consistent = torch.fft.rfft(sound(spectrum).unfold(-1, N_FFT, HOP) * window)
        spectrum = magnitude * torch.lerp(before, consistent, 1 + momentum).sgn()
        before = consistent
    return sound(spectrum)[:, within]


def first_phases(magnitude: Tensor, seed: int) -> Tensor:
    """Phases ``(batch, frames, bins)`` to begin with: random ones in the first frame, continued from frame to frame,
    each at the frequency to which the slope of the logarithm of the magnitude points.

    That is exact for a Gaussian window; the Hann window is near to one with a variance of 0.25645 / (2 pi) times its
    length squared. (Prusa, Balazs & Sondergaard 2017, IEEE/ACM TASLP 25, 1154-1164.)

    Args:
        magnitude: ``(batch, frames, bins)``.
        seed: of the first frame.
    """
    bins = magnitude.shape[-1]
    logarithm = magnitude.clamp(min=1e-5).log()
    slope = F.pad((logarithm[..., 2:] - logarithm[..., :-2]) / 2, (1, 1))
    frequency = 2 * math.pi * torch.arange(bins, device=magnitude.device) / N_FFT
    step = HOP * (frequency + slope / (0.25645 * N_FFT))
    first = torch.rand(bins, generator=torch.Generator().manual_seed(seed)).to(magnitude.device) * 2 * math.pi
    return torch.cat([first.expand_as(step[:, :1]), (step[:, 1:] + step[:, :-1]) / 2], 1).cumsum(1)


def overlap_add(frames: Tensor) -> Tensor:
    """The sum of frames ``(batch, frames, 256)``, one every 64 samples: ``(batch, 64 (frames + 3))``."""
    batch, count, size = frames.shape
    total = frames.new_zeros(batch, count + size // HOP - 1, HOP)
    for i in range(size // HOP):
        total[:, i : i + count] += frames[..., i * HOP : (i + 1) * HOP]
    return total.flatten(1)


def vocode(mel: Tensor | Sequence[Tensor], frames: Sequence[int], *, seed: int = 0) -> list[Tensor]:
    """Sounds of spectrograms, each ``(any, mels)``, stretched to its number of ``frames``.

    What is made of one does not depend on the others, but for the rounding of numbers.
    """
    order = sorted(range(len(frames)), key=frames.__getitem__)
    sounds: list[Tensor] = [torch.zeros(0)] * len(frames)
    for start in range(0, len(order), VOCODED):  # of similar length, so that little is wasted on silence
        chunk = order[start : start + VOCODED]
        counts = [frames[i] for i in chunk]
        padded = mel[0].new_zeros(len(chunk), max(counts) + N_FFT // HOP, MELS)
        for row, i in zip(padded, chunk):
            row[: frames[i]] = resize(mel[i].unsqueeze(0), frames[i])[0]
        for i, sound in zip(chunk, griffin_lim(padded, frames=counts, seed=seed)):
            sounds[i] = sound[: HOP * (frames[i] - 1)]
    return sounds


def mel_cepstral_distortion(mel: Tensor, other: Tensor, *, coefficients: int = 13) -> Tensor:
    """The distance in dB between spectrograms ``(batch, frames, mels)`` of the same length, ``(batch,)``.

    ``10 sqrt(2) / ln 10`` times the mean over frames of the Euclidean distance between mel cepstra, of which the
    zeroth, the loudness, is left out. (Kubichek 1993, PACRIM, equation 1.)
    """
    cosines = cepstrum_basis(coefficients + 1)[1:].to(mel)
    difference = (mel - other) * SPREAD @ cosines.T / math.sqrt(MELS / 2)  # of c in ln |X| = sum of c_m cos(m w)
    return 10 * math.sqrt(2) / math.log(10) * difference.square().sum(-1).sqrt().mean(-1)
