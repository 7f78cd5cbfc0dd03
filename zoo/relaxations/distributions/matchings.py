"""Matchings: who gets what, each exactly one."""

import math
import warnings
from typing import Any, Self

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations import eager
from zoo.relaxations.distributions.base import Linear

TOLERANCE = 0.1
"""How far from one the sum of a row may be: :meth:`Matching.relax` warns if it is farther for one row in a hundred."""


class Matching(Linear):
    """A permutation matrix: the assignment with the largest sum of the chosen ``logits + g``, Gumbel noise ``g``.

    ``logits`` is ``(batch, ..., n, n)``, row ``i`` the scores of the columns that it may be given; a value is of the
    same shape. Relaxed by Sinkhorn's normalisation: ``exp(scores / tau)`` with its rows and columns normalised in turn
    ``iterations`` times, in log space. Columns then sum to one exactly, rows nearly. As ``tau`` goes to zero and
    ``iterations`` to infinity that goes to the matching of the same scores; the smaller ``tau``, the more iterations it
    takes. 20 of them do for ``tau`` of 0.5 and more, 50 for 0.1; what has not converged says so, in eager mode on a
    CPU.

    The law is *perturb-and-MAP*: one noise an entry, not one a matching. It is not the Gibbs law ``exp(sum of the
    chosen logits) / Z``, and has no closed form: ``log_prob``, ``entropy`` and ``kl`` refuse, and so do score
    functions.

    A hard value is an assignment problem of ``O(n^3)``, solved by scipy on the CPU, one after the other.

    Args:
        logits: ``(batch, ..., n, n)``.
        mask: true where a row may be given a column. It must leave a matching.
        dim: only -1, the default: a choice is of the last two dimensions.
        iterations: of the normalisation.

    Raises:
        ValueError: as :class:`Distribution`; if the last two dimensions are not ``n, n``, ``iterations`` is less than
            1, or ``dim`` another one; on a CPU in eager mode if a mask allows no matching. Elsewhere a hard value is
            NaN there.
        ZooError: where a hard value is needed and scipy is not installed.

    Source: Mena et al. 2018, arXiv 1802.08665, theorem 1 (the limit) and section 4 (the noise).
    """

    choice_dims = 2
    value_dims = 2
    _too_few = "the mask allows no matching: every row needs a column of its own"

    @classmethod
    def example(cls) -> Self:
        return cls(torch.tensor([[[0.5, -0.3, 0.4], [0.1, 0.6, -0.5], [-0.2, 0.3, 0.7]]]))

    def __init__(self, logits: Tensor, mask: Tensor | None = None, *, dim: int = -1, iterations: int = 20) -> None:
        if dim != -1:
            raise ValueError(
                f"dim={dim}: a matching is of the last two dimensions, rows and columns; move others there "
                "(logits.movedim), and the value back"
            )
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        self.iterations = iterations
        super().__init__(logits, mask)

    def _check(self) -> None:
        shape = self.logits.shape
        if shape[-1] != shape[-2] or shape[-1] == 0:
            raise ValueError(f"logits of Matching must be (..., n, n) with n >= 1, got shape {tuple(shape)}")

    def _enough(self, mask: Tensor) -> Tensor:
        once = mask[tuple(slice(1) if stride == 0 else slice(None) for stride in mask.stride()[:-2])]
        different = once.flatten(0, -3).unique(dim=0) if once.dim() > 2 and once.numel() else once
        return torch.tensor([allows_matching(rows) for rows in different.reshape(-1, *mask.shape[-2:]).tolist()])

    def relax(self, scores: Tensor, tau: Tensor | float) -> Tensor:
        log_p = scores / tau
        for _ in range(self.iterations):
            log_p = log_p.log_softmax(-1).log_softmax(-2)
        soft = log_p.exp()
        if soft.is_cpu and not eager.plain():
            self._check_rows(soft.detach(), tau)
        return soft

    def _check_rows(self, soft: Tensor, tau: Tensor | float) -> None:
        far = (soft.sum(-1) - 1).abs() > TOLERANCE
        if far.sum() > 0.01 * far.numel():
            at = f"{float(tau):.2g}" if not isinstance(tau, Tensor) or tau.numel() == 1 else "one a matching"
            warnings.warn(
                f"Sinkhorn's normalisation has not converged: more than one row in a hundred is off by over "
                f"{TOLERANCE}, tau={at}, iterations={self.iterations}. Give Matching more iterations, or a higher tau",
                stacklevel=3,
            )

    def harden(self, scores: Tensor) -> Tensor:
        return traced_assign(scores.detach()) if eager.plain() else assign(scores.detach())


def assign(scores: Tensor) -> Tensor:
    """The permutation matrices ``(..., n, n)`` of the largest sum of ``scores``, none of the chosen ``-inf``.

    NaN where there is none, or a score is NaN or ``+inf``.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ZooError("Matching needs scipy to assign: pip install 'discrete-latent-zoo[permutations]'") from error
    import numpy as np

    costs = scores.double().neg().cpu().numpy().reshape(-1, *scores.shape[-2:])
    values = np.zeros(costs.shape, dtype=np.float64)
    for cost, value in zip(costs, values):
        try:
            value[linear_sum_assignment(cost)] = 1.0  # ValueError for NaN, for cost of -inf, and where there is none
        except ValueError:
            value[:] = math.nan
    return torch.from_numpy(values).view(scores.shape).to(scores)


# For what can look into torch operations only: compilers and transforms.
traced_assign = torch.library.custom_op("zoo::assign", assign, mutates_args=())


@traced_assign.register_fake
def _(scores: Tensor) -> Tensor:
    return scores.new_empty(scores.shape)


@traced_assign.register_vmap
def _(info: Any, in_dims: tuple[int | None], scores: Tensor) -> tuple[Tensor, int]:
    (dim,) = in_dims
    assert dim is not None
    return traced_assign(scores.movedim(dim, 0)), 0


def allows_matching(mask: list[list[bool]]) -> bool:
    """Whether a square ``mask`` has a perfect matching: by augmenting paths, with rows as bit sets of columns."""
    allowed = [sum(1 << j for j, entry in enumerate(row) if entry) for row in mask]
    owner: dict[int, int] = {}  # of each column that is taken
    taken: dict[int, int] = {}  # by each row that has one
    free = (1 << len(mask)) - 1

    def augment(row: int) -> bool:
        nonlocal free
        came: dict[int, int] = {}  # from which row a column was reached
        seen, queue = 0, [row]
        for at in queue:
            fresh = allowed[at] & ~seen
            seen |= fresh
            while fresh:
                bit = fresh & free or fresh & -fresh
                bit &= -bit
                fresh ^= bit
                column = bit.bit_length() - 1
                came[column] = at
                if bit & free:
                    free ^= bit
                    while True:  # back along the path, each row hands its column on
                        at = came[column]
                        before = taken.get(at)
                        owner[column], taken[at] = at, column
                        if before is None:
                            return True
                        column = before
                queue.append(owner[column])
        return False

    return all(augment(row) for row in range(len(mask)))
