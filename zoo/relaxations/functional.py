"""Every pathwise estimator as a plain function, with the arguments of ``torch.nn.functional.gumbel_softmax``.

::

    from zoo.relaxations import functional

    z = functional.gumbel_softmax(logits, tau=0.5, hard=True)
    z = functional.reinmax(logits, tau=1.3, dim=1, generator=g)

``logits`` are of a categorical choice along ``dim``, or a :class:`~zoo.relaxations.Distribution`. All of them are
differentiable, work with ``torch.func``, ``torch.compile`` and ``torch.export``, in float64 to its precision, and in
half precision by way of float32. ``tau`` is a number, a 0-dim tensor, or one value per example with a 1 along ``dim``.
Masked entries are exactly zero.
"""

from math import inf
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations import eager, gumbel, sparse
from zoo.relaxations import gumbel_rao as rao
from zoo.relaxations import igr as gaussian
from zoo.relaxations import imle as maps
from zoo.relaxations import simple as marginals
from zoo.relaxations import softmax as deterministic
from zoo.relaxations import straight_through as through
from zoo.relaxations.base import NO_GRADIENT, Relaxation, Tempered, check_tau, fit_shape, require, spoilt
from zoo.relaxations.distributions import Distribution
from zoo.relaxations.distributions.base import choose_noise
from zoo.relaxations.distributions.categorical import categorical
from zoo.relaxations.noise import Noise

Logits = Tensor | Distribution


def softmax(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = False,
    *,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.Softmax`; with ``hard``, :class:`~zoo.relaxations.STArgmax`. Neither draws."""
    law, tau = _prepare(deterministic.Softmax, logits, mask, dim, tau)
    formula = deterministic.st_argmax if hard else deterministic.softmax
    return law.place(formula(law, tau))


def sparsemax(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = False,
    *,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.Sparsemax`. It draws nothing and is always soft."""
    _only_soft(hard, "sparsemax")
    law, tau = _prepare(sparse.Sparsemax, logits, mask, dim, tau)
    return law.place(sparse.entmax(law, tau, 2.0))


def entmax15(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = False,
    *,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.Entmax15`. It draws nothing and is always soft."""
    _only_soft(hard, "entmax15")
    law, tau = _prepare(sparse.Entmax15, logits, mask, dim, tau)
    return law.place(sparse.entmax(law, tau, 1.5))


def gumbel_softmax(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = False,
    *,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.GumbelSoftmax`; with ``hard``, :class:`~zoo.relaxations.STGumbelSoftmax`.

    A drop-in for PyTorch's, whose fourth argument ``eps`` does nothing and is not here.
    """
    if _is_short(logits, tau, mask, dim, noise):
        return (eager.short_st_gumbel_softmax if hard else eager.short_gumbel_softmax)(logits, tau, generator)  # type: ignore[arg-type]
    law, tau = _prepare(gumbel.GumbelSoftmax, logits, mask, dim, tau)
    formula = gumbel.st_gumbel_softmax if hard else gumbel.gumbel_softmax
    return law.place(formula(law, tau, choose_noise(generator, noise)))


def gaussian_softmax(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = False,
    *,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.GaussianSoftmax`; with ``hard``, :class:`~zoo.relaxations.STGaussianSoftmax`."""
    law, tau = _prepare(gumbel.GaussianSoftmax, logits, mask, dim, tau)
    formula = gumbel.st_gumbel_softmax if hard else gumbel.gumbel_softmax
    return law.place(formula(law, tau, choose_noise(generator, noise), "gaussian"))


def uniform_softmax(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = False,
    *,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.UniformSoftmax`; with ``hard``, :class:`~zoo.relaxations.STUniformSoftmax`."""
    law, tau = _prepare(gumbel.UniformSoftmax, logits, mask, dim, tau)
    formula = gumbel.st_gumbel_softmax if hard else gumbel.gumbel_softmax
    return law.place(formula(law, tau, choose_noise(generator, noise), "box"))


def decoupled_st_gumbel(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = True,
    *,
    backward_tau: float | Tensor = 0.5,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.DecoupledSTGumbel`, always hard."""
    _only_hard(hard, "decoupled_st_gumbel")
    law, tau, backward_tau = _prepare(gumbel.DecoupledSTGumbel, logits, mask, dim, tau, backward_tau)
    return law.place(gumbel.decoupled_st_gumbel(law, tau, backward_tau, choose_noise(generator, noise)))


def straight_through(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = True,
    *,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.StraightThrough`, always hard."""
    _only_hard(hard, "straight_through")
    law, tau = _prepare(through.StraightThrough, logits, mask, dim, tau)
    return law.place(through.sample_straight_through(law, tau, choose_noise(generator, noise)))


def gapped_st(
    logits: Logits,
    tau: float | Tensor = 0.7,
    hard: bool = True,
    *,
    gap: float = 1.0,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.GappedST`, always hard."""
    _only_hard(hard, "gapped_st")
    law, tau = _prepare(through.GappedST, logits, mask, dim, tau)
    return law.place(through.gapped_st(law, tau, choose_noise(generator, noise), gap))


def reinmax(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = True,
    *,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.ReinMax`, always hard; ``tau`` has no gradient."""
    _only_hard(hard, "reinmax")
    if _is_short(logits, tau, mask, dim, noise):
        return eager.short_reinmax(logits, tau, generator)  # type: ignore[arg-type]
    law, tau = _prepare(through.ReinMax, logits, mask, dim, tau)
    return law.place(through.reinmax(law, tau, choose_noise(generator, noise)))


def gumbel_rao(
    logits: Logits,
    tau: float | Tensor = 0.5,
    hard: bool = True,
    *,
    samples: int = 10,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.GumbelRao`, always hard."""
    _only_hard(hard, "gumbel_rao")
    law, tau = _prepare(rao.GumbelRao, logits, mask, dim, tau)
    return law.place(rao.gumbel_rao(law, tau, choose_noise(generator, noise), samples))


def reinmax_rao(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = True,
    *,
    samples: int = 10,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.ReinMaxRao`, always hard; ``tau`` has no gradient."""
    _only_hard(hard, "reinmax_rao")
    law, tau = _prepare(rao.ReinMaxRao, logits, mask, dim, tau)
    return law.place(rao.reinmax_rao(law, tau, choose_noise(generator, noise), samples))


def reinmax_cv(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = True,
    *,
    eta: float = 0.5,
    samples: int = 10,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.ReinMaxCV`, always hard; ``tau`` has no gradient."""
    _only_hard(hard, "reinmax_cv")
    law, tau = _prepare(rao.ReinMaxCV, logits, mask, dim, tau)
    return law.place(rao.reinmax_cv(law, tau, choose_noise(generator, noise), samples, eta))


def igr(
    logits: Logits,
    tau: float | Tensor = 0.5,
    hard: bool = False,
    *,
    sigma: float = 1.0,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.IGR`, always soft."""
    _only_soft(hard, "igr")
    law, tau = _prepare(gaussian.IGR, logits, mask, dim, tau)
    return law.place(gaussian.igr(law, tau, choose_noise(generator, noise), sigma))


def imle(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = True,
    *,
    strength: float = 1.0,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.IMLE`, always hard; ``tau`` has no gradient."""
    _only_hard(hard, "imle")
    law, tau = _prepare(maps.IMLE, logits, mask, dim, tau)
    return law.place(maps.imle(law, tau, choose_noise(generator, noise), strength))


def aimle(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = True,
    *,
    strength: float | Tensor = 1.0,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.AIMLE` with a given ``strength``, always hard; ``tau`` has no gradient."""
    _only_hard(hard, "aimle")
    law, tau = _prepare(maps.AIMLE, logits, mask, dim, tau)
    return law.place(maps.imle(law, tau, choose_noise(generator, noise), strength, central=True))


def perturbed_optimizer(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = False,
    *,
    sigma: float = 1.0,
    samples: int = 10,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.PerturbedOptimizer`, a mean of hard values; ``sigma`` is in place of a ``tau``."""
    _only_soft(hard, "perturbed_optimizer")
    law, _ = _prepare(maps.PerturbedOptimizer, logits, mask, dim, tau)
    return law.place(maps.perturbed_optimizer(law, choose_noise(generator, noise), sigma, samples))


def simple(
    logits: Logits,
    tau: float | Tensor = 1.0,
    hard: bool = True,
    *,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.Simple`, always hard; it has no temperature, ``tau`` can only be 1."""
    _only_hard(hard, "simple")
    law, _ = _prepare(marginals.Simple, logits, mask, dim, tau)
    return law.place(marginals.simple(law, choose_noise(generator, noise)))


def _is_short(logits: Any, tau: Any, mask: Tensor | None, dim: int, noise: Noise | None) -> bool:
    """Whether a draw is of few plain numbers, for which even a distribution costs too much."""
    return mask is None and dim == -1 and noise is None and type(tau) is float and 0 < tau < inf and eager.few(logits)


def _prepare(cls: type[Relaxation], logits: Logits, mask: Tensor | None, dim: int, *taus: float | Tensor) -> Any:
    """``logits`` as a distribution that ``cls`` serves, and each temperature, checked and laid out to go with it."""
    law = categorical(logits, mask, dim)
    require(law, *cls.needs, by=cls)
    fitted: list[float | Tensor] = []
    for tau in taus:
        if not issubclass(cls, Tempered):
            if isinstance(tau, (Tensor, bool)) or tau != 1:
                raise ValueError(f"{cls.__name__} has no temperature: tau can only be 1")
        elif not isinstance(tau, Tensor):
            tau = check_tau(tau)
        elif tau.requires_grad and not cls.learns_tau:
            raise ZooError(NO_GRADIENT.format(cls.__name__, "tau"))
        else:
            law, tau = spoilt(law, tau), fit_shape(tau, law)
        fitted.append(tau)
    return law, *fitted


def _only_hard(hard: bool, name: str) -> None:
    if not hard:
        raise ValueError(f"{name} is always hard: hard=False is not valid")


def _only_soft(hard: bool, name: str) -> None:
    if hard:
        raise ValueError(f"{name} is always soft: hard=True is not valid")
