"""Figures: small, labelled, drawn without a display and without pyplot's global state."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from torch import Tensor
from torchvision.utils import make_grid

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito (2008), which all people can tell apart."""
STYLE = {
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.facecolor": "white",  # in dark mode, too: nothing of a picture depends on what is around it
    "figure.titlesize": 12,
    "font.size": 10,  # which can be read where 7 inches are shown as 800 pixels
    "grid.alpha": 0.3,
    "image.cmap": "viridis",
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "savefig.dpi": 120,
    "savefig.facecolor": "white",
}
FEW = 30
"""So many points of a curve are shown as points."""


def style() -> AbstractContextManager[None]:
    """What all pictures have in common: they are drawn and saved ``with style():``."""
    return matplotlib.rc_context(STYLE)


def image_grid(images: Tensor, title: str, *, columns: int = 8) -> Figure:
    """Images ``(n, channels, height, width)`` in [0, 1], grey or in colour, in rows of ``columns``."""
    grid = make_grid(images.detach().float().cpu(), nrow=columns, padding=2, pad_value=0.5).permute(1, 2, 0)
    height, width, _ = grid.shape
    figure = Figure(figsize=(6, 6 * height / width + 0.4), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(grid.clamp(0, 1).numpy(), interpolation="nearest")
    axes.set_title(title)
    axes.set_axis_off()
    return figure


def image_pairs(left: Tensor, right: Tensor, title: str) -> Figure:
    """Every image of ``left`` beside its partner of ``right``."""
    return image_grid(torch.stack([left, right], 1).flatten(0, 1), title)


def heat_map(values: Tensor, title: str, x_label: str, y_label: str) -> Figure:
    """A matrix ``(rows, columns)`` of probabilities as colours from 0 to its maximum."""
    rows, columns = values.shape
    figure = Figure(figsize=(min(3 + 0.25 * columns, 9), min(1.5 + 0.16 * rows, 9)), layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(values.numpy(), vmin=0, aspect="auto", interpolation="nearest")
    figure.colorbar(picture, ax=axes)
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure


def shares(values: Tensor, title: str) -> Figure:
    """Shares ``(n,)`` as bars, and a line where all are even."""
    figure = Figure(figsize=(1.5 + 0.4 * len(values), 3), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(range(len(values)), values.tolist(), color=COLOURS[0])
    axes.axhline(1 / len(values), color="black", linewidth=1, linestyle="dashed", label="even")
    axes.set_xticks(range(len(values)))
    axes.set_title(title)
    axes.legend()
    return figure


def curves(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], x_label: str, units: Mapping[str, str] = {}
) -> Figure:
    """One panel for each name, with its labelled curves of (x, y) points, and its unit on the axis.

    What never changes is left out. A label has the same colour in all panels, and no
    legend where it is the panel's own name.
    """
    shown = {name: lines for name, lines in panels.items() if not constant(lines)}
    labels = list(dict.fromkeys(label for lines in shown.values() for label in lines))
    figure = Figure(figsize=(7, 2.6 * max(1, len(shown))), layout="constrained")
    if not shown:  # a run too short to have logged anything
        return figure
    for axes, (name, lines) in zip(figure.subplots(len(shown), squeeze=False)[:, 0], shown.items()):
        for label, points in lines.items():
            marker = "o" if len(points) <= FEW else ""
            color = COLOURS[labels.index(label) % len(COLOURS)]
            axes.plot(*zip(*points), marker=marker, ms=4, label=label, color=color)
        settled = [y for points in lines.values() for x, y in points if x >= 0.05 * points[-1][0]]
        spread = max(settled) - min(settled)
        if spread:  # the first steps would flatten all that follows
            axes.set_ylim(min(settled) - 0.05 * spread, max(settled) + 0.05 * spread)
        axes.set_title(name)
        axes.set_ylabel(units.get(name, ""))
        axes.grid()
        if list(lines) != [name]:
            axes.legend()
    axes.set_xlabel(x_label)
    return figure


def constant(lines: Mapping[str, Sequence[tuple[float, float]]]) -> bool:
    """Whether no curve of a panel ever changes; a single point says nothing of that."""
    return all(len(points) > 1 and len({y for _, y in points}) == 1 for points in lines.values())


FRAME_WIDTH = 240  # pixels of a film


def film_strip(frames: Sequence[np.ndarray], *, shown: int = 8) -> Figure:
    """Some of the ``frames``, uint8 ``(height, width, 3)``, from the first to the last, in a row."""
    index = np.unique(np.linspace(0, len(frames) - 1, shown).round().astype(int))
    height, width = frames[0].shape[:2]
    figure = Figure(figsize=(1.5 * len(index), 1.5 * height / width + 0.2), layout="constrained")
    for axes, i in zip(np.atleast_1d(figure.subplots(1, len(index))), index):
        axes.imshow(frames[i], interpolation="nearest")
        axes.set_title(f"frame {i}", fontsize=7)
        axes.set_axis_off()
    return figure


def save_film(frames: Sequence[np.ndarray], path: Path, *, frames_per_second: int = 15) -> None:
    """Write ``frames``, uint8 ``(height, width, 3)``, as a GIF that repeats, at most ``FRAME_WIDTH`` wide."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    scale = FRAME_WIDTH / width if width > FRAME_WIDTH else max(1, FRAME_WIDTH // width)
    size = (round(width * scale), round(height * scale))
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
    images = [Image.fromarray(frame).resize(size, how).quantize(32, dither=Image.Dither.NONE) for frame in frames]
    duration = round(1000 / frames_per_second)  # milliseconds
    images[0].save(path, save_all=True, append_images=images[1:], duration=duration, loop=0)
