"""Likelihoods and divergences of the parts of a recording, and what is known of its speaker."""

import math

import torch.nn.functional as F
from torch import Tensor

IMPOSSIBLE = -1e4  # a logit whose probability is exactly zero in float32


def observe(logits: Tensor, label: Tensor) -> Tensor:
    """``logits`` ``(batch, speakers)`` where ``label`` ``(batch,)`` is -1; elsewhere all but the label impossible."""
    other = F.one_hot(label.clamp(min=0), logits.shape[-1]) == 0
    return logits.masked_fill(other & (label >= 0)[:, None], IMPOSSIBLE)


def gaussian_kl(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """The divergence of one diagonal Gaussian ``(batch, n)`` from another, in nats, ``(batch,)``."""
    ratio = (log_variance - other_log_variance).exp()
    distance = (mean - other_mean).square() * (-other_log_variance).exp()
    return 0.5 * (ratio + distance - 1 - log_variance + other_log_variance).sum(-1)


def gaussian_nll(x: Tensor, mean: Tensor, std: float) -> Tensor:
    """``-log N(x; mean, std)`` in nats, of the shape of ``x``."""
    return 0.5 * ((x - mean) / std).square() + math.log(std * math.sqrt(2 * math.pi))
