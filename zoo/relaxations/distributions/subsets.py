"""Subsets of a given size: drawn one after another, or as gates of which just so many are open."""

import math
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations import eager
from zoo.relaxations.distributions.base import (
    Distribution,
    Enumerable,
    Gibbs,
    Linear,
    Recoupled,
    Relaxable,
    check_value,
    one_hot,
    one_or_nan,
    require_kind,
)
from zoo.relaxations.distributions.rankings import (
    LOW,
    MANY,
    log_prob_of_first,
    recouple_first,
    zero_or_nan,
)
from zoo.relaxations.noise import Noise


class _KOfN(Relaxable, Enumerable, Gibbs):
    """What the two laws over subsets of k share: their values, and how scores become one."""

    @classmethod
    def example(cls) -> Self:
        return cls(torch.tensor([[0.5, -0.3, 0.9, -0.8]]), 2)

    def __init__(self, logits: Tensor, k: int, mask: Tensor | None = None, *, dim: int = -1) -> None:
        self.k = k
        self._too_few = f"a row of the mask allows fewer than k = {k} items: every row needs at least {k} true entries"
        super().__init__(logits, mask, dim=dim)

    def _check(self) -> None:
        super()._check()
        n = self.logits.shape[-1]
        if not isinstance(self.k, int) or not 1 <= self.k <= n:
            raise ValueError(f"k = {self.k} of {n} items: k must be from 1 to the number of items, the size at dim")

    def _enough(self, mask: Tensor) -> Tensor:
        return mask.sum(-1) >= self.k

    def _valid(self, value: Tensor) -> Tensor:
        """Whether a value is k-hot among the items that can be chosen."""
        chosen = value == 1
        possible = (chosen & (self.logits != -math.inf)) | (value == 0)
        return possible.all(-1) & (chosen.sum(-1) == self.k)

    def cardinality(self) -> int | Tensor:
        n = self.logits.shape[-1]
        if self.mask is None:
            return math.comb(n, self.k)
        table = [min(math.comb(m, self.k), MANY) for m in range(n + 1)]
        return torch.tensor(table, device=self.mask.device)[self.mask.sum(-1)]

    def _support(self, index: Tensor) -> Tensor:
        # The combinatorial number system: the last of the k is the largest c with comb(c, k) <= index, and so on with
        # what remains. The sets of the first m items come first: a row with only m of them takes the same numbers.
        logits = self.logits.detach()
        size = self.cardinality()
        index = torch.where(index < size, index, 0)
        chosen = []
        for i in range(self.k, 0, -1):
            table = torch.tensor([min(math.comb(c, i), MANY) for c in range(logits.shape[-1])], device=logits.device)
            item = (table <= index.unsqueeze(-1)).sum(-1) - 1
            index = index - table[item]
            chosen.append(item)
        items = torch.stack(chosen, -1)
        if self.mask is not None:
            items = (~self.mask).sort(dim=-1, stable=True).indices.gather(-1, items)
        return one_hot(items, logits)

    def relax(self, scores: Tensor, tau: Tensor | float) -> Tensor:
        """A sum of k softmaxes, each of scores from which those before it have taken their choice.

        ``a <- a + log(1 - softmax(a / tau))`` from ``a = scores``. It sums to k; away from small ``tau`` an entry may
        exceed 1, and far below 0.1 a row with near-ties may have gradients of the order ``tau ** -k``.

        Source: Xie & Ermon 2019, arXiv 1901.10517, algorithm 2.
        """
        if self.k == 1 or isinstance(tau, Tensor) or not (scores.is_cpu and scores.numel()) or eager.plain():
            return successive(scores, self.k, tau)
        return _Successive.apply(scores, self.k, tau)

    def harden(self, scores: Tensor) -> Tensor:
        scores = scores.detach()
        top, index = scores.topk(self.k)
        one = one_or_nan(top).prod(-1, keepdim=True)  # a NaN or +inf anywhere is among the largest
        return one_hot(index, scores, one.expand_as(top))

    def kl(self, other: Distribution) -> Tensor:
        require_same_k(self, other)
        return super().kl(other)


class Subset(Recoupled, Linear, _KOfN):
    """k of n items without replacement: drawn by ``softmax(logits)`` one after another, the order forgotten.

    A value is k-hot, ``(..., n)``: the k largest of ``logits + g`` with Gumbel noise ``g``. For k = 1 it is
    :class:`Categorical`. Not the law of gates of which k are open, :meth:`gibbs`.

    Args:
        logits: ``(batch, ..., n)``.
        k: size of the subset.
        mask: true where an item may be chosen, at least k in each row.
        dim: the dimension of the items.

    Raises:
        ValueError: as :class:`Distribution`; if k is not from 1 to n; on a CPU in eager mode if a row of the mask
            allows fewer than k. Elsewhere such a row is NaN.
        ZooError: from ``entropy``, ``kl`` and ``enumerate_support``, which go through all sets, if those are too many.

    Source: Kool et al. 2019, arXiv 1903.06059, section 2 (the law and its noise).
    """

    def _log_prob(self, value: Tensor) -> Tensor:
        """Exact for any k and n; ``-inf``, without a word, where ``value`` is not k-hot or has a masked item.

        Let each item have a clock that rings after an exponential time of rate ``w = exp(logit)``. The set is drawn if
        its clocks ring before any of the rest, whose rate is ``W``. Those stay silent until ``-log(v) / W``, ``v``
        uniform:

            p(S) = int_0^1 prod_{i in S} (1 - v^(w_i / W)) dv.
        """
        check_value(value, self, self.logits.shape[-1:])
        valid = self._valid(value)
        logits, value = torch.broadcast_tensors(centred(self.logits), value)
        index = value.detach().topk(self.k).indices
        rest = logits.scatter(-1, index, LOW).logsumexp(-1, keepdim=True)
        log_odds = logits.gather(-1, index) - rest
        log_p = log_integral(log_odds) if eager.plain() else _LogIntegral.apply(log_odds)[0]
        log_p = log_p.to(self.logits.dtype).masked_fill(~valid, -math.inf)
        return log_p + zero_or_nan(self.logits.topk(self.k).values.sum(-1))

    # For estimators -----------------------------------------------------------------------------------------------

    def recouple(self, scores: Tensor) -> Tensor:
        """Given which are the k largest, in their order: :func:`recouple_first`.

        The order says more than the set, which costs variance, but not the mean. Given the set alone the noise is a
        mixture over all of its orders.
        """
        return recouple_first(self.logits, scores, self.k)

    def log_prob_of(self, scores: Tensor) -> Tensor:
        return log_prob_of_first(self.logits, scores, self.k)

    def gibbs(self) -> "ConditionalBernoulli":
        twin = ConditionalBernoulli(self.logits, self.k)
        twin.mask, twin.dtype, twin.dim, twin.batch_dim = self.mask, self.dtype, self.dim, self.batch_dim
        return twin

    def marginals(self) -> Tensor:
        return self.gibbs().marginals()


class ConditionalBernoulli(_KOfN):
    """Gates with log-odds ``logits``, given that k are open: ``p(z) ~ exp(sum of the chosen logits)``.

    Also known as the conditional Poisson law: of all with the same marginals it has the largest entropy. It is what
    SIMPLE draws from. A value is k-hot, ``(..., n)``. All is exact and in closed form, in double precision: the
    normaliser is an elementary symmetric polynomial of the weights, a coefficient of the product of all ``1 + w_i x``,
    which are multiplied in pairs, pairs of pairs and so on, in log space: ``O(n k)`` numbers in ``log n`` steps. A
    sample goes down that tree and splits k among the halves. For k = 1 it is :class:`Categorical`.

    Its relaxation is that of :class:`Subset`, by which it is not drawn: only estimators that need no noise of its kind
    serve it.

    Args:
        logits: ``(batch, ..., n)``.
        k: how many gates are open.
        mask: true where a gate may open, at least k in each row.
        dim: the dimension of the gates.

    Raises:
        ValueError: as :class:`Subset`.

    Sources: Chen et al. 1994, "Weighted finite population sampling to maximize entropy"; Ahmed et al. 2023, arXiv
    2210.01941.
    """

    def _sample(self, noise: Noise) -> Tensor:
        law = self.with_logits(self.logits.detach())
        tree = law._tree()
        need = torch.full((*self.shape, 1), self.k, device=self.logits.device)
        for level in reversed(
            tree[:-1]
        ):  # each node has found out how many it needs: how many of them are on its left?
            left, right = level[..., 0::2, :], level[..., 1::2, :]
            size = level.shape[-1]
            others = need.unsqueeze(-1) - torch.arange(size, device=need.device)
            possible = (others >= 0) & (others < size)
            log_p = left + right.gather(-1, others.clamp(0, size - 1))
            cumulative = log_p.masked_fill(~possible, -math.inf).softmax(-1).cumsum(-1)
            u = noise.uniform(cumulative[..., :1], self.batch_dim)
            first = (cumulative <= u * cumulative[..., -1:]).sum(-1).clamp_max(size - 1)  # of NaN only
            need = torch.stack([first, need - first], -1).flatten(-2)
        value = need[..., : self.logits.shape[-1]].to(self.logits.dtype)
        return value + zero_or_nan(law._log_z(tree)).unsqueeze(-1).to(value.dtype)

    def _log_prob(self, value: Tensor) -> Tensor:
        """``-inf``, without a word, where ``value`` is not k-hot or has a masked item."""
        check_value(value, self, self.logits.shape[-1:])
        log_z = self._log_z(self._tree())
        log_p = (value * self._finite()).sum(-1).masked_fill(~self._valid(value), -math.inf) - log_z
        return log_p.to(self.logits.dtype)

    def entropy(self) -> Tensor:
        tree = self._tree()
        mean = (self._marginals(tree) * self._finite()).sum(-1)
        return (self._log_z(tree) - mean).to(self.logits.dtype)

    def kl(self, other: Distribution) -> Tensor:
        require_same_k(self, other)
        assert isinstance(other, ConditionalBernoulli)
        tree = self._tree()
        mean = (self._marginals(tree) * (self._finite() - other._finite())).sum(-1)
        never = ((self.logits != -math.inf) & (other.logits == -math.inf)).any(-1)
        value = mean - self._log_z(tree) + other._log_z(other._tree())
        return value.masked_fill(never, math.inf).to(self.logits.dtype)

    def marginals(self) -> Tensor:
        """The probability that each gate is open, ``(batch, ..., n)``: the gradient of the log-normaliser.

        Written out, not differentiated: it has all derivatives, and every transform can follow it.
        """
        return self._marginals(self._tree()).to(self.logits.dtype)

    def _finite(self) -> Tensor:
        """The log-weights in double precision, 0 where a gate never opens."""
        return centred(self.logits).masked_fill(self.logits == -math.inf, 0.0)

    def _tree(self) -> list[Tensor]:
        """Log-coefficients of the products, from the single gates, ``(..., 2^depth, 2)``, to all, ``(..., 1, k + 1)``.

        Cut at the power k. Gates of weight zero fill up the leaves.
        """
        leaves = centred(self.logits)
        leaves = F.pad(leaves, (0, (1 << (leaves.shape[-1] - 1).bit_length()) - leaves.shape[-1]), value=LOW)
        tree = [torch.stack([torch.zeros_like(leaves), leaves], -1)]
        while tree[-1].shape[-2] > 1:
            left, right = tree[-1][..., 0::2, :], tree[-1][..., 1::2, :]
            size = left.shape[-1]
            wanted = min(2 * (size - 1), self.k) + 1
            products = correlate(left, F.pad(right.flip(-1), (wanted - size, size - 1), value=LOW))
            tree.append(products.flip(-1))
        return tree

    def _log_z(self, tree: list[Tensor]) -> Tensor:
        """``(...)``, NaN where fewer than k gates can open."""
        log_z = tree[-1][..., 0, self.k]
        return torch.where(log_z < LOW / 2, math.nan, log_z)

    def _marginals(self, tree: list[Tensor]) -> Tensor:
        # Down the tree: the log-weight of all gates outside a node, if it has so many of the k open.
        root = tree[-1]
        outside = torch.full_like(root, LOW)
        outside = torch.cat([outside[..., :-1], torch.zeros_like(root[..., -1:])], -1)
        for level in reversed(tree[:-1]):
            left, right = level[..., 0::2, :], level[..., 1::2, :]
            padded = F.pad(outside, (0, 2 * level.shape[-1] - 1 - outside.shape[-1]), value=LOW)
            outside = torch.stack([correlate(right, padded), correlate(left, padded)], -2).flatten(-3, -2)
        log_p = tree[0][..., 1] + outside[..., 1] - self._log_z(tree).unsqueeze(-1)
        return log_p[..., : self.logits.shape[-1]].exp()


def require_same_k(one: Any, other: Any) -> None:
    """Raise ``ZooError`` unless both are of a kind, and of subsets of one size."""
    require_kind(one, other)
    if one.k != other.k:
        raise ZooError(f"a KL divergence is of subsets of one size, got k = {one.k} and {other.k}")


def centred(logits: Tensor) -> Tensor:
    """``logits`` in double precision with their maximum at 0, and :data:`LOW` for ``-inf``."""
    logits = logits.double()
    impossible = logits == -math.inf
    return (logits - logits.detach().amax(-1, keepdim=True)).masked_fill(impossible, LOW)


def correlate(kernel: Tensor, x: Tensor) -> Tensor:
    """``y_i = log sum_j exp(kernel_j + x_{i+j})`` wherever the kernel fits."""
    size = kernel.shape[-1]
    if eager.plain():  # vmap has no rule for the derivative of unfold
        number = torch.arange(x.shape[-1], device=x.device)
        windows = x[..., number[: x.shape[-1] - size + 1].unsqueeze(-1) + number[:size]]
    else:
        windows = x.unfold(-1, size, 1)
    return (windows + kernel.unsqueeze(-2)).logsumexp(-1)


def log_not(log_p: Tensor) -> Tensor:
    """``log(1 - p)`` of probabilities that sum to one, also where ``p`` rounds to one."""
    top = log_p.argmax(-1, keepdim=True)
    others = log_p.scatter(-1, top, -math.inf)
    return torch.log1p(-others.exp()).scatter(-1, top, others.logsumexp(-1, keepdim=True))


def successive(scores: Tensor, k: int, tau: Tensor | float) -> Tensor:
    """The sum of ``k`` softmaxes that :meth:`_KOfN.relax` is."""
    log_p = (scores / tau).log_softmax(-1)
    total = log_p.exp()
    for _ in range(k - 1):
        scores = scores + log_not(log_p)
        log_p = (scores / tau).log_softmax(-1)
        total = total + log_p.exp()
    return total


class _Successive(torch.autograd.Function):
    """:func:`successive` with few passes a step, and its backward pass in closed form.

    With ``p`` the softmax of a step, ``g`` the gradient at the sum and ``a`` that at the scores after the step, the
    gradient at the scores before it is ``a + (v - p sum(v)) / tau`` with ``v = p (g - a / (1 - p))``. Where one ``p``
    is near 1 the difference cancels: there ``1 - p`` is the sum of the others, and its gradient goes to them.
    A second derivative is that of the plain formula.
    """

    @staticmethod
    @eager.with_signature
    def forward(ctx: Any, scores: Tensor, k: int, tau: float) -> Tensor:
        steps: list[tuple[Tensor, Tensor | None, Tensor | None]] = []
        log_p = torch.log_softmax(scores / tau, -1)
        total = log_p.exp()
        p = total.clone()
        for _ in range(k - 1):
            left = p.neg().log1p_()
            if left.min() >= -math.log(2):
                steps.append((p, None, None))
            else:  # nearly all is at one, or NaN
                top = log_p.argmax(-1, keepdim=True)
                others = log_p.scatter(-1, top, -math.inf)
                left.scatter_(-1, top, others.logsumexp(-1, keepdim=True))
                steps.append((p, top, others.softmax(-1)))
            log_p = torch.log_softmax(log_p.add_(left, alpha=1 / tau), -1)
            p = log_p.exp()
            total += p
        ctx.steps, ctx.last, ctx.tau = steps, p, tau
        ctx.save_for_backward(scores)
        return total

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        (scores,), steps, tau = ctx.saved_tensors, ctx.steps, ctx.tau
        if torch.is_grad_enabled():
            total = successive(scores, len(steps) + 1, tau)
            return torch.autograd.grad(total, scores, g, create_graph=True)[0], None, None
        v = ctx.last * g
        slope = v.addcmul_(ctx.last, v.sum(-1, keepdim=True), value=-1).div_(tau)
        for p, top, others in reversed(steps):
            odds = slope / (1 - p)
            if top is None:
                v = (g - odds).mul_(p)
            else:
                v = (g - odds.scatter(-1, top, 0.0)).mul_(p).addcmul_(others, slope.gather(-1, top))
            slope.add_(v.addcmul_(p, v.sum(-1, keepdim=True), value=-1), alpha=1 / tau)
        return slope, None, None


# The probability of a set ---------------------------------------------------------------------------------------------

DROP = 30.0  # what is smaller than the largest value of the integrand by exp(-DROP) is left out
COARSE, FINE = 24, 128  # nodes with which the place of the integrand is found, and with which it is summed
FAR_LEFT, FAR_RIGHT = -34.0, 6.0  # log(1 - exp(-e^y)) is y left of this, and 0 right of that


def log_integrand(x: Tensor, log_odds: Tensor) -> Tensor:
    """``x - e^x + sum_i log(1 - exp(-e^(x + l_i)))`` of ``x`` ``(..., nodes)`` and ``l`` ``(..., k)``."""
    y = x.unsqueeze(-1) + log_odds.unsqueeze(-2)
    log_rung = (-torch.expm1(-y.clamp(FAR_LEFT, FAR_RIGHT).exp())).log() + (y - FAR_LEFT).clamp_max(0.0)
    return x - x.exp() + log_rung.sum(-1)


@torch.no_grad()
def nodes(log_odds: Tensor) -> Tensor:
    """Where the integrand lies, ``(..., FINE)``, equally spaced.

    It is log-concave. So what is at least ``exp(-DROP)`` of its maximum lies between the neighbours of all nodes that
    are at least that in comparison with the largest of them, however coarse they are: twice, to find a narrow one.
    """
    k = log_odds.shape[-1]
    low = torch.full_like(log_odds[..., :1], -DROP - 2)
    width = torch.full_like(low, DROP + 2 + math.log(k + 1) + math.log(DROP) + 1)
    number = torch.arange(COARSE, device=low.device)
    for _ in range(2):
        step = width / (COARSE - 1)
        value = log_integrand(low + step * number, log_odds)
        inside = value >= value.amax(-1, keepdim=True) - DROP
        first = torch.where(inside, number, COARSE).amin(-1, keepdim=True)
        last = torch.where(inside, number, 0).amax(-1, keepdim=True)
        low, width = low + step * (first - 1), step * (last - first + 2)
    return low + width / (FINE - 1) * torch.arange(FINE, device=low.device)


def log_integral(log_odds: Tensor) -> Tensor:
    """``log int_0^1 prod_i (1 - v^exp(l_i)) dv``, ``(...)``, for ``l`` ``(..., k)`` in double precision.

    With ``v = exp(-e^x)`` the integrand vanishes at both ends and is analytic, and the trapezoidal rule converges
    geometrically: to 1e-13 here. All terms are positive, unlike those of inclusion and exclusion.
    """
    x = nodes(log_odds.detach())
    log_p = log_integrand(x, log_odds).logsumexp(-1) + (x[..., 1] - x[..., 0]).log()
    return log_p.masked_fill((log_odds > -LOW / 2).all(-1), 0.0)  # there is nothing outside of the set


class _LogIntegral(torch.autograd.Function):
    """:func:`log_integral` in parts, and its gradient, a number an item, computed with it: nothing else is kept.

    A second derivative is that of the plain formula.
    """

    @staticmethod
    @eager.with_signature
    def forward(log_odds: Tensor) -> tuple[Tensor, Tensor]:
        k = log_odds.shape[-1]
        rows = log_odds.reshape(-1, k)
        parts = [_value_and_gradient(part) for part in rows.split(max(2**20 // (FINE * k), 1))]
        value, gradient = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        return value.view(log_odds.shape[:-1]), gradient.view(log_odds.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Any) -> Tensor:
        log_odds, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():
            return torch.autograd.grad(log_integral(log_odds), log_odds, upstream, create_graph=True)[0]
        return upstream.unsqueeze(-1) * gradient


def _value_and_gradient(log_odds: Tensor) -> tuple[Tensor, Tensor]:
    """The same in place: the derivative of ``log(1 - exp(-u))``, ``u = e^y``, is ``u exp(-u) / (1 - exp(-u))``."""
    x = nodes(log_odds)
    y = x.unsqueeze(-1) + log_odds.unsqueeze(-2)
    u = y.clamp(FAR_LEFT, FAR_RIGHT).exp_()
    rung = u.neg().expm1_().neg_()
    log_rung = y.sub_(FAR_LEFT).clamp_max_(0.0).add_(rung.log())
    value = x - x.exp() + log_rung.sum(-1)
    slope = u.div_(rung).addcmul_(u, rung, value=-1)
    log_p = value.logsumexp(-1, keepdim=True)
    gradient = (value.sub_(log_p).exp_().unsqueeze(-2) @ slope).squeeze(-2)
    log_p = (log_p + (x[..., 1:2] - x[..., :1]).log()).squeeze(-1)
    alone = (log_odds > -LOW / 2).all(-1)
    return log_p.masked_fill(alone, 0.0), gradient.masked_fill(alone.unsqueeze(-1), 0.0)
