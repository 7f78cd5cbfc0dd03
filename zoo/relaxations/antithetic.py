"""DisARM and ARM: antithetic pairs of draws."""

from typing import Any

import torch
from torch import Tensor

from zoo.relaxations.base import Program, Relaxation, average, run, shaped
from zoo.relaxations.control_variates import Replay, with_gradient
from zoo.relaxations.distributions import OneOfK
from zoo.relaxations.distributions.base import one_hot, one_or_nan
from zoo.relaxations.following import run_watched
from zoo.relaxations.noise import Noise


class DisARM(Relaxation):
    """Two runs on antithetic draws, their difference weighted as if the shared noise had been averaged out; unbiased.

    A choice among K is a walk along K - 1 sticks, each broken off with probability ``sigmoid(phi_k)``,
    ``phi_k = logit_k - logsumexp of the later logits``; the first one that breaks is chosen. One run breaks
    stick k if ``u_k < sigmoid(phi_k)``, the other if ``1 - u_k < sigmoid(phi_k)``. For each stick the gradient is

        (f(b) - f(b')) / 2 (-1)^{b'_k} [b_k != b'_k] sigmoid(|phi_k|),

    and zero behind the later of the two choices, where its mean is zero. A gate is a single stick, and this is DisARM
    as published. The program may draw many times, but must not let a later draw depend on an earlier one, nor one row
    see another's draw. Two program runs.

    Raises:
        ZooError: from ``expectation``, if a draw depends on an earlier one, or the logits differ between the two runs.

    Sources: Dong et al. 2020, arXiv 2006.10680, eq. 6; Dong et al. 2021, arXiv 2106.08056, section 4, for K > 2.
    """

    unbiased = True
    dependent_draws = False
    needs = (OneOfK,)

    def estimate(self, program: Program, noise: Noise) -> tuple[Tensor, Any]:
        draws: list[_Pair] = []

        def draw(x: Any, mask: Tensor | None = None) -> Tensor:
            draws.append(_Pair(self.served(x, mask), noise))
            return draws[-1].value(draws[-1].first)

        first, auxiliary = run_watched(program, draw, self, independent=True)
        replay = Replay(self, draws, [pair.value(pair.second) for pair in draws])
        second, other = run(program, replay.draw)
        replay.check(second, first)
        cost, difference = (first + second) / 2, (first - second).detach() / 2
        for pair in draws:
            cost = with_gradient(cost, pair.phi, shaped(difference, pair.phi) * self.weight(pair), by=self)
        return cost, average([auxiliary, other])

    def weight(self, pair: "_Pair") -> Tensor:
        """Of each stick's gradient, ``(batch, ..., K - 1)``."""
        sign = pair.broken.to(pair.u) - pair.antithetic.to(pair.u)  # (-1)^{b'} where they differ, else 0
        return sign * pair.phi.detach().abs().sigmoid() * pair.reached


class ARM(DisARM):
    """As :class:`DisARM` without averaging out the shared noise: each stick's gradient is ``(f(b) - f(b')) (1/2 - u)``.

    Unbiased, with more variance than DisARM: it is here as the estimator that DisARM improves upon. Two program runs.

    Source: Yin & Zhou 2019, arXiv 1807.11143, theorem 1.
    """

    def weight(self, pair: "_Pair") -> Tensor:
        return (1 - 2 * pair.u) * pair.reached


class _Pair:
    """Two antithetic draws of the same choice.

    Attributes:
        phi: log-odds of each stick, ``(batch, ..., K - 1)``.
        u: the uniform noise of each stick.
        broken, antithetic: whether each stick breaks.
        reached: whether a stick is not behind the later of the two choices, nor settled by the mask.
        first, second: the two draws, one-hot.
    """

    def __init__(self, distribution: Any, noise: Noise) -> None:
        self.distribution = distribution
        choice = distribution.as_categorical()
        # A number so low that it is never chosen, where -inf would give inf - inf.
        raw = choice.logits.masked_fill(choice.logits == -torch.inf, -1e9)
        later = raw.flip(-1).logcumsumexp(-1).flip(-1)[..., 1:]
        self.phi = raw[..., :-1] - later
        with torch.no_grad():
            self.u, p = noise.uniform(self.phi, choice.batch_dim), self.phi.sigmoid()
            self.broken, self.antithetic = self.u < p, 1 - self.u < p
            first, second = first_true(self.broken), first_true(self.antithetic)
            one = one_or_nan(choice.logits.logsumexp(-1, keepdim=True))
            self.first = one_hot(first, choice.logits.detach()) * one  # all of it NaN, or none
            self.second = one_hot(second, choice.logits.detach()) * one
            open_question = (choice.logits[..., :-1] != -torch.inf) & (later > -5e8)  # not settled by the mask
            self.reached = open_question & (torch.arange(p.shape[-1], device=p.device) <= torch.maximum(first, second))

    def value(self, one_hot_value: Tensor) -> Tensor:
        return self.distribution.place(self.distribution.from_one_hot(one_hot_value))


def first_true(broken: Tensor) -> Tensor:
    """The index ``(..., 1)`` of the first true entry, or one past the end."""
    return (broken.cumsum(-1) == 0).sum(-1, keepdim=True)
