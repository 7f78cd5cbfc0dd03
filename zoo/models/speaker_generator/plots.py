"""Figures of speech."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor


def spectrograms(rows: dict[str, Tensor], title: str, *, names: Sequence[str]) -> Figure:
    """Log-mel spectrograms ``(columns, frames, mels)`` under each other: rows by label, columns by ``names``.

    Low bands are at the bottom, and all have the same colours.
    """
    columns = max(len(row) for row in rows.values())
    figure = Figure(figsize=(1.1 * columns + 1.2, 0.95 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for i, (label, row) in enumerate(rows.items()):
        for j, mel in enumerate(row.detach().float().cpu().numpy()):
            axes[i, j].imshow(
                mel.T, origin="lower", aspect="auto", cmap="magma", vmin=-1.6, vmax=2.4, interpolation="nearest"
            )
            if not i:
                axes[i, j].set_title(names[j], fontsize=8)
        for one in axes[i]:
            one.set_xticks([])
            one.set_yticks([])
        axes[i, 0].set_ylabel(label, fontsize=8, rotation=0, ha="right", va="center")
    figure.suptitle(title, fontsize=10)
    return figure
