"""Fast paths of eager mode: the same formulas with few passes over few tensors, in place, and closed-form backwards.

Each is the twin of a plain formula, which ``torch.func``, ``torch.compile`` and ``torch.export`` follow; :func:`plain`
says which of the two is to be taken, :func:`pays` where the fast one is worth its calls. A test by registry holds
the twins equal in float64.
"""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from zoo.relaxations.noise import Noise

WORTH = 4096  # numbers from which fewer passes save more than their calls cost
_REFINED = 32  # of 2^31: numbers this small get further bits


def plain() -> bool:
    """Whether something follows what is computed: a compiler, a transform of ``torch.func``, or forward-mode AD."""
    return (
        torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    )


def pays(x: Tensor, parts: int = 1) -> bool:
    """Whether many small steps in place beat PyTorch's kernels: on a GPU each is a launch and a pass over memory.

    Args:
        parts: of how many processes ``x`` has a part of the batch. Where the two ways draw other numbers, that of the
            whole batch is to be taken, however it is split.
    """
    # A compiler is asked first: it would keep what a size that may vary is compared with. A mode, such as follows the
    # draws of a program, sees through plain formulas alone.
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    return x.numel() * parts >= WORTH and x.is_cpu and not plain()


def with_signature(forward: Callable) -> Callable:
    """Let ``forward`` of an autograd function keep its signature: PyTorch asks for it in every call, and to find it out
    takes longer than a small softmax."""
    vars(forward)["__signature__"] = inspect.signature(forward)
    return forward


def gumbel(noise: "Noise", shape: torch.Size, device: torch.device, batch_dim: int) -> Tensor:
    """Standard Gumbel noise in float32, always finite; every step is in place in one tensor.

    ``E = -log(1 - u)`` with ``u = (k + 1/2) / 2^31``, ``k`` of 31 random bits, as a float exact to 24 bits however
    small it is, and the logarithm by the identity

        -log(1 - u) = 2 artanh(u / (2 - u)) = 2 artanh(1 / (2 / u - 1)),

    which keeps that precision, and on a CPU is several times faster than PyTorch's ``log1p`` or ``exponential_``.
    A factor 1 - 2^-22 keeps ``u`` below 1 after rounding. The few smallest ``k`` get a random fraction in place of 1/2:
    a category of probability 1e-10 is chosen by an ``E`` of that size.
    """

    def make(shape: torch.Size, **generator: Any) -> Tensor:
        bits = torch.empty(shape, dtype=torch.int32, device=device).random_(**generator)
        if not bits.numel() or bits.min() >= _REFINED:
            return bits.view(torch.float32).copy_(bits).add_(0.5)  # in units of 2^-31
        small = (bits.view(-1) < _REFINED).nonzero().squeeze(1)
        fraction = torch.rand(len(small), dtype=torch.float64, device=device, **generator).clamp_min_(2.0**-30)
        finer = fraction.add_(bits.view(-1)[small])
        u = bits.view(torch.float32).copy_(bits).add_(0.5)
        u.view(-1)[small] = finer.float()
        return u

    u = noise.draw(make, shape, device, batch_dim)
    return u.reciprocal_().mul_(2.0**32 / (1 - 2.0**-22)).sub_(1).reciprocal_().atanh_().mul_(2).log_().neg_()


def softmax(logits: Tensor, tau: Tensor | float, scratch: Tensor) -> Tensor:
    """``softmax(scratch / tau)``, written into ``scratch``, with the gradient that it has in ``logits``.

    ``scratch`` is ``logits`` plus a constant, without gradient. Differentiable any number of times in ``logits``, not
    in ``tau``.
    """
    return _Softmax.apply(logits, softmax_(scratch, tau), tau)


class _Softmax(torch.autograd.Function):
    """``y`` in value, the softmax of ``(logits + constant) / tau``, whose Jacobian is ``(diag(y) - y y') / tau``.

    ``y`` is saved as the output that it is, not as a constant: the backward pass can be differentiated in turn.
    """

    @staticmethod
    @with_signature
    def forward(logits: Tensor, y: Tensor, tau: Tensor | float) -> Tensor:
        return y.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | float], output: Tensor) -> None:
        tau = inputs[2]
        ctx.tau = None if isinstance(tau, Tensor) else tau
        ctx.save_for_backward(output, *([tau] if isinstance(tau, Tensor) else []))
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, None, None]:
        if gradient is None:
            return None, None, None
        y, *saved = ctx.saved_tensors
        product = y * gradient
        return (
            product.addcmul_(y, product.sum(-1, keepdim=True), value=-1).div_(saved[0] if saved else ctx.tau),
            None,
            None,
        )


def softmax_(x: Tensor, tau: Tensor | float = 1.0) -> Tensor:
    """``softmax(x / tau)`` in place of ``x``, without gradient.

    PyTorch's kernel is for long rows: on a CPU ten categories take it four times as long as these single steps.
    """
    x.sub_(x.amax(-1, keepdim=True)).div_(tau).exp_()
    return x.div_(x.sum(-1, keepdim=True))


def straight_through(hard: Tensor, surrogate: Tensor) -> Tensor:
    """``hard`` in value, to the bit where the surrogate is finite; ``surrogate`` in gradient."""
    if plain():
        return hard + (surrogate - surrogate.detach())
    if hard.numel() >= WORTH:
        return _StraightThrough.apply(hard, surrogate)
    value = surrogate.clone()  # one node of the graph, a third of what an autograd function costs; no one has saved it
    value.detach().copy_(hard)
    return value


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    @with_signature
    def forward(hard: Tensor, surrogate: Tensor) -> Tensor:
        return hard.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def reinmax(logits: Tensor, p: Tensor | None, index: Tensor, hard: Tensor, tau: Tensor | float) -> Tensor:
    """``hard``, one-hot at ``index``, with ReinMax's gradient.

    Args:
        p: ``softmax(logits)`` without gradient, if it is known; else the backward pass computes it.
    """
    if hard.numel() >= WORTH:
        return _ReinMax.apply(logits, p, index, hard, tau)
    if not (logits.requires_grad and torch.is_grad_enabled()):
        return hard
    between = logits.view_as(logits)
    between.register_hook(lambda g: reinmax_backward(g, logits, p, index, hard, tau))
    return straight_through(hard, between)


def reinmax_backward(
    g: Tensor, logits: Tensor, p: Tensor | None, index: Tensor, hard: Tensor, tau: Tensor | float
) -> Tensor:
    """A gradient ``g`` at the draw as one at the logits. Since ``D`` has a single entry,

        (2 J(p1) - J(p) / 2) g = q (g - (g_D + q'g) / 2) + D (g_D - q'g) / 2 - p (g - p'g) / 2

    where ``g_D = D'g`` and products of vectors without a prime are entry by entry: neither ``D``, ``q`` nor ``p1`` is
    kept. A second derivative is that of the plain formula.
    """
    if torch.is_grad_enabled():
        return torch.autograd.grad(reinmax_surrogate(logits, hard, tau), logits, g, create_graph=True)[0]
    at_draw = g.gather(-1, index)
    if p is None or logits.numel() < WORTH:  # on an accelerator it is computed here
        q, p = (logits / tau).softmax(-1), logits.softmax(-1)
        lead = at_draw.sub_((q * g).sum(-1, keepdim=True)).div_(2)
        slope = torch._softmax_backward_data(g, q, -1, q.dtype)
        slope.sub_(torch._softmax_backward_data(g, p, -1, p.dtype), alpha=0.5).addcmul_(q, lead, value=-1)
        return slope.scatter_add_(-1, index, lead)
    q = softmax_(logits.clone(memory_format=torch.contiguous_format), tau)
    slope, mean_p = q * g, torch.einsum("...k,...k->...", p, g).unsqueeze(-1)
    mean_q = slope.sum(-1, keepdim=True)
    slope.addcmul_(q, at_draw + mean_q, value=-0.5).addcmul_(p, g, value=-0.5).addcmul_(p, mean_p, value=0.5)
    return slope.scatter_add_(-1, index, (at_draw - mean_q) / 2)


class _ReinMax(torch.autograd.Function):
    @staticmethod
    @with_signature
    def forward(logits: Tensor, p: Tensor, index: Tensor, hard: Tensor, tau: Tensor | float) -> Tensor:
        return hard.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        logits, p, index, hard, ctx.tau = inputs
        ctx.save_for_backward(logits, p, index, hard)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        logits, p, index, hard = ctx.saved_tensors
        return reinmax_backward(g, logits, p, index, hard, ctx.tau), None, None, None, None


def reinmax_surrogate(logits: Tensor, hard: Tensor, tau: Tensor | float) -> Tensor:
    """The plain formula: a function of ``logits`` with ReinMax's Jacobian at the draw ``hard``.

    ``2 J(p1) - J(p) / 2 = J(q) + (D - q)(D - q)' / 2 - J(p) / 2``, and ``D - q`` is the gradient of
    ``tau log q_D``.
    """
    scaled = logits / tau
    q = scaled.softmax(-1)
    log_q = (hard * finite(scaled.log_softmax(-1))).sum(-1, keepdim=True)
    return tau * (q + 0.5 * (hard - q.detach()) * log_q) - 0.5 * logits.softmax(-1)


def finite(x: Tensor) -> Tensor:
    """``x`` with 0 for ``-inf``: what is multiplied or subtracted must not be infinite."""
    return x.masked_fill(x == -torch.inf, 0.0)
