"""Exact values and gradients of small programs, written out here and not through the layer."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.relaxations import Bernoulli, Relaxation
from zoo.relaxations.distributions import Distribution

G = torch.Generator().manual_seed(11)
TABLE = torch.randn(3, 3, generator=G)
PAIR = torch.randn(6, 6, generator=G)
MASK = torch.tensor([True, False, True])


@dataclass(frozen=True)
class Case:
    """A program ``(draw, logits)`` of logits ``(batch, ...)``, and how many values each of its choices has."""

    name: str
    start: Tensor
    program: Callable[[Any, Tensor], Any]
    sizes: tuple[int, ...]
    dependent: bool = False
    replicas: int = 0

    def __repr__(self) -> str:
        return self.name


def two_choices(draw, logits):
    flat = draw(logits).flatten(1)
    return (flat @ PAIR * flat).sum(1) * (1 + flat[:, 0]) + 2


def four_gates(draw, logits):
    z = draw(Bernoulli(logits))
    return (z @ PAIR[:4, :4] * z).sum(1).sin() + z[:, 0] * z[:, 1]


def mixed(draw, logits):
    z, gates = draw(logits[:, :3]), draw(Bernoulli(logits[:, 3:]))
    return ((z @ TABLE[:, :2]) * gates).sum(1).exp() + gates[:, 0]


def masked(draw, logits):
    z = draw(logits[:, :3], MASK)
    gates = draw(Bernoulli(logits[:, 3:], mask=torch.tensor([True, False])))
    return (z @ TABLE[:, 0]) * (1 + 2 * gates[:, 0]) + gates[:, 1] + z[:, 0] * gates[:, 0]


def chain(draw, logits):
    """Without replacement: the second draw has the first one's mask and logits that depend on it."""
    first = draw(logits)
    second = draw(logits + first @ TABLE, first < 0.5)
    gate = draw(Bernoulli((first * second.roll(1, -1)).sum(-1, keepdim=True) - 0.3))
    return torch.einsum("...i,ij,...j->...", first, TABLE, second) ** 2 * (1 + gate[..., 0])


def replicas(draw, logits):
    """Three independent runs of each example."""
    many = logits.unsqueeze(1).expand(-1, 3, -1)
    z, gates = draw(many), draw(Bernoulli(many[..., :2]))
    return (z @ TABLE[:, 0]).exp() * (gates @ TABLE[1, :2] + 1)


def chain_of_replicas(draw, logits):
    return chain(draw, logits.unsqueeze(1).expand(-1, 3, -1))


LOGITS = torch.randn(6, generator=G)
CASES = [
    Case("categorical", LOGITS.view(2, 3), two_choices, (3, 3)),
    Case("gates", LOGITS[:4], four_gates, (2, 2, 2, 2)),
    Case("mixed", LOGITS[:5], mixed, (3, 2, 2)),
    Case("masked", LOGITS[:5], masked, (3, 2, 2)),
    Case("replicas", LOGITS[:3], replicas, (3, 2, 2), replicas=3),
]
DEPENDENT = [
    Case("chain", LOGITS[:3], chain, (3, 3, 2), dependent=True),
    Case("chain of replicas", LOGITS[:3], chain_of_replicas, (3, 3, 2), dependent=True, replicas=3),
]


def expected(case: Case, start: Tensor) -> Tensor:
    """The expected cost at logits ``start``, by going through all values; differentiable any number of times.

    Of replicas, which are independent and alike, all have the same values at a time.
    """
    total = torch.zeros(())
    for values in itertools.product(*map(range, case.sizes)):
        rest, probability = iter(values), []

        def draw(x: Tensor | Distribution, mask: Tensor | None = None, rest=rest, probability=probability) -> Tensor:
            logits = x.logits if isinstance(x, Distribution) else x
            if mask is not None:
                logits = logits.masked_fill(~mask, -math.inf)
            one = logits[:, 0] if case.replicas else logits
            if isinstance(x, Bernoulli):
                value = torch.tensor([float(next(rest)) for _ in range(one.numel())]).view(one.shape)
                p = one.sigmoid()
                probability.append((value * p + (1 - value) * (1 - p)).prod())
            else:
                index = torch.tensor([next(rest) for _ in range(one.numel() // one.shape[-1])]).view(one.shape[:-1])
                value = torch.nn.functional.one_hot(index, one.shape[-1]).float()
                probability.append((value * one.softmax(-1)).sum(-1).prod())
            return value.unsqueeze(1).expand(logits.shape) if case.replicas else value

        cost = case.program(draw, start.unsqueeze(0)).flatten()[0]
        p = torch.stack(probability).prod()
        if p > 0:
            total = total + p * cost
    return total


def exact(case: Case) -> tuple[Tensor, Tensor]:
    """The expected cost and its gradient."""
    start = case.start.clone().requires_grad_()
    total = expected(case, start)
    return total.detach(), torch.autograd.grad(total, start)[0]


def sampled(relaxation: Relaxation, case: Case, draws: int = 200_000) -> tuple[Tensor, Tensor]:
    """Losses ``(draws,)`` and their gradients ``(draws, ...)``, after a batch from which baselines are learned."""
    for number in (20_000, draws):
        batch = case.start.expand(number, *case.start.shape).clone().requires_grad_()
        loss = relaxation.expectation(lambda draw: case.program(draw, batch))  # noqa: B023
        assert loss.shape == (number,)
        (gradient,) = torch.autograd.grad(loss.sum(), batch)
    return loss.detach().double(), gradient.double()


def check_unbiased(relaxation: Relaxation, case: Case, draws: int = 200_000) -> None:
    """Within 4.5 standard errors at each coordinate, with errors of at most 2% of the gradient's size together."""
    value, gradient = exact(case)
    losses, gradients = sampled(relaxation, case, draws)
    error = gradients.std(0) / math.sqrt(draws)
    assert error.norm() <= 0.02 * gradient.norm()
    assert ((gradients.mean(0) - gradient).abs() <= 4.5 * error + 1e-6).all()
    assert (losses.mean() - value).abs() <= 4.5 * losses.std() / math.sqrt(draws) + 1e-6
    assert (gradients.mean(0)[gradient == 0] == 0).all()  # exactly zero where a mask forbids


class Thrice:
    """As if three processes shared a batch, each with the same sum of everything."""

    parts = 1

    def __init__(self, noise):
        self.noise, self.asked = noise, 0

    def __getattr__(self, name):
        return getattr(self.noise, name)

    def mean(self, value):
        self.asked += 1
        return 3 * value.detach()
