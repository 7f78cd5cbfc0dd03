"""Open tours: the shortest path through points that need not end where it began."""

from torch import Tensor

from zoo.models.pointer_net.tasks.base import Task, pick
from zoo.models.pointer_net.tasks.tsp import TSP, single


class OpenTour(TSP):
    """Paths through points of the plane, the cost their Euclidean length; the instances are those of :class:`TSP`."""

    cyclic = False
    differentiable = False

    def __init__(self) -> None:
        super().__init__()

    def first_elements(self, elements: int) -> range:
        return range(elements)

    def standard_optimum(self, x: Tensor, stage: int) -> Tensor:
        return Task.standard_optimum(self, x, stage)

    def cost(self, x: Tensor, order: Tensor) -> Tensor:
        return pick(single(x), order).diff(dim=2).square().sum(-1).sqrt().sum(-1)

    def cost_of_choices(self, x: Tensor, choices: Tensor) -> Tensor:
        return self.cost(x, choices.argmax(-1))

    def improve(self, x: Tensor, order: Tensor, rounds: int) -> Tensor:
        return Task.improve(self, x, order, rounds)

    def heuristics(self, x: Tensor) -> dict[str, Tensor]:
        return {}

    def draw(self, x: Tensor, order: Tensor) -> dict:
        from zoo.models.pointer_net.plots import tours

        titles = [f"{length:.3f}" for length in self.cost(x, order.unsqueeze(1))[:, 0].tolist()]
        return {"paths": tours([*x.cpu()], [*order.cpu()], titles, columns=len(x), closed=False)}
