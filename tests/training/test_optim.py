"""The learning-rate schedule."""

import pytest
import torch
from torch import nn

from zoo.training import AdamW


def test_schedule():
    optimizer = AdamW(lr=0.1, warmup_steps=10, decay_from=0.5)
    assert [optimizer.factor(step, 100) for step in (0, 4, 9, 49, 75, 100)] == pytest.approx([0.1, 0.5, 1, 1, 0.5, 0])
    assert AdamW(decay_from=1.0, warmup_steps=0).factor(99, 100) == 1


def test_configure():
    parts = AdamW(lr=0.1, warmup_steps=2, weight_decay=0.3).configure(nn.Linear(2, 2).parameters(), 100)
    (group,) = parts["optimizer"].param_groups
    assert isinstance(parts["optimizer"], torch.optim.AdamW) and group["weight_decay"] == 0.3
    assert group["lr"] == pytest.approx(0.05)


@pytest.mark.parametrize("arguments", [{"lr": 0.0}, {"weight_decay": -1.0}, {"warmup_steps": -1}, {"decay_from": 1.5}])
def test_constructor_checks_its_numbers(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        AdamW(**arguments)
