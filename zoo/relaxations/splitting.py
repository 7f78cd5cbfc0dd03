"""Noise of a batch that is split among processes.

What an example draws must depend neither on how many processes share the batch nor on which of them has the example.
So all processes seed their generators alike, each draws the noise of the whole batch, in one and the same order, and
uses the rows of its own part. In a single process nothing changes, and nothing is paid: the random numbers, not what
is computed from them, are drawn ``parts`` times.

The part of a batch is ``rows`` consecutive examples out of ``parts * rows``. A draw for several things of each example
agrees with that of the whole batch if it is ``(batch, things, ...)``, or flattened from it (``repeat_interleave``, not
``repeat``); otherwise its noise is as independent, but another.
"""

from collections.abc import Callable

import torch
from torch import Tensor

_part, _parts = 0, 1


def split_noise(part: int = 0, parts: int = 1) -> None:
    """From now on, noise is that of part ``part`` of a batch split into ``parts``; by default, of a whole batch."""
    global _part, _parts
    _part, _parts = part, parts


def rows_of_whole_batch(rows: int) -> int:
    """How many rows the whole batch has of which this process has ``rows``."""
    return rows * _parts


def randn_like(like: Tensor) -> Tensor:
    """Standard normal noise of the shape of ``like``, ``(batch, ...)``: ``torch.randn_like`` for a part of a batch."""
    return draw_noise(lambda shape: torch.randn(shape, dtype=like.dtype, device=like.device), like.shape)


def draw_noise(draw: Callable[[torch.Size], Tensor], shape: torch.Size, batch_dim: int = 0) -> Tensor:
    """``draw(shape)``: of this process's part, where the batch, dimension ``batch_dim``, is split."""
    if _parts == 1 or not shape:
        return draw(shape)
    rows = shape[batch_dim]
    whole = torch.Size((*shape[:batch_dim], rows * _parts, *shape[batch_dim + 1 :]))
    return draw(whole).narrow(batch_dim, _part * rows, rows).contiguous()
