"""Pictures and sounds of what a speaker generator does."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.data.speech import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zoo.models.speaker_generator.model import SpeakerGenerator

PAUSE = 1200  # samples between words
FADE = 40  # samples at either end of a word
SHOWN = 10  # words
SILENT = -1.6  # of a log-mel spectrogram: the darkest colour


def draw(model: "SpeakerGenerator") -> "dict[str, Figure]":
    """Reconstructions under real speech; every code's voice under that of its speaker, and the mean vector's.

    Of the whole split that was last scored: a batch, or a process's part of it, may lack a digit. What even the split
    lacks stays blank.
    """
    from zoo.models.speaker_generator.plots import spectrograms
    from zoo.training.plots import heat_map

    data = model.trainer.datamodule
    speech = data.splits["test" if model.trainer.testing else "val"]
    digits = torch.arange(min(SHOWN, model.contents), device=model.device)
    there = [int(digit) for digit in digits if (speech.content == digit).any()]
    first = torch.stack([(speech.content == digit).nonzero()[0, 0] for digit in there])
    some = speech.at(first)
    names = model.words[:SHOWN]
    rows = {"real": some.mel, "reconstructed": model(some).mel}
    title = "Recordings and their reconstructions"
    pictures = {"reconstructions": spectrograms(rows, title, names=[names[digit] for digit in there])}
    rows = {}
    for code, name, speaker in voices(model):
        if speaker >= 0:
            spoken = speech.speaker == speaker
            rows[f"{name}, real"] = in_columns(speech.mel, [spoken & (speech.content == digit) for digit in digits])
        rows[f"code {code}"] = model.generate(digits, torch.full_like(digits, code), seed=0).mel
    rows["mean vector"] = model.generate(digits, model.log_prior(digits).exp(), seed=0).mel
    pictures["voices"] = spectrograms(rows, "Real speech, and generated with each code", names=names)
    pictures["prior"] = heat_map(
        torch.stack([model.code_usage.cpu(), model.prior.mean(0).cpu()]),
        "Share of recordings (0) and learned prior (1)",
        "code",
        "",
    )
    return pictures


def in_columns(mel: Tensor, masks: list[Tensor]) -> Tensor:
    """The first of ``mel`` ``(n, frames, mels)`` in each mask ``(n,)``, silence where there is none."""
    silence = torch.full_like(mel[0], SILENT)
    return torch.stack([mel[mask][0] if mask.any() else silence for mask in masks])


def play(model: "SpeakerGenerator") -> dict[str, Tensor]:
    """The digits in order: by each speaker, real and generated with its code, and by the mean vector."""
    digits = torch.arange(min(SHOWN, model.contents), device=model.device)
    data, sounds = model.trainer.datamodule, {}
    for code, name, speaker in voices(model):
        own = {
            r.text: r for r in reversed(data.recordings["test"]) if speaker >= 0 and r.speaker == data.names[speaker]
        }
        if own:
            said = [own[text] for text in data.words[:SHOWN] if text in own]
            sounds[f"{name}_real"] = in_a_row([load(one, data.read) for one in said])
        sounds[f"{name}_generated"] = in_a_row(model.speak(digits, torch.full_like(digits, code), seed=0))
    sounds["mean_vector"] = in_a_row(model.speak(digits, model.log_prior(digits).exp(), seed=0))
    return sounds


def voices(model: "SpeakerGenerator") -> list[tuple[int, str, int]]:
    """Of each code that is matched with a speaker, or of all where nobody knows them: the code, what it is called, and
    the index of the speaker, or -1. Where the data say how many speakers there are, and not whom, none is named."""
    data, matching = model.trainer.datamodule, model.matching.tolist()
    named = not isinstance(data.speakers, int)
    return [
        (code, data.names[speaker] if named and speaker >= 0 else f"code_{code}", speaker)
        for code, speaker in enumerate(matching)
        if speaker >= 0 or max(matching) < 0
    ]


def in_a_row(sounds: list[Tensor], pause: int = PAUSE) -> Tensor:
    """``sounds`` one after the other, faded at their ends, with a ``pause`` of samples after each: ``(samples,)``."""
    rise = torch.linspace(0, 1, FADE)
    parts = []
    for sound in sounds:
        sound = sound.detach().float().cpu().clone()
        if len(sound) >= 2 * FADE:
            sound[:FADE] *= rise
            sound[-FADE:] *= rise.flip(0)
        parts += [sound, torch.zeros(pause)]
    return torch.cat(parts)
