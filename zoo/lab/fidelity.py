"""How close the words of a speaker generator come to recordings: voices, spectrograms, and how takes differ.

    python scripts/fidelity.py
    python scripts/fidelity.py checkpoint=runs/mine similarity=false

Each speaker of the Free Spoken Digit Dataset says the ten digits five times: in recordings of the test split, in the
same through the vocoder, and by the model, where each code speaks as the speaker that it was matched with.

- *own voice*: the cosine of Resemblyzer's embeddings (Wan et al. 2018, arXiv 1710.10467) of an utterance of ten digits
  and of the mean of takes 5 to 11 of the speaker, and the share of utterances whose nearest speaker is the right one.
  Nothing was trained by it, or chosen but the number of the sampler's steps, for which all of these measures were
  looked at. It is not a dependency of this project: `python scripts/listen.py --help` says
  how to install it.
- *movement*: the standard deviation over the time of a word of each mel band, in dB, its mean.
- *above 2 kHz*: the share of the energy that is above 2 kHz, in dB, its mean over words.
- *takes*: the mel-cepstral distance between two takes of a word by the same speaker, time-normalised, in dB.
- *length*: the standard deviation of the logarithm of the length over takes of a word by the same speaker, its mean.
- *reconstruction*: of recordings of the test split that pass through the model's code and residual, the log-spectral
  distance in dB.

Prints the table, and one by speaker of what the project's own judge hears. About two CPU-minutes.
"""

import itertools
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from zoo import hub
from zoo.data import FSDD, audio
from zoo.data.speech import TEST_TAKES, load
from zoo.data.text import DIGITS
from zoo.errors import ZooError
from zoo.lab.common import command
from zoo.lab.listen import centroid, embedder, recordings, revoiced
from zoo.models.speaker_generator import SpeakerGenerator
from zoo.models.speaker_generator.pictures import in_a_row

DECIBELS = 20 / np.log(10) * audio.SPREAD  # of one unit of a log-mel spectrogram
HIGH = 2000  # hertz
TAKES = len(TEST_TAKES)
Sounds = dict[str, list[list[Tensor]]]
"""Of each speaker, takes of the ten digits in the order of :data:`ORDER`."""
ORDER = sorted(DIGITS)
"""Of the digits in an utterance, which is that of :func:`zoo.lab.listen.centroid`."""


def experiment(
    *,
    checkpoint: str = "speaker_generator.fsdd",
    takes: Annotated[int, Field(ge=2)] = TAKES,
    similarity: bool = True,
    output: Path | None = None,
) -> None:
    """Print the tables.

    Args:
        checkpoint: a speaker generator that was trained on FSDD, pretrained, a run or a folder.
        takes: of each digit by the model.
        similarity: whether Resemblyzer judges the voices.
        output: a file for the tables.

    Raises:
        ZooError: if the model is no such generator, or Resemblyzer is wanted and not installed.
    """
    model: Any = hub.from_pretrained(checkpoint)
    if (
        not isinstance(model, SpeakerGenerator)
        or model.words != list(DIGITS)
        or {*model.speaker_names} - {*FSDD.everyone}
    ):
        raise ZooError(f"checkpoint={checkpoint} is not a speaker generator of the digits of FSDD")
    embed = embedder() if similarity else None
    names = sorted(model.speaker_names)
    data = recordings("six", f"data.speakers=[{','.join(names)}]")
    recorded = {name: recorded_takes(data, name) for name in names}
    vocoded = {name: [revoiced(words) for words in spoken] for name, spoken in recorded.items()}
    rows: dict[str, Sounds] = {"recorded": recorded, "through the vocoder": vocoded}
    order = torch.tensor([DIGITS.index(word) for word in ORDER])
    seeds = itertools.count()
    rows["model, drawn"] = {
        name: [model.speak(order, name, spread=1.0, seed=next(seeds)) for _ in range(takes)] for name in names
    }
    centroids = {name: centroid(data, name, embed) for name in names} if embed else {}
    lines = [
        "| | own voice, cosine | nearest is right | movement, dB | above 2 kHz, dB | takes, dB | length |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row, said in rows.items():
        lines.append(" | ".join([f"| {row}", *voices(said, centroids, embed), *spectra(said)]) + " |")
    distance = reconstruction(model, data)
    made_by = command(
        "fidelity",
        checkpoint=None if checkpoint == "speaker_generator.fsdd" else checkpoint,
        takes=None if takes == TAKES else takes,
        **({} if similarity else {"similarity": "false"}),
    )
    lines += ["", *by_speaker(hub.from_pretrained(FSDD.judge), rows)]
    lines += ["", f"Log-spectral distance of reconstructions: {distance:.2f} dB. Made by `{made_by}`."]
    print("\n".join(lines))
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def recorded_takes(data: Any, name: str) -> list[list[Tensor]]:
    """The recordings of a speaker in the test split, ten digits a take.

    Raises:
        ZooError: if one is missing.
    """
    own = {(r.path.stem.rpartition("_")[2], r.text): r for r in data.recordings["test"] if r.speaker == name}
    takes = sorted({take for take, _ in own})
    if missing := [f"{word} of take {take}" for take in takes for word in ORDER if (take, word) not in own]:
        raise ZooError(f"recordings of {name} are missing: {', '.join(missing)}")
    return [[load(own[take, word], data.read) for word in ORDER] for take in takes]


def by_speaker(judge: Any, rows: dict[str, Sounds]) -> list[str]:
    """Of each speaker and row the shares of words heard as what they are, as the speaker, and as a mix of two voices,
    by the project's own judge."""
    lines = [
        "| speaker | | digits heard | heard as the speaker | heard as a mix |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    truth = torch.tensor([DIGITS.index(word) for word in ORDER])
    for name in next(iter(rows.values())):
        for row, said in rows.items():
            heard = judge.listen([word for words in said[name] for word in words])
            digit = heard.digit == truth.repeat(len(said[name])).to(heard.digit.device)
            shares = (digit, heard.speaker.argmax(-1) == judge.speakers.index(name), heard.hybrid > 0.5)
            lines.append(f"| {name} | {row} | " + " | ".join(f"{share.float().mean():.3f}" for share in shares) + " |")
    return lines


def voices(said: Sounds, centroids: dict[str, np.ndarray], embed: Any) -> list[str]:
    """Mean cosine to the own speaker, and the share of utterances whose nearest speaker is right."""
    if embed is None:
        return ["", ""]
    own, right = [], []
    for name, takes in said.items():
        for words in takes:
            voice = embed(in_a_row(words))
            cosines = {other: float(voice @ centre) for other, centre in centroids.items()}
            own.append(cosines[name])
            right.append(max(cosines, key=cosines.__getitem__) == name)
    return [f"{np.mean(own):.3f}", f"{np.mean(right):.3f}"]


def spectra(said: Sounds) -> list[str]:
    """Movement, energy above 2 kHz, distance between takes, variation of length."""
    high = torch.linspace(0, audio.SAMPLE_RATE / 2, audio.N_FFT // 2 + 1) > HIGH
    movement, above, apart, lengths = [], [], [], []
    for takes in said.values():
        for words in zip(*takes):
            mels = [audio.log_mel(word[None])[0] for word in words]
            for mel, word in zip(mels, words):
                movement.append(DECIBELS * mel.std(0, correction=0).mean())
                power = audio.stft(word[None])[0].abs().square().sum(1)
                above.append(10 * torch.log10(power[high].sum() / power.sum()))
            alike = torch.cat([audio.resize(mel[None], audio.FRAMES) for mel in mels])
            first, second = torch.tensor(list(itertools.combinations(range(len(mels)), 2))).T
            apart.append(audio.mel_cepstral_distortion(alike[first], alike[second]).mean())
            lengths.append(torch.tensor([float(len(mel)) for mel in mels]).log().std())
    means = [torch.stack(values).mean() for values in (movement, above, apart, lengths)]
    return [f"{mean:.{digits}f}" for mean, digits in zip(means, (2, 1, 2, 3))]


@torch.no_grad()
def reconstruction(model: SpeakerGenerator, data: Any) -> float:
    """The root of the mean squared difference over bands, its mean over frames and recordings, in dB."""
    x = data.splits["test"]
    return float(DECIBELS * (model(x).mel - x.mel).square().mean(-1).sqrt().mean())
