"""Gumbel-softmax, relaxed and straight-through, and the controls that tell its kind of noise from noise."""

from typing import Any, ClassVar

from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations import eager
from zoo.relaxations.base import InEval, Pathwise, Tempered
from zoo.relaxations.distributions import Distribution, Perturbed
from zoo.relaxations.distributions.base import NoiseLaw
from zoo.relaxations.distributions.categorical import few
from zoo.relaxations.noise import Noise


class GumbelSoftmax(Pathwise, Tempered):
    """``softmax((logits + g) / tau)`` with Gumbel noise ``g``: a sample of the concrete distribution.

    Of a gate ``sigmoid((logits + l) / tau)`` with logistic noise ``l``, of a subset the relaxed top-k, of an order
    SoftSort or NeuralSort, of a matching Gumbel-Sinkhorn. Unbiased for the relaxed objective, biased for the discrete
    one; the bias falls and the variance rises as ``tau`` goes to zero. One program run. Works for tau in about [0.3,
    1].

    Sources: Jang et al. 2017, arXiv 1611.01144, eq. 2; Maddison et al. 2017, arXiv 1611.00712, eq. 10.
    """

    hard = False
    needs = (Perturbed,)
    noise_law: ClassVar[NoiseLaw] = "gumbel"
    short_way = eager.short_gumbel_softmax

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return gumbel_softmax(distribution, self.temperature_for(distribution), noise, self.noise_law)


class STGumbelSoftmax(Pathwise, Tempered):
    """The hard value of ``logits + g`` forward, Gumbel-softmax with the same noise backward.

    Biased; the program sees the discrete thing it will be evaluated on. One program run. Works for tau in about
    [0.3, 1].

    Source: Jang et al. 2017, arXiv 1611.01144, section 2.2.
    """

    needs = (Perturbed,)
    noise_law: ClassVar[NoiseLaw] = "gumbel"
    short_way = eager.short_st_gumbel_softmax

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        return st_gumbel_softmax(distribution, self.temperature_for(distribution), noise, self.noise_law)


class _OtherNoise(Tempered):
    """What is drawn has no law in closed form: in ``eval()`` it is the hard value of logits with the same noise."""

    noise_law: ClassVar[NoiseLaw]

    def law(self, distribution: Distribution) -> Distribution:
        raise ZooError(f"{type(self).__name__} draws from a law that has no closed form")

    def sample_in_eval(self, distribution: Any, noise: Noise) -> Tensor:
        return distribution.harden(distribution.perturb(noise, self.noise_law))


class GaussianSoftmax(_OtherNoise, GumbelSoftmax):
    """A control: Gumbel-softmax with Gaussian noise of the same variance, pi^2 / 6.

    What it does as well as Gumbel-softmax needs noise, not Gumbel's kind. Its arg max does not follow
    ``softmax(logits)``.
    """

    noise_law = "gaussian"


class UniformSoftmax(_OtherNoise, GumbelSoftmax):
    """A control: Gumbel-softmax with uniform noise of the same variance; see :class:`GaussianSoftmax`."""

    noise_law = "box"


class STGaussianSoftmax(_OtherNoise, STGumbelSoftmax):
    """A control: straight-through Gumbel-softmax with Gaussian noise of the same variance, pi^2 / 6."""

    noise_law = "gaussian"


class STUniformSoftmax(_OtherNoise, STGumbelSoftmax):
    """A control: straight-through Gumbel-softmax with uniform noise of the same variance."""

    noise_law = "box"


class DecoupledSTGumbel(Pathwise, Tempered):
    """A hard value forward, Gumbel-softmax backward, with a temperature for each.

    The draw is the hard value of ``logits + tau g``, a sample of ``softmax(logits / tau)``: ``tau`` sets how much is
    explored. The gradient is that of ``softmax((logits + tau g) / backward_tau)``: ``backward_tau`` sets over how many
    categories it is spread, and is what annealing anneals. At ``tau = 1`` it is straight-through Gumbel-softmax at
    ``backward_tau``. Biased. One program run. Works for ``backward_tau`` in about [0.3, 1].

    Args:
        tau: temperature of the draw.
        backward_tau: temperature of the gradient.

    Raises:
        ValueError: if one is not positive and finite.

    Source: Shah et al. 2024, arXiv 2410.13331.
    """

    needs = (Perturbed,)
    temperatures = ("tau", "backward_tau")
    annealed = "backward_tau"

    backward_tau: Any

    def __init__(
        self, *, tau: float | Tensor = 1.0, backward_tau: float | Tensor = 0.5, in_eval: InEval | None = None
    ) -> None:
        super().__init__(tau=tau, in_eval=in_eval)
        self.backward_tau = backward_tau

    def pathwise(self, distribution: Any, noise: Noise) -> Tensor:
        tau, backward_tau = (self.temperature_for(distribution, name) for name in self.temperatures)
        return decoupled_st_gumbel(distribution, tau, backward_tau, noise)

    def law(self, distribution: Distribution) -> Distribution:
        return distribution.tempered(self.temperature_for(distribution))


def gumbel_softmax(distribution: Any, tau: Tensor | float, noise: Noise, law: NoiseLaw = "gumbel") -> Tensor:
    if law == "gumbel" and few(distribution, tau, noise):
        return eager.short_gumbel_softmax(distribution.logits, tau, noise.generator)  # type: ignore[arg-type]
    return distribution.relax_(distribution.perturb(noise, law), tau)


def st_gumbel_softmax(distribution: Any, tau: Tensor | float, noise: Noise, law: NoiseLaw = "gumbel") -> Tensor:
    if law == "gumbel" and few(distribution, tau, noise):
        return eager.short_st_gumbel_softmax(distribution.logits, tau, noise.generator)  # type: ignore[arg-type]
    scores = distribution.perturb(noise, law)
    if eager.pays(scores):
        hard = distribution.harden(scores)  # before the scores are overwritten
        return eager.straight_through(hard, distribution.relax_(scores, tau))
    return distribution.through(scores, distribution.relax(scores, tau))


def decoupled_st_gumbel(distribution: Any, tau: Tensor | float, backward_tau: Tensor | float, noise: Noise) -> Tensor:
    scores = distribution.perturb(noise, scale=tau)
    hard = distribution.harden(scores)
    return eager.straight_through(hard, distribution.relax_(scores, backward_tau))
