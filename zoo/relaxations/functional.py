"""The operations inside the relaxations, fused by hand: sampling, noise, softmax and straight-through.

Written for the least time and memory in eager mode: few passes over few tensors, in place, with closed-form backward
passes. They obey PyTorch's generators, give masked entries (``-inf``) exactly zero, and compile without a graph break.
``scripts/bench/relaxations.py`` compares them with PyTorch's own.
"""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from zoo.relaxations.splitting import draw_noise


def one_hot_like(index: Tensor, logits: Tensor) -> Tensor:
    """``index`` ``(...)`` as one-hot with the shape, dtype and device of ``logits``."""
    return torch.zeros_like(logits).scatter_(-1, index.unsqueeze(-1), 1.0)


def sample_one_hot(logits: Tensor) -> Tensor:
    """An exact one-hot sample of ``softmax(logits)`` from one random number a row; Gumbel-max needs one a category."""
    return one_hot_like(sample_index(softmax_(_scratch(logits))).squeeze(-1), logits.detach())


def sample_index(p: Tensor) -> Tensor:
    """A sample ``(..., 1)`` of the probabilities ``p``, which sum to one, by inverting their cumulative distribution.

    In integers, of 2^-30 each: unlike that of floats, their cumulative sum is exact, in any order and on any
    device. Every probability is right to 2^-31 wherever it stands in its row, and an entry of probability zero is
    never chosen, since the sum does not rise there.
    """
    scaled = p.detach().float().contiguous().mul(2.0**30).add_(0.5)
    counts = scaled.view(torch.int32).copy_(scaled)  # in place
    cumulative = torch.cumsum(counts, -1, dtype=torch.int32, out=counts)
    total = cumulative[..., -1:].long()
    bits = draw_noise(lambda shape, **g: torch.randint(2**31, shape, device=p.device, **g), total.shape, p.device)
    threshold = (bits * total >> 31).to(torch.int32)  # < total
    return torch.searchsorted(cumulative, threshold, right=True).clamp_max_(p.shape[-1] - 1)  # of NaN only


def sample_gumbel(like: Tensor, batch_dim: int = 0) -> Tensor:
    """Standard Gumbel noise of the shape of ``like``: ``-log E`` with ``E ~ Exp(1)``, always finite.

    Dimension ``batch_dim`` of ``like`` is the batch.

    ``E`` is ``-log(1 - u)`` with ``u`` uniform in (0, 1). Small ``E`` decide between many or rare categories. From
    ``-log(rand())`` they would be multiples of 2^-24, the step of float32 below one: with 32768 equal logits one
    draw in 500 would be a tie, which goes to the first, and a category of probability 1e-6 would come 3 % too
    seldom, one of 1e-8 sixty times. Hence ``u = (k + 1/2) / 2^31`` with ``k`` of 31 random bits, as a float exact
    to 24 bits however small it is, and the logarithm by the identity

        -log(1 - u) = 2 artanh(u / (2 - u)) = 2 artanh(1 / (2 / u - 1)),

    which keeps that precision, and on a CPU is several times faster than PyTorch's ``log1p`` or ``exponential_``.
    A factor 1 - 2^-22 keeps ``u`` below 1 after rounding. The noise lies between -2.8 and 22.2; what the law has
    outside is a mass of 2^-22 at the bottom, where nothing is decided, and of 2^-32 at the top.

    Every step is in place in one tensor. On a GPU in eager mode each step is a kernel and a pass over memory, so
    PyTorch's exponential is faster there.
    """
    shape, device = like.shape, like.device
    if not _steps_are_cheap(like):
        exponential = draw_noise(
            lambda shape, **generator: torch.empty(shape, dtype=torch.float32, device=device).exponential_(**generator),
            shape,
            device,
            batch_dim,
        )
        return exponential.clamp_min_(torch.finfo(torch.float32).tiny).log_().neg_().to(like.dtype)
    if torch.compiler.is_compiling():  # knows no random_, has a precise log1p but not, on a CPU, a precise atanh
        bits = draw_noise(
            lambda shape, **generator: torch.randint(2**31 - 1, shape, dtype=torch.int32, device=device, **generator),
            shape,
            device,
            batch_dim,
        )
        u = bits.to(torch.float32).add_(0.5)
        exponential = u.mul_(-(2.0**-31) * (1 - 2.0**-22)).log1p_().neg_()
    else:
        bits = draw_noise(
            lambda shape, **generator: torch.empty(shape, dtype=torch.int32, device=device).random_(**generator),
            shape,
            device,
            batch_dim,
        )
        u = bits.view(torch.float32).copy_(bits).add_(0.5)  # in units of 2^-31
        exponential = u.reciprocal_().mul_(2.0**32 / (1 - 2.0**-22)).sub_(1).reciprocal_().atanh_().mul_(2)
    return exponential.log_().neg_().to(like.dtype)


def softmax(logits: Tensor, tau: Tensor | float = 1.0, *, at: Tensor | None = None) -> Tensor:
    """``softmax(logits / tau)``, or ``softmax(at / tau)`` with its gradient passed to ``logits``.

    Differentiable any number of times in ``logits``, not in ``tau``. Finite for every ``tau``, however small.

    Args:
        at: ``logits`` plus a constant (such as noise), a scratch tensor without gradient. It is overwritten with
            the result, so that nothing else is allocated.
    """
    return _Softmax.apply(logits, softmax_(_scratch(logits) if at is None else at, tau), torch.as_tensor(tau))


def with_signature(forward: Callable) -> Callable:
    """Let ``forward`` of an autograd function keep its signature: PyTorch asks for it in every call, and to find it out
    takes longer than a small softmax."""
    vars(forward)["__signature__"] = inspect.signature(forward)
    return forward


class _Softmax(torch.autograd.Function):
    """``y`` in value, the softmax of ``(logits + constant) / tau``, whose Jacobian is ``(diag(y) - y y') / tau``.

    ``y`` is saved as the output that it is, not as a constant: the backward pass can be differentiated in turn.
    """

    @staticmethod
    @with_signature
    def forward(logits: Tensor, y: Tensor, tau: Tensor) -> Tensor:
        return y.detach()

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output, inputs[2])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, gradient: Tensor | None) -> tuple[Tensor | None, None, None]:
        if gradient is None:
            return None, None, None
        y, tau = ctx.saved_tensors
        return softmax_backward(y, gradient).div_(tau), None, None


def softmax_(x: Tensor, tau: Tensor | float = 1.0) -> Tensor:
    """``softmax(x / tau)`` in place of ``x``, without gradient.

    PyTorch's kernel is for long rows: on a CPU ten categories take it four times as long as these single steps.
    """
    if not _steps_are_cheap(x):
        return torch.softmax(x.div_(tau), -1, out=x)
    x.sub_(x.amax(-1, keepdim=True)).div_(tau).exp_()
    return x.div_(x.sum(-1, keepdim=True))


def softmax_backward(y: Tensor, gradient: Tensor) -> Tensor:
    """``gradient`` times the Jacobian ``diag(y) - y y'`` of a softmax at its value ``y``."""
    if not _steps_are_cheap(y):
        return torch._softmax_backward_data(gradient, y, -1, y.dtype)
    product = y * gradient
    return product.addcmul_(y, product.sum(-1, keepdim=True), value=-1)


def _scratch(logits: Tensor) -> Tensor:
    return logits.detach().clone(memory_format=torch.contiguous_format)


def _steps_are_cheap(x: Tensor) -> bool:
    """Whether many small in-place steps beat few large kernels: not where each is a launch and a pass over memory."""
    return x.is_cpu or torch.compiler.is_compiling()


def straight_through(hard: Tensor, surrogate: Tensor) -> Tensor:
    """``hard`` in value, to the bit; ``surrogate`` in gradient, at no cost in time or memory."""
    return _StraightThrough.apply(hard, surrogate)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    @with_signature
    def forward(hard: Tensor, surrogate: Tensor) -> Tensor:
        return hard.detach()

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient
