"""Figures: small, labelled, drawn without a display and without pyplot's global state."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import make_grid


def image_grid(images: Tensor, title: str, *, columns: int = 8) -> Figure:
    """Grey images ``(n, 1, height, width)`` in [0, 1] in rows of ``columns``."""
    grid = make_grid(images.detach().float().cpu(), nrow=columns, padding=2, pad_value=0.5)[0]
    height, width = grid.shape
    figure = Figure(figsize=(6, 6 * height / width + 0.4), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(grid.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()
    return figure


def image_pairs(left: Tensor, right: Tensor, title: str) -> Figure:
    """Every image of ``left`` beside its partner of ``right``."""
    return image_grid(torch.stack([left, right], 1).flatten(0, 1), title)


def heat_map(values: Tensor, title: str, x_label: str, y_label: str) -> Figure:
    """A matrix ``(rows, columns)`` of probabilities as colours from 0 to its maximum."""
    rows, columns = values.shape
    figure = Figure(figsize=(3 + 0.25 * columns, 1.5 + 0.16 * rows), layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(values.numpy(), cmap="viridis", vmin=0, aspect="auto", interpolation="nearest")
    figure.colorbar(picture, ax=axes)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure


def curves(panels: dict[str, dict[str, Sequence[tuple[float, float]]]], x_label: str) -> Figure:
    """One panel for each name, each with its labelled curves of (x, y) points."""
    figure = Figure(figsize=(7, 2.6 * len(panels)), layout="constrained")
    for axes, (name, lines) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels.items()):
        for label, points in lines.items():
            axes.plot(*zip(*points), label=label, linewidth=1.2)
        settled = [y for points in lines.values() for x, y in points if x >= 0.05 * points[-1][0]]
        spread = max(settled) - min(settled)
        if spread:  # the first steps would flatten all that follows
            axes.set_ylim(min(settled) - 0.05 * spread, max(settled) + 0.05 * spread)
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize=8)
    axes.set_xlabel(x_label)
    return figure
