"""How good solutions of combinatorial tasks are."""

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanPerInstance(Metric):
    """The mean of one number for each instance, over those where it is known (not NaN)."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, values: Tensor) -> None:
        """Add one number for each instance; NaN is left out."""
        known = ~values.isnan()
        self.total += values.double().nan_to_num(0.0).sum()
        self.count += known.sum()

    def compute(self) -> Tensor:
        """NaN if nothing is known."""
        return (self.total / self.count).float()


class OptimalityGap(MeanPerInstance):
    """By how many per cent costs exceed the optimum: the mean over instances of ``100 (cost - optimum) / |optimum|``.

    Not the ratio of the means, which gives long tours more weight.
    """

    def update(self, cost: Tensor, optimum: Tensor) -> None:
        """Add instances, each ``(batch,)``, where ``optimum`` is not NaN. Where both are zero the gap is zero."""
        gap = 100 * (cost.double() - optimum.double()) / optimum.double().abs()
        self.add(gap.masked_fill((cost == 0) & (optimum == 0), 0.0))


class ExactMatch(MeanPerInstance):
    """The share of instances that are right in every place."""

    def update(self, values: Tensor, target: Tensor) -> None:
        """Add instances, each ``(batch, places)``."""
        self.add((values == target).all(-1).double())


class KendallTau(MeanPerInstance):
    """Kendall's tau-a of a sequence with the ascending one: the share of pairs in order less that of pairs out of it.

    1 for a sorted sequence, -1 for a reversed one; a pair of equal values counts as in order.
    """

    def update(self, values: Tensor) -> None:
        """Add sequences ``(batch, length)``."""
        n = values.shape[-1]
        first, second = torch.triu_indices(n, n, 1, device=values.device)
        in_order = (values[:, first] <= values[:, second]).double()
        self.add((2 * in_order - 1).mean(-1) if n > 1 else torch.ones(len(values), device=values.device))


class AreaRatio(MeanPerInstance):
    """The mean share of the convex hull's area that a polygon covers."""

    def update(self, area: Tensor, hull_area: Tensor) -> None:
        """Add polygons, each ``(batch,)``."""
        self.add(area.double() / hull_area.double())


class Validity(MeanPerInstance):
    """The share of solutions that keep to the rules of their task. It must be 1."""

    def update(self, valid: Tensor) -> None:
        """Add solutions, boolean ``(batch, ...)``."""
        self.add(valid.flatten().double())
