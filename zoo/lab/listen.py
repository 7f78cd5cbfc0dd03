"""A page to hear the answer on: real voices, ten draws of each relaxation, mean vectors, a blend of two voices.

    python scripts/listen.py
    python scripts/listen.py relaxations=reinmax,softmax folder=runs/listen similarity=false

The runs are those of ``scripts/compare_speaker.py``, seed 0, trained if they are not there: george and yweweler of
FSDD, 70 to 30, without labels. Each relaxation says one word ten times, each time by a speaker drawn from the prior
that it has learned, and ten times by the mean vector of that prior. Real recordings, drawn 70 to 30, go through the
same vocoder. Beside each sound stands whom ``speech_judge.fsdd`` hears.

The blend is of two speakers of a pretrained model in eleven steps, ten digits each. How like the two real speakers
each step is says Resemblyzer (Wan et al. 2018, arXiv 1710.10467), a judge from outside that nothing was trained
by: the cosine of the embeddings of its utterance and of takes 5 to 11 of a speaker. It is not a dependency of
this project:

    pip install librosa webrtcvad-wheels && pip install --no-deps resemblyzer

Writes ``listen.md``, and sounds and a picture to a folder beside it. About 25 CPU-seconds a relaxation, and a minute.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo import hub
from zoo.config import from_config
from zoo.config.composition import choices, compose, plain
from zoo.data import audio
from zoo.data.recordings import libraries, write_sound
from zoo.data.speech import load
from zoo.errors import ZooError
from zoo.lab.common import check_names, command
from zoo.lab.compare_speaker import EXAMPLES, run
from zoo.models.speaker_generator import SpeakerGenerator
from zoo.models.speaker_generator.pictures import in_a_row
from zoo.training.plots import style

RELAXATIONS = (
    "reinmax", "straight_through", "st_gumbel_softmax", "gumbel_softmax", "gumbel_rao", "gapped_st", "rloo",
    "reinforce", "st_argmax", "softmax",
)  # fmt: skip
TAKES, STEPS = 10, 11
CENTROID = range(5, 12)  # takes
AT = 16_000  # hertz, of Resemblyzer

HEAD = """# Listen: softmax or sample?

`{command}` trains the [70/30 example](speaker.md), george and yweweler without labels or a guide, with each relaxation
(seed 0), and has it say "{word}" ten times: once each time with a speaker **drawn** from the prior that it has learned,
and once with the **mean vector** of that prior in place of a draw. Whom the project's judge hears in each of the ten
stands beside: G for george, Y for yweweler, M for a mix of two, ? for somebody else. On another processor
a run of one seed can end elsewhere, so these need not be the runs of [its tables](speaker.md). All are made from the
Free Spoken Digit Dataset (Z. Jackson and others), and are CC BY-SA 4.0 as it is.

| | speaker | ten times | heard | prior, G : Y |
| --- | --- | --- | --- | --- |
"""


def experiment(
    *overrides: str,
    relaxations: Sequence[str] = RELAXATIONS,
    word: str = "seven",
    checkpoint: str = "speaker_generator.fsdd",
    between: tuple[str, str] = ("george", "theo"),
    similarity: bool = True,
    runs: Path = Path("runs/compare_speaker/mix"),
    folder: Path = Path("docs/speaker"),
) -> Path:
    """Train what is not trained yet, and write the page and its sounds.

    Args:
        relaxations: which of configs/relaxation.
        word: that each says.
        checkpoint: a speaker generator with names, for the blend.
        between: its two speakers.
        similarity: whether Resemblyzer judges the blend.
        runs: folder of the runs.
        folder: of the page.
        overrides: options of scripts/train.py for every run, such as epochs=1.

    Returns:
        the page.

    Raises:
        ZooError: if there is no such relaxation or speaker, or Resemblyzer is wanted and not installed.
    """
    check_names("relaxations", relaxations, choices("relaxation"))
    embed = embedder() if similarity else None
    sounds = folder / "listen"
    sounds.mkdir(parents=True, exist_ok=True)
    made_by = command(
        "listen",
        relaxations=None if tuple(relaxations) == RELAXATIONS else relaxations,
        word=None if word == "seven" else word,
        overrides=overrides,
    )
    lines = HEAD.format(command=made_by, word=word).rstrip("\n").splitlines()
    data = recordings("mix", *overrides)
    judge: Any = hub.from_pretrained("speech_judge.fsdd")
    heard = {name: name[0].upper() for name in data.names}

    def row(name: str, kind: str, spoken: list[Tensor], prior: str) -> str:
        file = f"{name.strip('`')}_{kind.split()[0]}.flac"
        write_sound(sounds / file, in_a_row(spoken))
        found = judge.listen(spoken)
        mixed, names = (found.hybrid > 0.5).tolist(), judge.names(found)
        who = " ".join("M" if mix else heard.get(one, "?") for mix, one in zip(mixed, names))
        return f"| {name} | {kind} | {player(file)} | {who} | {prior} |"

    g = torch.Generator().manual_seed(0)
    lines.append(row("real", "recorded", real(data, word, g), "0.70 : 0.30"))
    for relaxation in relaxations:
        model = hub.from_pretrained(run(runs, "mix", relaxation, 0, *overrides).path)
        content = torch.full((TAKES,), data.words.index(word))
        prior = model.log_prior(content[:1]).exp()
        drawn = model.sample_speaker(content, seed=0)
        voices = [model.speak(content[:1], drawn[i : i + 1], seed=i)[0] for i in range(TAKES)]
        mean = [model.speak(content[:1], prior, seed=i)[0] for i in range(TAKES)]
        shares = dict(zip(model.speaker_names, prior[0].tolist()))
        learned = " : ".join(f"{shares.get(name, 0):.2f}" for name in data.names)
        lines.append(row(f"`{relaxation}`", "drawn", voices, learned))
        lines.append(row(f"`{relaxation}`", "mean vector", mean, ""))
    lines += ["", *blend(checkpoint, between, embed, sounds)]
    path = folder / "listen.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(path)
    return path


def player(file: str) -> str:
    """A sound on the page; where HTML is not played, a link to it."""
    return f'<audio controls preload="none" src="listen/{file}"></audio> [file](listen/{file})'


def recordings(example: str, *overrides: str) -> Any:
    """The data of an example, ready."""
    config = plain(compose([*EXAMPLES[example], "run=unused", *overrides]))
    data: Any = from_config(config["data"], where="data")
    data.prepare_data()
    data.setup()
    return data


def real(data: Any, word: str, g: torch.Generator) -> list[Tensor]:
    """Ten test recordings of a word, their speakers drawn as the example mixes them, through the vocoder."""
    found = []
    for who in torch.multinomial(data.proportions(), TAKES, replacement=True, generator=g).tolist():
        own = [r for r in data.recordings["test"] if (r.text, r.speaker) == (word, data.names[who])]
        found.append(load(own[int(torch.randint(len(own), (), generator=g))], data.read))
    return revoiced(found)


def revoiced(sounds: Sequence[Tensor]) -> list[Tensor]:
    """The same sounds after the vocoder."""
    mels = [audio.log_mel(sound[None])[0] for sound in sounds]
    return audio.vocode(mels, [len(mel) for mel in mels])


def blend(checkpoint: str, between: tuple[str, str], embed: Any, folder: Path) -> list[str]:
    """The lines of two speakers in eleven steps."""
    model = hub.from_pretrained(checkpoint)
    if not isinstance(model, SpeakerGenerator):
        raise ZooError(f"{checkpoint} is not a speaker generator")
    check_names("between", between, model.speaker_names)
    first, second = (model.speaker_names.index(name) for name in between)
    digits = torch.arange(model.contents)
    steps = torch.linspace(0, 1, STEPS)
    said, like = [], []
    for share in steps:
        weights = torch.zeros(model.speakers)
        weights[first], weights[second] = 1 - share, share
        utterance = in_a_row(model.speak(digits, weights, seed=0))
        said.append(in_a_row(model.speak(digits[4:5], weights, seed=0)))
        if embed is not None:
            like.append(embed(utterance))
    write_sound(folder / "blend.flac", torch.cat(said))
    lines = [
        f"## From {between[0]} to {between[1]} in eleven steps",
        "",
        f'`{checkpoint}` says "four" with the weights of the two voices from 1 : 0 to 0 : 1.',
        "",
        player("blend.flac"),
    ]
    if embed is None:
        return lines
    data = recordings("six")
    centroids = [centroid(data, name, embed) for name in between]
    cosines = np.array([[float(one @ c) for c in centroids] for one in like])
    picture(cosines, steps.numpy(), between).savefig(folder / "blend.png", dpi=110)
    rows = [[f"{value:.2f}" for value in column] for column in cosines.T]
    return [
        *lines,
        "",
        f"![How like each speaker a blend of {between[0]} and {between[1]} is](listen/blend.png)",
        "",
        "| weight of " + between[1] + " | " + " | ".join(f"{share:.1f}" for share in steps) + " |",
        "| --- | " + " | ".join(["---:"] * STEPS) + " |",
        *(f"| like {name} | " + " | ".join(row) + " |" for name, row in zip(between, rows)),
        "",
        "The cosine of Resemblyzer's embeddings of the ten digits so spoken and of real takes 5 to 11 of the speaker.",
    ]


def centroid(data: Any, name: str, embed: Any) -> np.ndarray:
    """The mean embedding of the takes of a speaker, ten digits an utterance, of norm 1."""
    known = [r for part in data.recordings.values() for r in part if r.speaker == name]
    rows = []
    for take in CENTROID:
        own = sorted((r for r in known if r.path.stem.endswith(f"_{take}")), key=lambda r: r.text)
        rows.append(embed(in_a_row([load(one, data.read) for one in own])))
    mean = np.mean(rows, 0)
    return mean / np.linalg.norm(mean)


def embedder() -> Any:
    """From a sound at 8 kHz to the embedding of Resemblyzer, of norm 1.

    Raises:
        ZooError: if it is not installed.
    """
    try:
        from resemblyzer import VoiceEncoder, preprocess_wav
    except ImportError as error:
        raise ZooError(
            f"Resemblyzer is not installed ({error}): the command is in `python scripts/listen.py --help`, or write "
            "similarity=false"
        ) from error
    _, soxr = libraries()
    encoder = VoiceEncoder("cpu", verbose=False)

    def embed(sound: Tensor) -> np.ndarray:
        wide = soxr.resample(sound.numpy(), audio.SAMPLE_RATE, AT)
        return encoder.embed_utterance(preprocess_wav(wide, source_sr=AT))

    return embed


def picture(cosines: np.ndarray, steps: np.ndarray, between: tuple[str, str]) -> Any:
    """Similarity to both speakers over the weight of the second."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        ax = figure.subplots()
        for i, name in enumerate(between):
            ax.plot(steps, cosines[:, i], "-o", markersize=4, color=f"C{i}")
            end = cosines[:, i].argmax()
            ax.annotate(
                name,
                (steps[end], cosines[end, i]),
                (0, 8),
                textcoords="offset points",
                color=f"C{i}",
                ha="right" if end > len(steps) / 2 else "left",  # inside of the axes
            )
        ax.margins(y=0.15)  # room for the names under the title
        ax.set_xlabel(f"weight of {between[1]}")
        ax.set_ylabel("cosine with the real voice")
        ax.set_title(f"How like {between[0]} and {between[1]} a blend of their voices is", loc="left")
        ax.spines[["top", "right"]].set_visible(False)
    return figure
