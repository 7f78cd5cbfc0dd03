"""Where the random numbers of a draw come from.

A source of noise is passed, never set for the whole process: to a single call (``noise=``), or as the attribute
``noise`` of a relaxation. The default is PyTorch's own generators.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed

from zoo.relaxations import eager

CONTIGUOUS = torch.contiguous_format
GUMBEL_STD = 1.2825498301618641  # pi / sqrt(6)


class Noise:
    """Random numbers from PyTorch's default generators, or from ``generator``.

    Args:
        generator: of the device of the logits; None for the default one, which is also what compilers and
            ``torch.func`` know how to follow, and the only one that activation checkpointing puts back before it
            computes a draw once more.
    """

    parts = 1
    """Of how many processes the batch is split among."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def __deepcopy__(self, memo: dict[int, Any]) -> "Noise":
        return self  # a copied model draws from the same source

    def draw(self, make: Callable[..., Tensor], shape: torch.Size, device: torch.device, batch_dim: int = 0) -> Tensor:
        """``make(shape)``, or ``make(shape, generator=...)``; dimension ``batch_dim`` of ``shape`` is the batch.

        Every random number goes through here: a source of another kind overrides this method alone.
        """
        return make(shape) if self.generator is None else make(shape, generator=self.generator)

    def uniform(self, like: Tensor, batch_dim: int = 0) -> Tensor:
        """Uniform in [0, 1), of the shape and dtype of ``like``."""
        return self.draw(
            lambda shape, **g: torch.rand(shape, dtype=like.dtype, device=like.device, **g),
            like.shape,
            like.device,
            batch_dim,
        )

    def normal(self, like: Tensor, batch_dim: int = 0) -> Tensor:
        """Standard normal, of the shape and dtype of ``like``."""
        return self.draw(
            lambda shape, **g: torch.randn(shape, dtype=like.dtype, device=like.device, **g),
            like.shape,
            like.device,
            batch_dim,
        )

    def bits(self, shape: torch.Size, device: torch.device, batch_dim: int = 0) -> Tensor:
        """Whole numbers uniform in [0, 2^62), int64."""
        return self.draw(
            lambda shape, **g: torch.randint(2**62, shape, dtype=torch.int64, device=device, **g),
            shape,
            device,
            batch_dim,
        )

    def gumbel(self, like: Tensor, batch_dim: int = 0) -> Tensor:
        """Standard Gumbel, ``-log E`` with ``E ~ Exp(1)``, of the shape and dtype of ``like``.

        A small ``E`` decides between rare categories, so it must be right far below the step of float32 at one: ``E``
        is drawn in double precision, or, where that is faster, from 31 bits of which the small ones are refined.
        """
        if eager.pays(like, self.parts) and like.dtype == torch.float32:
            return eager.gumbel(self, like.shape, like.device, batch_dim)
        if like.is_cpu and not eager.plain():  # whose kernel computes in double precision, whatever it writes

            def make(shape: torch.Size, **generator: Any) -> Tensor:
                # of the shape of a tensor in half the time that PyTorch takes for a shape alone
                whole = shape != like.shape
                empty = like.new_empty(shape) if whole else torch.empty_like(like, memory_format=CONTIGUOUS)
                return empty.exponential_(**generator)

            return self.draw(make, like.shape, like.device, batch_dim).log_().neg_()
        exponential = self.draw(
            lambda shape, **g: _exponential(shape, like.device, **g), like.shape, like.device, batch_dim
        )
        return exponential.log().to(like.dtype).neg()

    def gaussian(self, like: Tensor, batch_dim: int = 0) -> Tensor:
        """Normal with the variance of Gumbel noise, pi^2 / 6, of the shape and dtype of ``like``."""
        return GUMBEL_STD * self.normal(like, batch_dim)

    def box(self, like: Tensor, batch_dim: int = 0) -> Tensor:
        """Uniform around zero with the variance of Gumbel noise, of the shape and dtype of ``like``."""
        return (12**0.5 * GUMBEL_STD) * (self.uniform(like, batch_dim) - 0.5)

    def mean(self, value: Tensor) -> Tensor:
        """``value``, a mean over this process's batch, averaged over the processes; without gradient."""
        return value.detach()


def _exponential(shape: torch.Size, device: torch.device, **generator: Any) -> Tensor:
    """``E ~ Exp(1)`` in float64: its least values are multiples of 2^-53."""
    if eager.plain():  # a transform can follow no draw in place
        uniform = torch.rand(shape, dtype=torch.float64, device=device, **generator)
        return torch.log1p(-uniform).neg().clamp_min(2.0**-54)
    return torch.empty(shape, dtype=torch.float64, device=device).exponential_(**generator)


DEFAULT = Noise()


class PartOfBatch(Noise):
    """Noise of one part of a batch that is split among processes: that of the whole batch, of which it takes its rows.

    What an example draws must depend neither on how many processes share the batch nor on which of them has the
    example. So all of them seed generators for it alike, each draws the noise of the whole batch, in one and the same
    order, and uses the rows of its own part. In a single process nothing is paid: from the same seed it draws what the
    default generators would. Those are left to what does not know of parts, such as dropout.

    The part is ``rows`` consecutive examples out of ``parts * rows``. A draw for several things of each example agrees
    with that of the whole batch if it is ``(batch, things, ...)``, or flattened from it (``repeat_interleave``, not
    ``repeat``); otherwise its noise is as independent, but another.

    Args:
        part: which part, in [0, parts).
        parts: of how many.
        seed: that all parts give.
    """

    def __init__(self, part: int, parts: int, seed: int) -> None:
        super().__init__()
        self.part, self.parts, self.seed = part, parts, seed
        self.generators: dict[torch.device, torch.Generator] = {}

    def draw(self, make: Callable[..., Tensor], shape: torch.Size, device: torch.device, batch_dim: int = 0) -> Tensor:
        generator = self.generators.get(device)
        if generator is None:
            generator = self.generators[device] = torch.Generator(device).manual_seed(self.seed)
        if self.parts == 1 or not shape:
            return make(shape, generator=generator)
        rows = shape[batch_dim]
        whole = torch.Size((*shape[:batch_dim], rows * self.parts, *shape[batch_dim + 1 :]))
        return make(whole, generator=generator).narrow(batch_dim, self.part * rows, rows).contiguous()

    def mean(self, value: Tensor) -> Tensor:
        value = value.detach()
        if self.parts > 1 and distributed.is_available() and distributed.is_initialized():
            value = value.clone()
            distributed.all_reduce(value)
            value /= self.parts
        return value


class CommonNumbers(Noise):
    """Common random numbers: what was drawn first is drawn again after :meth:`rewind`.

    To compare two relaxations, networks or temperatures on the same noise; the draws must have the same kinds and
    shapes in the same order.

    Raises:
        ValueError: if a draw after :meth:`rewind` has another shape than the first time.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        super().__init__(generator)
        self.drawn: list[Tensor] = []
        self.place = 0

    def rewind(self) -> None:
        """Begin again with the first draw."""
        self.place = 0

    def draw(self, make: Callable[..., Tensor], shape: torch.Size, device: torch.device, batch_dim: int = 0) -> Tensor:
        if self.place == len(self.drawn):
            self.drawn.append(super().draw(make, shape, device, batch_dim))
        known = self.drawn[self.place]
        if known.shape != shape:
            raise ValueError(
                f"draw {self.place} of common random numbers was {tuple(known.shape)} and is now {tuple(shape)}: "
                "what is compared must draw the same things in the same order"
            )
        self.place += 1
        return known.clone()
