"""The relaxation layer: every way of this project to train through a discrete choice.

Nothing here knows of models, Lightning or Hydra; it is useful with plain PyTorch alone::

    from zoo.relaxations import ReinMax

    relaxation = ReinMax(tau=1.3)
    loss = relaxation.expectation(lambda draw: cost(draw(logits)))  # (batch,)
"""

from zoo.relaxations.base import Draw, Program, Relaxation, ScoredProgram
from zoo.relaxations.control_variates import Rebar, Relax
from zoo.relaxations.disarm import DisARM
from zoo.relaxations.entmax import Entmax15, Sparsemax
from zoo.relaxations.exact import Exact
from zoo.relaxations.gapped import GappedST
from zoo.relaxations.gates import BinaryConcrete
from zoo.relaxations.gumbel import DecoupledSTGumbel, GumbelSoftmax, STGumbelSoftmax
from zoo.relaxations.gumbel_rao import GumbelRao, ReinMaxCV, ReinMaxRao
from zoo.relaxations.igr import IGR
from zoo.relaxations.imle import IMLE
from zoo.relaxations.permutations import GumbelSinkhorn
from zoo.relaxations.score_function import RLOO, Reinforce
from zoo.relaxations.softmax import Softmax
from zoo.relaxations.straight_through import ReinMax, STArgmax, StraightThrough
from zoo.relaxations.subsets import GumbelTopK

RELAXATIONS: dict[str, type[Relaxation]] = {
    "softmax": Softmax,
    "entmax15": Entmax15,
    "sparsemax": Sparsemax,
    "gumbel_softmax": GumbelSoftmax,
    "st_gumbel_softmax": STGumbelSoftmax,
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
    "reinforce": Reinforce,
    "rloo": RLOO,
    "rebar": Rebar,
    "relax": Relax,
    "disarm": DisARM,
    "exact": Exact,
}
"""Every relaxation by the name it has on the command line (``configs/relaxation/<name>.yaml``)."""

STRUCTURED: dict[str, type[Relaxation]] = {
    "binary_concrete": BinaryConcrete,
    "gumbel_topk": GumbelTopK,
    "gumbel_sinkhorn": GumbelSinkhorn,
}
"""Relaxations of something else than one of K categories: gates, subsets, permutations. Same interface, in Python."""

__all__ = [
    "RELAXATIONS",
    "STRUCTURED",
    "Draw",
    "Program",
    "Relaxation",
    "ScoredProgram",
    *sorted(c.__name__ for c in (RELAXATIONS | STRUCTURED).values()),
]
