"""What can be drawn: the vocabulary of distributions, and what estimators ask of them.

A distribution is a value made of logits and a mask, nearly free to make. Its logits are ``(batch, ..., *choice)``, and
what one choice consists of is in the last dimensions: the categories of a categorical, the items of a subset, nothing
for a gate. A value of one choice has dimensions of its own: those of the logits, or a matrix for an order.

A new distribution derives from :class:`Scored` and writes three methods, ``_sample``, ``_mode`` and ``_log_prob``;
every score function then serves it. The other groups bring the other estimators: :class:`Enumerable` the exact
expectation, :class:`Relaxable` and :class:`Perturbed` the pathwise ones, :class:`Recoupled` REBAR and RELAX.
"""

import copy
import math
from abc import ABC, abstractmethod
from numbers import Real
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations import eager
from zoo.relaxations.noise import DEFAULT, Noise

LIMIT = 65536
"""The most values of one choice that a distribution lists."""

NoiseLaw = Literal["gumbel", "gaussian", "box"]
"""A method of :class:`Noise`: what perturbs the logits. The last two are controls with the variance of the first."""


DistributionT = TypeVar("DistributionT", bound="Distribution")


class Distribution(ABC):
    """Independent discrete choices with ``logits``.

    Half-precision logits are computed in float32; a value has the dtype of the logits. Logits of ``-inf`` are choices
    that are never made. Logits that are ``+inf`` or NaN, or that allow no choice, give NaN, never a valid value.

    Args:
        logits: unnormalised scores, ``(batch, ..., *choice)``.
        mask: boolean, broadcastable to ``logits``, true where a choice is allowed. A masked one has probability exactly
            zero and gradient exactly zero.
        dim: the dimension of the choice.

    Raises:
        ValueError: if ``logits`` is not floating-point, ``mask`` not boolean or of a shape that does not fit, ``dim``
            not a dimension; on a CPU in eager mode also if ``mask`` leaves a choice nothing.
    """

    choice_dims: ClassVar[int] = 1
    """How many of the last dimensions of the logits make up one choice."""
    value_dims: ClassVar[int] = 1
    """How many of the last dimensions of a value are of one choice."""

    def __init__(self, logits: Tensor, mask: Tensor | None = None, *, dim: int = -1) -> None:
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            got = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"logits must be a floating-point tensor, got {got}")
        if logits.dim() < self.choice_dims:
            raise ValueError(f"logits of {type(self).__name__} must be (..., choice), got shape {tuple(logits.shape)}")
        self.dtype, self.dim, self.batch_dim = logits.dtype, -1, 0
        if mask is not None:
            mask = expand_mask(mask, logits)
        if dim != -1:
            self.dim = dim if dim < 0 else dim - logits.dim()
            if not -logits.dim() <= self.dim < 0:
                raise ValueError(f"dim={dim} is not a dimension of logits of shape {tuple(logits.shape)}")
            logits = logits.movedim(self.dim, -1)
            mask = None if mask is None else mask.movedim(self.dim, -1)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        self.mask = mask
        self.logits = logits if mask is None else logits.masked_fill(~mask, -math.inf)
        """In float32 or float64, the choice last, ``-inf`` where it is masked."""
        self._check()
        if mask is not None and mask.is_cpu and not eager.plain() and not self._enough(mask).all():
            raise ValueError(self._too_few)

    _too_few: str = "a row of the mask allows no choice: every row needs at least one true entry"

    def _check(self) -> None:
        """Raise ``ValueError`` for logits of a shape that cannot be drawn from."""
        if self.choice_dims and self.logits.shape[-1] == 0:
            raise ValueError(f"logits need at least one category, got shape {tuple(self.logits.shape)}")

    def _enough(self, mask: Tensor) -> Tensor:
        """Whether ``mask`` leaves each choice enough."""
        return mask.any(-1)

    @classmethod
    def example(cls) -> Self:
        """A small distribution with a batch of one, on which tables and tests try every relaxation."""
        return cls(torch.tensor([[0.5, -0.3, 0.9, -0.8]]))

    # What one writes ----------------------------------------------------------------------------------------------

    @abstractmethod
    def _sample(self, noise: Noise) -> Tensor:
        """An exact, hard value, ``(batch, ..., *value)``, in the dtype of :attr:`logits`."""

    @abstractmethod
    def _mode(self) -> Tensor:
        """The most probable value, ``(batch, ..., *value)``, in the dtype of :attr:`logits`."""

    # What one uses ------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> torch.Size:
        """Of the choices: ``(batch, ...)``."""
        return self.logits.shape[: self.logits.dim() - self.choice_dims]

    def sample(
        self,
        sample_shape: tuple[int, ...] = (),
        *,
        generator: torch.Generator | None = None,
        noise: Noise | None = None,
    ) -> Tensor:
        """Exact, hard values, ``(*sample_shape, batch, ..., *value)``, without gradient."""
        law = self.expand(sample_shape) if sample_shape else self
        with torch.no_grad():  # not as a decorator, which compilers do not follow on an object of the same graph
            return law.place(law._sample(choose_noise(generator, noise)))

    def mode(self) -> Tensor:
        """The most probable value, ``(batch, ..., *value)``, without gradient."""
        with torch.no_grad():
            return self.place(self._mode())

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ``value``, ``(batch, ...)``, float32 or float64; differentiable in the logits.

        Raises:
            ZooError: if the distribution has none in closed form.
        """
        raise self._lacks("log_prob")

    def entropy(self) -> Tensor:
        """Entropy of each choice in nats, ``(batch, ...)``.

        Raises:
            ZooError: if the distribution has none in closed form, and more values than can be listed.
        """
        raise self._lacks("entropy")

    def kl(self, other: "Distribution") -> Tensor:
        """``KL(self || other)`` in nats, ``(batch, ...)``, of two distributions of a kind.

        Raises:
            ZooError: if they are of two kinds, or there is no closed form and there are too many values to list.
        """
        raise self._lacks("KL divergence")

    def enumerate_support(self) -> Tensor:
        """All values, ``(values, batch, ..., *value)``; where a mask leaves one row fewer, it repeats its first.

        Raises:
            ZooError: if there are more than :data:`LIMIT`, or no way to list them.
        """
        raise self._lacks("enumeration of its support")

    def _lacks(self, what: str) -> ZooError:
        return ZooError(f"{type(self).__name__} has no {what}: it has no closed form")

    # For estimators -----------------------------------------------------------------------------------------------

    def with_logits(self, logits: Tensor) -> Self:
        """The same distribution of other ``logits``, laid out as :attr:`logits`."""
        other = copy.copy(self)
        other.logits = logits
        return other

    def expand(self, sample_shape: tuple[int, ...]) -> Self:
        """As many independent copies, ``sample_shape`` before the batch."""
        other = self.with_logits(self.logits.expand(*sample_shape, *self.logits.shape))
        other.mask = None if self.mask is None else self.mask.expand(other.logits.shape)
        other.batch_dim = self.batch_dim + len(sample_shape)
        return other

    def tempered(self, tau: Tensor | float) -> Self:
        """The distribution of ``logits / tau``."""
        return self.with_logits(self.logits / tau)

    def place(self, value: Tensor) -> Tensor:
        """``value`` in the layout and dtype of the logits as they were given."""
        if self.dim != -1 and self.value_dims:
            last = range(-self.value_dims, 0)
            value = value.movedim(tuple(last), tuple(self.dim + 1 + i for i in last))
        return value if value.dtype == self.dtype else value.to(self.dtype)

    def unplace(self, value: Tensor) -> Tensor:
        """``value`` as :meth:`place` gives it, in the layout and dtype of :attr:`logits`."""
        if self.dim != -1 and self.value_dims:
            last = range(-self.value_dims, 0)
            value = value.movedim(tuple(self.dim + 1 + i for i in last), tuple(last))
        return value.to(self.logits.dtype)

    def __repr__(self) -> str:
        mask = "" if self.mask is None else ", mask"
        return f"{type(self).__name__}({tuple(self.logits.shape)}{mask})"


class Scored(Distribution):
    """Has a log-probability: what score functions need."""

    @abstractmethod
    def _log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ``value``, ``(batch, ...)``; ``-inf`` where it cannot come."""

    def log_prob(self, value: Tensor) -> Tensor:
        return self._log_prob(self.unplace(value))


class Enumerable(Scored):
    """Its values can be counted and listed, where they are few: what the exact expectation needs."""

    @abstractmethod
    def cardinality(self) -> int | Tensor:
        """How many values a choice has: one number, or where a mask is, int64 ``(batch, ...)``."""

    @abstractmethod
    def _support(self, index: Tensor) -> Tensor:
        """The values with the numbers ``index``, ``(batch, ...)``, of choices that have as many; else the first."""

    def enumerate_support(self) -> Tensor:
        return self.place(self._values("The list"))

    def entropy(self) -> Tensor:
        values = self._values("The entropy")
        log_p = self._log_probs(values)
        return -(log_p.exp() * eager.finite(log_p)).sum(0)

    def kl(self, other: Distribution) -> Tensor:
        require_kind(self, other)
        assert isinstance(other, Enumerable)
        values = self._values("The KL divergence")
        log_p, log_q = self._log_probs(values), other.expand(values.shape[:1])._log_prob(values)
        return divergence(log_p, log_q, 0)

    def _values(self, what: str) -> Tensor:
        """All values, ``(values, batch, ..., *value)``, laid out as :attr:`logits`."""
        size = self.cardinality()
        most = size if isinstance(size, int) else int(size.max()) if size.numel() else 0
        if most > LIMIT:
            raise ZooError(
                f"{what} of {type(self).__name__} would go through {rounded(most)} values, over the limit of {LIMIT}"
            )
        return self.expand((most,))._support(self._numbers(most))

    def _numbers(self, count: int) -> Tensor:
        number = torch.arange(count, device=self.logits.device)
        return number.view(-1, *[1] * len(self.shape)).expand(count, *self.shape)

    def _log_probs(self, values: Tensor) -> Tensor:
        """Of all values, ``(values, batch, ...)``; ``-inf`` for those that repeat another."""
        log_p = self.expand(values.shape[:1])._log_prob(values)
        size = self.cardinality()
        return log_p if isinstance(size, int) else log_p.masked_fill(self._numbers(len(values)) >= size, -math.inf)


class Relaxable(Distribution):
    """Has a soft form: what straight-through estimators need.

    Scores are of the shape of the logits, which are scores without noise.
    """

    @abstractmethod
    def relax(self, scores: Tensor, tau: Tensor | float) -> Tensor:
        """The soft value of ``scores`` at temperature ``tau``; as that goes to zero, :meth:`harden` of them."""

    @abstractmethod
    def harden(self, scores: Tensor) -> Tensor:
        """The hard value of ``scores``, without gradient; NaN where they are."""

    def relax_(self, scores: Tensor, tau: Tensor | float) -> Tensor:
        """:meth:`relax` of scores that nobody needs any more: it may overwrite them."""
        return self.relax(scores, tau)

    def through(self, scores: Tensor, soft: Tensor) -> Tensor:
        """:meth:`harden` of ``scores`` in value, with the gradient of ``soft``."""
        return eager.straight_through(self.harden(scores), soft)

    def _mode(self) -> Tensor:
        return self.harden(self.logits.detach())


class Perturbed(Relaxable):
    """Is drawn by perturbing the logits: what the Gumbel family needs."""

    def perturb(self, noise: Noise, law: NoiseLaw = "gumbel", scale: Tensor | float = 1.0) -> Tensor:
        """Scores: the logits plus ``scale`` times noise, with the gradient of the logits.

        With Gumbel noise, :meth:`harden` of them has the law of :meth:`tempered` with ``scale``.
        """
        drawn = getattr(noise, law)(self.logits, self.batch_dim)
        if not (isinstance(scale, float) and scale == 1.0):
            return self.logits + scale * drawn
        if eager.pays(drawn):
            return eager.straight_through(drawn.add_(self.logits.detach()), self.logits)
        return self.logits + drawn

    def _sample(self, noise: Noise) -> Tensor:
        return self.harden(self.perturb(noise).detach())

    def rsample(
        self, tau: Tensor | float, *, generator: torch.Generator | None = None, noise: Noise | None = None
    ) -> Tensor:
        """A relaxed sample, :meth:`relax` of perturbed logits, differentiable; laid out as a value.

        Raises:
            ValueError: if ``tau`` is a number that is not positive, or a tensor of a shape that does not fit.
        """
        law, tau = tempered_for(self, tau)
        return self.place(law.relax(law.perturb(choose_noise(generator, noise)), tau))

    def relaxed_log_prob(self, value: Tensor, tau: Tensor | float) -> Tensor:
        """Log-density, ``(batch, ...)``, of a relaxed sample ``value``.

        Raises:
            ZooError: if it has no closed form.
        """
        raise self._lacks("density of a relaxed sample")


class Linear(Perturbed):
    """Its hard value is the arg max over all values ``z`` of the sum of ``scores * z``: what I-MLE needs."""


class Recoupled(Perturbed, Scored):
    """Knows how its noise is distributed given what it made: what REBAR and RELAX need."""

    @abstractmethod
    def recouple(self, scores: Tensor) -> Tensor:
        """``scores``, equal in value, as a function of the logits GIVEN the outcome of the scores.

        Given the outcome, the noise has another law; this is the reparameterisation of that law at the same place.
        """

    @abstractmethod
    def log_prob_of(self, scores: Tensor) -> Tensor:
        """Log-probability, ``(batch, ...)``, of the outcome that :meth:`recouple` takes as given."""


class OneOfK(Relaxable, Enumerable):
    """A choice of one among K, in some form: what ReinMax, Gumbel-Rao, DisARM and the like are formulas of."""

    @abstractmethod
    def as_categorical(self) -> "Any":
        """The same law as a :class:`Categorical`."""

    @abstractmethod
    def from_one_hot(self, value: Tensor) -> Tensor:
        """A value of :meth:`as_categorical`, hard or soft, as one of this distribution; linear."""


class Gibbs(Distribution):
    """Has exact marginals: what SIMPLE needs. Its law is, or has the form of, ``p(z) ~ exp(sum of logits * z)``."""

    def gibbs(self) -> "Gibbs":
        """The law ``p(z) ~ exp(sum of logits * z)`` over the same values; most often this distribution itself."""
        return self

    @abstractmethod
    def marginals(self) -> Tensor:
        """The mean of a value under :meth:`gibbs`, ``(batch, ..., *value)``, differentiable in the logits."""


def choose_noise(generator: torch.Generator | None, noise: Noise | None) -> Noise:
    """The source that is meant by the two keywords.

    Raises:
        TypeError: if both are given.
    """
    if generator is None:
        return noise or DEFAULT
    if noise is not None:
        raise TypeError("give generator= or noise=, not both: Noise(generator) is the same")
    return Noise(generator)


def divergence(log_p: Tensor, log_q: Tensor, dim: int) -> Tensor:
    """``KL(p || q)`` of what is listed along ``dim``; infinite where ``q`` rules out what ``p`` does not."""
    never, forbidden = log_p == -math.inf, (log_q == -math.inf) & (log_p != -math.inf)
    difference = log_p.masked_fill(never, 0.0) - log_q.masked_fill(never | forbidden, 0.0)
    return (log_p.exp() * difference).sum(dim).masked_fill(forbidden.any(dim), math.inf)


def require_kind(one: Distribution, other: Distribution) -> None:
    """Raise ``ZooError`` unless the two are of the same kind and shape."""
    if type(one) is not type(other) or one.logits.shape[-1:] != other.logits.shape[-1:]:
        raise ZooError(f"a KL divergence is of two distributions of a kind, got {one} and {other}")


def expand_mask(mask: Tensor, logits: Tensor) -> Tensor:
    """``mask`` in the shape of ``logits``.

    Raises:
        ValueError: if it is not boolean or does not broadcast.
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be boolean (true = allowed), got {mask.dtype}")
    if mask.shape == logits.shape:
        return mask
    try:
        return mask.expand(logits.shape)
    except RuntimeError:
        raise ValueError(f"mask {tuple(mask.shape)} does not broadcast to logits {tuple(logits.shape)}") from None


def rounded(number: int) -> str:
    """A whole number of any size, to read."""
    return f"{number:.2g}" if number < 10**300 else f"1e+{math.floor(math.log10(number))}"


def one_hot(index: Tensor, like: Tensor, one: Tensor | float = 1.0) -> Tensor:
    """``index`` ``(..., 1)`` as one-hot of the shape, dtype and device of ``like``; ``one`` is what stands there."""
    if eager.plain():
        return torch.zeros_like(like).scatter(-1, index, one)
    return torch.zeros_like(like, memory_format=torch.contiguous_format).scatter_(-1, index, one)


def one_or_nan(x: Tensor) -> Tensor:
    """1 where ``x`` is finite, else NaN."""
    return (x - x).exp()


def check_tau(tau: Any, name: str = "tau") -> float:
    """``tau`` as a float.

    Raises:
        ValueError: if it is not a positive finite number.
    """
    if type(tau) is float and 0.0 < tau < math.inf:
        return tau
    number = float(tau) if isinstance(tau, Real) and not isinstance(tau, bool) else math.nan
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{name} must be a positive finite number, or a tensor; got {tau!r}")
    return number


def spoilt(distribution: DistributionT, tau: Tensor) -> DistributionT:
    """``distribution``, with NaN for logits where ``tau`` is not positive and finite: no draw of it is a valid one."""
    nothing = 0 * fit_shape(tau, distribution).detach().log()
    return distribution.with_logits(distribution.logits + nothing.to(distribution.logits.dtype))


def fit_shape(tau: Tensor, distribution: Distribution) -> Tensor:
    """A temperature, laid out as the logits of ``distribution``.

    Raises:
        ValueError: if it is neither 0-dim nor one for each example.
    """
    if tau.dim() == 0:
        return tau
    logits, inside = distribution.logits, distribution.choice_dims
    if distribution.dim != -1 and tau.dim() == logits.dim():
        tau = tau.movedim(distribution.dim, -1)
    wanted = [*logits.shape[: logits.dim() - inside], *[1] * inside]
    if tau.dim() != logits.dim() or any(n not in (1, size) for n, size in zip(tau.shape, wanted)):
        raise ValueError(
            f"a tensor of temperatures must be 0-dim or {tuple(wanted)}, with 1 where it is the same for all, to go "
            f"with logits of shape {tuple(logits.shape)}; got {tuple(tau.shape)}"
        )
    return tau.to(logits.dtype)


def tempered_for(law: DistributionT, tau: Any) -> tuple[DistributionT, Any]:
    """``law`` and a temperature laid out as its logits: a checked number, or a tensor that spoils what is not positive.

    Raises:
        ValueError: as :func:`check_tau` and :func:`fit_shape`.
    """
    if not isinstance(tau, Tensor):
        return law, check_tau(tau)
    fitted = fit_shape(tau, law)
    return spoilt(law, tau), fitted


def check_value(value: Tensor, law: Distribution, inside: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless ``value`` broadcasts to choices like those of ``law``, of the shape ``inside``."""
    wanted, got = (*law.shape, *inside), tuple(value.shape)
    fits = got[-len(inside) :] == tuple(inside)
    if not fits or any(a != b and 1 not in (a, b) for a, b in zip(got[::-1], wanted[::-1])):
        raise ValueError(f"a value of {law} must be (..., {str(wanted)[1:-1].rstrip(',')}), got shape {got}")
