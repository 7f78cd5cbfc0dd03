"""Speak words, and save them as a sound.

    python scripts/speak.py checkpoint=speaker_generator.fsdd text="4 0 7"                    a drawn speaker
    python scripts/speak.py checkpoint=speaker_generator.fsdd text="4 0 7" speaker=theo       one of the speakers
    python scripts/speak.py checkpoint=speaker_generator.fsdd text=407 speaker=theo:0.7,george:0.3    a blend of voices
    python scripts/speak.py checkpoint=speaker_generator.fsdd text="zero" n=10                ten draws in a row
    python scripts/speak.py checkpoint=runs/mine text="four zero seven" speaker=2 speed=1.2 output=x.flac

A fresh draw each time, unless a seed is given; the seed of a draw is printed. Griffin-Lim makes sound of what the model
says.
"""

import io
import logging
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, NonNegativeInt

from zoo import hub
from zoo.cli.arguments import command
from zoo.cli.options import pretrained, written
from zoo.errors import ZooError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
LONGEST, MOST = 1000, 10_000  # words of the text, and of all that is said
BETWEEN = 4000  # samples between utterances
SEEDS = 40  # bits below those that tell one utterance from the next
KINDS = (".wav", ".flac", ".ogg", ".mp3")
STDOUT = Path("-")
ARCHS = ("speaker_generator",)


def speak(
    checkpoint: str,
    text: str,
    *,
    speaker: str = "sample",
    n: Annotated[int, Field(ge=1, le=1000)] = 1,
    speed: Annotated[float, Field(ge=0.25, le=4.0)] = 1.0,
    spread: Annotated[float, Field(ge=0.0, le=2.0)] | None = None,
    seed: NonNegativeInt | None = None,
    output: Path = Path("speech.wav"),
    trust: Sequence[str] = (),
) -> None:
    """Write words, spoken by one speaker at a time, to a file, and say who it is and how long it took.

    Args:
        checkpoint: a speaker generator: a pretrained model, its folder or a run folder.
        text: words that it has learned, such as "4 0 7", 407 or "four zero seven".
        speaker: sample; a name or a code; mean for the mean vector in place of a choice; several of these, as
            theo,george, each of whom speaks; or a blend of voices, as theo:0.7,george:0.3, whose shares are divided by
            their sum.
        n: how often; each time all is drawn anew.
        speed: how many times as fast.
        spread: how much takes vary: 0 for the most typical, 1 as the model has it; null for its default.
        seed: of the draws; null for fresh ones. The first of several is what speak() in Python says with it.
        output: a file .wav, or .flac, .ogg or .mp3 with the extra speech, in place of what is there; or - for wav
            to the standard output.
        trust: packages whose classes it may name beside those of this project, such as mypkg: their code runs.

    Raises:
        ZooError: if the model does not speak, it has not learned a word, or there is no such speaker.
    """
    if output != STDOUT and output.suffix.lower() not in KINDS:
        raise ZooError(f"output={output} must end with {', '.join(KINDS)}, or be - for the standard output")

    import torch

    from zoo.data.audio import SAMPLE_RATE
    from zoo.data.recordings import libraries
    from zoo.models.speaker_generator import SpeakerGenerator
    from zoo.models.speaker_generator.pictures import in_a_row
    from zoo.models.speaker_generator.words import SAMPLE, read_voices, read_words
    from zoo.training.runs import set_up_logging

    if output != STDOUT and output.suffix.lower() != ".wav":
        libraries()
    set_up_logging(None)
    model = hub.read(checkpoint, trust, ARCHS).build()
    if not isinstance(model, SpeakerGenerator):
        raise ZooError(f"{checkpoint} is a {type(model).__name__}, which does not speak: only a speaker_generator does")
    if len(words := read_words(text, model.words)) > LONGEST:
        raise ZooError(f"text= has {len(words)} words, and {LONGEST} are the most: speak it in parts")
    content = torch.tensor(words)
    voices = read_voices(speaker, model.speaker_names)
    if (count := len(words) * n * len(voices)) > MOST:
        raise ZooError(f"these are {count} words in all, and {MOST} are the most: speak a part of them")
    model.speak(content[:1])  # what the first call alone costs is not the speed of the model
    if seed is None:
        seed = secrets.randbits(31)
        log.info("seed=%d says this again", seed)
    parts: list[Tensor] = []
    seconds, took = 0.0, 0.0
    for take in range(n):
        for place, (about, voice) in enumerate(voices):
            own = seed + ((take * len(voices) + place) << SEEDS)
            if isinstance(voice, str) and voice == SAMPLE:
                voice = int(model.sample_speaker(content[:1], seed=own))
                about = f"code {voice}" + (f", {model.speaker_names[voice]}" if model.speaker_names[voice] else "")
            began = time.perf_counter()
            sounds = model.speak(content, voice, spread=spread, speed=speed, seed=own)
            took += time.perf_counter() - began
            seconds += sum(len(one) for one in sounds) / SAMPLE_RATE
            parts += [in_a_row(sounds), torch.zeros(BETWEEN)]
            log.info("%s: %s", about, " ".join(model.words[i] for i in content.tolist()))
    save(torch.cat(parts[:-1]), output)
    log.info("%.2f s of speech in %.3f s: %.0f times real time", seconds, took, seconds / took)
    if output != STDOUT:
        log.info("%s", output)


def save(sound: "Tensor", output: Path) -> None:
    """Write ``sound`` ``(samples,)`` at 8 kHz to a file, or as wav to the standard output."""
    from zoo.data.audio import write_wav
    from zoo.data.recordings import write_sound

    if output == STDOUT:
        write_wav(content := io.BytesIO(), sound)
        try:
            sys.stdout.buffer.write(content.getvalue())
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # nobody listens any more, as of head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    with written(output) as path:
        if output.suffix.lower() == ".wav":
            write_wav(path, sound)
        else:
            write_sound(path, sound)


main = command(speak, text=str(__doc__), notes=lambda: pretrained(*ARCHS))
