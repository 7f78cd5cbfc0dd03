"""Pictures of a selection."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from zoo.training.plots import COLOURS, image_grid


def pixels(images: Tensor, chosen: Tensor, title: str) -> Figure:
    """Images, and below each its selected pixels, ``(n, 1, height, width)``: the others are grey."""
    seen = torch.where(chosen > 0, images, 0.4)
    return image_grid(torch.cat([images, seen]), title, columns=len(images))


def bars(scores: Tensor, names: Sequence[str], k: int, title: str) -> Figure:
    """The logits of the ``k`` selected columns and of as many of the next."""
    order = scores.topk(min(2 * k, len(scores), 40)).indices.tolist()
    figure = Figure(figsize=(6, 1.2 + 0.25 * len(order)), layout="constrained")
    axes = figure.add_subplot()
    colours = [COLOURS[0] if place < k else "lightgrey" for place in range(len(order))]
    axes.barh(range(len(order)), [scores[i].item() - scores.min().item() for i in order], color=colours)
    axes.set_yticks(range(len(order)), [names[i][:40].replace("$", r"\$") for i in order])
    axes.invert_yaxis()
    axes.set_xlabel("logit, less the smallest")
    axes.set_title(title)
    return figure
