"""What the tests of relaxations share: the cells of relaxation and distribution, and noise that stays the same."""

import copy
import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.relaxations import (
    DISTRIBUTIONS,
    RELAXATIONS,
    Categorical,
    CommonNumbers,
    Distribution,
    Pathwise,
    Relaxation,
    Tempered,
    eager,
)
from zoo.relaxations.distributions import categorical as categorical_module


def served(relaxation: str, distribution: str) -> bool:
    return all(issubclass(DISTRIBUTIONS[distribution], need) for need in RELAXATIONS[relaxation].needs)


CELLS = [(r, d) for r in RELAXATIONS for d in DISTRIBUTIONS if served(r, d)]


def cells(condition: Callable[[type[Relaxation]], Any] = lambda cls: True, *, slow: bool = False) -> Any:
    """Parametrise a test by all pairs that go together and fulfil ``condition``.

    Args:
        slow: whether all but those of the first distribution that a relaxation serves are marked as slow.
    """
    chosen = [cell for cell in CELLS if condition(RELAXATIONS[cell[0]])]
    first = {r: d for r, d in reversed(chosen)}
    marked = [pytest.param(*c, marks=pytest.mark.slow) if slow and c[1] != first[c[0]] else c for c in chosen]
    return pytest.mark.parametrize("relaxation, distribution", marked)


def relaxations(condition: Callable[[type[Relaxation]], Any] = lambda cls: True) -> Any:
    """Parametrise a test by the names of all relaxations that fulfil ``condition``."""
    return pytest.mark.parametrize("relaxation", [name for name, cls in RELAXATIONS.items() if condition(cls)])


def pathwise(cls: type[Relaxation]) -> bool:
    return issubclass(cls, Pathwise)


def tempered(cls: type[Relaxation]) -> bool:
    return issubclass(cls, Tempered)


def first_distribution(relaxation: str) -> str:
    """The first one that the relaxation serves, categorical for most."""
    return next(d for r, d in CELLS if r == relaxation)


# Examples of distributions --------------------------------------------------------------------------------------------


def required(cls: type[Distribution]) -> dict[str, Any]:
    """What a constructor needs beside the logits, as in the distribution's own example."""
    example, parameters = cls.example(), list(inspect.signature(cls.__init__).parameters.values())
    return {p.name: getattr(example, p.name) for p in parameters[2:] if p.default is p.empty}  # without self, logits


REQUIRED = {name: required(cls) for name, cls in DISTRIBUTIONS.items()}


def law(name: str, logits: Tensor, mask: Tensor | None = None, **more: Any) -> Distribution:
    """The distribution of that name with ``logits``."""
    return DISTRIBUTIONS[name](logits, mask=mask, **REQUIRED[name], **more)


def logits_of(name: str, *batch: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random logits, ``(*batch, *choice)`` with choices of the size of the distribution's example."""
    example = DISTRIBUTIONS[name].example().logits
    return torch.randn(*batch, *example.shape[1:], dtype=dtype)


def weight_of(name: str, logits: Tensor) -> Tensor:
    """A random number for each entry of a draw."""
    value = law(name, logits.detach()).mode()
    return torch.randn(value.shape, dtype=logits.dtype)


# Noise ----------------------------------------------------------------------------------------------------------------


class Repeated(CommonNumbers):
    """The same noise after each :meth:`rewind`, for every way of computing: fast, plain, transformed, compiled."""

    def gumbel(self, like: Tensor, batch_dim: int = 0) -> Tensor:
        exponential = self.draw(
            lambda shape, **g: torch.empty(shape, dtype=torch.float64).exponential_(**g),
            like.shape,
            like.device,
            batch_dim,
        )
        return exponential.log().neg().to(like.dtype)

    def uniform(self, like: Tensor, batch_dim: int = 0) -> Tensor:
        drawn = self.draw(
            lambda shape, **g: torch.rand(shape, dtype=torch.float64, **g), like.shape, like.device, batch_dim
        )
        return drawn.to(like.dtype)

    def normal(self, like: Tensor, batch_dim: int = 0) -> Tensor:
        drawn = self.draw(
            lambda shape, **g: torch.randn(shape, dtype=torch.float64, **g), like.shape, like.device, batch_dim
        )
        return drawn.to(like.dtype)


@pytest.fixture
def sample_by_gumbel(monkeypatch):
    """Let the fast path of sampling take Gumbel noise as the plain one does, so that both draw the same."""

    def invert(p: Tensor, noise: CommonNumbers, batch_dim: int = 0) -> Tensor:
        return (p.log() + noise.gumbel(p, batch_dim)).argmax(-1, keepdim=True)

    monkeypatch.setattr(categorical_module, "invert", invert)


@pytest.fixture(params=["fast", "plain"])
def path(request, monkeypatch) -> str:
    """Both sides of the size from which the fast paths of eager mode pay."""
    monkeypatch.setattr(eager, "WORTH", 0 if request.param == "fast" else 2**60)
    return request.param


# Losses ---------------------------------------------------------------------------------------------------------------


def loss_of(relaxation: Relaxation, name: str, weight: Tensor, noise: Any) -> Callable[[Tensor], Tensor]:
    """A scalar of the logits through a draw, or of the expectation of a program: the same noise in every call."""

    def loss(logits: Tensor) -> Tensor:
        noise.rewind()
        if isinstance(relaxation, Pathwise):
            return (relaxation(law(name, logits), noise=noise) * weight).sum()

        def program(draw: Any) -> Tensor:
            return (draw(law(name, logits)) * weight).flatten(1).sum(1).square()

        return relaxation.expectation(program, noise=noise).sum()

    return loss


def problem(name: str, distribution: str, *batch: int, **arguments: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Logits in float64, and a loss that every call computes anew, from the state that a new relaxation has."""
    relaxation = RELAXATIONS[name](**arguments).double()
    logits = logits_of(distribution, *batch)
    weight, noise = weight_of(distribution, logits), Repeated()

    def loss(logits: Tensor) -> Tensor:
        return loss_of(copy.deepcopy(relaxation), distribution, weight, noise)(logits)

    return logits, loss


def gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """By ordinary autograd."""
    leaf = logits.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


def is_valid(distribution: Distribution, value: Tensor) -> Tensor:
    """Whether each choice of ``value`` is a hard value of a distribution of this kind, ``(batch, ...)``."""
    other = distribution.with_logits(torch.where(distribution.logits == -math.inf, -math.inf, 0.0))
    inside = tuple(range(-distribution.value_dims, 0))
    binary = (value == 0) | (value == 1)
    binary = binary.all(inside) if inside else binary
    if isinstance(distribution, Categorical):
        return binary & (value.sum(-1) == 1)
    total = value.sum(inside) if inside else value
    return binary & ((total == other.mode().sum(inside)) if inside else torch.ones_like(binary))
