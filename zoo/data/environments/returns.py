"""Returns of episodes, with intervals."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

RESAMPLES = 1000


class EpisodeReturns(Metric):
    """Mean, interquartile mean and length of episodes.

    - ``return``: the mean return.
    - ``return_iqm``: the mean of the middle half: as robust as the median, with less variance.
    - ``return_iqm_low``, ``return_iqm_high``: its 95% percentile-bootstrap interval over episodes, from a fixed seed.
    - ``length``: the mean length in steps.

    The interval is about the episodes of one agent. It says nothing of what another training seed would give.

    Source: Agarwal et al. 2021, arXiv 2108.13264, section 4.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("returns", [], dist_reduce_fx="cat")
        self.add_state("lengths", [], dist_reduce_fx="cat")

    def update(self, returns: Tensor, lengths: Tensor) -> None:
        """Add episodes, each ``(episodes,)``."""
        self.returns.append(returns.float())
        self.lengths.append(lengths.float())

    def compute(self) -> dict[str, Tensor]:
        returns, lengths = (dim_zero_cat(state) for state in (self.returns, self.lengths))
        low, high = bootstrap_interval(returns)
        return {
            "return": returns.mean(),
            "return_iqm": interquartile_mean(returns),
            "return_iqm_low": low,
            "return_iqm_high": high,
            "length": lengths.mean(),
        }


def interquartile_mean(values: Tensor) -> Tensor:
    """The mean of the middle half of ``values`` ``(..., n)``: ``(...)``. If n / 4 is not whole, the values at
    the quartiles count in part."""
    n = values.shape[-1]
    edges = torch.arange(n + 1, dtype=values.dtype, device=values.device)
    inside = edges.clamp(n / 4, 3 * n / 4).diff()  # the share of each value that lies between the quartiles
    return (values.sort(-1).values * inside).sum(-1) / inside.sum()


def bootstrap_interval(
    values: Tensor,
    *,
    statistic: Callable[[Tensor], Tensor] = interquartile_mean,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[Tensor, Tensor]:
    """The percentile-bootstrap interval of a ``statistic`` of ``values`` ``(n,)``, from a fixed seed.

    Args:
        values: of which the sets that are resampled are as large.
        statistic: sets ``(resamples, n)`` to numbers ``(resamples,)``.
        level: share of the resampled statistics that is inside.
        resamples: sets.
    """
    g = torch.Generator().manual_seed(0)
    index = torch.randint(len(values), (resamples, len(values)), generator=g).to(values.device)
    tail = (1 - level) / 2
    low, high = statistic(values[index]).quantile(torch.tensor([tail, 1 - tail], device=values.device))
    return low, high
