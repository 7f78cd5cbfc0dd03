"""What every relaxation is: a program with draws, a layer, a temperature, a source of noise."""

import json
import logging
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from zoo.config import Configurable
from zoo.errors import ZooError
from zoo.relaxations import eager
from zoo.relaxations.distributions.base import Distribution, Relaxable, check_tau, fit_shape, spoilt
from zoo.relaxations.distributions.categorical import categorical
from zoo.relaxations.noise import DEFAULT, Noise

log = logging.getLogger(__name__)

Draw = Callable[..., Tensor]
"""``draw(logits, mask=None)`` -> one of K, or ``draw(distribution)`` -> a value of that distribution."""

Program = Callable[[Draw], Any]
"""Ordinary code that calls ``draw`` once or many times and returns a cost per example, ``(batch,)``.

Or, where every draw is ``(batch, replicas, ...)``, the costs of independent replicas of each example, ``(batch,
replicas)``: their mean is the estimate, and an estimator can use the others as a baseline. It may mix distributions,
let draws depend on each other, and return a pair ``(cost, auxiliary)``: nested tensors that begin with the dimensions
of the cost, of which ``expectation`` then gives an estimate, too, without gradient.
"""

InEval = Literal["sample", "mode", "soft"]


EXTRA = "_extra_state"
NO_GRADIENT = "{} has no gradient for its {}: give a number or a constant tensor"


@dataclass(frozen=True)
class ScoredProgram:
    """A :data:`Program` that has a quicker way to hard samples and their probability than one draw after another.

    For a sequence of draws in which each depends on those before: it can be sampled without gradient, and then be
    scored as a whole. Estimators of the score function use it; to every other one this is the program alone.

    Args:
        program: as it is run draw by draw.
        sample: costs of the program on exact hard samples, and the log-probability of all draws together, which carries
            the gradient; both of the shape of the costs. Of the same law as the program with such draws. If the program
            returns auxiliary values, these third.
        distinct: the same for samples without replacement: ``distinct(k)`` gives as many as there are, at most k, in a
            dimension before those of the costs, each with the log-probability that it has by itself; -inf where there
            are fewer than in other rows.
    """

    program: Program
    sample: Callable[[], tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Any]]
    distinct: Callable[[int], tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Any]] | None = None

    def __call__(self, draw: Draw) -> Any:
        return self.program(draw)


class Relaxation(Configurable, nn.Module, ABC):
    """A discrete choice inside a network, and a way to send gradients through it.

    Hand it a program with draws, ``loss = relaxation.expectation(lambda draw: cost(draw(logits)))``. A
    :class:`Pathwise` one is a layer, too: ``z = relaxation(logits, mask)``.

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

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "tau" and not isinstance(self, Tempered):
            raise ZooError(f"{type(self).__name__} has no temperature: one that has derives from Tempered")
        super().__setattr__(name, value)

    # The program --------------------------------------------------------------------------------------------------

    def expectation(self, program: Program, *, baseline: Tensor | None = None, noise: Noise | None = None) -> Any:
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
            ZooError: naming what this estimator cannot serve: a distribution before any work, a program before a
                gradient is returned.
            ValueError: if the program does not return costs.
        """
        noise = noise or self.noise
        if baseline is not None and not isinstance(self, TakesBaseline):
            raise ZooError(f"{type(self).__name__} takes no baseline, it has no use for one: use reinforce or rloo")
        if self.training:
            given = {} if baseline is None else {"baseline": baseline.detach()}
            loss, auxiliary = self.estimate(program, noise, **given)
        else:
            loss, auxiliary = run(program, lambda x, mask=None: self.draw_in_eval(self.served(x, mask), noise))
        if loss.dim() == 2:
            loss = loss.mean(1)
        return loss if auxiliary is None else (loss, auxiliary)

    @abstractmethod
    def estimate(self, program: Program, noise: Noise) -> tuple[Tensor, Any]:
        """The loss, of the shape of the costs, and the auxiliary values or None: what an estimator writes."""

    # A single draw ------------------------------------------------------------------------------------------------

    def forward(
        self, logits: Tensor | Distribution, mask: Tensor | None = None, *, noise: Noise | None = None
    ) -> Tensor:
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
                f"{type(self).__name__} in eval() draws a {self.in_eval}, through which no gradient passes: call "
                "train(), give in_eval='soft', or draw under torch.no_grad()",
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

    def check(self, choices: Sequence[Distribution], *, dependent: bool = False) -> None:
        """Check that programs which draw ``choices`` can be served, before there is one.

        Args:
            choices: all that is drawn for one example, ``(1, ...)`` each; their logits are of no account.
            dependent: whether a later draw depends on an earlier one.

        Raises:
            ZooError: naming what cannot be served, and what serves it.
        """
        for choice in choices:
            self.served(choice)
        if dependent and not self.dependent_draws:
            able = [name for name in serving(*choices) if RELAXATIONS[name].dependent_draws]
            raise ZooError(
                f"{type(self).__name__} does not serve draws that depend on earlier ones. They are served by "
                f"{', '.join(able) or 'none'}."
            )

    # State --------------------------------------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """What was configured, as JSON in bytes: a state dict holds tensors only, as safetensors wants it."""
        return torch.tensor(list(json.dumps(self._configured()).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing is left to set: what it says has been seen to in ``_load_from_state_dict``."""

    def _configured(self) -> dict[str, Any]:
        return {"class": type(self).__name__}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Load a checkpoint of this class strictly; leave one of another class aside, and say so.

        Where the configured numbers differ, those of this object win. A checkpoint of version 0.2 has a temperature for
        every relaxation and does not name its class: what fits is loaded.
        """
        own = {prefix + name: value for name, value in self.state_dict().items()}
        theirs = {name: value for name, value in state_dict.items() if name.startswith(prefix)}
        aside: set[str] = set()
        if prefix + EXTRA in theirs:
            mine, configured = self._configured(), read_configured(theirs[prefix + EXTRA])
            kept = "state"
            if configured.get("class") != mine["class"]:
                aside = own.keys() | theirs.keys()
            else:
                names = [name for name in mine if mine[name] != configured.get(name)]
                aside, kept = {prefix + name for name in names}, ", ".join(names)
            if aside:
                log.warning(
                    "%s keeps its own %s: the checkpoint is of %s", described(mine), kept, described(configured)
                )
        elif prefix + "tau" in theirs:
            aside = {name for name in own.keys() | theirs.keys() if shape_in(own, name) != shape_in(theirs, name)}
            lost = aside - {prefix + EXTRA, prefix + "tau"}
            if lost:
                name = described(self._configured())
                log.warning("%s, loaded from version 0.2, does without %s", name, ", ".join(sorted(lost)))
        for name in aside:
            state_dict.pop(name, None)
        state_dict.update({name: own[name] for name in aside & own.keys()})
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


class TakesBaseline(Relaxation):
    """A score function: ``expectation`` takes the user's own baseline."""

    @abstractmethod
    def estimate(self, program: Program, noise: Noise, *, baseline: Tensor | None = None) -> tuple[Tensor, Any]: ...


class Tempered(Relaxation):
    """A relaxation with a temperature ``tau``.

    ``relaxation.tau = 0.3`` sets it: to a number, to a tensor that broadcasts to the logits (0-dim, or with their
    number of dimensions and 1 in those of a choice), or to an ``nn.Parameter``. A number is checked when it is given
    and written into a 0-dim buffer (or into the parameter that is there): it is saved, moved between devices and
    changed without a recompile. A tensor is used as it is and never read on the host: where it is not positive, draws
    are NaN.

    Args:
        tau: temperature.
        in_eval: as every :class:`Relaxation`.

    Raises:
        ValueError: if a number is not positive and finite.
        ZooError: if a tensor requires a gradient that there is none of.
    """

    temperatures: ClassVar[tuple[str, ...]] = ("tau",)
    """Names of its temperatures."""
    annealed: ClassVar[str] = "tau"
    """The one that people mean by annealing: of the backward pass where there are two."""
    learns_tau: ClassVar[bool] = True
    """Whether its temperatures have a gradient."""

    tau: Any

    def __init__(self, *, tau: float | Tensor = 1.0, in_eval: InEval | None = None) -> None:
        super().__init__(in_eval=in_eval)
        self._numbers: dict[str, _Number] = {}
        self.tau = tau

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in type(self).temperatures:
            super().__setattr__(name, value)
        elif isinstance(value, Tensor):
            self._set_tensor(name, value)
        else:
            self._set_number(name, check_tau(value, name))

    def _set_tensor(self, name: str, tau: Tensor) -> None:
        if tau.requires_grad and not self.learns_tau:
            raise ZooError(NO_GRADIENT.format(type(self).__name__, name))
        for known in (self._parameters, self._buffers, self._numbers):
            known.pop(name, None)
        if isinstance(tau, nn.Parameter):
            self.register_parameter(name, tau)
        else:
            self.register_buffer(name, tau, persistent=tau.dim() == 0)  # one for each example belongs to its batch

    def _set_number(self, name: str, number: float) -> None:
        parameter, known = self._parameters.get(name), self._numbers.get(name)
        if parameter is not None:
            with torch.no_grad():
                parameter.fill_(number)
        elif known is not None and known.buffer is self._buffers.get(name):
            self._numbers[name] = _Number(number, known.buffer.fill_(number))
        else:
            before = self._buffers.get(name)
            buffer = torch.tensor(number, device=None if before is None else before.device)
            self._set_tensor(name, buffer)
            self._numbers[name] = _Number(number, buffer)

    def temperature_for(self, distribution: Distribution, name: str = "tau") -> Tensor | float:
        """The present value, laid out as the logits of ``distribution``: the number if it is known, else the tensor.

        On an accelerator always the tensor: a captured graph is to follow it.
        """
        number = self._number(name) if distribution.logits.is_cpu else None
        return fit_shape(getattr(self, name), distribution) if number is None else number

    def _number(self, name: str) -> float | None:
        """What was set as a number, as long as nobody else has written into its buffer."""
        known = None if torch.compiler.is_compiling() else self._numbers.get(name)
        return known.value if known is not None and known.holds(self._buffers.get(name)) else None

    def served(self, x: Tensor | Distribution, mask: Tensor | None = None) -> Distribution:
        distribution = super().served(x, mask)
        for name in self.temperatures:
            if self._number(name) is None:
                distribution = spoilt(distribution, getattr(self, name))
        return distribution

    def soft(self, distribution: Distribution) -> Tensor:
        require(distribution, Relaxable, by=self)
        return distribution.relax(distribution.logits, self.temperature_for(distribution, self.annealed))  # type: ignore[attr-defined]

    def _configured(self) -> dict[str, Any]:
        given = {name: self.arguments.get(name) for name in self.temperatures}
        return super()._configured() | {n: float(v) if isinstance(v, Real) else None for n, v in given.items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Tempered":
        numbers = {name: number for name in self._numbers if (number := self._number(name)) is not None}
        super()._apply(fn, recurse)
        for name, number in numbers.items():
            buffer = self._buffers[name]
            assert buffer is not None
            self._numbers[name] = _Number(number, buffer.fill_(number))  # in float64, to its digits
        return self

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        for name, known in self._numbers.items():
            if known.buffer is self._buffers.get(name) and not known.buffer.is_meta:
                loaded = known.buffer.item()
                image = torch.tensor(known.value, dtype=known.buffer.dtype).item()  # of the number as it was saved
                if loaded != image and loaded > 0 and math.isfinite(loaded):
                    self._numbers[name] = _Number(loaded, known.buffer)

    def _present(self) -> dict[str, str]:
        values = {name: getattr(self, name) for name in self.temperatures}
        return {name: shown(value) for name, value in values.items()}


class _Number:
    """A number and the buffer that it has been written into."""

    def __init__(self, value: float, buffer: Tensor) -> None:
        self.value, self.buffer = value, buffer
        self.version = -1 if buffer.is_inference() else buffer._version  # an inference tensor does not count writes
        self.image = buffer.item() if buffer.is_cpu else math.nan

    def __getstate__(self) -> tuple[float, Tensor, bool]:
        return self.value, self.buffer, self.holds(self.buffer)

    def __setstate__(self, state: tuple[float, Tensor, bool]) -> None:
        value, buffer, held = state
        self.__init__(value, buffer)  # type: ignore[misc]  # a copy of a tensor counts its writes from zero
        if not held:
            self.version, self.image = -1, math.nan

    def holds(self, buffer: Tensor | None) -> bool:
        """Whether ``buffer`` is that one, and still has the number: looked up on a CPU, elsewhere by counted writes."""
        if buffer is not self.buffer:
            return False
        if buffer.is_cpu and not torch._C._len_torch_dispatch_stack():
            return buffer.item() == self.image
        return self.version >= 0 and buffer._version == self.version


class Pathwise(Relaxation):
    """A relaxation whose gradient flows through the draw itself, so that it can stand alone as a layer.

    A new one writes :meth:`pathwise`.
    """

    short_way: ClassVar[Any] = None
    """A draw of few numbers by the fewest calls, the same to the bit; of this class alone, not of those derived."""

    def forward(
        self, logits: Tensor | Distribution, mask: Tensor | None = None, *, noise: Noise | None = None
    ) -> Tensor:
        short_way = type(self).__dict__.get("short_way")
        if short_way and mask is None and noise is None and self.noise is DEFAULT and self.training:
            tau = self._number("tau")  # type: ignore[operator]
            if tau is not None and eager.few(logits):
                return short_way(logits, tau)
        return super().forward(logits, mask, noise=noise)

    @abstractmethod
    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        """A draw in training mode, ``(batch, ..., *value)``, laid out as ``distribution.logits``."""

    def draw(self, distribution: Distribution, noise: Noise) -> Tensor:
        value = self.pathwise(distribution, noise)
        if not isinstance(value, Tensor) or value.shape[: len(distribution.shape)] != distribution.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"{type(self).__name__}.pathwise must give a value for each choice, {tuple(distribution.shape)} and "
                f"then what a value has, got {got}"
            )
        return distribution.place(value)

    def estimate(self, program: Program, noise: Noise) -> tuple[Tensor, Any]:
        """Raises ``ZooError`` if the cost is cut off from a draw that has a gradient to give: it would be lost."""
        draws: list[Tensor] = []

        def draw(x: Any, mask: Tensor | None = None) -> Tensor:
            draws.append(self.draw(self.served(x, mask), noise))
            return draws[-1]

        cost, auxiliary = run(program, draw)
        if not cost.requires_grad and any(value.requires_grad for value in draws):
            raise ZooError(
                f"{type(self).__name__} sends its gradient through the draw, but the cost has none: it is cut off on "
                "the way (by an arg max, a look-up, detach, an environment). Use rloo or reinforce, which need none"
            )
        return cost, auxiliary


# What estimators share ------------------------------------------------------------------------------------------------


def require(distribution: Distribution, *needs: Any, by: Any) -> None:
    """Raise ``ZooError`` unless ``distribution`` is all that ``needs`` says."""
    for need in needs:
        if not isinstance(distribution, need):
            name = by.__name__ if isinstance(by, type) else type(by).__name__
            given, lacks = type(distribution).__name__, LACKS.get(need.__name__, need.__name__)
            raise ZooError(
                f"{name} does not serve {given}: it needs {lacks}. {given} is served by "
                f"{', '.join(serving(distribution)) or 'none'}."
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


RELAXATIONS: dict[str, type[Relaxation]] = {}
"""Every relaxation by the name it has on the command line (``configs/relaxation/<name>.yaml``)."""


def serving(*distributions: Distribution) -> list[str]:
    """Names of the relaxations that serve all ``distributions``."""
    return [
        name
        for name, cls in RELAXATIONS.items()
        if all(isinstance(distribution, need) for distribution in distributions for need in cls.needs)
    ]


def read_configured(state: Tensor) -> dict[str, Any]:
    """What :meth:`Relaxation.get_extra_state` has written; nothing, if it was something else."""
    try:
        configured = json.loads(bytes(state.tolist()))
    except (TypeError, ValueError):
        configured = None
    return configured if isinstance(configured, dict) else {}


def described(configured: dict[str, Any]) -> str:
    """``GumbelSoftmax(tau=1.0)``."""
    values = ", ".join(f"{name}={value}" for name, value in configured.items() if name != "class" and value is not None)
    return f"{configured.get('class', 'another class')}({values})"


def shape_in(state: dict[str, Any], name: str) -> torch.Size | None:
    """The shape of an entry of ``state``, None if there is none."""
    return state[name].shape if name in state else None


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


@torch.no_grad()
def drawn_by(program: Callable[[Draw], Any]) -> list[Distribution]:
    """What ``program`` draws, if each draw is the most probable value."""
    drawn = []

    def draw(x: Tensor | Distribution, mask: Tensor | None = None) -> Tensor:
        drawn.append(categorical(x, mask))
        return drawn[-1].mode()

    program(draw)
    return drawn


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


def shown(tau: Tensor) -> str:
    """A temperature for a ``repr``."""
    return f"tensor of shape {tuple(tau.shape)}" if tau.dim() or tau.is_meta else f"{tau.item():.4g}"
