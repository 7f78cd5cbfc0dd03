"""DisARM: antithetic pairs of draws."""

from functools import partial

import torch
from torch import Tensor

from zoo.relaxations.base import Program, Relaxation, check_cost, mask_logits
from zoo.relaxations.control_variates import replay, weigh
from zoo.relaxations.functional import one_hot_like, sample_one_hot
from zoo.relaxations.score_function import no_single_draw
from zoo.relaxations.splitting import draw_noise


class DisARM(Relaxation):
    """Two runs on antithetic draws, their difference weighted as if the shared noise had been averaged out; unbiased.

    A choice among K is a walk along K - 1 sticks, each broken off with probability ``sigmoid(phi_k)``,
    ``phi_k = logit_k - logsumexp of the later logits``; the first one that breaks is chosen. One run breaks
    stick k if ``u_k < sigmoid(phi_k)``, the other if ``1 - u_k < sigmoid(phi_k)``. For each stick the gradient is

        (f(b) - f(b')) / 2 (-1)^{b'_k} [b_k != b'_k] sigmoid(|phi_k|),

    and zero behind the later of the two choices, where its mean is zero. With K = 2 this is DisARM as published. The
    program may draw many times, but must not let a later draw's logits or mask depend on an earlier draw. Two
    program runs.

    Raises:
        ZooError: from ``expectation``, if a draw depends on an earlier one.

    Sources: Dong et al. 2020, arXiv 2006.10680, eq. 6; Dong et al. 2021, arXiv 2106.08056, section 4, for K > 2.
    """

    pathwise = False
    unbiased = True
    dependent_draws = False

    def __init__(self) -> None:
        super().__init__(tau=1.0)

    def relax(self, logits: Tensor) -> Tensor:
        no_single_draw(self, logits)
        return sample_one_hot(logits)

    def expectation(self, program: Program) -> Tensor:
        if not self.training:
            return super().expectation(program)
        draws: list[_Pair] = []

        def draw(logits: Tensor, mask: Tensor | None = None) -> Tensor:
            draws.append(_Pair(logits, mask))
            return draws[-1].first.to(logits.dtype)

        first = check_cost(program(draw))
        second = check_cost(replay(program, draws, lambda pair: pair.second))
        cost = (first + second) / 2
        for pair in draws:
            linear = (weigh((first - second).detach() / 2, pair.weight) * pair.phi).flatten(1).sum(1)
            cost = cost + (linear - linear.detach())
        return cost


class _Pair:
    """Two antithetic draws of the same logits, one-hot, and the weight of each stick's gradient."""

    def __init__(self, logits: Tensor, mask: Tensor | None) -> None:
        self.logits = mask_logits(logits.detach(), mask)
        # A number so low that it is never chosen, where -inf would give inf - inf.
        raw = logits.float().masked_fill(self.logits == -torch.inf, -1e9)
        later = raw.flip(-1).logcumsumexp(-1).flip(-1)[..., 1:]
        self.phi = raw[..., :-1] - later
        with torch.no_grad():
            device = self.phi.device
            u, p = draw_noise(partial(torch.rand, device=device), self.phi.shape, device), self.phi.sigmoid()
            broken, antithetic = u < p, 1 - u < p
            first, second = first_true(broken), first_true(antithetic)
            self.first, self.second = one_hot_like(first, self.logits), one_hot_like(second, self.logits)
            reached = torch.arange(p.shape[-1], device=p.device) <= torch.maximum(first, second).unsqueeze(-1)
            sign = broken.to(p) - antithetic.to(p)  # (-1)^{b'} where they differ, else 0
            self.weight = sign * self.phi.abs().sigmoid() * reached


def first_true(broken: Tensor) -> Tensor:
    """The index of the first true entry, or one past the end."""
    return (broken.cumsum(-1) == 0).sum(-1)
