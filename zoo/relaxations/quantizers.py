"""From vectors to whole numbers and back: a codebook through any relaxation, a cascade of them, and fixed grids.

All speak alike: ``quantizer(points, draw)`` gives the vectors that a decoder sees, inside a program with draws;
``encode`` the numbers, ``decode`` the vectors of these.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from zoo.config import Configurable
from zoo.relaxations.base import Draw
from zoo.relaxations.codebooks import Codebook, Codeword, check_points, copy_gradient, squared_distances
from zoo.relaxations.noise import DEFAULT, Noise


class Quantizer(Configurable, nn.Module, ABC):
    """Vectors ``(batch, places, width)`` to whole numbers ``(batch, places, depth)`` in ``[0, codes)``, and back.

    Attributes:
        width: of a vector.
        codes: how many numbers there are.
        depth: numbers at each place.
    """

    chooses: ClassVar[bool] = False
    """Whether it draws through a relaxation."""
    width: int
    codes: int
    depth: int = 1

    @abstractmethod
    def forward(self, points: Tensor, draw: Draw) -> Tensor:
        """The vectors in place of ``points``, ``(batch, places, width)``, with the gradient of training.

        Args:
            draw: of the program that this is a part of.
        """

    @abstractmethod
    def encode(self, points: Tensor) -> Tensor:
        """The most probable numbers, int64 ``(batch, places, depth)``."""

    @abstractmethod
    def decode(self, index: Tensor) -> Tensor:
        """The vectors, ``(batch, places, width)``, of numbers ``(batch, places, depth)``."""

    def penalty(self, points: Tensor) -> Tensor:
        """What is added to the cost of each example, ``(batch,)``. In training it is called once in each step."""
        return points.new_zeros(len(points))

    def update(self, noise: Noise = DEFAULT) -> None:
        """What is learned without a gradient, once those of a step are there."""


class CodebookQuantizer(Quantizer):
    """The vectors of a learned codebook: a choice whose logits come from the distances, through any relaxation.

    Args:
        width: of a vector.
        codes: vectors of the codebook.
        decay, revive: see :class:`zoo.relaxations.codebooks.Codebook`.
        commitment: weight of the squared distance of a point to its vector, which holds the encoder to the codebook;
            without ``decay`` the same distance moves the vectors with weight ``commitment_codes``.
        commitment_codes: see there.
        kl: weight of ``log codes`` minus the entropy of the choice, in nats: of the KL divergence to a uniform prior.
        scale: of the squared distances in the logits, in units of the spread of the points of the first batch.

    Raises:
        ValueError: if a number is out of range.
    """

    chooses = True

    def __init__(
        self,
        *,
        width: int = 16,
        codes: int = 512,
        decay: float = 0.9,
        revive: float = 0.1,
        commitment: float = 1.0,
        commitment_codes: float = 0.0,
        kl: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if commitment < 0 or commitment_codes < 0 or kl < 0 or not scale > 0:
            raise ValueError(
                "need commitment >= 0, commitment_codes >= 0, kl >= 0 and scale > 0, got "
                f"{commitment}, {commitment_codes}, {kl}, {scale}"
            )
        self.width, self.codes = width, codes
        self.commitment, self.commitment_codes, self.kl, self.scale = commitment, commitment_codes, kl, scale
        self.codebook = Codebook(codes=codes, width=width, decay=decay, revive=revive)

    def choice(self, points: Tensor) -> Codeword:
        """The distribution over the vectors."""
        check_points(points, self.width, type(self).__name__)
        return Codeword(points, self.codebook.vectors, scale=self.scale / self.codebook.spread)

    def forward(self, points: Tensor, draw: Draw) -> Tensor:
        return draw(self.choice(points))

    def encode(self, points: Tensor) -> Tensor:
        return squared_distances(points, self.codebook.vectors).argmin(-1, keepdim=True)

    def decode(self, index: Tensor) -> Tensor:
        return self.codebook.vectors[index.squeeze(-1)]

    def penalty(self, points: Tensor) -> Tensor:
        index = self.encode(points.detach())
        if self.training:
            self.codebook.observe(points, index)
        nearest = self.decode(index)
        total = self.commitment * (points - nearest.detach()).square().flatten(1).sum(1)
        if self.commitment_codes and not self.codebook.decay:
            total = total + self.commitment_codes * (points.detach() - nearest).square().flatten(1).sum(1)
        if self.kl:
            entropy = self.choice(points).entropy()
            total = total + self.kl * (math.log(self.codes) - entropy).flatten(1).sum(1)
        return total

    def update(self, noise: Noise = DEFAULT) -> None:
        self.codebook.update(noise)


class ResidualQuantizer(Quantizer):
    """A codebook for the points, another one for what that leaves, and so on: ``depth`` numbers at each place.

    Source: Zeghidour et al. 2021, arXiv 2107.03312, section III-C; Lee et al. 2022, arXiv 2203.01941, section 3.1.

    Args:
        depth: how many codebooks.
        others: as :class:`CodebookQuantizer` has them.

    Raises:
        ValueError: as :class:`CodebookQuantizer`, and if ``depth`` is less than 1.
    """

    chooses = True

    def __init__(
        self,
        *,
        depth: int = 2,
        width: int = 16,
        codes: int = 512,
        decay: float = 0.9,
        revive: float = 0.1,
        commitment: float = 1.0,
        commitment_codes: float = 0.0,
        kl: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth must be 1 or more, got {depth}")
        self.width, self.codes, self.depth = width, codes, depth
        self.stages = nn.ModuleList(
            CodebookQuantizer(
                width=width,
                codes=codes,
                decay=decay,
                revive=revive,
                commitment=commitment,
                commitment_codes=commitment_codes,
                kl=kl,
                scale=scale,
            )
            for _ in range(depth)
        )

    def forward(self, points: Tensor, draw: Draw) -> Tensor:
        total = torch.zeros_like(points)
        for stage in self.stages:  # what is left has the gradient of what was taken: in sum it passes once
            total = total + stage(points - total, draw)
        return total

    def _left(self, points: Tensor) -> list[Tensor]:
        """What each stage is given, with the gradient of ``points`` alone."""
        left = [points]
        for stage in self.stages[:-1]:
            assert isinstance(stage, CodebookQuantizer)
            left.append(left[-1] - stage.decode(stage.encode(left[-1].detach())).detach())
        return left

    def encode(self, points: Tensor) -> Tensor:
        return torch.cat([stage.encode(left) for stage, left in zip(self.stages, self._left(points))], -1)  # type: ignore[operator]

    def decode(self, index: Tensor) -> Tensor:
        parts = [stage.decode(index[..., i : i + 1]) for i, stage in enumerate(self.stages)]  # type: ignore[operator]
        return torch.stack(parts).sum(0)

    def penalty(self, points: Tensor) -> Tensor:
        parts = [stage.penalty(left) for stage, left in zip(self.stages, self._left(points))]  # type: ignore[operator]
        return torch.stack(parts).sum(0)

    def update(self, noise: Noise = DEFAULT) -> None:
        for stage in self.stages:
            stage.update(noise)  # type: ignore[operator]


class FSQ(Quantizer):
    """Finite scalar quantisation: each number of a vector is bounded and rounded to a few levels. Nothing is learned.

    Source: Mentzer et al. 2023, arXiv 2309.15505, section 3.1 and appendix A.1, of which this is the code.

    Args:
        levels: of each number, at least 2; their product is the number of codes. ``[8, 8, 8]`` is 512, ``[8, 5, 5, 5]``
            is 1,000.

    Raises:
        ValueError: if there are no levels, or one is less than 2.
    """

    def __init__(self, *, levels: Sequence[int] = (8, 8, 8)) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"levels must be whole numbers of 2 or more, at least one, got {list(levels)}")
        self.width, self.codes = len(levels), math.prod(levels)
        counts = torch.tensor(list(levels))
        self.register_buffer("levels", counts, persistent=False)
        basis = torch.cumprod(torch.tensor([1, *levels[:-1]]), 0)
        self.register_buffer("basis", basis, persistent=False)

    levels: Tensor
    basis: Tensor

    def bound(self, points: Tensor) -> Tensor:
        """``points`` between the outermost levels, which are whole numbers around zero."""
        half = (self.levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        return (points.float() + (offset / half).atanh()).tanh() * half - offset

    def forward(self, points: Tensor, draw: Draw) -> Tensor:
        check_points(points, self.width, "FSQ")
        bounded = self.bound(points)
        return copy_gradient(bounded, bounded.round()) / (self.levels // 2)

    def encode(self, points: Tensor) -> Tensor:
        digits = self.bound(points).round().long() + self.levels // 2
        return (digits * self.basis).sum(-1, keepdim=True)

    def decode(self, index: Tensor) -> Tensor:
        digits = (index // self.basis) % self.levels
        return (digits - self.levels // 2) / (self.levels // 2)


class LFQ(Quantizer):
    """Look-up free quantisation: the sign of each number of a vector is a bit of its code. Nothing is learned.

    An entropy loss makes each choice decided and all choices together spread over the codes: ``E[H(p)] - H(E[p])``
    with ``p`` the softmax of minus the squared distances, whose bits are independent. ``H(E[p])`` is of the joint law
    where there are few bits, and beyond that of each bit by itself.

    Source: Yu et al. 2023, arXiv 2310.05737, section 3.1.

    Args:
        bits: width of a vector; there are ``2 ** bits`` codes.
        entropy: weight of that loss, in nats at each place.
        commitment: weight of the squared distance of a point to its vector.
        temperature: of ``p``.

    Raises:
        ValueError: if a number is out of range.
    """

    JOINT = 10
    """Bits up to which the joint law is listed."""

    def __init__(
        self, *, bits: int = 9, entropy: float = 1.0, commitment: float = 0.25, temperature: float = 1.0
    ) -> None:
        super().__init__()
        if not 1 <= bits <= 30 or entropy < 0 or commitment < 0 or not temperature > 0:
            raise ValueError(
                "need bits in [1, 30], entropy >= 0, commitment >= 0 and temperature > 0, got "
                f"{bits}, {entropy}, {commitment}, {temperature}"
            )
        self.width, self.codes = bits, 2**bits
        self.entropy, self.commitment, self.temperature = entropy, commitment, temperature
        self.register_buffer("powers", 2 ** torch.arange(bits), persistent=False)

    powers: Tensor
    unit: float = 1.0
    """What a bit is worth, either way."""

    def shaped(self, points: Tensor) -> Tensor:
        """Points as they are compared with the codes."""
        check_points(points, self.width, type(self).__name__)
        return points

    def forward(self, points: Tensor, draw: Draw) -> Tensor:
        points = self.shaped(points)
        return copy_gradient(points, self.signs(points))

    def signs(self, points: Tensor) -> Tensor:
        return torch.where(points > 0, self.unit, -self.unit).to(points.dtype)

    def encode(self, points: Tensor) -> Tensor:
        return ((self.shaped(points) > 0) * self.powers).sum(-1, keepdim=True)

    def decode(self, index: Tensor) -> Tensor:
        return torch.where((index // self.powers) % 2 == 1, self.unit, -self.unit)

    def bit_logits(self, points: Tensor) -> Tensor:
        """Log-odds of each bit under ``p``."""
        return 4 * self.unit * points / self.temperature

    def penalty(self, points: Tensor) -> Tensor:
        points = self.shaped(points).float()
        logits = self.bit_logits(points)
        own = (nn.functional.softplus(logits) - logits * logits.sigmoid()).sum(-1)
        each = self.commitment * (points - self.signs(points.detach())).square().sum(-1) + self.entropy * own
        return each.flatten(1).sum(1) - self.entropy * each[0].numel() * self.spread(logits)

    def spread(self, logits: Tensor) -> Tensor:
        """``H(E[p])`` in nats, of the batch of this process."""
        logits = logits.flatten(0, -2)
        if self.width > self.JOINT:
            one = logits.sigmoid().mean(0)
            return (entropy_term(one) + entropy_term(1 - one)).sum()
        log_p = torch.zeros(len(logits), 1, device=logits.device)
        for on, off in zip(nn.functional.logsigmoid(logits).unbind(1), nn.functional.logsigmoid(-logits).unbind(1)):
            log_p = torch.cat([log_p + off.unsqueeze(1), log_p + on.unsqueeze(1)], 1)
        return entropy_term(log_p.exp().mean(0)).sum()


class BSQ(LFQ):
    """Binary spherical quantisation: LFQ of vectors of length one, whose error is bounded.

    The entropy loss is of each bit by itself, which is exact for a single choice and a bound of all together.

    Source: Zhao et al. 2024, arXiv 2406.07548, section 4.

    Args:
        bits, entropy, commitment: as :class:`LFQ` has them.
        temperature: of ``p``, the softmax of ``points . vectors / temperature``.

    Raises:
        ValueError: as :class:`LFQ`.
    """

    JOINT = 0

    def __init__(
        self, *, bits: int = 9, entropy: float = 1.0, commitment: float = 0.0, temperature: float = 0.1
    ) -> None:
        super().__init__(bits=bits, entropy=entropy, commitment=commitment, temperature=temperature)
        self.unit = bits**-0.5

    def shaped(self, points: Tensor) -> Tensor:
        return nn.functional.normalize(super().shaped(points).float(), dim=-1)

    def bit_logits(self, points: Tensor) -> Tensor:
        return 2 * self.unit * points / self.temperature


def entropy_term(p: Tensor) -> Tensor:
    """``-p log p``, with a finite gradient at zero."""
    return torch.special.entr(p.clamp_min(1e-20))
