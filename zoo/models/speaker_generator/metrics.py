"""How well a code agrees with the speakers it was not told of."""

import torch
from torch import Tensor
from torchmetrics import Metric


class SpeakerStatistics(Metric):
    """How many recordings of a data set have each code and speaker: what :func:`agreement` takes.

    Args:
        codes, speakers: how many.
    """

    full_state_update = False

    def __init__(self, codes: int, speakers: int) -> None:
        super().__init__()
        counts = torch.zeros(codes, speakers + 1, dtype=torch.int64)  # the last are not known
        self.add_state("counts", counts, dist_reduce_fx="sum")

    def update(self, code: Tensor, speaker: Tensor) -> None:
        """Add recordings with ``code`` and ``speaker``, -1 where it is not known, each int64 ``(batch,)``."""
        codes, columns = self.counts.shape
        place = code * columns + torch.where(speaker < 0, columns - 1, speaker)
        self.counts += torch.bincount(place, minlength=codes * columns).view(codes, columns)

    def compute(self) -> Tensor:
        """The counts, over all processes, int64 ``(codes, speakers + 1)``, in the last column where it is not known."""
        return self.counts


def usage(counts: Tensor) -> Tensor:
    """The share of recordings with each code, ``(codes,)``."""
    return counts.sum(1) / counts.sum()


def agreement(counts: Tensor, matching: Tensor) -> dict[str, Tensor]:
    """Agreement of the most probable code with the speaker.

    - ``accuracy``: the share of recordings whose code is matched with the speaker.
    - ``nmi``: mutual information of code and speaker over the mean of their entropies, in [0, 1].

    Args:
        counts: of recordings whose speaker is known, at least one, ``(codes, speakers)``.
        matching: the speaker of each code, -1 for none, int64 ``(codes,)``; see :func:`match`.
    """
    matched = counts.gather(1, matching.clamp(min=0)[:, None])[:, 0] * (matching >= 0)
    joint = counts / counts.sum()
    entropies = [torch.special.entr(joint.sum(dim)).sum() for dim in (0, 1)]
    information = sum(entropies) - torch.special.entr(joint).sum()
    return {
        "accuracy": matched.sum() / counts.sum(),
        "nmi": 2 * information / sum(entropies).clamp(min=1e-12),
    }


def match(counts: Tensor) -> Tensor:
    """The one-to-one matching of rows with columns whose entries have the greatest sum: the column of each row.

    int64 ``(rows,)``, -1 for a row that is left over. The Hungarian method with potentials, one augmenting path a row
    (Kuhn 1955; Jonker & Volgenant 1987), in Python: meant for tens of rows. SciPy has a faster one, and is not needed
    here for this alone.
    """
    rows, columns = counts.shape
    size = max(rows, columns)
    padded = torch.zeros(size, size, dtype=torch.float64)
    padded[:rows, :columns] = -counts.double().cpu()
    cost = padded.tolist()
    row_potential, column_potential = [0.0] * size, [0.0] * (size + 1)
    owner = [-1] * (size + 1)  # the row of each column; the last column is the start of a path
    for row in range(size):
        owner[size] = row
        column = size
        least, came_from, seen = [float("inf")] * size, [size] * size, [False] * (size + 1)
        while owner[column] >= 0:
            seen[column] = True
            current = owner[column]
            for j in range(size):
                if not seen[j]:
                    reduced = cost[current][j] - row_potential[current] - column_potential[j]
                    if reduced < least[j]:
                        least[j], came_from[j] = reduced, column
            nearest = min((j for j in range(size) if not seen[j]), key=least.__getitem__)
            step = least[nearest]
            for j in range(size + 1):
                if seen[j]:
                    row_potential[owner[j]] += step
                    column_potential[j] -= step
                elif j < size:
                    least[j] -= step
            column = nearest
        while column != size:
            owner[column] = owner[came_from[column]]
            column = came_from[column]
    result = torch.full((rows,), -1, dtype=torch.int64)
    for column in range(columns):
        if owner[column] < rows:
            result[owner[column]] = column
    return result.to(counts.device)


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """Half the sum of absolute differences of two distributions ``(..., n)``: ``(...)``."""
    return 0.5 * (p - q).abs().sum(-1)
