"""A code you can edit: an image, its discrete code as a grid, and what becomes of the image when an entry changes."""

from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.data import sources
from zoo.data.pictures import Shape, read_picture
from zoo.data.seeding import PREDICT, generator
from zoo.demo import drawing
from zoo.demo.shared import Shelf, no_model, polite, uploaded
from zoo.errors import ZooError
from zoo.relaxations import Noise

ARCHS = ("cat_vae", "tokenizer")
SIDE = 28
"""Pixels of a drawing."""
SAMPLES, STEPS = 12, 8
HOTTEST = 2.0
Code = list[int]

CANVAS = f"""
<div class="zoo-page"><figure><figcaption>Draw here</figcaption>
<canvas width="{10 * SIDE}" height="{10 * SIDE}" role="img" aria-label="Draw a digit here"
 style="touch-action:none;background:#000;width:100%;max-width:{10 * SIDE}px;border-radius:6px"></canvas>
<p><button type="button" style="padding:4px 12px;border:1px solid currentColor;border-radius:6px">Clear</button></p>
</figure></div>"""
DRAWING = f"""
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d', {{willReadFrequently: true}});
let down = false;
pen.lineWidth = 22; pen.lineCap = pen.lineJoin = 'round'; pen.strokeStyle = '#fff';
const at = e => {{
  const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
  return [(e.clientX - box.left) * scale, (e.clientY - box.top) * scale];
}};
canvas.onpointerdown = e => {{
  down = true; canvas.setPointerCapture(e.pointerId); pen.beginPath(); pen.moveTo(...at(e)); pen.lineTo(...at(e));
  pen.stroke();
}};
canvas.onpointermove = e => {{ if (down) {{ pen.lineTo(...at(e)); pen.stroke(); }} }};
canvas.onpointerup = () => {{
  down = false;
  const small = document.createElement('canvas'); small.width = small.height = {SIDE};
  const paper = small.getContext('2d'); paper.drawImage(canvas, 0, 0, {SIDE}, {SIDE});
  const data = paper.getImageData(0, 0, {SIDE}, {SIDE}).data;
  trigger('select', {{pixels: Array.from({{length: {SIDE * SIDE}}}, (_, i) => data[4 * i])}});
}};
element.querySelector('button').onclick = () => pen.clearRect(0, 0, canvas.width, canvas.height);
"""
PICKING = """
element.addEventListener('click', e => {
  const cell = e.target.closest('[data-place]');
  if (cell) trigger('select', {place: +cell.dataset.place, entry: +cell.dataset.entry});
});
"""


# Images ---------------------------------------------------------------------------------------------------------------


@cache
def digits() -> Tensor | None:
    """The test images of MNIST, float32 ``(n, 1, 28, 28)``, if they are on this machine: nothing is fetched."""
    root = sources.data_root(None)
    if not (root / "MNIST").is_dir():
        return None
    try:
        return sources.load("MNIST", str(root))["t10k-images-idx3-ubyte"].unsqueeze(1).float() / 255
    except ZooError:
        return None


def shape_of(model: Any) -> tuple[int, int, int]:
    """Channels, height and width of a model's images."""
    channels, height, width = model.example_input_array.shape[1:]
    return channels, height, width


def fitted(x: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """An image ``(channels, height, width)`` as a batch of one of another shape."""
    x = x.mean(0, keepdim=True) if shape[0] == 1 else x.expand(shape[0], -1, -1)
    return x.unsqueeze(0) if x.shape[1:] == shape[1:] else F.interpolate(x.unsqueeze(0), shape[1:], mode="bilinear")


def example(model: Any, number: int) -> Tensor:
    """An MNIST digit as the model sees them; where there are none, a draw of the model's own prior."""
    images = digits()
    if images is None:
        return decode(model, prior(model, 1, 1.0, number)[0]).unsqueeze(0)
    return (fitted(images[int(number) % len(images)], shape_of(model)) > 0.5).float()


def drawn(pixels: Any, model: Any) -> Tensor:
    """What was drawn by hand: grey levels from 0 to 255, row by row, moved into the middle as digits of MNIST are.

    Raises:
        ZooError: if these are no such pixels, or there is nothing on them.
    """
    if not isinstance(pixels, list) or len(pixels) != SIDE * SIDE or not all(type(p) in (int, float) for p in pixels):
        raise ZooError(f"a drawing is {SIDE} x {SIDE} grey levels")
    x = torch.tensor(pixels, dtype=torch.float32).nan_to_num(0.0).clamp(0, 255).view(SIDE, SIDE) / 255
    if x.sum() < 1:
        raise ZooError("draw something first")
    at = torch.arange(SIDE, dtype=torch.float32)
    down, across = ((x.sum(1) * at).sum() / x.sum(), (x.sum(0) * at).sum() / x.sum())
    middle = (SIDE - 1) / 2
    x = x.roll((round(middle - down.item()), round(middle - across.item())), (0, 1))
    return (fitted(x.unsqueeze(0), shape_of(model)) > 0.5).float()


def read(path: str | None, model: Any) -> Tensor:
    """A picture file as the model sees them; of ink on light paper the ink becomes light.

    Raises:
        ZooError: if it cannot be read, or is too large.
    """
    shape = shape_of(model)
    pixels = read_picture(uploaded(path), Shape(max(shape[1:]), shape[0])).float() / 255
    edge = torch.cat([pixels[:, 0].flatten(), pixels[:, -1].flatten()]).mean()
    if shape[0] == 1:
        pixels = ((1 - pixels if edge > 0.5 else pixels) > 0.5).float()
    return fitted(pixels, shape)


# Codes ----------------------------------------------------------------------------------------------------------------


def categories(model: Any) -> int:
    return int(model.categories if hasattr(model, "categories") else model.quantizer.codes)


def encode(model: Any, x: Tensor) -> Code:
    """The most probable code of an image."""
    return model.encode(x)[0].flatten().tolist()


@torch.no_grad()
def decode(model: Any, *codes: Code) -> Tensor:
    """Pixel means ``(channels, height, width)`` of a code, or of several ``(n, ...)``."""
    images = model.decode(torch.tensor(codes).view(len(codes), *form(model)))
    return images if len(codes) > 1 else images[0]


def form(model: Any) -> tuple[int, ...]:
    """How a model lays out a code."""
    if hasattr(model, "latents"):
        return (model.latents,)
    return model.rows, model.columns, model.quantizer.depth


def length(model: Any) -> int:
    return int(np.prod(form(model)))


def checked(model: Any, code: Any) -> Code:
    """``code``, if it is one of ``model``.

    Raises:
        ZooError: if it is not.
    """
    if (
        not isinstance(code, list)
        or len(code) != length(model)
        or not all(type(k) is int and 0 <= k < categories(model) for k in code)
    ):
        raise ZooError("there is no code of this model yet: choose an example, draw or hand in an image")
    return code


def changed(model: Any, code: Any, place: Any, entry: Any) -> Code:
    """``code`` with another entry at a place, both counted from 0.

    Raises:
        ZooError: if there is no such place or entry.
    """
    code = list(checked(model, code))
    if not (0 <= int(place) < len(code) and 0 <= int(entry) < categories(model)):
        raise ZooError(f"a code has {len(code)} places, each with an entry from 0 to {categories(model) - 1}")
    code[int(place)] = int(entry)
    return code


def between(first: Code, second: Code, share: float) -> Code:
    """A code that takes a ``share`` of its entries, from the first on, from the second."""
    return second[: round(share * len(first))] + first[round(share * len(first)) :]


@torch.no_grad()
def prior(model: Any, count: int, temperature: float, seed: int) -> list[Code]:
    """Codes drawn from the model's own prior.

    Raises:
        ZooError: if it has none, or the temperature is out of range.
    """
    if not 0 < temperature <= HOTTEST:
        raise ZooError(f"a temperature is above 0 and at most {HOTTEST:g}")
    noise = Noise(generator("cpu", int(seed), PREDICT))
    return model.prior.at(temperature).sample(count, noise=noise).argmax(-1).flatten(1).tolist()


# Pictures -------------------------------------------------------------------------------------------------------------


def grid(model: Any, code: Code, place: int) -> str:
    """The code: a row for each latent with its entry marked, or places with their numbers; click to change."""
    k, n = categories(model), len(code)
    if hasattr(model, "latents"):
        size = 16
        cells = []
        for i, entry in enumerate(code):
            for j in range(k):
                kind = "fill b" if j == entry and i == place else "fill a" if j == entry else "axis"
                cells.append(
                    f'<rect x="{30 + j * size}" y="{4 + i * size}" width="{size - 2}" height="{size - 2}" '
                    f'class="{kind} pick" pointer-events="all" data-place="{i}" data-entry="{j}">'
                    f"<title>latent {i}: {j}</title></rect>"
                )
            cells.append(drawing.text(24, 16 + i * size, str(i), "end", "ink" if i == place else ""))
        return drawing.svg(
            f"Code of {n} latents: {', '.join(map(str, code))}",
            *cells,
            width=34 + k * size,
            height=8 + n * size,
        )
    columns, size = form(model)[1] * form(model)[2], 40
    cells = []
    for i, entry in enumerate(code):
        x, y, kind = i % columns * size, i // columns * size, "b" if i == place else "a"
        cells.append(
            f'<rect x="{x}" y="{y}" width="{size - 2}" height="{size - 2}" class="band {kind} pick" '
            f'style="fill-opacity:{0.1 + 0.6 * entry / k:.2f}" data-place="{i}" data-entry="{entry}"/>'
            + drawing.text(x + size / 2, y + size / 2 + 4, str(entry), "middle", "ink")
        )
    return drawing.svg(f"Code: {code}", *cells, width=columns * size, height=-(-n // columns) * size)


def pictures(model: Any, original: Tensor | None, code: Code, place: int, say: str) -> str:
    parts = []
    if original is not None:
        parts.append(drawing.figure("Image", drawing.picture(original[0].numpy(), "the image")))
    parts += [
        drawing.figure("Decoded from the code", drawing.picture(decode(model, code).numpy(), "the decoded image")),
        drawing.figure(
            f"Code: {len(code)} entries of {categories(model)}",
            grid(model, code, place),
            "Click a square, or use the two controls, to change an entry.",
        ),
    ]
    return drawing.page(*parts, say=say)


def build(gr: Any, shelf: Shelf) -> None:
    """Controls, and what they change."""
    models = shelf.names(*ARCHS)
    if not models:
        gr.Markdown(no_model("cat_vae"))
        return
    first = shelf.load(models[0], *ARCHS)
    x = example(first, 0)
    begun = encode(first, x)
    gr.Markdown(
        "A variational autoencoder writes an image as a few discrete entries. Change one and see what it stands for; "
        "walk from one image to another entry by entry; draw codes from the prior."
    )
    code, original = gr.State(begun), gr.State(x)
    with gr.Row():
        with gr.Column(scale=1, min_width=280, elem_classes="zoo-left"):
            with gr.Column():
                name = gr.Dropdown(models, value=models[0], label="Model")
                about = "Digit of MNIST" if digits() is not None else "Draw of the prior (MNIST is not on this machine)"
                number = gr.Slider(0, 99, 0, step=1, label=about, elem_id="digit")
                place = gr.Slider(0, len(begun) - 1, 0, step=1, label="Place in the code", elem_id="place")
                top = categories(first) - 1
                entry = gr.Slider(0, top, begun[0], step=1, label="Entry at this place", elem_id="entry")
            with gr.Column(elem_classes="zoo-more"):
                canvas = gr.HTML(CANVAS, js_on_load=DRAWING)
                file = gr.File(label="A picture of your own, 10 MB at most", type="filepath", height=150)
        with gr.Column(scale=3, min_width=320, elem_classes="zoo-seen"):
            shown = gr.HTML(
                pictures(first, x, begun, 0, "This is the code of the image."), js_on_load=PICKING, elem_id="code"
            )
            with gr.Row():
                other = gr.Slider(0, 99, 1, step=1, label="Walk to digit", min_width=160)
                share = gr.Slider(0, 1, 0, step=0.05, label="How far", min_width=160)
            walk = gr.HTML()
            with gr.Row():
                temperature = gr.Slider(0.1, HOTTEST, 1.0, step=0.1, label="Temperature of the prior", min_width=160)
                sample = gr.Button("Draw from the prior", min_width=160)
            samples = gr.HTML()
    seed = gr.State(0)

    def use(model: Any, x: Tensor | None, code: Code, say: str, place: int = 0) -> tuple[Any, Any, Any, Any, Any]:
        return (
            pictures(model, x, code, place, say),
            code,
            x,
            gr.update(value=place, maximum=len(code) - 1),
            gr.update(value=code[place], maximum=categories(model) - 1),
        )

    @polite
    def take_example(name: str, number: int) -> tuple[Any, Any, Any, Any, Any]:
        model = shelf.load(name, *ARCHS)
        x = example(model, number)
        return use(model, x, encode(model, x), "This is the code of the image.")

    @polite
    def take_drawing(name: str, event: gr.EventData) -> tuple[Any, Any, Any, Any, Any]:
        model = shelf.load(name, *ARCHS)
        x = drawn(getattr(event, "pixels", None), model)
        return use(model, x, encode(model, x), "This is the code of your drawing.")

    @polite
    def take_file(name: str, path: str | None) -> tuple[Any, Any, Any, Any, Any]:
        model = shelf.load(name, *ARCHS)
        x = read(path, model)
        return use(model, x, encode(model, x), f"This is the code of {escape(Path(str(path)).name)}.")

    def edit(name: str, x: Tensor | None, code: Code, place: int, entry: int) -> tuple[Any, Any, Any, Any, Any]:
        model = shelf.load(name, *ARCHS)
        new = changed(model, code, place, entry)
        away = (decode(model, new) - decode(model, list(code))).abs().mean().item()
        was = code[int(place)]
        say = f"Entry {int(place)} went from {was} to {int(entry)}: pixels moved by {away:.3f} on average."
        return use(model, x, new, say, int(place))

    @polite
    def set_entry(name: str, x: Any, code: Any, place: int, entry: int) -> tuple[Any, Any, Any, Any, Any]:
        return edit(name, x, code, place, entry)

    @polite
    def pick(name: str, x: Any, code: Any, event: gr.EventData) -> tuple[Any, Any, Any, Any, Any]:
        return edit(name, x, code, getattr(event, "place", -1), getattr(event, "entry", -1))

    @polite
    def go_to(name: str, x: Any, code: Any, place: int) -> tuple[Any, Any, Any, Any, Any]:
        model = shelf.load(name, *ARCHS)
        code = checked(model, code)
        return use(model, x, code, f"Entry {int(place)} is {code[int(place)]}.", int(place))

    @polite
    def interpolate(name: str, code: Any, other: int, share: float) -> str:
        model = shelf.load(name, *ARCHS)
        first, second = checked(model, code), encode(model, example(model, other))
        shares = [i / (STEPS - 1) for i in range(STEPS)]
        images = decode(model, *(between(first, second, s) for s in (share, *shares))).numpy()
        at = round(share * len(first))
        return drawing.page(
            drawing.figure(f"{at} of {len(first)} entries from the other", drawing.picture(images[0], "on the way")),
            drawing.figure("All the way", drawing.strip(list(images[1:]), "on the way")),
        )

    @polite
    def draw_from_prior(name: str, temperature: float, seed: int) -> tuple[str, int]:
        model = shelf.load(name, *ARCHS)
        images = decode(model, *prior(model, SAMPLES, temperature, seed))
        content = drawing.strip(list(images.numpy()), "sample of the prior")
        return drawing.page(drawing.figure(f"Drawn from the prior at temperature {temperature:g}", content)), seed + 1

    everything = [shown, code, original, place, entry]
    quick: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "concurrency_limit": 2}
    name.input(take_example, [name, number], everything)
    number.input(take_example, [name, number], everything, **quick)
    canvas.select(take_drawing, name, everything, **quick)
    file.upload(take_file, [name, file], everything)
    place.input(go_to, [name, original, code, place], everything, **quick)
    entry.input(set_entry, [name, original, code, place, entry], everything, **quick)
    shown.select(pick, [name, original, code], everything, **quick)
    for control in (other, share):
        control.input(interpolate, [name, code, other, share], walk, **quick)
    sample.click(draw_from_prior, [name, temperature, seed], [samples, seed])
    temperature.input(
        draw_from_prior, [name, temperature, seed], [samples, seed], show_progress="hidden", trigger_mode="always_last"
    )
