"""The optimiser of every model, with its learning-rate schedule."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from zoo.config import Configurable


class AdamW(Configurable):
    """AdamW with a linear warm-up and a cosine decay to zero.

    Args:
        lr: peak learning rate.
        weight_decay: decoupled, as in Loshchilov & Hutter 2019, arXiv 1711.05101.
        warmup_steps: steps from zero to ``lr``.
        decay_from: share of training, in [0, 1], after which the decay begins; 1 for none.

    Raises:
        ValueError: if a value is out of range.
    """

    def __init__(
        self, *, lr: float = 1e-3, weight_decay: float = 0.0, warmup_steps: int = 500, decay_from: float = 0.5
    ) -> None:
        if not (lr > 0 and weight_decay >= 0 and warmup_steps >= 0 and 0 <= decay_from <= 1):
            raise ValueError(
                "need lr > 0, weight_decay >= 0, warmup_steps >= 0 and decay_from in [0, 1], got "
                f"{lr}, {weight_decay}, {warmup_steps}, {decay_from}"
            )
        self.lr, self.weight_decay, self.warmup_steps, self.decay_from = lr, weight_decay, warmup_steps, decay_from

    def factor(self, step: int, total_steps: float) -> float:
        """The share of the peak learning rate at ``step``."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        start = self.decay_from * total_steps
        if step < start or not math.isfinite(total_steps):
            return warmup
        progress = min(1.0, (step - start) / max(1.0, total_steps - start))
        return warmup * 0.5 * (1 + math.cos(math.pi * progress))

    def configure(self, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], total_steps: float) -> dict:
        """What ``LightningModule.configure_optimizers`` returns.

        Args:
            parameters: or groups of them, each with a learning rate or a weight decay of its own, as PyTorch has them.
            total_steps: of the training.
        """
        given: list[Any] = list(parameters)
        single = [part for one in given for part in (one["params"] if isinstance(one, dict) else [one])]
        # On a GPU the default is as fast, and goes together with loss scaling and gradient clipping.
        fused = all(parameter.device.type == "cpu" for parameter in single)
        optimizer = torch.optim.AdamW(given, lr=self.lr, weight_decay=self.weight_decay, fused=fused or None)
        optimizer._step_supports_amp_scaling = False  # gradients are clipped between being unscaled and the step
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.factor(step, total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
