"""What a combinatorial task tells the pointer network that solves it.

Shapes: instances ``x`` are ``(batch, elements, features)``; a solution is an ``order`` of indices of elements, int64
``(batch, starts, steps)``, or its one-hot or relaxed ``choices``, ``(batch, starts, steps, elements)``.
"""

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from zoo.config import Configurable
from zoo.data.seeding import generator
from zoo.errors import ZooError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EVAL_SEED = 0  # validation and test instances are the same in every run

Objective = Literal["expectation", "self_label", "supervised"]


class Task(Configurable):
    """One kind of instance, its solutions and their cost. A new task is a subclass in a file of its own.

    A solution is made of ``steps(elements)`` choices, one after another, each of one element that ``mask`` allows.
    """

    features: int
    """Numbers that describe an element."""
    columns: tuple[str, ...] = ()
    """What these numbers are called."""
    contexts = 0
    """Numbers that describe a solution under way; see :meth:`context`."""
    relational = False
    """Whether :meth:`relation` gives the networks a distance of every two elements."""
    cyclic = False
    """Whether a solution is a cycle, the same wherever it starts: then starts differ in their first element, which is
    given, not drawn. Otherwise they are independent draws of the whole solution."""
    differentiable = True
    """Whether :meth:`cost_of_choices` has a gradient, so that pathwise relaxations can be trained."""
    smallest = 1
    """The fewest elements of an instance."""
    objective: Objective = "expectation"
    train_starts = 20
    """On what, and from how many starts, a model is trained where nothing else is said."""

    def __init__(self) -> None:
        pass  # here so that tasks without options are Configurable too

    def generate(self, count: int, size: int, g: torch.Generator) -> Tensor:
        """``count`` random instances of ``size``, on the device of ``g``."""
        raise NotImplementedError

    def standard(self, count: int, size: int, stage: int, device: torch.device | str) -> Tensor:
        """The instances on which every model is validated or tested, by ``stage`` of :mod:`zoo.data.seeding`."""
        return self.generate(count, size, generator(device, EVAL_SEED, stage))

    def steps(self, elements: int) -> int:
        """Choices in a solution."""
        return elements

    def starts(self, elements: int, starts: int, device: torch.device) -> Tensor | None:
        """The given first elements, ``(starts,)``, spread evenly; None where the first element is drawn too."""
        if not self.cyclic:
            return None
        return torch.arange(starts, device=device) * elements // starts

    def relation(self, x: Tensor) -> Tensor | None:
        """A distance of every two elements, ``(batch, elements, elements)``."""
        return None

    def mask(self, x: Tensor, taken: Tensor, last: Tensor | None) -> Tensor:
        """Which elements may come next, boolean, true where allowed, of the shape of ``taken``.

        Args:
            x: instances.
            taken: boolean ``(batch, ..., elements)``: the elements already chosen.
            last: int64 ``(batch, ...)``: the element chosen last; None at the first step.
        """
        return ~taken

    def context(self, x: Tensor, taken: Tensor) -> Tensor | None:
        """Numbers ``(batch, ..., contexts)`` that the decoder is told at each step."""
        return None

    def cost(self, x: Tensor, order: Tensor) -> Tensor:
        """The cost of solutions, lower is better, ``(batch, starts)``, without gradient."""
        raise NotImplementedError

    def cost_of_choices(self, x: Tensor, choices: Tensor) -> Tensor:
        """The same, with whatever gradient the task has in ``choices``. Hard choices have exactly the same cost."""
        return self.cost(x, choices.argmax(-1))

    def optimum(self, x: Tensor) -> Tensor | None:
        """The least cost of each instance, ``(batch,)``, where that is quick to find; else None."""
        return None

    def standard_optimum(self, x: Tensor, stage: int) -> Tensor:
        """The least cost of the first instances of :meth:`standard`, NaN where it is not known, ``(batch,)``."""
        optimum = self.optimum(x)
        return x.new_full((len(x),), torch.nan) if optimum is None else optimum

    def optimal_order(self, x: Tensor) -> Tensor:
        """A solution of least cost, int64 ``(batch, steps)``: labels for supervised training.

        Raises:
            ZooError: where the task has none to give.
        """
        raise ZooError(f"{type(self).__name__} has no quick exact solver, so there are no labels: choose an objective")

    def improve(self, x: Tensor, order: Tensor, rounds: int) -> Tensor:
        """``order``, ``(batch, steps)``, after at most ``rounds`` steps of local search.

        Raises:
            ZooError: where the task has none.
        """
        raise ZooError(f"{type(self).__name__} has no local search: use model.polish=0")

    def heuristics(self, x: Tensor) -> dict[str, Tensor]:
        """Costs ``(batch,)`` of classical methods, by name: what a learned one has to beat."""
        return {}

    def draw(self, x: Tensor, order: Tensor) -> "dict[str, Figure]":
        """Pictures of solutions ``order`` ``(batch, steps)``, by name."""
        return {}

    def symmetries(self, x: Tensor) -> Tensor:
        """Instances that have the same solutions as ``x``, ``(symmetries, batch, elements, features)``."""
        return x.unsqueeze(0)

    def as_trained(self, x: Tensor) -> Tensor:
        """Instances that have the same solutions as ``x``, in the range of those that networks are trained on."""
        return x

    def valid(self, x: Tensor, order: Tensor) -> Tensor:
        """Whether solutions keep to the rules, boolean ``(batch, starts)``; by another way than :meth:`mask`."""
        return (order.sort(-1).values == torch.arange(x.shape[1], device=x.device)).all(-1)

    def metrics(self) -> nn.ModuleDict:
        """torchmetrics of this task, by name; :meth:`update` feeds them."""
        return nn.ModuleDict()

    def update(self, metrics: dict[str, Metric], x: Tensor, order: Tensor, optimum: Tensor) -> None:
        """Count one solution of each instance, ``order`` ``(batch, steps)``.

        Args:
            metrics: of :meth:`metrics`.
            x: instances.
            order: their solutions.
            optimum: least costs ``(batch,)``; NaN where unknown.
        """

    def check(self, x: Tensor) -> None:
        """Refuse instances that have no solution or are no numbers.

        Raises:
            ZooError: saying what is wrong with them.
        """
        name = type(self).__name__
        if x.dim() != 3 or x.shape[-1] != self.features:
            raise ZooError(f"{name} instances must be (batch, elements, {self.features}), got {tuple(x.shape)}")
        if x.shape[1] < self.smallest:
            raise ZooError(f"{name} needs at least {self.smallest} elements, got {x.shape[1]}")
        if not x.isfinite().all():
            bad = (~x.isfinite().all(-1)).nonzero()[0].tolist()
            raise ZooError(f"{name}: element {bad[1]} of instance {bad[0]} is not finite: {x[tuple(bad)].tolist()}")


def positions(order: Tensor) -> Tensor:
    """The position of each element in a permutation ``(..., n)``: its inverse."""
    return order.argsort(-1)


def pick(values: Tensor, order: Tensor) -> Tensor:
    """Rows of ``values`` ``(batch, elements, features)`` by ``order`` ``(batch, ...)``: ``(batch, ..., features)``."""
    index = order.reshape(order.shape[0], -1, 1).expand(-1, -1, values.shape[-1])
    return values.gather(1, index).view(*order.shape, values.shape[-1])


def with_stop(x: Tensor) -> Tensor:
    """Elements ``(..., n, f)`` after a stop, ``(..., n + 1, f + 1)``: the last feature is 1 for the stop, else 0."""
    elements = torch.cat([x, torch.zeros_like(x[..., :1])], -1)
    stop = torch.zeros_like(elements[..., :1, :])
    stop[..., -1] = 1.0
    return torch.cat([stop, elements], -2)
