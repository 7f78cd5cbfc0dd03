"""Selected inputs, gates, experts, next words: what the other models choose, on examples, files and texts."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo import hub
from zoo.data.pictures import Shape, read_picture
from zoo.data.seeding import PREDICT, generator
from zoo.demo import drawing, editing
from zoo.demo.shared import Shelf, no_model, polite, uploaded
from zoo.errors import ZooError

IMAGES, TEXTS = ("selector", "mixture_of_experts", "binary_net"), ("language_model",)
ARCHS = (*TEXTS, *IMAGES)
LONGEST = 2_000
"""Characters of a text."""
NEXT, WRITTEN, GATES = 12, 150, 96
EXAMPLES = 100
BEGUN = "To be, or not to "


def is_here(data: str) -> bool:
    """Whether nothing has to be fetched for a data set."""
    from zoo.data import sources

    return data == "Table" or (sources.data_root(None) / data).is_dir()


@lru_cache(8)
def examples(shelf: Shelf, model: str) -> tuple[Tensor, Tensor] | None:
    """Test examples of a model's own data, ``(n, *shape)`` with labels ``(n,)``, if these are on this machine."""
    from zoo.config import Trust, from_config

    saved = hub.read(model, shelf.trust)
    name = str(saved.data.get("_target_", "")).rpartition(".")[2]
    if name not in ("MNIST", "FashionMNIST", "Table") or not is_here(name):
        return None
    data = from_config(dict(saved.data), where="data", trust=Trust.of(saved.trust))
    data.setup()
    x, y = next(iter(data.test_dataloader()))[:2]
    return x[:EXAMPLES].clone(), y[:EXAMPLES].clone()


def chosen(model: Any, x: Tensor, y: int | None) -> str:
    """The page of a model that chooses for an example ``(1, ...)``.

    Raises:
        ZooError: if it is of a kind that is not shown here.
    """
    kind = type(model).__name__
    with torch.no_grad():
        output = model(x)
    prediction = output[0] if isinstance(output, tuple) else output
    p = prediction[0].softmax(-1)
    labels = [str(i) for i in range(len(p))]
    best = int(p.argmax())
    truth = "" if y is None else f"; it is {y}"
    bars = drawing.figure(
        "Prediction",
        drawing.bars(p.tolist(), labels, f"Prediction: {best} with {p[best]:.0%}", high=1.0, kind="c"),
        f"{best} with {p[best].item():.0%}{truth}",
    )
    image = x[0].numpy() if x.dim() == 4 else None
    given = [] if image is None else [drawing.figure("Given", drawing.picture(image, "the input"))]
    if kind == "Selector":
        picked = output[1][0]
        share = picked.sum().item() / len(picked)
        says = f"{best} with {p[best]:.0%}{truth}"
        say = f"It saw {int(picked.sum())} of {len(picked)} columns ({share:.1%}) and says {says}."
        if image is not None and len(picked) == image[0].size:
            mask = picked.view(image.shape[1:]).numpy()
            rgb = np.stack([0.35 * image[0] + 0.65 * mask, 0.35 * image[0] + 0.65 * mask * image[0], 0.35 * image[0]])
            given.append(
                drawing.figure("What it looked at", drawing.picture(rgb, "selected pixels"), "red: dark, yellow: light")
            )
        else:
            names = model.names or [f"column {i}" for i in range(len(picked))]
            order = model.logits(x.flatten(1)).detach().flatten()[: len(picked)].argsort(descending=True).tolist()[:20]
            logits = model.logits(x.flatten(1)).detach().flatten()
            values = (logits - logits.min()).tolist()
            rows = drawing.ranked([values[i] for i in order], [names[i] for i in order], "columns", strong=model.k)
            given.append(drawing.figure("Columns, the selected ones first", rows, "how much each is wanted"))
        shown = [*given, *([] if model.target == "input" else [bars])]
        return drawing.page(*shown, say=say)
    if kind == "MixtureOfExperts":
        with torch.no_grad():
            share = model.router(x.flatten(1))[0].float().softmax(-1)
        used = output[1][0].nonzero().flatten().tolist()
        experts = [str(i) for i in range(len(share))]
        about = ", ".join(f"expert {i} {v:.0%}" for i, v in zip(experts, share.tolist()))
        routed = drawing.figure("Probability of each expert", drawing.bars(share.tolist(), experts, about, high=1.0))
        asked = " and ".join(map(str, used))
        say = f"It goes to expert {asked} of {len(share)}, which says {best} with {p[best]:.0%}{truth}."
        return drawing.page(*given, routed, bars, say=say)
    if kind == "BinaryNet":
        return drawing.page(*given, bars, say=f"By weights of one bit: {best} with {p[best]:.0%}{truth}.")
    raise ZooError(f"a {kind} is not shown here")


def of_example(shelf: Shelf, name: str, number: int) -> str:
    """What a model chooses for a test example of its data.

    Raises:
        ZooError: if its data are not on this machine.
    """
    model, found = shelf.load(name, *IMAGES), examples(shelf, name)
    if found is None:
        raise ZooError("its data are not on this machine: hand in a picture, or train once, which fetches them")
    x, y = found
    i = int(number) % len(x)
    return chosen(model, x[i : i + 1], int(y[i]))


def of_file(shelf: Shelf, name: str, path: str | None) -> str:
    """What a model chooses for a picture of one's own.

    Raises:
        ZooError: if it cannot be read, or the model takes no pictures.
    """
    model = shelf.load(name, *IMAGES)
    shape = tuple(model.example_input_array.shape[1:])
    if len(shape) != 3:
        raise ZooError(
            f"{name} takes rows of a table, not pictures: look at its examples, or train one on "
            "a table of your own, under “Train a little”"
        )
    pixels = read_picture(uploaded(path), Shape(max(shape[1:]), shape[0])).float() / 255
    if shape[0] == 1 and pixels[:, 0].mean() > 0.5:
        pixels = 1 - pixels  # ink on paper
    return chosen(model, editing.fitted(pixels, shape), None)


# Text -----------------------------------------------------------------------------------------------------------------


def read_text(path: str | None) -> str:
    """The end of a text file.

    Raises:
        ZooError: if it is empty or no text.
    """
    from zoo.data.texts import read_own

    place = uploaded(path)
    try:
        return read_own(str(place))[0][1][-LONGEST:]
    except ZooError as error:
        raise ZooError(f"{place.name} is empty, or no text in UTF-8") from error


def tokens_of(model: Any, text: str) -> tuple[Any, Tensor]:
    """The vocabulary of a language model, and a text in it, int64 ``(n,)``, after the sign that begins one.

    Raises:
        ZooError: if the text is empty, too long, or has what the model has never seen.
    """
    from zoo.data.texts import BOUNDARY, Vocabulary

    if not (text or "").strip():
        raise ZooError("write a few words first")
    if len(text) > LONGEST:
        raise ZooError(f"{len(text):,} characters: {LONGEST:,} are the most here; zoo write takes more")
    if not model.about["entries"]:
        raise ZooError("this model does not know what its tokens stand for: it was not trained on data=text")
    vocabulary = Vocabulary(model.about["unit"], tuple(model.about["entries"]))
    if unknown := vocabulary.unknown(text):
        raise ZooError(f"the model has never seen {unknown[0]!r}: leave it out")
    return vocabulary, torch.cat([torch.tensor([BOUNDARY]), vocabulary.encode(text)])


@torch.no_grad()
def next_words(model: Any, text: str, temperature: float, seed: int) -> str:
    """What may come next, a continuation, and which gates are open, where they are hard."""
    from zoo.data.texts import BOUNDARY
    from zoo.models.language_model.model import Watch
    from zoo.relaxations import search
    from zoo.relaxations.noise import Noise

    if not 0 < temperature <= 2:
        raise ZooError("a temperature is above 0 and at most 2")
    vocabulary, tokens = tokens_of(model, text)
    watch = Watch(model.choose) if getattr(model, "gates", "") == "hard" else None
    logits, _ = model.network(tokens.unsqueeze(0), model.network.begin(tokens.unsqueeze(0)), watch or model.choose)
    p = (logits[0, -1].float() / temperature).softmax(-1)
    top = p.topk(min(NEXT, len(p)))
    names = [shown(vocabulary, int(i)) for i in top.indices]
    start, state = model.begin(tokens.unsqueeze(0))
    found = search.sample(
        model.step,
        start,
        state,
        steps=WRITTEN,
        adjust=search.truncated(temperature=temperature),
        end=BOUNDARY,
        noise=Noise(generator("cpu", int(seed), PREDICT)),
    )
    more = vocabulary.decode(found.tokens.flatten(0, -2)[0])
    entropy = float(torch.special.entr(p).sum())
    parts = [
        drawing.figure(
            "What comes next",
            drawing.ranked(
                top.values.tolist(), names, ", ".join(f"{n} {v:.0%}" for n, v in zip(names, top.values.tolist()))
            ),
        ),
        drawing.figure("It goes on", f"<pre>{drawing.escape(text[-300:])}<mark>{drawing.escape(more)}</mark></pre>"),
    ]
    if watch:
        opened = torch.stack([value[0, :GATES] for value in watch.gates[-len(tokens) :]], 1).float().numpy()
        note = f"{opened.mean():.0%} of them; a row each, time to the right"
        parts.append(drawing.figure("Open gates", drawing.picture(opened, "which gates are open", "wide"), note))
    doubt = f"{entropy:.1f} nats of doubt, as among {np.exp(entropy):.0f} equal ones"
    say = f"Next is {names[0]} with {top.values[0]:.0%}; {doubt}."
    return drawing.page(*parts, say=say)


def shown(vocabulary: Any, token: int) -> str:
    """A token for people."""
    from zoo.data.texts import BOUNDARY, UNKNOWN

    if token in (BOUNDARY, UNKNOWN):
        return "(the end)" if token == BOUNDARY else "(unknown)"
    return {" ": "(space)", "\n": "(new line)"}.get(vocabulary.entries[token - 2], vocabulary.entries[token - 2])


# The page -------------------------------------------------------------------------------------------------------------


def missing(shelf: Shelf) -> str:
    """What to do about the kinds of model that are not there, as Markdown."""
    lacking = [arch for arch in ARCHS if not shelf.names(arch)]
    return "\n\n".join(no_model(arch) for arch in lacking)


def build(gr: Any, shelf: Shelf) -> None:
    """Controls, and what they change."""
    gr.Markdown(
        "What other models choose: the inputs they look at, the expert they ask, the gates they open, the next word."
    )
    pictures, texts = shelf.names(*IMAGES), shelf.names(*TEXTS)
    quick: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}

    @polite
    def look(name: str, number: int) -> str:
        return of_example(shelf, name, number)

    if pictures:
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                name = gr.Dropdown(pictures, value=pictures[0], label="Model")
                number = gr.Slider(0, 99, 0, step=1, label="Example", elem_id="example")
                file = gr.File(label="A picture of your own, 10 MB at most", type="filepath", height=150)
            with gr.Column(scale=3, min_width=320):
                seen = gr.HTML(look(pictures[0], 0), elem_id="chosen")

        @polite
        def look_at_file(name: str, path: str | None) -> str:
            return of_file(shelf, name, path)

        for control in (name, number):
            control.input(look, [name, number], seen, **quick)
        file.upload(look_at_file, [name, file], seen)

    @polite
    def go_on(name: str, text: str, temperature: float, seed: int) -> tuple[str, int]:
        return next_words(shelf.load(name, *TEXTS), text, temperature, seed), seed + 1

    if texts:
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                which = gr.Dropdown(texts, value=texts[0], label="Language model")
                text = gr.Textbox(BEGUN, label="Text", lines=4, max_length=LONGEST, elem_id="text")
                temperature = gr.Slider(0.1, 2.0, 1.0, step=0.1, label="Temperature", elem_id="warmth")
                own = gr.File(label="A text of your own, UTF-8", type="filepath", height=150)
                again = gr.Button("Go on", elem_id="write")
            with gr.Column(scale=3, min_width=320):
                read = gr.HTML(go_on(texts[0], BEGUN, 1.0, 0)[0], elem_id="next")
        seed = gr.State(1)

        @polite
        def take_file(path: str | None) -> tuple[str, str]:
            content = read_text(path)
            return drawing.page(say=f"{Path(str(path)).name}: press “Go on”."), content

        again.click(go_on, [which, text, temperature, seed], [read, seed])
        which.input(go_on, [which, text, temperature, seed], [read, seed])
        temperature.input(go_on, [which, text, temperature, seed], [read, seed], **quick)
        own.upload(take_file, own, [read, text])
    if lacking := missing(shelf):
        gr.Markdown(lacking)
