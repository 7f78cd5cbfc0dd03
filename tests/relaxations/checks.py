"""What the tests of every kind of relaxation check alike."""

import torch
from torch import Tensor

from zoo.relaxations.base import Relaxation


def repeats_with_its_seed(relaxation: Relaxation, logits: Tensor) -> bool:
    """Whether the same seed gives the same draw, and what follows another."""
    torch.manual_seed(7)
    first = relaxation(logits)
    torch.manual_seed(7)
    return torch.equal(first, relaxation(logits)) and not torch.equal(first, relaxation(logits))


def finite_gradient(draw: Tensor, logits: Tensor, mask: Tensor | None) -> bool:
    """Whether a random direction's gradient at ``logits`` is finite, and exactly zero where ``mask`` forbids."""
    (gradient,) = torch.autograd.grad((draw.float() * torch.randn(draw.shape)).sum(), logits)
    return bool(gradient.isfinite().all()) and (mask is None or bool((gradient[~mask] == 0).all()))


def compile_and_change_tau(relaxation: Relaxation, logits: Tensor, mask: Tensor | None) -> tuple[Relaxation, Tensor]:
    """``relaxation`` compiled without a graph break, and its last draw at three values of tau without a recompile."""
    torch._dynamo.reset()
    compiled = torch.compile(relaxation, backend="aot_eager", fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for tau in (1.0, 0.5, 0.1):
            relaxation.tau.fill_(tau)
            draw = compiled(logits, mask)
            if draw.requires_grad:
                draw.square().sum().backward()
                assert logits.grad.isfinite().all()
    return compiled, draw
