"""Likelihoods and divergences of the parts of a recording, and what is known of its speaker."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

IMPOSSIBLE = -1e4  # a logit whose probability is exactly zero in float32


def observe(logits: Tensor, label: Tensor) -> Tensor:
    """``logits`` ``(batch, speakers)`` where ``label`` ``(batch,)`` is -1; elsewhere all but the label impossible."""
    other = F.one_hot(label.clamp(min=0), logits.shape[-1]) == 0
    return logits.masked_fill(other & (label >= 0)[:, None], IMPOSSIBLE)


def lacking_entropy(posterior: Tensor) -> Tensor:
    """What the mean of ``posterior`` ``(batch, speakers)`` lacks in entropy to be uniform, in nats.

    The slope of the entropy is infinite where a speaker has probability zero in the whole batch; it is cut off.
    """
    return math.log(posterior.shape[-1]) - torch.special.entr(posterior.mean(0).clamp(min=1e-6)).sum()


def gaussian_kl(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """The divergence of one diagonal Gaussian ``(batch, n)`` from another, in nats, ``(batch,)``."""
    ratio = (log_variance - other_log_variance).exp()
    distance = (mean - other_mean).square() * (-other_log_variance).exp()
    return 0.5 * (ratio + distance - 1 - log_variance + other_log_variance).sum(-1)


def gaussian_nll(x: Tensor, mean: Tensor, std: float) -> Tensor:
    """``-log N(x; mean, std)`` in nats, of the shape of ``x``."""
    return 0.5 * ((x - mean) / std).square() + math.log(std * math.sqrt(2 * math.pi))
