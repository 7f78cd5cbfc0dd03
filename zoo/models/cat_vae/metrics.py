"""How much of a categorical code is in use."""

import torch
from torch import Tensor
from torchmetrics import Metric

ACTIVE = 0.01  # nats; the threshold of Burda et al. 2016, arXiv 1509.00519, section 5.2, on information here


class CodeStatistics(Metric):
    """Active latents and perplexity of the code, from posteriors q(z | x) over a data set.

    - ``active_latents``: latents whose mutual information with x, ``H(E[q]) - E[H(q)]``, exceeds 0.01 nats.
    - ``perplexity``: ``exp`` of the entropy of the marginal ``E[q]``, the mean over latents: at most K.
    - ``information``: the mutual information in nats, summed over latents.
    """

    full_state_update = False

    def __init__(self, latents: int, categories: int) -> None:
        super().__init__()
        self.add_state("probability", torch.zeros(latents, categories), dist_reduce_fx="sum")
        self.add_state("entropy", torch.zeros(latents), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor) -> None:
        """Add posteriors with ``logits`` ``(batch, latents, categories)``."""
        log_q = logits.detach().float().log_softmax(-1)
        q = log_q.exp()
        self.probability += q.sum(0)
        self.entropy -= (q * log_q).sum((0, 2))
        self.count += len(logits)

    def usage(self) -> Tensor:
        """The marginal posterior ``E[q]``, ``(latents, categories)``."""
        return (self.probability / self.count).float()

    def compute(self) -> dict[str, Tensor]:
        marginal = torch.special.entr(self.probability / self.count).sum(-1)
        information = marginal - self.entropy / self.count
        return {
            "active_latents": (information > ACTIVE).sum().float(),
            "perplexity": marginal.exp().mean().float(),
            "information": information.sum().float(),
        }
