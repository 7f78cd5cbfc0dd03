"""The exact expectation, by enumeration."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations import eager
from zoo.relaxations.base import InEval, Program, Relaxation, average, run, sum_like
from zoo.relaxations.distributions import Distribution, Enumerable
from zoo.relaxations.distributions.base import LIMIT, rounded
from zoo.relaxations.following import unwrapped
from zoo.relaxations.noise import Noise


class Exact(Relaxation):
    """``sum_z p(z) cost(z)`` over every combination of choices: no bias, no variance.

    The program runs once a combination, so it may draw many times, later draws may depend on earlier ones, and masks
    may rule choices out: only what is allowed is enumerated. For a single choice among a few it is also the fastest
    estimator. To know how many values a mask leaves it looks at the device's data.

    Args:
        limit: the most combinations to enumerate.

    Raises:
        ValueError: if ``limit`` is less than 1.
        ZooError: from ``expectation``, if the program's draws have more than ``limit`` combinations: before its first
            cost is computed, unless they might be of replicas.
    """

    unbiased = True
    needs = (Enumerable,)

    def __init__(self, *, limit: int = LIMIT, in_eval: InEval | None = None) -> None:
        super().__init__(in_eval=in_eval)
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        self.limit = limit

    def estimate(self, program: Program, noise: Noise) -> tuple[Tensor, Any]:
        # An odometer over all choices of all draws, its length found out by running the program. The replicas of an
        # example are independent and go through their combinations side by side: whether there are any is only known
        # after a first run. If that has too many combinations, another finds out whether it was for replicas.
        dims, too_many = 1, None
        digits: list[int] = []
        try:
            cost, weight, auxiliary, options = self._run(program, digits, dims)
        except TooMany as error:
            too_many = error
        if too_many or cost.dim() == 2:
            dims, digits = 2, []
            cost, weight, auxiliary, options = self._run(program, digits, dims)
        if too_many and cost.dim() == 1:
            raise too_many
        total, mass, weights, auxiliaries = torch.zeros_like(cost), torch.zeros_like(cost), [], []
        while True:
            total = total + weight * cost.masked_fill(weight == 0, 0.0)
            mass = mass + weight.detach()
            weights.append(weight.detach())
            auxiliaries.append(auxiliary)
            if not _advance(digits, options):
                if mass.is_cpu and not eager.plain() and ((mass - 1).abs() > 1e-2).any():
                    raise ZooError(
                        f"the values that were enumerated have a probability of {mass.min():.3g} in all: what is drawn "
                        "must list each of its values once, with its log-probability"
                    )
                return total, average(auxiliaries, weights)
            cost, weight, auxiliary, options = self._run(program, digits, dims)

    def check(self, choices: Sequence[Distribution], *, dependent: bool = False) -> None:
        super().check(choices, dependent=dependent)
        total = 1
        for choice in choices:
            assert isinstance(choice, Enumerable)
            size = choice.cardinality()
            total *= size ** math.prod(choice.shape) if isinstance(size, int) else math.prod(size.flatten().tolist())
        self._refuse(total)

    def _refuse(self, total: int) -> None:
        if total > self.limit:
            raise TooMany(
                f"Exact would enumerate at least {rounded(total)} combinations, over the limit of {self.limit}: use "
                "fewer choices or categories, or an estimator that samples (such as rloo)"
            )

    def _run(self, program: Program, digits: list[int], dims: int) -> tuple[Tensor, Tensor, Any, list[int]]:
        """Run ``program`` with its choices set to ``digits``.

        Choices beyond the known digits are at option 0 and are appended to ``digits``: masks and logits of a draw may
        depend on the draws before it.

        Args:
            dims: of the cost, whose examples (and replicas) have their combinations side by side.

        Returns:
            the cost and its probability, each of the shape of the costs, the auxiliary values, and the number of
            options of each choice.
        """
        options: list[int] = []
        log_probs: list[Tensor] = []

        def draw(x: Any, mask: Tensor | None = None) -> Tensor:
            distribution = self.served(x, mask)
            assert isinstance(distribution, Enumerable)
            inside = distribution.shape[dims:]
            start, count = len(options), math.prod(inside)
            size = distribution.cardinality()
            if isinstance(size, int):
                options.extend([size] * count)
            elif size.numel():
                if any(torch._C._functorch.is_batchedtensor(each) for each in unwrapped(size)):
                    raise ZooError(
                        "Exact must know how many values a mask leaves, which vmap over masks does not let it see: put "
                        "the masks into the batch, or use rloo"
                    )
                options.extend(size.expand(distribution.shape).reshape(-1, max(count, 1)).amax(0)[:count].tolist())
            else:
                options.extend([1] * count)
            self._refuse(math.prod(options))
            digits.extend([0] * (start + count - len(digits)))
            option = torch.tensor(digits[start : start + count], device=distribution.logits.device, dtype=torch.int64)
            option = option.view(inside).expand(distribution.shape)
            value = distribution._support(option)
            log_p = distribution._log_prob(value)
            if not isinstance(size, int):  # a row with fewer options than others has no such combination
                log_p = log_p.masked_fill(option >= size, -math.inf)
            log_probs.append(log_p)
            return distribution.place(value)

        cost, auxiliary = run(program, draw)
        weight = sum((sum_like(log_p, cost) for log_p in log_probs), torch.zeros_like(cost)).exp()
        return cost, weight, auxiliary, options


class TooMany(ZooError):
    """More combinations than the limit."""


def _advance(digits: list[int], options: list[int]) -> bool:
    """Turn the odometer ``digits`` to its next state, dropping the digits that start over; false at its end."""
    while digits and digits[-1] + 1 >= options.pop():
        digits.pop()
    if digits:
        digits[-1] += 1
    return bool(digits)
