"""Figures of solutions."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor


def histogram(values: Tensor, title: str, label: str) -> Figure:
    """How often values ``(n,)`` occur."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.hist(values.numpy(), bins=60)
    axes.set(title=title, xlabel=label, ylabel="instances")
    return figure


def tours(
    points: Sequence[Tensor], orders: Sequence[Tensor], titles: Sequence[str], *, columns: int = 4, closed: bool = True
) -> Figure:
    """Paths through points of the plane, each ``(n, 2)``, in the order of indices ``(steps,)``."""
    rows = -(-len(points) // columns)
    side = 3.2 if len(points) > 1 else 8.0
    figure = Figure(figsize=(side * columns, side * rows + 0.3), layout="constrained")
    for axes, place, order, title in zip(figure.subplots(rows, columns, squeeze=False).flat, points, orders, titles):
        path = place[torch.cat([order, order[:1]]) if closed else order]
        size = min(4.0, side * 12 / len(place) ** 0.5)  # markers that do not touch
        axes.plot(*path.T.numpy(), linewidth=min(1.0, size / 2))
        axes.plot(*place.T.numpy(), "o", markersize=size, markeredgewidth=0)
        axes.plot(*path[0].numpy(), "s", markersize=max(3.0, 1.5 * size))  # where it starts
        axes.set_title(title.replace("$", r"\$"), fontsize="small")
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xticks([])
        axes.set_yticks([])
    return figure
