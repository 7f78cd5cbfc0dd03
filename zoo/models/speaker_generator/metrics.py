"""How well a code agrees with the speakers it was not told of."""

import torch
from torch import Tensor
from torchmetrics import Metric

IN_USE = 0.01  # share of recordings from which a code counts as in use


class SpeakerStatistics(Metric):
    """Agreement of the most probable code with the speaker, over a data set.

    - ``accuracy``: the share of recordings whose code is the speaker's, after the best one-to-one matching of codes and
      speakers (the Hungarian method).
    - ``nmi``: mutual information of code and speaker over the mean of their entropies, in [0, 1].
    - ``codes_in_use``: codes that at least 1% of recordings have.

    The first two are of recordings whose speaker is known, and left out where that is none.

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

    @property
    def known(self) -> bool:
        """Whether there are recordings whose speaker is known."""
        return bool(self.counts[:, :-1].any())

    def matching(self) -> Tensor:
        """The speaker of each code, -1 for none, int64 ``(codes,)``."""
        return match(self.counts[:, :-1])

    def usage(self) -> Tensor:
        """The share of recordings with each code, ``(codes,)``."""
        return self.counts.sum(1) / self.counts.sum()

    def compute(self) -> dict[str, Tensor]:
        in_use = {"codes_in_use": (self.usage() >= IN_USE).sum().float()}
        if not self.known:
            return in_use
        counts, speaker = self.counts[:, :-1], self.matching()
        matched = counts.gather(1, speaker.clamp(min=0)[:, None])[:, 0] * (speaker >= 0)
        joint = counts / counts.sum()
        entropies = [torch.special.entr(joint.sum(dim)).sum() for dim in (0, 1)]
        information = sum(entropies) - torch.special.entr(joint).sum()
        return in_use | {
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
