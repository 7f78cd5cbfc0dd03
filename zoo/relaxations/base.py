"""The interface every relaxation implements, and the exact operations they share.

Shapes: ``logits`` is ``(batch, ..., categories)``; one-hot values and relaxed samples have the same
shape; log-probabilities and entropies drop the last dimension.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.config import Configurable
from zoo.relaxations.functional import one_hot_like, sample_one_hot

LOWEST = torch.finfo(torch.float32).min

Draw = Callable[..., Tensor]
"""``draw(logits, mask=None)`` -> a value of the shape of ``logits``."""

Program = Callable[[Draw], Tensor]
"""Ordinary code that calls ``draw`` once or many times and returns a cost per example, ``(batch,)``.

Or, where every draw is ``(batch, replicas, ...)``, the costs of independent replicas of each example, ``(batch,
replicas)``: their mean is the estimate, and an estimator can use the others as a baseline.
"""


@dataclass(frozen=True)
class ScoredProgram:
    """A :data:`Program` that has a quicker way to hard samples and their probability than one draw after another.

    For a sequence of draws in which each depends on those before: it can be sampled without gradient, and then be
    scored as a whole. Estimators of the score function use it; to every other one this is the program alone.

    Args:
        program: as it is run draw by draw.
        sample: costs of the program on exact hard samples, and the log-probability of all draws together, which carries
            the gradient; both of the shape of the costs. Of the same law as the program with such draws.
    """

    program: Program
    sample: Callable[[], tuple[Tensor, Tensor]]

    def __call__(self, draw: Draw) -> Tensor:
        return self.program(draw)


class Relaxation(Configurable, nn.Module):
    """A discrete choice inside a network, and a way to send gradients through it.

    Use it as a layer, ``z = relaxation(logits, mask)``, or hand it a whole program with draws,
    ``loss = relaxation.expectation(lambda draw: cost(draw(logits)))``. The second form works with
    every estimator.

    In ``eval()`` every relaxation returns exact hard samples, whatever it is trained with.
    Half-precision logits are computed in float32; the result has the dtype of the logits.

    Args:
        tau: temperature, > 0. Kept in the 0-dim buffer ``tau``, so it is saved, moved between devices
            and changed without a recompile; :class:`zoo.callbacks.TauAnnealing` sets it.

    Raises:
        ValueError: if ``tau`` is not a positive finite number.
    """

    stochastic = True
    """Whether a draw in training mode is random."""
    follows_softmax = True
    """Whether the arg max of a random draw has the law ``softmax(logits)``, at any temperature."""
    hard = True
    """Whether a draw in training mode is one-hot, to the bit."""
    pathwise = True
    """Whether the gradient flows through the draw itself, so that the layer can stand alone."""
    unbiased = False
    """Whether ``expectation`` has the exact gradient in its mean."""
    dependent_draws = True
    """Whether the program may let a later draw's logits or mask depend on an earlier draw."""

    tau: Tensor

    def __init__(self, *, tau: float = 1.0) -> None:
        super().__init__()
        if not (tau > 0 and math.isfinite(tau)):
            raise ValueError(f"tau must be a positive finite number, got {tau}")
        self.initial_tau = float(tau)
        self.register_buffer("tau", torch.tensor(self.initial_tau))

    def relax(self, logits: Tensor) -> Tensor:
        """A draw in training mode from float32 ``logits``, in which masked entries are ``-inf``."""
        raise NotImplementedError

    def forward(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """Draw: relaxed or straight-through in training mode, an exact one-hot sample in ``eval()``.

        Args:
            logits: unnormalised log-probabilities, ``(..., categories)``.
            mask: boolean, broadcastable to ``logits``, true where a choice is allowed. A masked entry
                gets probability exactly zero and gradient exactly zero.

        Raises:
            ValueError: if a row of ``mask`` allows no choice, or a shape or dtype is wrong.
        """
        if not self.training:
            return self.sample(logits, mask)
        return self.relax(mask_logits(logits, mask)).to(logits.dtype)

    def expectation(self, program: Program) -> Tensor:
        """Estimate ``E[program(draw)]``, one value per example, ``(batch,)``.

        Its value is an unbiased estimate of the expectation for every relaxation that draws hard
        samples; its gradient is the estimator that the relaxation is named after.
        """
        return mean_of_replicas(program(self))

    @torch.no_grad()
    def sample(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """An exact one-hot sample of ``softmax(logits)``, ``(..., categories)``, without gradient."""
        return sample_one_hot(mask_logits(logits, mask)).to(logits.dtype)

    @torch.no_grad()
    def mode(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """The most probable choice as one-hot, ``(..., categories)``, without gradient."""
        logits_ = mask_logits(logits, mask)
        return one_hot_like(logits_.argmax(-1), logits_).to(logits.dtype)

    def log_prob(self, logits: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probability of the one-hot ``value`` under ``softmax(logits)``, float32, ``(...)``.

        Differentiable in ``logits`` and in ``value``. A masked choice has ``-inf``.
        """
        return log_prob(mask_logits(logits, mask), value.float())

    def entropy(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """Entropy of ``softmax(logits)`` in nats, float32, ``(...)``."""
        log_p = mask_logits(logits, mask).log_softmax(-1)
        return -(log_p.exp() * log_p.clamp_min(LOWEST)).sum(-1)  # 0 log 0 = 0

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.arguments.items())


def mask_logits(logits: Tensor, mask: Tensor | None) -> Tensor:
    """``logits`` in float32 with ``-inf`` where ``mask`` is false, once every row is known to leave a choice.

    Raises:
        ValueError: as :func:`fill_masked`, and if ``logits`` has no last dimension of at least one category, or a row
            allows no choice.
    """
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must be (..., categories) with at least one category, got {tuple(logits.shape)}")
    filled = fill_masked(logits, mask)
    if mask is not None:
        some_choice = mask.any(-1).all()
        message = "a row of the mask allows no choice: every row needs at least one true entry"
        if torch.compiler.is_compiling():  # a Python branch on data would break the graph
            torch._assert_async(some_choice, message)
        elif not some_choice:
            raise ValueError(message)
    return filled


def fill_masked(logits: Tensor, mask: Tensor | None) -> Tensor:
    """``logits`` in float32 with ``-inf`` where ``mask`` is false, whatever the mask leaves of a row.

    Raises:
        ValueError: if ``logits`` is not floating-point, or ``mask`` is not boolean or does not broadcast to it.
    """
    if not logits.is_floating_point():
        raise ValueError(f"logits must be a floating-point tensor, got {logits.dtype}")
    if mask is None:
        return logits.float()
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be boolean (true = allowed), got {mask.dtype}")
    try:
        fits = torch.broadcast_shapes(mask.shape, logits.shape) == logits.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"mask {tuple(mask.shape)} does not broadcast to logits {tuple(logits.shape)}")
    return logits.float().masked_fill(~mask, -math.inf)


def log_prob(logits: Tensor, value: Tensor) -> Tensor:
    """Log-probability ``(...)`` of ``value`` under ``softmax(logits)``; ``-inf`` for a masked choice."""
    log_p = logits.log_softmax(-1)
    masked = log_p == -math.inf
    inside = (value * log_p.masked_fill(masked, 0.0)).sum(-1)
    return inside.masked_fill(((value != 0) & masked).any(-1), -math.inf)


def sum_per_example(value: Tensor) -> Tensor:
    """Sum over every dimension but the first: ``(batch, ...)`` to ``(batch,)``."""
    return value.reshape(len(value), -1).sum(-1)


def check_cost(cost: Tensor) -> Tensor:
    """Return ``cost`` if it is one value per example.

    Raises:
        ValueError: if it is not of shape ``(batch,)``.
    """
    if cost.dim() != 1:
        raise ValueError(
            "a program must return one cost per example, shape (batch,); "
            f"got shape {tuple(cost.shape)}. Do not average over the batch inside it."
        )
    return cost


def mean_of_replicas(cost: Tensor) -> Tensor:
    """``cost``, ``(batch,)`` or ``(batch, replicas)``, as one value per example, ``(batch,)``.

    Raises:
        ValueError: if it has another shape.
    """
    return cost.mean(1) if cost.dim() == 2 else check_cost(cost)
