"""Permutations, also called matchings."""

import math

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations.base import Relaxation, fill_masked
from zoo.relaxations.functional import sample_gumbel, straight_through


class GumbelSinkhorn(Relaxation):
    """A permutation matrix: the assignment that maximises the sum of the chosen ``logits + g``, Gumbel noise ``g``.

    ``logits`` is ``(batch, ..., n, n)``, row ``i`` the scores of the places that item ``i`` may take; a draw
    has the same shape. The relaxed permutation is ``exp((logits + g) / tau)`` with its rows and columns
    normalised in turn ``iterations`` times, in log space: its columns sum to one, its rows almost. As ``tau``
    goes to zero and ``iterations`` to infinity it goes to the permutation with the same noise; the smaller
    ``tau``, the more iterations that takes.

    Biased for the discrete objective, soft or hard; the variance rises as ``tau`` goes to zero. One program
    run; every hard draw is an assignment problem of ``O(n^3)`` on the CPU, one after the other. Works for tau
    in about [1, 3] with 20 iterations.

    The law of a hard draw is *perturb-and-MAP*: one noise value an entry, not one a permutation. It is not the
    Gibbs distribution ``exp(sum of the chosen logits) / Z``, and its probabilities have no closed form, so
    ``log_prob`` and ``entropy`` refuse.

    A mask is true where an item may take a place. A masked entry is never assigned, is exactly zero in the
    relaxed form and has gradient exactly zero.

    Args:
        tau: temperature.
        iterations: of Sinkhorn's normalisation.
        hard: whether a draw in training mode is a permutation, with the gradient of the relaxed one.

    Raises:
        ValueError: if ``tau`` is not a positive finite number or ``iterations`` is less than 1; from every
            method, if the mask allows no permutation, or a shape or dtype is wrong.
        ZooError: where an assignment is needed (a hard draw, ``mode``, any mask) and scipy is not installed.

    Source: Mena et al. 2018, arXiv 1802.08665, theorem 1 (the limit) and its Gumbel-Sinkhorn distribution (the noise).
    """

    def __init__(self, *, tau: float = 1.0, iterations: int = 20, hard: bool = True) -> None:
        super().__init__(tau=tau)
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        self.iterations = iterations
        self.hard = hard

    def relax(self, logits: Tensor) -> Tensor:
        perturbed = logits + sample_gumbel(logits)
        soft = self._sinkhorn(perturbed / self.tau)
        return straight_through(_assign(perturbed.detach()), soft) if self.hard else soft

    def forward(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        if not self.training:
            return self.sample(logits, mask)
        return self.relax(_mask_matrix(logits, mask)).to(logits.dtype)

    @torch.no_grad()
    def sample(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """The best permutation for perturbed logits, ``(..., n, n)``, without gradient: perturb-and-MAP, not Gibbs."""
        logits_ = _mask_matrix(logits, mask)
        return _assign(logits_ + sample_gumbel(logits_)).to(logits.dtype)

    @torch.no_grad()
    def mode(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """The best permutation for the logits themselves, ``(..., n, n)``, without gradient.

        It is the mode of the Gibbs distribution; that of the draws may differ where two are close.
        """
        return _assign(_mask_matrix(logits, mask)).to(logits.dtype)

    def log_prob(self, logits: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        raise ZooError("GumbelSinkhorn has no log_prob: the law of perturb-and-MAP permutations has no closed form")

    def entropy(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        raise ZooError("GumbelSinkhorn has no entropy: the law of perturb-and-MAP permutations has no closed form")

    def _sinkhorn(self, scores: Tensor) -> Tensor:
        for _ in range(self.iterations):
            scores = scores.log_softmax(-1).log_softmax(-2)
        return scores.exp()


def _mask_matrix(logits: Tensor, mask: Tensor | None) -> Tensor:
    """``logits`` in float32 with ``-inf`` where ``mask`` is false, once it is known to leave a permutation."""
    if logits.dim() < 2 or logits.shape[-1] != logits.shape[-2] or logits.shape[-1] == 0:
        raise ValueError(f"logits must be (..., n, n) with n >= 1, got shape {tuple(logits.shape)}")
    logits_ = fill_masked(logits, mask)
    if mask is not None:
        n = logits.shape[-1]
        mask = torch.atleast_2d(mask)
        mask = mask.expand(*mask.shape[:-2], n, n)
        some = _assign(torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -math.inf))
        if torch.compiler.is_compiling():  # which drops a call whose result nobody reads
            torch._assert_async(some.any(), "the mask allows no permutation")
    return logits_


@torch.library.custom_op("zoo::assign", mutates_args=())
def _assign(scores: Tensor) -> Tensor:
    """The permutation matrices ``(..., n, n)`` of the largest sum of ``scores``, none of the chosen ``-inf``."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ZooError(
            "GumbelSinkhorn needs scipy to assign: pip install 'discrete-latent-zoo[permutations]'"
        ) from error
    costs = -scores.double().cpu().numpy()
    if not (costs > -math.inf).all():
        raise ValueError("logits must be neither NaN nor +inf to be assigned")
    permutations = np.zeros(costs.shape, dtype=np.float32)
    for index in np.ndindex(costs.shape[:-2]):
        try:
            permutations[index][linear_sum_assignment(costs[index])] = 1.0
        except ValueError as error:
            raise ValueError(
                "the mask allows no permutation: every row and column needs an entry of its own"
            ) from error
    return torch.from_numpy(permutations).to(scores)


@_assign.register_fake
def _(scores: Tensor) -> Tensor:
    return scores.new_empty(scores.shape)
