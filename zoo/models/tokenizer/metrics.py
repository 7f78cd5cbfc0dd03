"""How much of a codebook is in use."""

import torch
from torch import Tensor
from torchmetrics import Metric


class CodeUse(Metric):
    """The use of the codes over a data set, from the numbers of its images.

    - ``utilisation``: the share of the codes that occur at all.
    - ``perplexity``: ``exp`` of the entropy of how often each occurs; of several codebooks the mean.
    """

    full_state_update = False

    def __init__(self, depth: int, codes: int) -> None:
        super().__init__()
        self.depth, self.codes = depth, codes
        self.add_state("counts", torch.zeros(depth * codes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, index: Tensor) -> None:
        """Add numbers, int64 ``(batch, places, depth)``."""
        own = index + torch.arange(self.depth, device=index.device) * self.codes
        self.counts += torch.bincount(own.flatten(), minlength=len(self.counts))

    def usage(self) -> Tensor:
        """How often each code occurs, as a share, ``(depth, codes)``."""
        counts = self.counts.view(self.depth, self.codes)
        return counts / counts.sum(1, keepdim=True)

    def compute(self) -> dict[str, Tensor]:
        usage = self.usage()
        return {
            "utilisation": (usage > 0).float().mean(),
            "perplexity": torch.special.entr(usage).sum(1).exp().mean(),
        }
