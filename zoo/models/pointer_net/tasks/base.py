"""What a combinatorial task tells the pointer network that solves it.

Shapes: instances ``x`` are ``(batch, elements, features)``; a solution is an ``order`` of indices of elements, int64
``(batch, starts, steps)``, or its one-hot or relaxed ``choices``, ``(batch, starts, steps, elements)``. Where a
solution can end early, element 0 is its stop, which is repeated to the end.
"""

import itertools
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
Progress = dict[str, Tensor]
"""How far solutions are, by name, ``(batch, ...)`` or with more at the end: ``taken``, boolean, of each element;
``last``, the element chosen last, int64, -1 before the first; and what a task keeps beside them."""


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
    extra = 0
    """Elements beside those that the size of an instance counts: a stop or a depot."""
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

    def check_size(self, size: int) -> None:
        """Refuse a size that instances cannot have.

        Raises:
            ValueError: saying which they can have.
        """
        if size + self.extra < self.smallest:
            raise ValueError(
                f"size must be at least {self.smallest - self.extra} for {type(self).__name__}, got {size}"
            )

    def steps(self, elements: int) -> int:
        """Choices in a solution, at most."""
        return elements

    def fewest_steps(self, elements: int) -> int:
        """Choices after which a solution may be over: from then on :meth:`over` is asked."""
        return self.steps(elements)

    def first_elements(self, elements: int) -> range | None:
        """The elements one of which is given as the first of a solution, so that starts differ in it; None where it is
        drawn like the others."""
        return range(elements) if self.cyclic else None

    def starts(self, elements: int, starts: int, device: torch.device) -> Tensor | None:
        """The given first elements, ``(starts,)``, spread evenly; None where the first element is drawn too."""
        first = self.first_elements(elements)
        if first is None:
            return None
        return first.start + torch.arange(starts, device=device) * len(first) // starts

    def normal(self, x: Tensor) -> Tensor:
        """Instances with the same solutions, as the networks see them: of one scale, where that means nothing."""
        return x

    def relation(self, x: Tensor) -> Tensor | None:
        """A distance of every two elements of instances that are :meth:`normal`, ``(batch, elements, elements)``."""
        return None

    def distances_from(self, x: Tensor, index: Tensor) -> Tensor:
        """Some rows of :meth:`relation`, from elements ``index`` ``(batch, ...)`` to all, ``(batch, ..., elements)``.

        A task that computes them without the whole lets its networks solve instances of any size.
        """
        relation = self.relation(x)
        assert relation is not None
        return pick(relation, index)

    # The rules: how far a solution is, what may come next. The same functions serve decoding, one step after another,
    # and scoring, all steps of whole solutions at once: then there is one dimension more before the last.

    def begin(self, x: Tensor, starts: int) -> Progress:
        """Of ``starts`` solutions of each instance, before the first choice."""
        taken = torch.zeros(x.shape[0], starts, x.shape[1], dtype=torch.bool, device=x.device)
        return {"taken": taken, "last": torch.full(taken.shape[:2], -1, device=x.device)}

    def advance(self, x: Tensor, progress: Progress, chosen: Tensor) -> Progress:
        """After the choice of ``chosen``, int64 ``(batch, starts)``."""
        return {"taken": progress["taken"].scatter(-1, chosen.unsqueeze(-1), True), "last": chosen}

    def prefixes(self, x: Tensor, order: Tensor) -> Progress:
        """Before each choice of whole solutions, ``(batch, starts, steps, ...)`` each."""
        if type(self).advance is Task.advance:  # in one go
            step = torch.arange(order.shape[2], device=x.device)
            when = torch.full((*order.shape[:2], x.shape[1]), order.shape[2], device=x.device)
            when = when.scatter_reduce(-1, order, step.expand_as(order), "amin")  # an element is chosen first
            last = torch.cat([torch.full_like(order[..., :1], -1), order[..., :-1]], -1)
            return {"taken": when.unsqueeze(2) < step.view(-1, 1), "last": last}
        progress = itertools.accumulate(
            order[..., :-1].unbind(-1), lambda so_far, chosen: self.advance(x, so_far, chosen),
            initial=self.begin(x, order.shape[1]),
        )  # fmt: skip
        steps = list(progress)
        return {name: torch.stack([step[name] for step in steps], 2) for name in steps[0]}

    def mask(self, x: Tensor, progress: Progress) -> Tensor:
        """Which elements may come next, boolean ``(batch, ..., elements)``, true where allowed."""
        return ~progress["taken"]

    def context(self, x: Tensor, progress: Progress) -> Tensor | None:
        """Numbers ``(batch, ..., contexts)`` that the decoder is told at each step."""
        return None

    def over(self, x: Tensor, progress: Progress) -> Tensor:
        """Where only stops would follow, boolean ``(batch, ...)``."""
        return progress["last"] == 0

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
        """Instances that have the same solutions as ``x``, in the range of those that networks are trained on.

        Raises:
            ZooError: of :meth:`check`, but for what lies outside of that range.
        """
        self.check(x)
        return x

    def valid(self, x: Tensor, order: Tensor) -> Tensor:
        """Whether solutions keep to the rules, boolean ``(batch, starts)``; by another way than :meth:`mask`."""
        return (order.sort(-1).values == torch.arange(x.shape[1], device=x.device)).all(-1)

    def metrics(self) -> nn.ModuleDict:
        """torchmetrics of this task beside validity, by name; :meth:`update` feeds them."""
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
        """Refuse instances that have no solution or are not numbers.

        Raises:
            ZooError: saying what is wrong with them.
        """
        name = type(self).__name__
        if not x.is_floating_point():
            raise ZooError(f"{name} instances must be floating-point numbers, got {x.dtype}")
        if x.dim() != 3 or x.shape[-1] != self.features:
            raise ZooError(f"{name} instances must be (batch, elements, {self.features}), got {tuple(x.shape)}")
        if x.shape[1] < self.smallest:
            least = f"{self.smallest} element{'s' * (self.smallest != 1)}"
            raise ZooError(f"{name} needs at least {least}, got {x.shape[1]}")
        if not x.isfinite().all():
            bad = (~x.isfinite().all(-1)).nonzero()[0].tolist()
            raise ZooError(f"{name}: element {bad[1]} of instance {bad[0]} is not finite: {x[tuple(bad)].tolist()}")


def each(values: Tensor, like: Tensor) -> Tensor:
    """``values`` ``(batch, elements)`` as ``(batch, 1, ..., elements)`` with as many dimensions as ``like``."""
    return values.view(values.shape[0], *[1] * (like.dim() - 2), -1)


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Of ``values`` ``(batch, elements)`` those at ``index`` ``(batch, ...)``."""
    return values.gather(1, index.reshape(index.shape[0], -1)).view(index.shape)


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
