"""Implicit maximum-likelihood estimation, and other ways that need nothing but a perturbed arg max."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from zoo.errors import ZooError
from zoo.relaxations import eager
from zoo.relaxations.base import InEval, Pathwise, Tempered
from zoo.relaxations.distributions import Distribution, Linear, Perturbed
from zoo.relaxations.distributions.base import NoiseLaw
from zoo.relaxations.noise import Noise


class IMLE(Pathwise, Tempered):
    """The hard value of ``u = logits + tau g`` forward; backward what changes if ``u`` follows the cost downhill.

    The gradient is ``(z(u) - z(u - lambda df/dz)) / lambda`` with ``z`` the arg max: zero for most draws, large for
    some. Biased; it needs nothing but an arg max, so it reaches where a softmax does not. One program run. ``lambda``
    is set for each choice so that its logits move by at most ``strength``: it does not depend on the scale of the cost
    (or on the size of the batch, where the loss is a mean). It has no forward-mode derivative: it takes the cost's.

    Args:
        tau: scale of the noise. At 1 the draw follows ``softmax(logits)``; otherwise ``softmax(logits / tau)``.
        strength: ``lambda`` times the largest ``|df/dz|`` of the choice, > 0.
        noise_law: ``gumbel``, or ``gaussian`` of the same variance, a control: what it draws then has no closed form.

    Raises:
        ValueError: if ``strength`` is not positive, or ``noise_law`` is something else.

    Sources: Niepert et al. 2021, arXiv 2106.01798, algorithm 1, with Gumbel noise for their Sum-of-Gamma, which it is
    for one choice. Minervini et al. 2023, arXiv 2209.04862, for a ``lambda`` that follows the gradient.
    """

    needs = (Linear,)
    learns_tau = False

    def __init__(
        self,
        *,
        tau: float | Tensor = 1.0,
        strength: float = 1.0,
        noise_law: Literal["gumbel", "gaussian"] = "gumbel",
        in_eval: InEval | None = None,
    ) -> None:
        super().__init__(tau=tau, in_eval=in_eval)
        if not strength > 0:
            raise ValueError(f"strength must be positive, got {strength}")
        if noise_law not in ("gumbel", "gaussian"):
            raise ValueError(f"noise_law must be gumbel or gaussian, got {noise_law!r}")
        self.strength, self.noise_law = strength, noise_law

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return imle(distribution, self.temperature_for(distribution), noise, self.strength, noise_law=self.noise_law)

    def law(self, distribution: Distribution) -> Distribution:
        if self.noise_law != "gumbel":
            raise ZooError(f"IMLE with {self.noise_law} noise draws from a law that has no closed form")
        return distribution.tempered(self.temperature_for(distribution))

    def sample_in_eval(self, distribution: Any, noise: Noise) -> Tensor:
        if self.noise_law == "gumbel":
            return super().sample_in_eval(distribution, noise)
        return distribution.harden(distribution.perturb(noise, self.noise_law, self.temperature_for(distribution)))


class AIMLE(Pathwise, Tempered):
    """Adaptive I-MLE: its ``strength`` grows until as many choices change as are to, and the difference is central.

    The gradient is ``(z(u + lambda df/dz) - z(u - lambda df/dz)) / (2 lambda)``, with its sign turned; ``lambda`` is
    ``strength`` over the largest ``|df/dz|`` of the choice. After each backward pass ``strength`` moves by ``step``, up
    if fewer than ``target`` of the choices have had a gradient lately, else down. It adapts in eager mode; inside
    ``torch.compile`` and ``torch.func`` it stays as it is. It has no forward-mode derivative. Biased. One program run.

    Args:
        tau: scale of the noise, as of :class:`IMLE`.
        target: share of choices with a gradient, in (0, 1).
        step: of ``strength``, >= 0.
        decay: of the running share, in [0, 1).

    Raises:
        ValueError: if a number is out of range.

    Source: Minervini et al. 2023, arXiv 2209.04862, section 3 and algorithm 1, where the share is that of nonzero
    entries.
    """

    needs = (Linear,)
    learns_tau = False

    strength: Tensor
    share: Tensor

    def __init__(
        self,
        *,
        tau: float | Tensor = 1.0,
        target: float = 0.5,
        step: float = 1e-2,
        decay: float = 0.9,
        in_eval: InEval | None = None,
    ) -> None:
        super().__init__(tau=tau, in_eval=in_eval)
        if not (0 < target < 1 and step >= 0 and 0 <= decay < 1):
            raise ValueError(f"need target in (0, 1), step >= 0 and decay in [0, 1), got {target}, {step}, {decay}")
        self.target, self.step, self.decay = target, step, decay
        self.register_buffer("strength", torch.tensor(1.0))
        self.register_buffer("share", torch.tensor(target))

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        def adapt(changed: Tensor) -> None:
            self._adapt(noise.mean(changed.to(self.share.dtype).mean()))

        observe = None if eager.plain() else adapt
        strength = self.strength.clone()  # which the backward pass changes
        return imle(distribution, self.temperature_for(distribution), noise, strength, central=True, observe=observe)

    def law(self, distribution: Distribution) -> Distribution:
        return distribution.tempered(self.temperature_for(distribution))

    @torch.no_grad()
    def _adapt(self, share: Tensor) -> None:
        """Follow ``share``, that of the choices of a backward pass that had a gradient."""
        self.share.lerp_(share, 1 - self.decay)
        self.strength.add_(self.step * (self.target - self.share).sign()).clamp_min_(self.step or 1e-8)


class PerturbedOptimizer(Pathwise):
    """The mean of k perturbed arg maxes forward, the derivative of their expectation backward, from the same noise.

    With ``z`` the arg max and Gaussian noise ``e`` the draw is the mean of ``z(logits + sigma e_m)``, and the Jacobian,
    that of its expectation, the mean of ``z(logits + sigma e_m) e_m' / sigma``. Soft: unbiased for the cost of the mean
    value where it is linear, not an estimator of the discrete expectation. One program run.

    Args:
        sigma: scale of the noise, > 0.
        samples: k.

    Raises:
        ValueError: if ``sigma`` is not positive or ``samples`` less than 1.
        ZooError: in ``eval()`` with ``in_eval="soft"``: what is soft of it is random.

    Source: Berthet et al. 2020, arXiv 2002.08676, proposition 3.1; the mean is subtracted from ``z`` in the Jacobian,
    which lowers its variance.
    """

    hard = False
    needs = (Perturbed,)

    def __init__(self, *, sigma: float = 1.0, samples: int = 10, in_eval: InEval | None = None) -> None:
        super().__init__(in_eval=in_eval)
        if not sigma > 0 or samples < 1:
            raise ValueError(f"need sigma > 0 and samples >= 1, got {sigma}, {samples}")
        self.sigma, self.samples = sigma, samples

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return perturbed_optimizer(distribution, noise, self.sigma, self.samples)

    def law(self, distribution: Distribution) -> Distribution:
        raise ZooError("PerturbedOptimizer draws from a law that has no closed form")

    def soft(self, distribution: Distribution) -> Tensor:
        raise ZooError("PerturbedOptimizer has no soft form without noise: in_eval must be sample or mode")

    def sample_in_eval(self, distribution: Any, noise: Noise) -> Tensor:
        return distribution.harden(
            distribution.logits + self.sigma * noise.normal(distribution.logits, distribution.batch_dim)
        )


def perturbed_optimizer(distribution: Any, noise: Noise, sigma: float, samples: int) -> Tensor:
    many = distribution.expand((samples,))
    drawn = noise.normal(many.logits, many.batch_dim)
    values = many.harden(many.logits + sigma * drawn)
    # The Jacobian applied: a function linear in the logits, zero in value, with the derivative of the expectation.
    slope = drawn * (eager.finite(distribution.logits) - eager.finite(distribution.logits.detach()))
    if distribution.choice_dims:
        slope = slope.flatten(slope.dim() - distribution.choice_dims).sum(-1)
    slope = slope.reshape(*slope.shape, *[1] * (values.dim() - slope.dim()))
    mean = values.mean(0)
    if samples == 1:
        return mean + (values * slope).mean(0) / sigma
    return mean + ((values - mean) * slope).sum(0) / ((samples - 1) * sigma)


def imle(
    distribution: Any,
    tau: Tensor | float,
    noise: Noise,
    strength: Tensor | float,
    *,
    noise_law: NoiseLaw = "gumbel",
    central: bool = False,
    observe: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """The hard value of the perturbed logits, whose gradient is a difference of two hard values.

    Args:
        central: whether both are moved, not one.
        observe: is told, after a backward pass, which choices had a gradient, ``(batch, ...)``.
    """
    scores = distribution.perturb(noise, noise_law, tau)
    if has_tangent(scores):
        raise ZooError(
            "implicit maximum-likelihood estimation has no forward-mode derivative (jvp, jacfwd), it needs that of the "
            "cost: use reverse mode (grad, vjp, jacrev), or another estimator"
        )
    strength = torch.as_tensor(strength).to(scores)
    return _FiniteDifference.apply(scores, strength, distribution.harden, distribution.choice_dims, central, observe)


def has_tangent(x: Tensor) -> bool:
    """Whether forward-mode AD follows ``x``."""
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return False
    return forward_ad.unpack_dual(x).tangent is not None


class _FiniteDifference(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, strength: Tensor, harden: Any, choice_dims: int, central: bool, observe: Any) -> Tensor:
        return harden(scores)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        scores, strength, ctx.harden, ctx.choice_dims, ctx.central, ctx.observe = inputs
        ctx.save_for_backward(scores, strength)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scores, strength = ctx.saved_tensors
        inside = tuple(range(-ctx.choice_dims, 0))
        largest = gradient.abs()
        if inside:
            largest = largest.amax(inside, keepdim=True)
        largest = largest.clamp_min(torch.finfo(gradient.dtype).tiny)
        move = strength * (gradient / largest)
        with torch.no_grad():
            ahead = ctx.harden(scores + move if ctx.central else scores)
            change = ahead - ctx.harden(scores - move)
        if ctx.observe is not None:
            changed = change != 0
            ctx.observe(changed.any(inside) if inside else changed)
        slope = largest / ((2 if ctx.central else 1) * strength)
        return change * slope, None, None, None, None, None
