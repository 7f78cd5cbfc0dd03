"""Whose voice? Words by a speaker that is drawn, chosen or blended, as a spectrogram and as a sound."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.audio import SAMPLE_RATE, write_wav
from zoo.demo import drawing
from zoo.demo.shared import Shelf, no_model, polite
from zoo.errors import ZooError

ARCHS = ("speaker_generator",)
HOWS = ("drawn", "chosen", "blended")
LONGEST = 12
"""Words at a time."""
MOST = 8
"""Speakers that have a slider."""
DRAWS = 100


def words_of(model: Any, text: str) -> Tensor:
    """The words of a text, int64 ``(words,)``.

    Raises:
        ZooError: if there are none, too many, or some that the model has not learned.
    """
    from zoo.models.speaker_generator.words import read_words

    if not (text or "").strip():
        raise ZooError(f"write what to say, such as {' '.join(model.words[:3])}")
    words = read_words(text[:1000], model.words)
    if len(words) > LONGEST:
        raise ZooError(f"{len(words)} words: {LONGEST} are the most here; zoo speak says more")
    return torch.tensor(words)


def names_of(model: Any) -> list[str]:
    """What the speakers are called, by their code."""
    return [f"{i}: {name}" if name else f"{i}" for i, name in enumerate(model.speaker_names)]


def weights(
    model: Any, how: str, content: Tensor, chosen: str, shares: Sequence[float], seed: int
) -> tuple[Tensor, str]:
    """Weights of the speakers ``(speakers,)``, and who that is in words.

    Raises:
        ZooError: if there is no such speaker, or all shares are zero.
    """
    names = names_of(model)
    if how == "drawn":
        code = int(model.sample_speaker(content[:1], seed=int(seed))[0])
        return torch.nn.functional.one_hot(torch.tensor(code), len(names)).float(), f"Drawn: speaker {names[code]}."
    if how == "chosen":
        if chosen not in names:
            raise ZooError(f"there is no speaker {str(chosen)[:40]!r} in this model: choose one of the list")
        code = names.index(chosen)
        return torch.nn.functional.one_hot(torch.tensor(code), len(names)).float(), f"Chosen: speaker {names[code]}."
    if how != "blended":
        raise ZooError(f"a speaker is {', '.join(HOWS)}")
    given = torch.tensor([float(share or 0.0) for share in shares[: len(names)]])
    given = torch.cat([given, torch.zeros(len(names) - len(given))])
    if not (given.isfinite().all() and (given >= 0).all() and given.sum() > 0):
        raise ZooError("give at least one speaker a share")
    given = given / given.sum()
    blend = ", ".join(f"{share:.0%} {name}" for share, name in zip(given.tolist(), names) if share > 0)
    return given, f"Blended: {blend}, which is nobody's voice." if (given > 0).sum() > 1 else f"All of {blend}."


def hundred(model: Any, content: Tensor, seed: int) -> tuple[list[float], list[float]]:
    """Shares of the speakers in a hundred draws for a word, and the prior that they are drawn from."""
    drawn = model.sample_speaker(content[:1].repeat(DRAWS), seed=int(seed))
    shares = torch.bincount(drawn, minlength=len(model.speaker_names)) / DRAWS
    return shares.tolist(), model.log_prior(content[:1])[0].exp().tolist()


def say(model: Any, text: str, how: str, chosen: str, shares: Sequence[float], seed: int) -> str:
    """The page: who speaks, the sound, its spectrogram, and a hundred draws."""
    from zoo.models.speaker_generator.pictures import in_a_row

    content = words_of(model, text)
    voice, who = weights(model, how, content, chosen, shares, seed)
    sound = in_a_row(model.speak(content, voice, seed=int(seed)))
    said = " ".join(model.words[i] for i in content.tolist())
    drawn, prior = hundred(model, content, seed)
    codes = [str(i) for i in range(len(drawn))]
    names = names_of(model)
    counted = ", ".join(f"{name} {round(DRAWS * share)}" for name, share in zip(names, drawn))
    return drawing.page(
        drawing.figure(f"“{said}”", f"{player(sound, said)}{spectrogram(sound)}", "time to the right, pitch upwards"),
        drawing.figure(
            f"{DRAWS} draws of a speaker",
            drawing.bars(drawn, codes, f"Of {DRAWS} draws: {counted}", outline=prior, what="share"),
            f"{counted}. Outline: the learned prior.",
        ),
        say=f"{who} {len(sound) / SAMPLE_RATE:.1f} seconds.",
    )


def player(sound: Tensor, about: str) -> str:
    write_wav(content := io.BytesIO(), sound)
    data = base64.b64encode(content.getvalue()).decode()
    return (
        f'<audio controls aria-label="{drawing.escape(about, quote=True)}" src="data:audio/wav;base64,{data}"></audio>'
    )


def spectrogram(sound: Tensor) -> str:
    """Of a sound, low frequencies at the bottom."""
    from zoo.data.audio import log_mel

    array = log_mel(sound.unsqueeze(0))[0].T.flip(0).numpy()
    low, high = np.quantile(array, 0.05), array.max()
    return drawing.picture((array - low) / max(high - low, 1e-9), "spectrogram", "wide")


def build(gr: Any, shelf: Shelf) -> None:
    """Controls, and what they change."""
    models = shelf.names(*ARCHS)
    if not models:
        gr.Markdown(no_model("speaker_generator"))
        return
    first = shelf.load(models[0], *ARCHS)
    names = names_of(first)
    gr.Markdown(
        "The generator first decides who speaks, then speaks. Draw the speaker from what it has learned, choose one, "
        "or blend them: the blend is a voice that nobody in the data has."
    )
    seed = gr.State(1)
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            name = gr.Dropdown(models, value=models[0], label="Model")
            text = gr.Textbox("4 0 7", label=f"Words, {LONGEST} at most", max_length=1000, elem_id="words")
            how = gr.Radio(list(HOWS), value="drawn", label="The speaker is", elem_id="how")
            chosen = gr.Dropdown(names, value=names[0], label="Speaker", visible=False)
            sliders = [
                gr.Slider(
                    0, 1, float(i < 2), step=0.05, label=f"Share of {names[i] if i < len(names) else i}", visible=False
                )
                for i in range(MOST)
            ]
            go = gr.Button("Speak", variant="primary", elem_id="speak")
        with gr.Column(scale=3, min_width=320):
            shown = gr.HTML(say(first, "4 0 7", "drawn", names[0], [], 0), elem_id="voice")

    def shape(name: str, how: str) -> list[Any]:
        names = names_of(shelf.load(name, *ARCHS))
        blended = how == "blended"
        return [
            gr.update(choices=names, value=names[0], visible=how == "chosen"),
            *[
                gr.update(visible=blended and i < len(names), label=f"Share of {names[i] if i < len(names) else i}")
                for i in range(MOST)
            ],
        ]

    @polite
    def speak(name: str, text: str, how: str, chosen: str, seed: int, *shares: float) -> tuple[str, int]:
        return say(shelf.load(name, *ARCHS), text, how, chosen, shares, seed), seed + 1

    inputs, outputs = [name, text, how, chosen, seed, *sliders], [shown, seed]
    name.input(shape, [name, how], [chosen, *sliders], show_progress="hidden").then(speak, inputs, outputs)
    how.input(shape, [name, how], [chosen, *sliders], show_progress="hidden").then(speak, inputs, outputs)
    go.click(speak, inputs, outputs)
    text.submit(speak, inputs, outputs)
    chosen.input(speak, inputs, outputs)
    for slider in sliders:
        slider.input(speak, inputs, outputs, trigger_mode="always_last")  # of the keyboard, too
