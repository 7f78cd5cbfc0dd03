"""The relaxation layer: every way of this project to train through a discrete choice.

Two things are named: a *distribution* says what is drawn, a *relaxation* how gradients pass. Nothing here knows of
models, Lightning or Hydra; it needs PyTorch alone::

    from zoo.relaxations import Bernoulli, ReinMax

    relaxation = ReinMax(tau=1.3)
    loss = relaxation.expectation(lambda draw: cost(draw(logits), draw(Bernoulli(gates))))  # (batch,)
    z = relaxation(logits)  # as a layer

Plain functions are in :mod:`zoo.relaxations.functional`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from zoo.relaxations.antithetic import ARM, DisARM
from zoo.relaxations.base import RELAXATIONS, Draw, Pathwise, Program, Relaxation, ScoredProgram, Tempered
from zoo.relaxations.codebooks import VQ, Codeword
from zoo.relaxations.control_variates import Rebar, Relax
from zoo.relaxations.distributions import (
    Bernoulli,
    Categorical,
    ConditionalBernoulli,
    Distribution,
    Matching,
    Ranking,
    Subset,
)
from zoo.relaxations.exact import Exact
from zoo.relaxations.gumbel import (
    DecoupledSTGumbel,
    GaussianSoftmax,
    GumbelSoftmax,
    STGaussianSoftmax,
    STGumbelSoftmax,
    STUniformSoftmax,
    UniformSoftmax,
)
from zoo.relaxations.gumbel_rao import GumbelRao, ReinMaxCV, ReinMaxRao
from zoo.relaxations.igr import IGR
from zoo.relaxations.imle import AIMLE, IMLE, PerturbedOptimizer
from zoo.relaxations.noise import CommonNumbers, Noise, PartOfBatch
from zoo.relaxations.quantizers import BSQ, FSQ, LFQ, CodebookQuantizer, Quantizer, ResidualQuantizer
from zoo.relaxations.score_function import RLOO, Reinforce
from zoo.relaxations.simple import Simple
from zoo.relaxations.softmax import Softmax, STArgmax
from zoo.relaxations.sparse import Entmax15, Sparsemax
from zoo.relaxations.straight_through import GappedST, ReinMax, StraightThrough
from zoo.relaxations.unordered import UnorderedSet

Registered = TypeVar("Registered", bound=type)

RELAXATIONS |= {
    "softmax": Softmax,
    "entmax15": Entmax15,
    "sparsemax": Sparsemax,
    "gumbel_softmax": GumbelSoftmax,
    "gaussian_softmax": GaussianSoftmax,
    "uniform_softmax": UniformSoftmax,
    "st_gumbel_softmax": STGumbelSoftmax,
    "st_gaussian_softmax": STGaussianSoftmax,
    "st_uniform_softmax": STUniformSoftmax,
    "decoupled_st_gumbel": DecoupledSTGumbel,
    "straight_through": StraightThrough,
    "st_argmax": STArgmax,
    "reinmax": ReinMax,
    "gumbel_rao": GumbelRao,
    "gapped_st": GappedST,
    "reinmax_rao": ReinMaxRao,
    "reinmax_cv": ReinMaxCV,
    "igr": IGR,
    "imle": IMLE,
    "aimle": AIMLE,
    "perturbed_optimizer": PerturbedOptimizer,
    "simple": Simple,
    "reinforce": Reinforce,
    "rloo": RLOO,
    "unordered_set": UnorderedSet,
    "rebar": Rebar,
    "relax": Relax,
    "disarm": DisARM,
    "arm": ARM,
    "exact": Exact,
}

OF_CODEBOOKS: dict[str, type[Relaxation]] = {"vq": VQ}
"""Relaxations that serve :class:`Codeword` alone, by their names on the command line."""

DISTRIBUTIONS: dict[str, type[Distribution]] = {
    "categorical": Categorical,
    "bernoulli": Bernoulli,
    "subset": Subset,
    "conditional_bernoulli": ConditionalBernoulli,
    "ranking": Ranking,
    "matching": Matching,
}
"""Every distribution by its name."""


def register(name: str) -> Callable[[Registered], Registered]:
    """A class decorator: the relaxation or distribution joins the registry, every table and every test of it.

    ::

        @register("laplace_softmax")
        class LaplaceSoftmax(Pathwise, Tempered): ...

    Raises:
        ValueError: if the name is taken.
        TypeError: if the class is neither a relaxation nor a distribution.
    """

    def join(cls: Registered) -> Registered:
        found = [r for base, r in ((Relaxation, RELAXATIONS), (Distribution, DISTRIBUTIONS)) if issubclass(cls, base)]
        if not found:
            raise TypeError(f"{cls.__name__} is neither a Relaxation nor a Distribution")
        registry: dict[str, Any] = found[0]
        if registry.get(name, cls) is not cls:
            raise ValueError(f"the name {name!r} is taken, by {registry[name].__qualname__}")
        registry[name] = cls
        return cls

    return join


__all__ = [
    "BSQ",
    "DISTRIBUTIONS",
    "FSQ",
    "LFQ",
    "OF_CODEBOOKS",
    "RELAXATIONS",
    "VQ",
    "CodebookQuantizer",
    "Codeword",
    "CommonNumbers",
    "Distribution",
    "Draw",
    "Noise",
    "PartOfBatch",
    "Pathwise",
    "Program",
    "Quantizer",
    "Relaxation",
    "ResidualQuantizer",
    "ScoredProgram",
    "Tempered",
    "register",
    *sorted(c.__name__ for c in (RELAXATIONS | DISTRIBUTIONS).values()),
]
