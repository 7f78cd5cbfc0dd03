"""Vector quantisation as a discrete choice: a codebook, the distribution over its vectors, two gradients of its own.

A choice among the vectors of a codebook has logits like any other: those of :class:`Codeword` are minus the squared
distances to a point. So every relaxation serves it; :class:`VQ` is the one that the literature calls vector
quantisation, the nearest vector forward and the gradient copied to the point, or rotated to it.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn

from zoo.errors import ZooError
from zoo.relaxations.base import InEval, Pathwise, require
from zoo.relaxations.distributions import Categorical, Distribution
from zoo.relaxations.distributions.base import one_hot
from zoo.relaxations.noise import Noise

GRADIENTS = ("copied", "rotated")
TINY = 1e-6


class Codeword(Categorical):
    """One of the vectors of a codebook, with the logits ``-scale * |point - vector|^2``.

    Inside it is a categorical, whatever the estimator; a value is the vector itself.

    Args:
        points: ``(batch, ..., width)``.
        codebook: ``(codes, width)``.
        scale: of the squared distances: how decided a choice is.

    Raises:
        ValueError: if the widths differ.
    """

    def __init__(self, points: Tensor, codebook: Tensor, *, scale: Tensor | float = 1.0) -> None:
        if codebook.dim() != 2 or points.shape[-1:] != codebook.shape[-1:]:
            raise ValueError(
                f"points must be (batch, ..., width) and the codebook (codes, width), got {tuple(points.shape)} and "
                f"{tuple(codebook.shape)}"
            )
        super().__init__(-scale * squared_distances(points, codebook))
        self.points, self.codebook = points, codebook
        self.dtype = points.dtype

    @classmethod
    def example(cls) -> "Codeword":
        return cls(torch.tensor([[0.3, -0.1]]), torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.2, 0.4], [0.0, -2.0]]))

    def place(self, value: Tensor) -> Tensor:
        """The vector of a one-hot value, or the mean of vectors of a soft one, differentiable in both."""
        return (value.to(self.codebook.dtype) @ self.codebook).to(self.dtype)

    def unplace(self, value: Tensor) -> Tensor:
        """The one-hot value of a vector of the codebook."""
        index = squared_distances(value.detach(), self.codebook.detach()).argmin(-1, keepdim=True)
        return one_hot(index, torch.zeros(*index.shape[:-1], len(self.codebook), device=index.device))

    def expand(self, sample_shape: tuple[int, ...]) -> "Codeword":
        other = super().expand(sample_shape)
        other.points = self.points.expand(*sample_shape, *self.points.shape)
        return other


class VQ(Pathwise):
    """The nearest vector of a codebook forward; backward as if it were the point itself.

    Deterministic: the gradient passes by the choice, so nothing is explored, and what holds the points near the vectors
    is a commitment loss. One program run. It serves :class:`Codeword` alone.

    Args:
        gradient: ``copied`` to the point unchanged (van den Oord et al. 2017, arXiv 1711.00937, section 3.2), or
            ``rotated`` and rescaled as the vector is from the point, which keeps the angle between the gradient and the
            vector (Fifty et al. 2024, arXiv 2410.06424, section 4.2).

    Raises:
        ValueError: if ``gradient`` is something else.
    """

    stochastic = False
    needs = (Codeword,)

    def __init__(self, *, gradient: Literal["copied", "rotated"] = "rotated", in_eval: InEval | None = None) -> None:
        super().__init__(in_eval=in_eval)
        if gradient not in GRADIENTS:
            raise ValueError(f"gradient must be copied or rotated, got {gradient!r}")
        self.gradient = gradient

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return distribution._mode()

    def draw(self, distribution: Distribution, noise: Noise) -> Tensor:
        require(distribution, Codeword, by=self)
        assert isinstance(distribution, Codeword)
        nearest = distribution.codebook.detach()[distribution.logits.detach().argmax(-1)].to(distribution.dtype)
        through = rotate if self.gradient == "rotated" else copy_gradient
        return through(distribution.points, nearest)

    def sample_in_eval(self, distribution: Distribution, noise: Noise) -> Tensor:
        return distribution._mode()


def squared_distances(points: Tensor, codebook: Tensor) -> Tensor:
    """``|point - vector|^2``, ``(..., codes)``, of points ``(..., width)`` and vectors ``(codes, width)``."""
    if torch.is_autocast_enabled(points.device.type):  # which would round the product, and choose by what is left
        with torch.autocast(points.device.type, enabled=False):
            return squared_distances(points, codebook)
    points, codebook = points.float(), codebook.float()
    square = points.square().sum(-1, keepdim=True) + codebook.square().sum(-1)
    return square - 2 * points @ codebook.transpose(0, 1)


def copy_gradient(points: Tensor, vectors: Tensor) -> Tensor:
    """``vectors`` in value; in gradient ``points``."""
    return vectors.detach() + (points - points.detach())


def rotate(points: Tensor, vectors: Tensor) -> Tensor:
    """``vectors`` in value; in gradient the rotation and scaling that take each of ``points`` to its vector.

    With ``e`` and ``q`` the unit vectors of a point and its vector, and ``r`` that of ``e + q``, the rotation is
    ``1 - 2 r r' + 2 q e'``. Source: Fifty et al. 2024, arXiv 2410.06424, equation 4.

    Args:
        points, vectors: ``(..., width)``.
    """
    fixed, vectors = points.detach(), vectors.detach()
    length, target = (x.norm(dim=-1, keepdim=True).clamp_min(TINY) for x in (fixed, vectors))
    e, q = fixed / length, vectors / target
    r = e + q
    r = r / r.norm(dim=-1, keepdim=True).clamp_min(TINY)
    moved = points - 2 * r * (r * points).sum(-1, keepdim=True) + 2 * q * (e * points).sum(-1, keepdim=True)
    moved = moved * (target / length)
    return vectors + (moved - moved.detach())


class Codebook(nn.Module):
    """The vectors of a codebook, and what keeps them in use.

    It begins with points of the first batch, whose spread is the unit in which distances decide. From then on the
    vectors are learned by gradient, or, with ``decay``, follow the points that are assigned to them: as exponential
    moving averages of their number ``N`` and sum ``m``, ``N <- decay N + (1 - decay) n``,
    ``m <- decay m + (1 - decay) sum``, ``vector = m / N`` (van den Oord et al. 2017, arXiv 1711.00937, appendix A.1). A
    vector whose average use falls below ``revive`` of its fair share is moved to a point of the batch (Williams et al.
    2020, arXiv 2002.08111, section 4).

    All processes have the same vectors: numbers, sums and points are of the whole batch.

    Args:
        codes: how many.
        width: of each.
        decay: of the averages, in [0, 1); 0 learns by gradient.
        revive: share of the fair use, in [0, 1), below which a vector is moved; 0 never.

    Raises:
        ValueError: if a number is out of range.
    """

    USE_DECAY = 0.9
    """Of the average use, where the vectors are learned by gradient."""

    def __init__(self, *, codes: int, width: int, decay: float = 0.9, revive: float = 0.1) -> None:
        super().__init__()
        if codes < 2 or width < 1 or not 0 <= decay < 1 or not 0 <= revive < 1:
            raise ValueError(
                "need codes >= 2, width >= 1, decay in [0, 1) and revive in [0, 1), got "
                f"{codes}, {width}, {decay}, {revive}"
            )
        self.decay, self.revive = decay, revive
        vectors = torch.randn(codes, width) * width**-0.5
        self.vectors = nn.Parameter(vectors, requires_grad=not decay)
        self.register_buffer("use", torch.zeros(codes))
        self.register_buffer("sums", vectors.clone())
        self.register_buffer("begun", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))  # mean squared distance to the mean, of the first batch
        self._seen: tuple[Tensor, Tensor] | None = None

    use: Tensor
    sums: Tensor
    begun: Tensor
    spread: Tensor

    def observe(self, points: Tensor, index: Tensor) -> None:
        """Remember the points of a batch, ``(..., width)``, and the vectors that they are assigned to, ``(...)``."""
        self._seen = (points.detach().flatten(0, -2).float(), index.detach().flatten())

    @torch.no_grad()
    def update(self, noise: Noise) -> None:
        """Let the vectors follow what was observed. To be called once the gradients of the batch are there.

        Args:
            noise: that all processes have alike.
        """
        if self._seen is None:
            return
        points, index = self._seen
        self._seen = None
        counts = torch.bincount(index, minlength=len(self.use)).float()
        sums = torch.zeros_like(self.sums).index_add_(0, index, points)
        total = torch.tensor(float(len(points)), device=points.device)
        for value in (counts, sums, total):
            add_up(value, noise)
        decay = self.decay or self.USE_DECAY
        self.use.mul_(decay).add_(counts, alpha=1 - decay)
        self.sums.mul_(decay).add_(sums, alpha=1 - decay)
        if self.decay:
            used = self.use > TINY
            self.vectors[used] = self.sums[used] / self.use[used].unsqueeze(1)
        fair = total / len(self.use)
        seed = noise.bits(torch.Size(()), points.device)  # drawn at every step: what follows must not depend on this
        stale = self.use < self.revive * fair if self.begun else torch.ones_like(self.use, dtype=torch.bool)
        if stale.any():
            count = int(stale.sum())
            self.vectors[stale] = some_points(points, count, int(seed), noise)
            weight = self.revive * fair if self.begun else fair  # little: it is to follow its new points quickly
            self.use[stale] = weight
            self.sums[stale] = self.vectors[stale] * weight
        if not self.begun:
            moments = torch.cat([points.sum(0), points.square().sum().unsqueeze(0)])
            add_up(moments, noise)
            moments /= total
            self.spread.copy_((moments[-1] - moments[:-1].square().sum()).clamp_min(TINY))
            self.begun.fill_(1)


def add_up(value: Tensor, noise: Noise) -> None:
    """``value`` summed over the processes, in place."""
    if noise.parts > 1 and distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(value)


def some_points(points: Tensor, count: int, seed: int, noise: Noise) -> Tensor:
    """``count`` of the points of all processes, different ones as long as there are enough; ``(count, width)``."""
    part, parts, rows = getattr(noise, "part", 0), noise.parts, len(points)
    generator = torch.Generator().manual_seed(seed % 2**63)
    whole = rows * parts
    order = torch.cat([torch.randperm(whole, generator=generator) for _ in range(math.ceil(count / whole))])[:count]
    own = (order // rows == part).to(points.device)
    chosen = torch.zeros(count, points.shape[1], device=points.device)
    chosen[own] = points[(order % rows).to(points.device)[own]]
    add_up(chosen, noise)
    return chosen


def check_points(points: Tensor, width: int, by: str) -> None:
    """Raise ``ZooError`` unless ``points`` are ``(..., width)``."""
    if points.shape[-1] != width:
        raise ZooError(f"{by} quantises vectors of {width} numbers, and got some of {points.shape[-1]}")
