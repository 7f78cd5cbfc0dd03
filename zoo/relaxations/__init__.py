"""The relaxation layer: every way of this project to train through a discrete choice.

Nothing here knows of models, Lightning or Hydra; it is useful with plain PyTorch alone::

    from zoo.relaxations import ReinMax

    relaxation = ReinMax(tau=1.3)
    loss = relaxation.expectation(lambda draw: cost(draw(logits)))  # (batch,)
"""

from zoo.relaxations.base import Draw, Program, Relaxation
from zoo.relaxations.exact import Exact
from zoo.relaxations.gumbel import GumbelSoftmax, STGumbelSoftmax
from zoo.relaxations.score_function import RLOO, Reinforce
from zoo.relaxations.softmax import Softmax
from zoo.relaxations.straight_through import ReinMax, STArgmax, StraightThrough

RELAXATIONS: dict[str, type[Relaxation]] = {
    "softmax": Softmax,
    "gumbel_softmax": GumbelSoftmax,
    "st_gumbel_softmax": STGumbelSoftmax,
    "straight_through": StraightThrough,
    "st_argmax": STArgmax,
    "reinmax": ReinMax,
    "reinforce": Reinforce,
    "rloo": RLOO,
    "exact": Exact,
}
"""Every relaxation by the name it has on the command line (``configs/relaxation/<name>.yaml``)."""

__all__ = ["RELAXATIONS", "Draw", "Program", "Relaxation", *sorted(c.__name__ for c in RELAXATIONS.values())]
