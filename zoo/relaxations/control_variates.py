"""REBAR and RELAX: the score function with a relaxed run of the same program as its control variate."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.relaxations import eager
from zoo.relaxations.base import Draw, InEval, Program, Relaxation, Tempered, run, shaped, sum_like
from zoo.relaxations.distributions import Recoupled
from zoo.relaxations.following import Following
from zoo.relaxations.noise import Noise
from zoo.relaxations.score_function import check_decay, follow_mean


class _Draw:
    """One draw of the program: its noise, and what the two runs make of it.

    Attributes:
        distribution: as the program gave it, for the gradient.
        logits: its logits without gradient.
        z: the perturbed scores; the hard draw is what they harden to, the relaxed one what they relax to.
        score: the gradient of the log-probability of the outcome at the logits.
    """

    def __init__(self, distribution: Any, noise: Noise) -> None:
        self.distribution = distribution
        self.logits = distribution.logits.detach()
        self.fixed = distribution.with_logits(self.logits)
        self.z = self.fixed.perturb(noise).detach()
        self.hard = self.fixed.harden(self.z)
        self.score = self._pull(lambda law: law.log_prob_of(self.z), None)

    def gap(self, slope: Tensor) -> Tensor:
        """``(dz/dlogits - dz~/dlogits)' slope`` where ``z~``, the noise given its outcome, equals ``z`` in value.

        ``z`` itself moves with its own logit by 1.
        """
        return slope - self._pull(lambda law: law.recouple(self.z), slope)

    def _pull(self, function: Callable[[Any], Tensor], slope: Tensor | None) -> Tensor:
        """The gradient, at the logits, of ``function`` of this distribution, summed with ``slope``."""

        def total(logits: Tensor) -> Tensor:
            value = function(self.distribution.with_logits(logits))
            return (value if slope is None else eager.finite(value) * slope).sum()

        return gradient_at(total, self.logits, create_graph=slope is not None and slope.requires_grad)


class Rebar(Tempered):
    """``[f(b) - eta f(y)] grad log p(b) + eta (grad f(y) - grad f(y~))``: unbiased, with a relaxed control variate.

    With ``z = logits + g`` the hard draw is ``b``, the arg max of ``z``, the relaxed one ``y = softmax(z / tau)``, and
    ``y~`` the same relaxation of ``z~``, a second reparameterisation: by the noise given that ``b`` has won. The noises
    are coupled such that ``z~ = z`` in value, so that the program runs twice, not three times, and only the Jacobians
    differ. A constant baseline beside it takes what is the same for all draws. ``eta`` and the baseline are the
    least-squares values over earlier batches, those of all processes, which keeps the mean exact; a batch with a cost
    that is not finite is left out, and inside ``torch.func`` they stay as they are.

    The program may draw many times, but must not let a later draw depend on an earlier one: the relaxed run would then
    have other distributions than the hard one, and the coupling would be gone. It must give the same logits twice (no
    dropout before a draw), its cost must be differentiable in the draws, without jumps (:mod:`zoo.relaxations.following`),
    and no row may see another's draw. Two program runs. Any tau is unbiased; the least variance is at about 1.

    Args:
        tau: temperature of the control variate.
        decay: of the running means behind ``eta``, in [0, 1).

    Raises:
        ValueError: if ``decay`` is outside [0, 1).
        ZooError: from ``expectation``, if a draw depends on an earlier one, or the cost jumps or has no derivative.

    Sources: Tucker et al. 2017, arXiv 1703.07370, eq. 5 and section 3.2; Grathwohl et al. 2018, arXiv 1711.00123,
    appendix B, for categorical choices. For subsets and orders, given the order of what was drawn.
    """

    unbiased = True
    dependent_draws = False
    learns_tau = False
    needs = (Recoupled,)

    gram: Tensor
    cross: Tensor

    def __init__(self, *, tau: float = 1.0, decay: float = 0.99, in_eval: InEval | None = None) -> None:
        super().__init__(tau=tau, in_eval=in_eval)
        self.decay = check_decay(decay)
        # Running means for the least squares: of the products of the two controls, and of theirs with the estimate.
        self.register_buffer("gram", torch.zeros(2, 2))
        self.register_buffer("cross", torch.zeros(2))

    def estimate(self, program: Program, noise: Noise) -> tuple[Tensor, Any]:
        cost, auxiliary, draws, gradients = self.both_runs(program, noise)
        return with_gradient(cost, draws, gradients), auxiliary

    def both_runs(self, program: Program, noise: Noise) -> tuple[Tensor, Any, list[_Draw], list[Tensor]]:
        """The hard run's cost and auxiliary values, its draws, and the estimated gradient at the logits of each draw."""
        draws: list[_Draw] = []

        def draw(x: Any, mask: Tensor | None = None) -> Tensor:
            draws.append(_Draw(self.served(x, mask), noise))
            return draws[-1].distribution.place(draws[-1].hard)

        with Following(self, independent=True) as following:
            cost, auxiliary = run(program, following.drawing(draw))
        relaxed_cost, slopes = self.run_relaxed(program, draws)
        scores = [draw.score for draw in draws]
        estimates = [shaped(cost.detach(), score) * score for score in scores]
        controls = [
            shaped(relaxed_cost, draw.score) * draw.score - draw.gap(slope) for draw, slope in zip(draws, slopes)
        ]
        eta, baseline = self.coefficients()
        products = [inner(a, b) for a in (controls, scores, estimates) for b in (controls, scores)]
        gram, cross = torch.stack(products).split([4, 2])
        gradients = [e - eta * c - baseline * s for e, c, s in zip(estimates, controls, scores)]
        follow_mean([self.gram, self.cross], [gram.view(2, 2), cross], self.decay, noise)
        return cost, auxiliary, draws, gradients

    def coefficients(self) -> Tensor:
        """``eta`` and the baseline with the least variance over the batches so far; 1 and 0 before the first."""
        gram = self.gram.double()  # nearly singular where the cost has a large constant part
        known = gram.trace() > 0
        ridge = torch.where(known, 1e-10 * gram.trace(), 1.0) * torch.eye(2).to(gram)
        first = torch.tensor([1.0, 0.0]).to(gram)
        return torch.where(known, torch.linalg.solve(gram + ridge, self.cross.double()), first).to(self.gram)

    def run_relaxed(self, program: Program, draws: list[_Draw]) -> tuple[Tensor, list[Tensor]]:
        """The cost of the relaxed draws and its gradient at each ``z``, both without a graph."""

        def total(*scores: Tensor) -> tuple[Tensor, Tensor]:
            soft = [d.fixed.relax(z, self.temperature_for(d.fixed)) for d, z in zip(draws, scores)]
            place = {id(draw): value for draw, value in zip(draws, soft)}
            with Following(self, smooth=True, independent=True) as following:
                again = replay(self, program, draws, lambda draw: draw.distribution.place(place[id(draw)]), following)
                cost, _ = run(again, None)
                if following.check_smooth(cost) and not cost.requires_grad and not eager.plain():
                    raise ZooError(
                        f"{type(self).__name__} needs a cost that is differentiable in its draws; use rloo or disarm"
                    )
            return cost.sum(), cost.detach()

        slopes, cost = gradients_at(total, [draw.z for draw in draws])
        return cost, slopes


class Relax(Rebar):
    """REBAR's control variate plus a small network's, trained to lower the variance: unbiased whatever it learns.

    The control variate is ``eta f(y) + r(z)``. ``r`` sums a network's output over all entries of a draw; the network
    sees an entry's noise, log-probability, relaxed value and place (as sines of its index), so it fits any number of
    choices and categories. It is additive: how choices interact is left to ``f(y)``. Through the loss, whose value it
    leaves alone, the network receives the gradient of the squared norm of the estimate, relative to its size, and is
    trained by the model's optimiser. The restrictions are REBAR's. Two program runs.

    Args:
        tau: temperature of the relaxed run.
        decay: of the running means behind ``eta``, in [0, 1).
        hidden: width of the network.

    Raises:
        ValueError: if ``decay`` is outside [0, 1) or ``hidden`` is less than 1.
        ZooError: as REBAR.

    Source: Grathwohl et al. 2018, arXiv 1711.00123, eq. 7 and algorithm 1.
    """

    def __init__(
        self, *, tau: float = 1.0, decay: float = 0.99, hidden: int = 32, in_eval: InEval | None = None
    ) -> None:
        super().__init__(tau=tau, decay=decay, in_eval=in_eval)
        if hidden < 1:
            raise ValueError(f"hidden must be at least 1, got {hidden}")
        last = nn.Linear(hidden, 1, bias=False)
        self.network = nn.Sequential(nn.Linear(3 + PLACE_FEATURES, hidden), nn.Tanh(), last)
        nn.init.normal_(last.weight, std=1e-2)  # starts near REBAR

    def estimate(self, program: Program, noise: Noise) -> tuple[Tensor, Any]:
        cost, auxiliary, draws, gradients = self.both_runs(program, noise)
        with torch.enable_grad():
            values = [self.learned(draw, draw.z) for draw in draws]
            learned = sum((sum_like(value, cost) for value in values), torch.zeros_like(cost))
            slopes = [
                gradient_at(lambda z, d=draw: self.learned(d, z).sum(), draw.z, create_graph=True) for draw in draws
            ]
            gradients = [
                gradient - shaped(learned, draw.score) * draw.score + draw.gap(slope)
                for draw, gradient, slope in zip(draws, gradients, slopes)
            ]
            squared = sum((sum_like(gradient**2, cost) for gradient in gradients), torch.zeros_like(cost))
            size = noise.mean(squared.mean()).clamp_min(torch.finfo(squared.dtype).tiny)
            variance = squared / size
        loss = with_gradient(cost, draws, [gradient.detach() for gradient in gradients])
        return loss + (variance - variance.detach()), auxiliary

    def learned(self, draw: _Draw, z: Tensor) -> Tensor:
        """The network's part of the control variate, of each entry of a draw, of the shape of ``z``."""
        allowed = draw.logits != -torch.inf
        law = draw.fixed
        y = law.relax(z, self.temperature_for(law))
        y = y if y.shape == z.shape else y.sum(-2)
        log_p = draw.logits - draw.logits.logsumexp(-1, keepdim=True) if law.choice_dims else draw.logits
        entries = torch.stack([value.masked_fill(~allowed, 0.0) for value in (z - draw.logits, log_p, y)], -1)
        features = torch.cat([entries, place_features(z).expand(*z.shape, PLACE_FEATURES)], -1)
        weights = next(self.network.parameters())
        return self.network(features.to(weights)).squeeze(-1).masked_fill(~allowed, 0.0).to(z)


PLACE_FEATURES = 16


def place_features(like: Tensor) -> Tensor:
    """Sines and cosines of each entry's index within its example, ``(..., PLACE_FEATURES)``."""
    inside = like.shape[1:]
    index = torch.arange(inside.numel(), device=like.device, dtype=like.dtype).view(inside)
    angles = index.unsqueeze(-1) * 2.0 ** -torch.arange(PLACE_FEATURES // 2, device=like.device, dtype=like.dtype)
    return torch.cat([angles.sin(), angles.cos()], -1)


AnyDraw = TypeVar("AnyDraw")


def replay(
    by: Relaxation,
    program: Program,
    draws: list[AnyDraw],
    value: Callable[[AnyDraw], Tensor],
    following: Following | None = None,
) -> Callable[[Any], Any]:
    """``program`` with ``value(draw)`` for each of its draws, one after another.

    Raises:
        ZooError: when it runs, if it asks for other draws than before.
    """
    remaining = iter(draws)

    def draw(x: Any, mask: Tensor | None = None) -> Tensor:
        known: Any = next(remaining, None)
        now = by.served(x, mask).logits.detach()
        if known is None or now.shape != known.distribution.logits.shape or not same(now, known.distribution.logits):
            raise ZooError(
                f"{type(by).__name__} runs a program twice, and the second time it asked for a draw with other logits or "
                "another mask: a network before the draw is random (dropout), or the draw depends on an earlier one. Use "
                "rloo or reinforce, or a pathwise relaxation"
            )
        return value(known)

    drawing: Draw = following.drawing(draw) if following else draw
    return lambda _: program(drawing)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, as far as a transform lets one see it."""
    if torch._C._are_functorch_transforms_active():
        return True
    return torch.equal(one.nan_to_num(), other.detach().nan_to_num())


def gradient_at(function: Callable[[Tensor], Tensor], at: Tensor, *, create_graph: bool = False) -> Tensor:
    """The gradient of the scalar ``function`` at ``at``, zero where it does not depend on it."""
    gradients, _ = gradients_at(lambda x: (function(x), x.new_zeros(())), [at], create_graph=create_graph)
    return gradients[0]


def gradients_at(
    function: Callable[..., tuple[Tensor, Tensor]], at: list[Tensor], *, create_graph: bool = False
) -> tuple[list[Tensor], Tensor]:
    """The gradients of the scalar that ``function`` gives first at each of ``at``, and what it gives second."""
    if eager.plain() and at:
        gradients, second = torch.func.grad(function, tuple(range(len(at))), has_aux=True)(*at)
        return list(gradients), second
    with torch.enable_grad():
        leaves = [value.detach().requires_grad_() for value in at]
        total, second = function(*leaves)
        if not total.requires_grad or not leaves:
            return [torch.zeros_like(value) for value in at], second
        found = torch.autograd.grad(total, leaves, allow_unused=True, create_graph=create_graph)
    return [torch.zeros_like(v) if g is None else g for g, v in zip(found, at)], second


def inner(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """The inner product of two gradients over all draws, averaged over the batch."""
    return torch.stack([(a * b).sum() / max(len(a), 1) for a, b in zip(first, second)]).sum().detach()


def with_gradient(cost: Tensor, draws: list[_Draw], gradients: list[Tensor]) -> Tensor:
    """``cost`` in value and in its own gradient, plus ``gradients`` at the logits of the draws."""
    for draw, gradient in zip(draws, gradients):
        linear = sum_like(gradient.detach() * eager.finite(draw.distribution.logits), cost)
        cost = cost + (linear - linear.detach())
    return cost
