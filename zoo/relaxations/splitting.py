"""A batch that is split among processes: its noise, and its means.

What an example draws must depend neither on how many processes share the batch nor on which of them has the example.
So all processes seed generators for it alike, each draws the noise of the whole batch, in one and the same order, and
uses the rows of its own part. In a single process nothing changes, and nothing is paid: the random numbers, not what
is computed from them, are drawn ``parts`` times. The default generators are left to what does not know of parts, such
as dropout: each process may seed them as it likes.

The part of a batch is ``rows`` consecutive examples out of ``parts * rows``. A draw for several things of each example
agrees with that of the whole batch if it is ``(batch, things, ...)``, or flattened from it (``repeat_interleave``, not
``repeat``); otherwise its noise is as independent, but another.
"""

from collections.abc import Callable

import torch
from torch import Tensor, distributed

_part, _parts, _seed = 0, 1, 0
_generators: dict[torch.device, torch.Generator] = {}


def split_noise(part: int = 0, parts: int = 1, seed: int = 0) -> None:
    """From now on, noise is that of part ``part`` of a batch split into ``parts``; by default, of a whole batch.

    Args:
        part, parts: which of how many.
        seed: that all parts give. From it they draw what a whole batch draws from default generators of that seed.
    """
    global _part, _parts, _seed
    _part, _parts, _seed = part, parts, seed
    for generator in _generators.values():
        generator.manual_seed(seed)


def rows_of_whole_batch(rows: int) -> int:
    """How many rows the whole batch has of which this process has ``rows``."""
    return rows * _parts


def mean_of_whole_batch(mean: Tensor) -> Tensor:
    """``mean`` over this process's part of the batch, averaged over the processes; without gradient."""
    mean = mean.detach()
    if _parts > 1 and distributed.is_available() and distributed.is_initialized():
        mean = mean.clone()
        distributed.all_reduce(mean)
        mean /= _parts
    return mean


def randn_like(like: Tensor) -> Tensor:
    """Standard normal noise of the shape of ``like``, ``(batch, ...)``: ``torch.randn_like`` for a part of a batch."""
    return draw_noise(
        lambda shape, **generator: torch.randn(shape, dtype=like.dtype, device=like.device, **generator),
        like.shape,
        like.device,
    )


def draw_noise(draw: Callable[..., Tensor], shape: torch.Size, device: torch.device, batch_dim: int = 0) -> Tensor:
    """``draw(shape)``: of this process's part, where the batch, dimension ``batch_dim``, is split.

    ``draw`` passes on the keyword ``generator``, of ``device``, which it is given only for a part: for a whole batch it
    draws from the default one, as compilers need it.
    """
    if _parts == 1 or not shape:
        return draw(shape)
    if device not in _generators:
        _generators[device] = torch.Generator(device).manual_seed(_seed)
    rows = shape[batch_dim]
    whole = torch.Size((*shape[:batch_dim], rows * _parts, *shape[batch_dim + 1 :]))
    return draw(whole, generator=_generators[device]).narrow(batch_dim, _part * rows, rows).contiguous()
