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

from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations import gumbel, gumbel_rao as rao, igr as gaussian, imle as maps, simple as marginals
from zoo.relaxations import softmax as deterministic
from zoo.relaxations import sparse, straight_through as through
from zoo.relaxations.base import Relaxation, fit_tau, require
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
    law = _law(logits, mask, dim, deterministic.Softmax)
    formula = deterministic.st_argmax if hard else deterministic.softmax
    return law.place(formula(law, fit_tau(tau, law)))


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
    law = _law(logits, mask, dim, sparse.Sparsemax)
    return law.place(sparse.entmax(law, fit_tau(tau, law), 2.0))


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
    law = _law(logits, mask, dim, sparse.Entmax15)
    return law.place(sparse.entmax(law, fit_tau(tau, law), 1.5))


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
    law = _law(logits, mask, dim, gumbel.GumbelSoftmax)
    formula = gumbel.st_gumbel_softmax if hard else gumbel.gumbel_softmax
    return law.place(formula(law, fit_tau(tau, law), choose_noise(generator, noise)))


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
    law = _law(logits, mask, dim, gumbel.GaussianSoftmax)
    formula = gumbel.st_gumbel_softmax if hard else gumbel.gumbel_softmax
    return law.place(formula(law, fit_tau(tau, law), choose_noise(generator, noise), "gaussian"))


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
    law = _law(logits, mask, dim, gumbel.UniformSoftmax)
    formula = gumbel.st_gumbel_softmax if hard else gumbel.gumbel_softmax
    return law.place(formula(law, fit_tau(tau, law), choose_noise(generator, noise), "box"))


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
    law = _law(logits, mask, dim, gumbel.DecoupledSTGumbel)
    backward = fit_tau(backward_tau, law)
    return law.place(gumbel.decoupled_st_gumbel(law, fit_tau(tau, law), backward, choose_noise(generator, noise)))


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
    law = _law(logits, mask, dim, through.StraightThrough)
    return law.place(through.sample_straight_through(law, fit_tau(tau, law), choose_noise(generator, noise)))


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
    law = _law(logits, mask, dim, through.GappedST)
    return law.place(through.gapped_st(law, fit_tau(tau, law), choose_noise(generator, noise), gap))


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
    law = _law(logits, mask, dim, through.ReinMax)
    return law.place(through.reinmax(law, _constant(tau, law), choose_noise(generator, noise)))


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
    law = _law(logits, mask, dim, rao.GumbelRao)
    return law.place(rao.gumbel_rao(law, fit_tau(tau, law), choose_noise(generator, noise), samples))


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
    law = _law(logits, mask, dim, rao.ReinMaxRao)
    return law.place(rao.reinmax_rao(law, _constant(tau, law), choose_noise(generator, noise), samples))


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
    law = _law(logits, mask, dim, rao.ReinMaxCV)
    return law.place(rao.reinmax_cv(law, _constant(tau, law), choose_noise(generator, noise), samples, eta))


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
    law = _law(logits, mask, dim, gaussian.IGR)
    return law.place(gaussian.igr(law, fit_tau(tau, law), choose_noise(generator, noise), sigma))


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
    law = _law(logits, mask, dim, maps.IMLE)
    return law.place(maps.imle(law, _constant(tau, law), choose_noise(generator, noise), strength))


def perturbed_optimizer(
    logits: Logits,
    *,
    sigma: float = 1.0,
    samples: int = 10,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.PerturbedOptimizer`: it has no temperature."""
    law = _law(logits, mask, dim, maps.PerturbedOptimizer)
    return law.place(maps.perturbed_optimizer(law, choose_noise(generator, noise), sigma, samples))


def simple(
    logits: Logits,
    *,
    dim: int = -1,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Tensor:
    """:class:`~zoo.relaxations.Simple`: it has no temperature and is always hard."""
    law = _law(logits, mask, dim, marginals.Simple)
    return law.place(marginals.simple(law, choose_noise(generator, noise)))


def _law(logits: Logits, mask: Tensor | None, dim: int, cls: type[Relaxation]) -> Any:
    """``logits`` as a distribution that ``cls`` serves."""
    law = categorical(logits, mask, dim)
    require(law, *cls.needs, by=cls.__name__)
    return law


def _constant(tau: float | Tensor, law: Distribution) -> float | Tensor:
    if isinstance(tau, Tensor) and tau.requires_grad:
        raise ZooError("this estimator has no gradient for its tau: give a number or a constant tensor")
    return fit_tau(tau, law)


def _only_hard(hard: bool, name: str) -> None:
    if not hard:
        raise ValueError(f"{name} is always hard: hard=False is not valid")


def _only_soft(hard: bool, name: str) -> None:
    if hard:
        raise ValueError(f"{name} is always soft: hard=True is not valid")
