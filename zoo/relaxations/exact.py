"""The exact expectation, by enumeration."""

import math
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations.base import InEval, Program, Relaxation, average, run, sum_like
from zoo.relaxations.distributions import Enumerable
from zoo.relaxations.distributions.base import LIMIT, rounded
from zoo.relaxations.noise import Noise


class Exact(Relaxation):
    """``sum_z p(z) cost(z)`` over every combination of choices: no bias, no variance.

    The program runs once a combination, so it may draw many times, later draws may depend on earlier ones, and masks may
    rule choices out: only what is allowed is enumerated. For a single choice among a few it is also the fastest
    estimator. To know how many values a mask leaves it looks at the device's data.

    Args:
        limit: the most combinations to enumerate.

    Raises:
        ValueError: if ``limit`` is less than 1.
        ZooError: from ``expectation``, before the program's first cost is computed, if its draws have more than ``limit``
            combinations.
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
        # example are independent and go through their combinations side by side: whether there are any is known
        # after a first run, which takes the smaller number of combinations for its limit.
        digits: list[int] = []
        cost, *_ = self._run(program, digits, dims=2)
        if cost.dim() == 1:
            digits = []
        dims, total = cost.dim(), torch.zeros_like(cost)
        weights, auxiliaries = [], []
        while True:
            cost, weight, auxiliary, options = self._run(program, digits, dims)
            total = total + weight * cost.masked_fill(weight == 0, 0.0)
            weights.append(weight.detach())
            auxiliaries.append(auxiliary)
            if not _advance(digits, options):
                return total, average(auxiliaries, weights)

    def _run(self, program: Program, digits: list[int], dims: int) -> tuple[Tensor, Tensor, Any, list[int]]:
        """Run ``program`` with its choices set to ``digits``.

        Choices beyond the known digits are at option 0 and are appended to ``digits``: masks and logits of a draw may
        depend on the draws before it.

        Args:
            dims: of the cost, whose examples (and replicas) have their combinations side by side.

        Returns:
            the cost and its probability, each of the shape of the costs, the auxiliary values, and the number of options
            of each choice.
        """
        options: list[int] = []
        log_probs: list[Tensor] = []

        def draw(x: Any, mask: Tensor | None = None) -> Tensor:
            distribution = self.served(x, mask)
            inside = distribution.shape[dims:]
            start, count = len(options), math.prod(inside)
            size = distribution.cardinality()
            if isinstance(size, int):
                options.extend([size] * count)
            elif size.numel():
                options.extend(size.expand(distribution.shape).reshape(-1, count).amax(0).tolist())
            else:
                options.extend([1] * count)
            if math.prod(options) > self.limit:
                raise ZooError(
                    f"Exact would enumerate at least {rounded(math.prod(options))} combinations, over the limit of "
                    f"{self.limit}: use fewer choices or categories, or an estimator that samples (such as rloo)"
                )
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


def _advance(digits: list[int], options: list[int]) -> bool:
    """Turn the odometer ``digits`` to its next state, dropping the digits that start anew; false at its end."""
    while digits and digits[-1] + 1 >= options.pop():
        digits.pop()
    if digits:
        digits[-1] += 1
    return bool(digits)
