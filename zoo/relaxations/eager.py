"""Fast paths of eager mode: the same formulas with few passes over few tensors, in place, and closed-form backwards.

Each is the twin of a plain formula, which ``torch.func``, ``torch.compile`` and ``torch.export`` follow; :func:`plain`
says which of the two is to be taken, :func:`pays` where the fast one is worth its calls. A test by registry holds
the twins equal in float64.
"""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from zoo.relaxations.noise import Noise

WORTH = 4096  # numbers from which fewer passes save more than their calls cost
TINY = 128  # numbers up to which PyTorch's softmax is quicker than its steps one by one
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


def few(x: Any) -> bool:
    """Whether a draw with the logits ``x`` costs the calls that it makes: a small tensor on a CPU."""
    return (
        not plain()  # first, as in pays
        and isinstance(x, Tensor)
        and x.dtype is torch.float32
        and 0 < x.numel() < WORTH
        and x.shape[-1:] > (1,)
        and x.is_cpu
        and not torch._C._len_torch_dispatch_stack()
    )


def perturbed(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """``x`` plus Gumbel noise, by the fewest calls; the same to the bit as of :class:`zoo.relaxations.noise.Noise`."""
    return x - torch.empty_like(x, memory_format=torch.contiguous_format).exponential_(generator=generator).log_()


def short_gumbel_softmax(logits: Tensor, tau: float, generator: torch.Generator | None = None) -> Tensor:
    """Gumbel-softmax of few numbers."""
    return torch.softmax(scaled(perturbed(logits, generator), tau), -1)


def short_st_gumbel_softmax(logits: Tensor, tau: float, generator: torch.Generator | None = None) -> Tensor:
    """Straight-through Gumbel-softmax of few numbers."""
    scores = perturbed(logits, generator)
    return harden_into(torch.softmax(scaled(scores, tau), -1), scores)


def harden_into(soft: Tensor, scores: Tensor) -> Tensor:
    """One-hot at the largest of ``scores`` in value, NaN where ``soft`` is; ``soft``, a softmax, in gradient."""
    value = soft.clone()  # one node of the graph, which saves nothing
    value.detach().mul_(0.0).scatter_(-1, scores.argmax(-1, keepdim=True), 1.0)
    return value


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
    def forward(ctx: Any, logits: Tensor, y: Tensor, tau: Tensor | float) -> Tensor:
        output = y.detach()
        ctx.tau = None if isinstance(tau, Tensor) else tau
        ctx.save_for_backward(output, *([tau] if isinstance(tau, Tensor) else []))
        ctx.set_materialize_grads(False)
        return output

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
    x.sub_(x.amax(-1, keepdim=True))
    if isinstance(tau, Tensor) or tau != 1.0:
        x.div_(tau)
    x.exp_()
    return x.div_(x.sum(-1, keepdim=True))


def straight_through(hard: Tensor, surrogate: Tensor) -> Tensor:
    """``hard`` in value, to the bit where the surrogate is finite; ``surrogate`` in gradient."""
    if plain():
        return hard + (surrogate - surrogate.detach())
    return _StraightThrough.apply(hard, surrogate)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hard: Tensor, surrogate: Tensor) -> Tensor:
        return hard.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def reinmax(logits: Tensor, p: Tensor | None, index: Tensor, hard: Tensor, tau: Tensor | float) -> Tensor:
    """``hard``, one-hot at ``index``, with ReinMax's gradient.

    Args:
        p: ``softmax(logits)`` without gradient, if it is known; else the backward pass computes it.
    """
    return _ReinMax.apply(logits, p, index, hard, tau)


class _ReinMax(torch.autograd.Function):
    """The Jacobian, with ``q = softmax(logits / tau)``, which is not kept, and ``J(q) = diag(q) - q q'``, is

        2 J(p1) - J(p) / 2 = J(q) + (D - q) (D - q)' / 2 - J(p) / 2.

    A second derivative is that of the plain formula.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, p: Tensor | None, index: Tensor, hard: Tensor, tau: Tensor | float) -> Tensor:
        ctx.tau = tau
        ctx.save_for_backward(logits, hard, p, index)
        return hard.detach()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        logits, hard, p, index = ctx.saved_tensors
        if p is None or torch.is_grad_enabled():
            slope = reinmax_backward(g, logits, hard, ctx.tau)
        else:
            slope = reinmax_backward_(g, logits, p, index, ctx.tau)
        return slope, None, None, None, None


def short_reinmax(logits: Tensor, tau: float, generator: torch.Generator | None = None) -> Tensor:
    """ReinMax of few numbers."""
    return _ShortReinMax.apply(logits, tau, generator)


class _ShortReinMax(torch.autograd.Function):
    """:class:`_ReinMax` with its draw: nothing of it is recorded."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, tau: float, generator: torch.Generator | None) -> Tensor:
        scores = perturbed(logits, generator)
        top, index = scores.max(-1, keepdim=True)
        hard = torch.zeros_like(scores).scatter_(-1, index, top.sub_(top).exp_())
        ctx.tau = tau
        ctx.save_for_backward(logits, hard)
        return hard.detach()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        logits, hard = ctx.saved_tensors
        return reinmax_backward(g, logits, hard, ctx.tau), None, None


def reinmax_backward(g: Tensor, logits: Tensor, hard: Tensor, tau: Tensor | float) -> Tensor:
    """The gradient at the logits by few calls: for few numbers, and for an accelerator."""
    if torch.is_grad_enabled():
        logits = logits.view_as(logits)  # whose hooks have not run: those of the logits themselves run once
        return torch.autograd.grad(reinmax_surrogate(logits, hard, tau), logits, g, create_graph=True)[0]
    if isinstance(tau, float) and tau == 1.0:  # p (g - g_D) / 2, plus at D what makes the sum zero
        slope = (g - (hard * g).sum(-1, keepdim=True)).mul_(torch.softmax(logits, -1))
        return slope.addcmul_(hard, slope.sum(-1, keepdim=True), value=-1).mul_(0.5)
    if logits.numel() >= TINY and logits.is_cpu and isinstance(tau, float) and _constants_serve(logits):
        both = softmax_(logits * _inverse_and_one(tau, logits.dtype, logits.dim()))
        slopes = both * g
        slopes.addcmul_(both, slopes.sum(-1, keepdim=True), value=-1)
        q, (slope, other) = both[0], slopes.unbind()
    else:
        q, p = torch.softmax(scaled(logits, tau), -1), torch.softmax(logits, -1)
        slope = torch._softmax_backward_data(g, q, -1, q.dtype)
        other = torch._softmax_backward_data(g, p, -1, p.dtype)
    ahead = q.neg_().add_(hard)
    return slope.sub_(other, alpha=0.5).addcmul_(ahead, (ahead * g).sum(-1, keepdim=True), value=0.5)


def reinmax_backward_(g: Tensor, logits: Tensor, p: Tensor, index: Tensor, tau: Tensor | float) -> Tensor:
    """The gradient at the logits by few passes: since ``D`` has a single entry it is

    q (g - (g_D + q'g) / 2) + D (g_D - q'g) / 2 - p (g - p'g) / 2,    g_D = D'g.
    """
    at_draw = g.gather(-1, index)
    if isinstance(tau, float) and tau == 1.0:
        slope = (g - at_draw).mul_(p)
        return slope.scatter_add_(-1, index, slope.sum(-1, keepdim=True).neg_()).mul_(0.5)
    q = softmax_(torch.div(logits, tau).contiguous())
    slope, mean_p = q * g, inner(p, g)
    mean_q = slope.sum(-1, keepdim=True)
    slope.addcmul_(q, at_draw + mean_q, value=-0.5).addcmul_(p, g, value=-0.5).addcmul_(p, mean_p, value=0.5)
    return slope.scatter_add_(-1, index, (at_draw - mean_q) / 2)


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Inner product of each row, ``(..., 1)``."""
    many = torch._C._functorch.is_legacy_batchedtensor(y)  # gradients at once, for which einsum has no rule
    if many or plain() or torch.is_autocast_enabled(x.device.type):  # where it rounds
        return (x * y).sum(-1, keepdim=True)
    return torch.einsum("...k,...k->...", x, y).unsqueeze(-1)


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


def scaled(scores: Tensor, tau: Tensor | float) -> Tensor:
    """``scores / tau``; a number that PyTorch must wrap for every call costs as much as a small softmax."""
    if isinstance(tau, Tensor) or plain() or not _constants_serve(scores):
        return scores / tau
    return scores if tau == 1.0 else scores / _constant(tau, scores.dtype)


def _constants_serve(x: Tensor) -> bool:
    """Whether ``x`` goes with tensors that are kept: one of another kind, or under a mode, would spoil them."""
    return not torch._C._len_torch_dispatch_stack() and type(x) in (Tensor, torch.nn.Parameter)


@functools.lru_cache(maxsize=256)
def _constant(value: float, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=dtype, device="cpu")


@functools.lru_cache(maxsize=256)
def _inverse_and_one(value: float, dtype: torch.dtype, dims: int) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor([1 / value, 1.0], dtype=dtype, device="cpu").view(2, *[1] * dims)
