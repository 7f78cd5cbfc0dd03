"""Score-function estimators: unbiased for any program, differentiable in the draw or not."""

from typing import Any

import torch
from torch import Tensor

from zoo.relaxations import eager
from zoo.relaxations.base import (
    InEval,
    Program,
    ScoredProgram,
    TakesBaseline,
    average,
    run,
    sum_like,
)
from zoo.relaxations.distributions import Scored
from zoo.relaxations.following import run_watched
from zoo.relaxations.noise import Noise


class ScoreFunction(TakesBaseline):
    """Base of the estimators that weigh ``grad log p(draw)`` by the program's cost.

    The program must not let one row of the batch see another's draw, as batch normalisation behind a draw does: the
    gradient of a draw would need the costs of all rows. Where that is seen, it is refused; a single row has no others.
    """

    unbiased = True
    needs = (Scored,)

    def run(self, program: Program, noise: Noise) -> tuple[Tensor, Tensor, Any]:
        """Run ``program`` on hard samples.

        Returns:
            its cost and the log-probability of all draws, each ``(batch,)`` or ``(batch, replicas)``, and its auxiliary
            values.
        """
        if isinstance(program, ScoredProgram):
            cost, log_prob, *auxiliary = program.sample()
            if cost.shape != log_prob.shape:
                raise ValueError(
                    f"a ScoredProgram sampled costs {tuple(cost.shape)} but log-probabilities {tuple(log_prob.shape)}"
                )
            _, given = run(lambda _: (cost, *auxiliary) if auxiliary else cost, self.draw)
            return cost, log_prob, given
        log_probs: list[Tensor] = []

        def record(x: Any, mask: Tensor | None = None) -> Tensor:
            distribution = self.served(x, mask)
            value = distribution.sample(noise=noise)
            log_probs.append(distribution.log_prob(value))
            return value

        cost, auxiliary = run_watched(program, record, self)
        total = sum((sum_like(log_prob, cost) for log_prob in log_probs), torch.zeros_like(cost))
        return cost, total, auxiliary


def surrogate(cost: Tensor, baseline: Tensor, log_prob: Tensor) -> Tensor:
    """``cost`` in value; in gradient its own plus ``(cost - baseline) grad log_prob``.

    Derivatives of any order are right, too: it is the cost times ``exp(log_prob - log_prob.detach())``, which is 1
    (Foerster et al. 2018, "DiCE", arXiv 1802.05098).
    """
    change = torch.expm1(log_prob - log_prob.detach())
    return cost + (cost - baseline.detach()) * change


def fit_baseline(baseline: Tensor, cost: Tensor) -> Tensor:
    """The user's ``baseline``, ``(batch,)`` or of the shape of the costs, to go with ``cost``."""
    if not isinstance(baseline, Tensor) or baseline.shape not in (cost.shape, cost.shape[:1]):
        raise ValueError(
            f"a baseline must be (batch,) or of the shape of the costs {tuple(cost.shape)}, got {tuple(baseline.shape)}"
        )
    return baseline if baseline.shape == cost.shape else baseline.unsqueeze(1)


class Reinforce(ScoreFunction):
    """``(cost - b) grad log p(draw)`` with a running mean of the cost as the baseline ``b``.

    Unbiased, since the baseline comes from earlier batches, those of all processes; high variance. One program run.
    ``expectation(program, baseline=...)`` takes the user's own in its place, such as a value network's. A cost that is
    not finite is left out of the running mean, and inside ``torch.func`` the mean stays as it is.

    Args:
        decay: of the running mean, in [0, 1).

    Raises:
        ValueError: if ``decay`` is outside [0, 1).

    Source: Williams 1992, "Simple statistical gradient-following algorithms", section 3.
    """

    baseline: Tensor
    weight: Tensor

    def __init__(self, *, decay: float = 0.99, in_eval: InEval | None = None) -> None:
        super().__init__(in_eval=in_eval)
        self.decay = check_decay(decay)
        self.register_buffer("baseline", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))  # of the observed part: corrects the start at zero

    def estimate(self, program: Program, noise: Noise, *, baseline: Tensor | None = None) -> tuple[Tensor, Any]:
        cost, log_prob, auxiliary = self.run(program, noise)
        if baseline is not None:
            return surrogate(cost, fit_baseline(baseline, cost), log_prob), auxiliary
        loss = surrogate(cost, self.baseline / self.weight.clamp_min(1e-8), log_prob)
        follow_mean([self.baseline, self.weight], [cost.mean(), torch.ones_like(self.weight)], self.decay, noise)
        return loss, auxiliary


class RLOO(ScoreFunction):
    """REINFORCE with k samples, each with the mean cost of the others as its baseline.

    Unbiased; the variance falls faster than 1/k. k program runs. Where the program returns costs of replicas, the
    others among all samples of all replicas are the baseline: with many starts of a tour the shared baseline of Kwon
    et al. 2020, arXiv 2010.16011, equation 3. The user's own ``baseline=`` takes the place of the others'.

    Args:
        samples: k, at least 2.

    Raises:
        ValueError: if ``samples`` is less than 2.

    Source: Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!", eq. 8.
    """

    def __init__(self, *, samples: int = 4, in_eval: InEval | None = None) -> None:
        super().__init__(in_eval=in_eval)
        if not isinstance(samples, int) or samples < 2:
            raise ValueError(f"samples must be at least 2 (each needs another as its baseline), got {samples}")
        self.samples = samples

    def estimate(self, program: Program, noise: Noise, *, baseline: Tensor | None = None) -> tuple[Tensor, Any]:
        runs = [self.run(program, noise) for _ in range(self.samples)]
        cost, log_prob = (torch.stack([each[i] for each in runs]) for i in (0, 1))  # (samples, batch[, replicas])
        if baseline is None:
            total, count = (
                (cost.sum(0), len(cost)) if cost.dim() == 2 else (cost.sum((0, 2)), len(cost) * cost.shape[2])
            )
            others = (total.view(-1, *[1] * (cost.dim() - 2)) - cost) / (count - 1)
        else:
            others = fit_baseline(baseline, cost[0])
        return surrogate(cost, others, log_prob).mean(0), average([each[2] for each in runs])


def check_decay(decay: float) -> float:
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), got {decay}")
    return decay


@torch.no_grad()
def follow_mean(means: list[Tensor], values: list[Tensor], decay: float, noise: Noise) -> None:
    """Let running ``means`` follow ``values``, unless one of those is not finite, or a transform is at work."""
    if eager.plain() and not torch.compiler.is_compiling():
        return
    observed = [noise.mean(value.to(mean.dtype)) for mean, value in zip(means, values)]
    fine = torch.stack([value.isfinite().all() for value in observed]).all()
    for mean, value in zip(means, observed):
        mean.copy_(torch.where(fine, mean.lerp(value, 1 - decay), mean))
