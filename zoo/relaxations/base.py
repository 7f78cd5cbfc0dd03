"""What every relaxation is: a program with draws, a layer, a temperature, a source of noise."""

import logging
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from zoo.config import Configurable
from zoo.errors import ZooError
from zoo.relaxations import eager
from zoo.relaxations.distributions.base import Distribution, Relaxable
from zoo.relaxations.distributions.categorical import categorical
from zoo.relaxations.noise import DEFAULT, Noise

log = logging.getLogger(__name__)

Draw = Callable[..., Tensor]
"""``draw(logits, mask=None)`` -> one of K, or ``draw(distribution)`` -> a value of that distribution."""

Program = Callable[[Draw], Any]
"""Ordinary code that calls ``draw`` once or many times and returns a cost per example, ``(batch,)``.

Or, where every draw is ``(batch, replicas, ...)``, the costs of independent replicas of each example, ``(batch,
replicas)``: their mean is the estimate, and an estimator can use the others as a baseline. It may mix distributions, let
draws depend on each other, and return a pair ``(cost, auxiliary)``: nested tensors that begin with the dimensions of
the cost, of which ``expectation`` then gives an estimate, too, without gradient.
"""

InEval = Literal["sample", "mode", "soft"]


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

    def __call__(self, draw: Draw) -> Any:
        return self.program(draw)


class Relaxation(Configurable, nn.Module, ABC):
    """A discrete choice inside a network, and a way to send gradients through it.

    Hand it a program with draws, ``loss = relaxation.expectation(lambda draw: cost(draw(logits)))``. A :class:`Pathwise`
    one is a layer, too: ``z = relaxation(logits, mask)``.

    Args:
        in_eval: what a draw is in ``eval()``: ``sample``, an exact hard one of :meth:`law`; ``mode``, the most probable
            value; ``soft``, the deterministic relaxed value with its gradient. By default a sample, of a deterministic
            relaxation the mode.

    Raises:
        ValueError: if ``in_eval`` is something else.

    Attributes:
        noise: the source of random numbers where none is passed; never saved.
    """

    stochastic: ClassVar[bool] = True
    """Whether a draw in training mode is random."""
    hard: ClassVar[bool] = True
    """Whether a draw in training mode is a hard value, to the bit."""
    unbiased: ClassVar[bool] = False
    """Whether ``expectation`` has the exact gradient in its mean."""
    dependent_draws: ClassVar[bool] = True
    """Whether the program may let a later draw depend on an earlier one."""
    needs: ClassVar[tuple[type[Distribution], ...]] = (Distribution,)
    """What a distribution must be to be served."""

    def __init__(self, *, in_eval: InEval | None = None) -> None:
        super().__init__()
        if in_eval not in (None, "sample", "mode", "soft"):
            raise ValueError(f"in_eval must be sample, mode or soft, got {in_eval!r}")
        self.in_eval: InEval = in_eval or ("sample" if self.stochastic else "mode")
        self.noise: Noise = DEFAULT

    # The program --------------------------------------------------------------------------------------------------

    def expectation(
        self, program: Program, *, baseline: Tensor | None = None, noise: Noise | None = None
    ) -> Any:
        """Estimate ``E[program(draw)]``, one value per example, ``(batch,)``.

        Its gradient is the estimator that the relaxation is named after. Its value is an unbiased estimate of the
        expectation for those that draw hard samples of the distribution itself (:meth:`law`); that of a soft or a
        deterministic relaxation is the cost of what it puts in their place.

        Args:
            program: see :data:`Program`.
            baseline: for score functions: what the cost is compared with, ``(batch,)`` or of the shape of the costs, in
                place of the estimator's own; without gradient.
            noise: source of random numbers for this call.

        Returns:
            The estimate; if the program returns a pair, a pair of the estimate and its auxiliary values.

        Raises:
            ZooError: naming what this estimator cannot serve: a distribution before any work, a program before a gradient
                is returned.
            ValueError: if the program does not return costs.
        """
        noise = noise or self.noise
        if baseline is not None and not isinstance(self, TakesBaseline):
            raise ZooError(
                f"{type(self).__name__} takes no baseline, it has no use for one: use reinforce or rloo"
            )
        if self.training:
            loss, auxiliary = self.estimate(program, noise) if baseline is None else self.estimate(
                program, noise, baseline=baseline.detach()
            )
        else:
            loss, auxiliary = run(program, lambda x, mask=None: self.draw_in_eval(self.served(x, mask), noise))
        if loss.dim() == 2:
            loss = loss.mean(1)
        return loss if auxiliary is None else (loss, auxiliary)

    @abstractmethod
    def estimate(self, program: Program, noise: Noise) -> tuple[Tensor, Any]:
        """The loss, of the shape of the costs, and the auxiliary values or None: what an estimator writes."""

    # A single draw ------------------------------------------------------------------------------------------------

    def forward(self, logits: Tensor | Distribution, mask: Tensor | None = None, *, noise: Noise | None = None) -> Tensor:
        """A single draw: in training mode of a :class:`Pathwise` relaxation; in ``eval()`` as ``in_eval`` says.

        Args:
            logits: unnormalised log-probabilities, ``(..., categories)``, or a :class:`Distribution`.
            mask: boolean, broadcastable to ``logits``, true where a choice is allowed. A masked entry gets probability
                exactly zero and gradient exactly zero.

        Raises:
            ZooError: if the distribution is not served, or a gradient would be lost.
            ValueError: as :class:`Distribution`.
        """
        distribution = self.served(logits, mask)
        noise = noise or self.noise
        return self.draw(distribution, noise) if self.training else self.draw_in_eval(distribution, noise)

    def draw(self, distribution: Distribution, noise: Noise) -> Tensor:
        """A draw in training mode outside of a program."""
        if distribution.logits.requires_grad and torch.is_grad_enabled():
            raise ZooError(
                f"{type(self).__name__} sends no gradient through a single draw: write the cost as a program and "
                "call relaxation.expectation(lambda draw: cost(draw(logits)))"
            )
        return distribution.sample(noise=noise)

    def draw_in_eval(self, distribution: Distribution, noise: Noise) -> Tensor:
        """A draw in ``eval()``."""
        if self.in_eval == "soft":
            return distribution.place(self.soft(distribution))
        if distribution.logits.requires_grad and torch.is_grad_enabled():
            warnings.warn(
                f"{type(self).__name__} in eval() draws a {self.in_eval}, through which no gradient passes: call train(), "
                "give in_eval='soft', or draw under torch.no_grad()",
                stacklevel=2,
            )
        with torch.no_grad():
            if self.in_eval == "mode":
                return distribution.mode()
            return distribution.place(self.sample_in_eval(distribution, noise))

    def sample_in_eval(self, distribution: Distribution, noise: Noise) -> Tensor:
        """An exact hard sample, laid out as the distribution's logits."""
        return self.law(distribution)._sample(noise)

    def soft(self, distribution: Distribution) -> Tensor:
        """The deterministic relaxed value, laid out as the distribution's logits."""
        require(distribution, Relaxable, by=self)
        return distribution.relax(distribution.logits, 1.0)  # type: ignore[attr-defined]

    def law(self, distribution: Distribution) -> Distribution:
        """Of what is drawn for ``distribution``: its log-probability, entropy and KL divergence are those to use.

        Most draw from the distribution itself. Some scale their noise and draw from a tempered one, a deterministic one
        stands for the probabilities that it gives.

        Raises:
            ZooError: if it has no closed form.
        """
        return distribution

    def served(self, x: Tensor | Distribution, mask: Tensor | None = None) -> Distribution:
        """``x`` as a distribution that this relaxation serves."""
        distribution = categorical(x, mask)
        require(distribution, *self.needs, by=self)
        return distribution

    # State --------------------------------------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        return torch.tensor(list(self._signature().encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        pass

    def _signature(self) -> str:
        """What must be equal for the state of another relaxation to be of use to this one."""
        return type(self).__name__

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """A checkpoint trained with another relaxation loads strictly: its state is left aside, and a line says so."""
        theirs = {name: value for name, value in state_dict.items() if name.startswith(prefix)}
        own = {prefix + name for name in self.state_dict()}
        written = theirs.get(prefix + EXTRA)
        signature = bytes(written.tolist()).decode() if written is not None else None
        if signature is None:  # of version 0.2
            fits = set(theirs) == own - {prefix + EXTRA}
        else:
            fits = signature == self._signature()
        if not fits:
            for name in theirs:
                del state_dict[name]
            state_dict |= {prefix + name: value for name, value in self.state_dict().items()}
            if theirs:
                log.info(
                    "%s keeps its configured state, %s: the checkpoint's is that of %s",
                    prefix.rstrip(".") or "the relaxation",
                    self,
                    signature or "another one",
                )
        elif signature is None:
            state_dict[prefix + EXTRA] = self.get_extra_state()
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Relaxation":
        """As every module; but temperatures and running statistics never get coarser than float32."""

        def at_least_float32(value: Tensor) -> Tensor:
            moved = fn(value)
            return value.to(moved.device) if moved.dtype in (torch.float16, torch.bfloat16) else moved

        return super()._apply(at_least_float32, recurse)

    def extra_repr(self) -> str:
        arguments = {name: value for name, value in self.arguments.items() if value is not None}
        return ", ".join(f"{name}={value}" for name, value in (arguments | self._present()).items())

    def _present(self) -> dict[str, str]:
        """What has changed since the relaxation was made, for its ``repr``."""
        return {}


EXTRA = "_extra_state"


class TakesBaseline(Relaxation):
    """A score function: ``expectation`` takes the user's own baseline."""

    @abstractmethod
    def estimate(self, program: Program, noise: Noise, *, baseline: Tensor | None = None) -> tuple[Tensor, Any]: ...


class Tempered(Relaxation):
    """A relaxation with a temperature ``tau``.

    ``relaxation.tau = 0.3`` sets it, to a number, to a tensor that broadcasts to the logits (0-dim, or with their number
    of dimensions and 1 in the last), or to an ``nn.Parameter``. A number is checked when it is given and kept in a 0-dim
    buffer: it is saved, moved between devices and changed without a recompile. A tensor is never read on the host: where
    it is not positive, draws are NaN.

    Args:
        tau: temperature.
        in_eval: as every :class:`Relaxation`.

    Raises:
        ValueError: if a number is not positive and finite.
    """

    temperatures: ClassVar[tuple[str, ...]] = ("tau",)
    """Names of its temperatures."""
    annealed: ClassVar[str] = "tau"
    """The one that people mean by annealing: of the backward pass where there are two."""
    learns_tau: ClassVar[bool] = True
    """Whether its temperature has a gradient."""

    tau: Any

    def __init__(self, *, tau: float | Tensor = 1.0, in_eval: InEval | None = None) -> None:
        super().__init__(in_eval=in_eval)
        self._known: dict[str, tuple[float, Tensor, int]] = {}
        self.tau = tau

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in type(self).temperatures:
            super().__setattr__(name, value)
        elif isinstance(value, Tensor):
            if value.requires_grad and not self.learns_tau:
                raise ZooError(f"{type(self).__name__} has no gradient for its {name}: give a number or a constant tensor")
            for place in (self._parameters, self._buffers):
                place.pop(name, None)
            self._known.pop(name, None)
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                # One value per example belongs to a batch, not to the model.
                self.register_buffer(name, value, persistent=value.dim() == 0)
        else:
            number = check_tau(value, name)
            present = self._parameters.get(name)
            if present is None:
                present = self._buffers.get(name)
            if present is None or present.dim():
                self._parameters.pop(name, None)
                self._non_persistent_buffers_set.discard(name)
                device = None if present is None else present.device
                present = torch.tensor(number, device=device)
                self.register_buffer(name, present)
            else:
                with torch.no_grad():
                    present.fill_(number)
            if not isinstance(present, nn.Parameter):
                self._know(name, number)

    def temperature(self, name: str = "tau") -> Tensor | float:
        """The present value: the number, as long as nobody has written into its buffer, else the tensor."""
        if not torch.compiler.is_compiling():
            known = self._known.get(name)
            if known is not None and self._buffers.get(name) is known[1] and known[1]._version == known[2]:
                return known[1]
        return guarded(getattr(self, name))

    def temperature_for(self, distribution: Distribution, name: str = "tau") -> Tensor | float:
        """:meth:`temperature`, laid out as the logits of ``distribution``."""
        return fit_shape(self.temperature(name), distribution)

    def soft(self, distribution: Distribution) -> Tensor:
        require(distribution, Relaxable, by=self)
        return distribution.relax(distribution.logits, self.temperature_for(distribution, self.annealed))  # type: ignore[attr-defined]

    def _signature(self) -> str:
        configured = self.arguments.get("tau")
        return f"{type(self).__name__}(tau={configured:g})" if isinstance(configured, (int, float)) else type(self).__name__

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Relaxation":
        numbers = {name: known[0] for name, known in self._known.items() if self.temperature(name) is known[1]}
        super()._apply(fn, recurse)
        for name, number in numbers.items():
            self._know(name, number)
        return self

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        for name in self.temperatures:
            buffer = self._buffers.get(name)
            if buffer is not None and buffer.dim() == 0 and math.isfinite(number := buffer.item()) and number > 0:
                self._know(name, number)

    def _know(self, name: str, number: float) -> None:
        """Remember that the buffer ``name`` holds ``number`` as long as nobody writes into it."""
        buffer = self._buffers[name]
        assert buffer is not None
        if not buffer.is_inference():  # which counts no writes
            self._known[name] = (number, buffer, buffer._version)

    def _present(self) -> dict[str, str]:
        values = {name: getattr(self, name) for name in self.temperatures}
        return {n: f"{v.item():.4g}" if v.dim() == 0 else f"tensor{tuple(v.shape)}" for n, v in values.items()}


class Pathwise(Relaxation):
    """A relaxation whose gradient flows through the draw itself, so that it can stand alone as a layer.

    A new one writes :meth:`pathwise`.
    """

    @abstractmethod
    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        """A draw in training mode, ``(batch, ..., *value)``, laid out as ``distribution.logits``."""

    def draw(self, distribution: Distribution, noise: Noise) -> Tensor:
        return distribution.place(self.pathwise(distribution, noise))

    def estimate(self, program: Program, noise: Noise) -> tuple[Tensor, Any]:
        return run(program, lambda x, mask=None: self.draw(self.served(x, mask), noise))


# What estimators share ------------------------------------------------------------------------------------------------


def require(distribution: Distribution, *needs: type[Distribution], by: Any) -> None:
    """Raise ``ZooError`` unless ``distribution`` is all that ``needs`` says."""
    for need in needs:
        if not isinstance(distribution, need):
            name = by if isinstance(by, str) else type(by).__name__
            raise ZooError(
                f"{name} does not serve {type(distribution).__name__}: it needs {LACKS.get(need.__name__, need.__name__)}. "
                f"{type(distribution).__name__} is served by {', '.join(serving(distribution)) or 'none'}."
            )


LACKS = {
    "Scored": "a log-probability",
    "Enumerable": "values that can be listed",
    "Relaxable": "a soft form",
    "Perturbed": "a draw by perturbed logits",
    "Linear": "a draw that is the arg max of a linear function",
    "Recoupled": "the noise given its outcome",
    "OneOfK": "a choice of one among K",
    "Gibbs": "exact marginals",
}


def serving(distribution: Distribution) -> list[str]:
    """Names of the relaxations that serve ``distribution``."""
    from zoo.relaxations import RELAXATIONS

    return [name for name, cls in RELAXATIONS.items() if all(isinstance(distribution, need) for need in cls.needs)]


def run(program: Program, draw: Draw) -> tuple[Tensor, Any]:
    """The cost of ``program``, ``(batch,)`` or ``(batch, replicas)``, and its auxiliary values, or None.

    Raises:
        ValueError: if it returns no costs.
    """
    result = program(draw)
    cost, auxiliary = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(cost, Tensor) or not cost.is_floating_point() or cost.dim() not in (1, 2):
        got = f"{cost.dtype} of shape {tuple(cost.shape)}" if isinstance(cost, Tensor) else type(cost).__name__
        raise ValueError(
            "a program must return one cost per example, (batch,), or the costs of its independent replicas, (batch, "
            f"replicas), as floating-point numbers; got {got}. Do not average over the batch inside it, and sum over "
            "what else an example consists of."
        )
    return cost, None if auxiliary is None else tree_map(lambda value: check_auxiliary(value, cost), auxiliary)


def check_auxiliary(value: Any, cost: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.shape[: cost.dim()] != cost.shape:
        got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"auxiliary values must begin with the dimensions of the cost, {tuple(cost.shape)}; got {got}")
    return value.detach()


def average(auxiliaries: Sequence[Any], weights: Sequence[Tensor] | None = None) -> Any:
    """The mean of the auxiliary values of several runs, or their sum with ``weights`` of the shape of the costs."""
    if auxiliaries[0] is None:
        return None

    def mean(*values: Tensor) -> Tensor:
        if weights is None:
            return torch.stack([value.float() if not value.is_floating_point() else value for value in values]).mean(0)
        return sum(  # type: ignore[return-value]
            torch.where(shaped(w, value) == 0, 0.0, shaped(w, value) * value) for w, value in zip(weights, values)
        )

    return tree_map(mean, *auxiliaries)


def shaped(cost: Tensor, like: Tensor) -> Tensor:
    """``cost`` with dimensions of one behind its own, as many as ``like`` has."""
    return cost.reshape(*cost.shape, *[1] * (like.dim() - cost.dim()))


def sum_like(value: Tensor, cost: Tensor) -> Tensor:
    """``value`` summed over all dimensions that ``cost`` does not have.

    Raises:
        ValueError: if it lacks one that ``cost`` has.
    """
    if value.shape[: cost.dim()] != cost.shape:
        raise ValueError(
            f"the cost is {tuple(cost.shape)} but a draw is of choices {tuple(value.shape)}: all draws must begin with "
            "the dimensions of the cost, (batch,) or (batch, replicas)"
        )
    return value.flatten(cost.dim()).sum(-1) if value.dim() > cost.dim() else value


def check_tau(tau: Any, name: str = "tau") -> float:
    """``tau`` as a float.

    Raises:
        ValueError: if it is not a positive finite number.
    """
    if isinstance(tau, bool) or not isinstance(tau, (int, float)) or not (tau > 0 and math.isfinite(tau)):
        raise ValueError(f"{name} must be a positive finite number, got {tau}")
    return float(tau)


def guarded(tau: Tensor) -> Tensor:
    """``tau``, NaN where it is not positive."""
    return torch.where(tau > 0, tau, torch.nan)


def fit_tau(tau: Tensor | float, distribution: Distribution) -> Tensor | float:
    """A temperature, checked, laid out as ``distribution.logits``.

    Raises:
        ValueError: if a number is not positive and finite, or a tensor does not broadcast to the logits as it must.
    """
    if not isinstance(tau, Tensor):
        return check_tau(tau)
    return fit_shape(guarded(tau), distribution)


def fit_shape(tau: Tensor | float, distribution: Distribution) -> Tensor | float:
    if not isinstance(tau, Tensor) or tau.dim() == 0:
        return tau
    logits = distribution.logits
    if distribution.dim != -1 and tau.dim() == logits.dim():
        tau = tau.movedim(distribution.dim, -1)
    inside = tau.shape[tau.dim() - distribution.choice_dims :]
    if tau.dim() != logits.dim() or any(n != 1 for n in inside) or any(
        a not in (1, b) for a, b in zip(tau.shape, logits.shape)
    ):
        wanted = (*["batch or 1"] * (logits.dim() - distribution.choice_dims), *[1] * distribution.choice_dims)
        raise ValueError(
            f"a tensor of temperatures must be 0-dim or ({', '.join(map(str, wanted))}) to go with logits of shape "
            f"{tuple(logits.shape)}, got {tuple(tau.shape)}"
        )
    return tau
