"""Score-function estimators: unbiased for any program, differentiable in the draw or not."""

import torch
from torch import Tensor

from zoo.relaxations.base import Program, Relaxation, ScoredProgram, check_cost, mean_of_replicas
from zoo.relaxations.functional import sample_one_hot
from zoo.relaxations.splitting import mean_of_whole_batch


class ScoreFunction(Relaxation):
    """Base of the estimators that weigh ``grad log p(draw)`` by the program's cost."""

    pathwise = False
    unbiased = True

    def __init__(self) -> None:
        super().__init__(tau=1.0)

    def relax(self, logits: Tensor) -> Tensor:
        no_single_draw(self, logits)
        return sample_one_hot(logits)

    def run(self, program: Program) -> tuple[Tensor, Tensor]:
        """Run ``program`` on hard samples; its cost and the log-probability of all draws, each ``(batch,)`` or
        ``(batch, replicas)``."""
        if isinstance(program, ScoredProgram):
            cost, log_prob = program.sample()
            if cost.shape != log_prob.shape:
                raise ValueError(
                    f"a ScoredProgram sampled costs {tuple(cost.shape)} but log-probabilities {tuple(log_prob.shape)}"
                )
            return cost, log_prob
        log_probs: list[Tensor] = []

        def draw(logits: Tensor, mask: Tensor | None = None) -> Tensor:
            value = self.sample(logits, mask)
            log_probs.append(self.log_prob(logits, value, mask))
            return value

        cost = program(draw)
        if cost.dim() != 2:
            check_cost(cost)
        return cost, sum((sum_like(log_prob, cost) for log_prob in log_probs), torch.zeros_like(cost))


def sum_like(log_prob: Tensor, cost: Tensor) -> Tensor:
    """``log_prob`` summed over all dimensions that ``cost`` does not have.

    Raises:
        ValueError: if it lacks one that ``cost`` has.
    """
    if log_prob.shape[: cost.dim()] != cost.shape:
        raise ValueError(
            f"the cost is {tuple(cost.shape)} but a draw is {tuple(log_prob.shape)}: where a program returns costs "
            "(batch, replicas), all its draws must begin with these dimensions"
        )
    return log_prob.reshape(*cost.shape, -1).sum(-1)


def no_single_draw(relaxation: Relaxation, logits: Tensor) -> None:
    """Refuse to be used as a layer where the gradient would be lost without a word."""
    if logits.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"{type(relaxation).__name__} sends no gradient through a single draw: write the cost as a program and "
            "call relaxation.expectation(lambda draw: cost(draw(logits)))"
        )


def surrogate(cost: Tensor, baseline: Tensor, log_prob: Tensor) -> Tensor:
    """``cost`` in value; in gradient its own plus ``(cost - baseline) grad log_prob``."""
    return cost + (cost - baseline).detach() * (log_prob - log_prob.detach())


class Reinforce(ScoreFunction):
    """``(cost - b) grad log p(draw)`` with a running mean of the cost as the baseline ``b``.

    Unbiased, since the baseline comes from earlier batches, those of all processes; high variance. One program run.

    Args:
        decay: of the running mean, in [0, 1).

    Raises:
        ValueError: if ``decay`` is outside [0, 1).

    Source: Williams 1992, "Simple statistical gradient-following algorithms", section 3.
    """

    baseline: Tensor
    weight: Tensor

    def __init__(self, *, decay: float = 0.99) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.register_buffer("baseline", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))  # of the observed part: corrects the start at zero

    def expectation(self, program: Program) -> Tensor:
        if not self.training:
            return super().expectation(program)
        cost, log_prob = self.run(program)
        loss = surrogate(cost, self.baseline / self.weight.clamp_min(1e-8), log_prob)
        with torch.no_grad():
            self.baseline.lerp_(mean_of_whole_batch(cost.float().mean()), 1 - self.decay)
            self.weight.lerp_(torch.ones_like(self.weight), 1 - self.decay)
        return mean_of_replicas(loss)


class RLOO(ScoreFunction):
    """REINFORCE with k samples, each with the mean cost of the others as its baseline.

    Unbiased; the variance falls faster than 1/k. k program runs. Where the program returns costs of replicas, the
    others among all samples of all replicas are the baseline: with many starts of a tour the shared baseline of Kwon
    et al. 2020, arXiv 2010.16011, equation 3.

    Args:
        samples: k, at least 2.

    Raises:
        ValueError: if ``samples`` is less than 2.

    Source: Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!", eq. 8.
    """

    def __init__(self, *, samples: int = 4) -> None:
        super().__init__()
        if samples < 2:
            raise ValueError(f"samples must be at least 2 (each needs another as its baseline), got {samples}")
        self.samples = samples

    def expectation(self, program: Program) -> Tensor:
        if not self.training:
            return super().expectation(program)
        runs = [self.run(program) for _ in range(self.samples)]
        cost, log_prob = (torch.stack(part) for part in zip(*runs))  # (samples, batch) or (samples, batch, replicas)
        total, count = (cost.sum(0), len(cost)) if cost.dim() == 2 else (cost.sum((0, 2)), len(cost) * cost.shape[2])
        others = (total.view(-1, *[1] * (cost.dim() - 2)) - cost) / (count - 1)
        return mean_of_replicas(surrogate(cost, others, log_prob).mean(0))
