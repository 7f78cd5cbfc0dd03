"""Pictures of what a language model expects."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

GUESSES = 5
SHOWN_AS = {" ": "\N{OPEN BOX}", "\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"}
"""Blanks, which else would not be seen. DejaVu Sans, which comes with matplotlib, has both."""


def guesses(text: Sequence[int], p: Tensor, names: Sequence[str], title: str) -> Figure:
    """Above what comes next in a text, below the most probable tokens in its place, the darker the more probable.

    Args:
        text: the tokens that come.
        p: probability of every token in place of each, ``(places, vocabulary)``.
        names: what tokens stand for.
    """
    width = max(len(names[token]) for token in text)
    columns = min(len(text), 40 if width == 1 else 12)
    lines = -(-len(text) // columns)
    figure = Figure(figsize=(0.6 + (0.22 if width == 1 else 0.8) * columns, 0.6 + 1.6 * lines), layout="constrained")
    figure.suptitle(title)
    likely = p.topk(min(GUESSES, p.shape[-1]))
    for line, axes in enumerate(figure.subplots(lines, 1, squeeze=False)[:, 0]):
        places = range(line * columns, min(len(text), (line + 1) * columns))
        shades = torch.zeros(likely.values.shape[1], columns)
        shades[:, : len(places)] = likely.values[places.start : places.stop].T
        axes.imshow(shades.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        for column, place in enumerate(places):
            for row, (token, value) in enumerate(zip(likely.indices[place].tolist(), likely.values[place].tolist())):
                if value > 0.01:
                    colour = "white" if value > 0.5 else "black"
                    weight = "bold" if token == text[place] else "normal"
                    axes.text(column, row, shown(names[token]), ha="center", va="center", color=colour, weight=weight)
        axes.set_xticks(range(len(places)), [shown(names[text[place]]) for place in places], weight="bold")
        axes.set_yticks([])
        axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
        axes.spines[:].set_visible(False)
    return figure


def shown(name: str) -> str:
    """A token as it is written in a picture; ``$`` would begin a formula."""
    return "".join(SHOWN_AS.get(c, c) for c in name[:10]).replace("$", r"\$")
