"""REBAR and RELAX: the score function with a relaxed run of the same program as its control variate."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.relaxations.base import Program, Relaxation, check_cost, mask_logits, sum_per_example
from zoo.relaxations.functional import one_hot_like, sample_gumbel, sample_one_hot
from zoo.relaxations.score_function import no_single_draw
from zoo.relaxations.splitting import mean_of_whole_batch


class _Draw:
    """One draw of the program: its noise, and what the two runs make of it.

    Attributes:
        raw: the logits as the program gave them, for the gradient.
        logits: in float32, masked entries ``-inf``, without gradient.
        z: ``logits + g``, a leaf; its arg max is the hard draw, its softmax the relaxed one.
    """

    def __init__(self, logits: Tensor, mask: Tensor | None) -> None:
        self.raw = logits.float()
        self.logits = mask_logits(logits.detach(), mask)
        self.z = (self.logits + sample_gumbel(self.logits)).requires_grad_()
        self.hard = one_hot_like(self.z.detach().argmax(-1), self.logits)


class Rebar(Relaxation):
    """``[f(b) - eta f(y)] grad log p(b) + eta (grad f(y) - grad f(y~))``: unbiased, with a relaxed control variate.

    With ``z = logits + g`` the hard draw is ``b = onehot argmax z``, the relaxed one ``y = softmax(z / tau)``, and
    ``y~`` the same relaxation of ``z~``, a second reparameterisation: by the noise given that ``b`` has won. The noises
    are coupled such that ``z~ = z`` in value, so that the program runs twice, not three times, and only the
    Jacobians differ. With ``v = df/dz`` and ``r_j = exp(z_j - max z)`` they leave, for each choice,

        grad f(y) - grad f(y~) = r v - p sum_j r_j v_j.

    A constant baseline beside it takes what is the same for all draws. ``eta`` and the baseline are the least-squares
    values over earlier batches, those of all processes, which keeps the mean exact. The program may draw many times,
    but must not let a later draw's logits or mask depend on an earlier draw: the relaxed run would then have other
    distributions than the hard one, and the coupling would be gone. It must also give the same logits twice (no dropout
    before a draw). Two program runs. Any tau is unbiased; the least variance is at about 1.

    Args:
        tau: temperature of the control variate.
        decay: of the running means behind ``eta``, in [0, 1).

    Raises:
        ValueError: if ``decay`` is outside [0, 1).
        ZooError: from ``expectation``, if a draw depends on an earlier one, or the cost is not differentiable in them.

    Sources: Tucker et al. 2017, arXiv 1703.07370, eq. 5 and section 3.2; Grathwohl et al. 2018, arXiv 1711.00123,
    appendix B, for categorical choices.
    """

    pathwise = False
    unbiased = True
    dependent_draws = False

    gram: Tensor
    cross: Tensor

    def __init__(self, *, tau: float = 1.0, decay: float = 0.99) -> None:
        super().__init__(tau=tau)
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay = decay
        # Running means for the least squares: of the products of the two controls, and of theirs with the estimate.
        self.register_buffer("gram", torch.zeros(2, 2))
        self.register_buffer("cross", torch.zeros(2))

    def relax(self, logits: Tensor) -> Tensor:
        no_single_draw(self, logits)
        return sample_one_hot(logits)

    def expectation(self, program: Program) -> Tensor:
        if not self.training:
            return super().expectation(program)
        cost, draws, gradients = self.estimate(program)
        return with_gradient(cost, draws, gradients)

    def estimate(self, program: Program) -> tuple[Tensor, list[_Draw], list[Tensor]]:
        """Both runs: the hard one's cost, its draws, and the estimated gradient at the logits of each draw."""
        cost, draws = run_hard(program)
        relaxed_cost, slopes = self.run_relaxed(program, draws)
        scores = [score_of(draw) for draw in draws]
        estimates = [weigh(cost.detach(), score) for score in scores]
        controls = [
            weigh(relaxed_cost, score) - reparameterisation_gap(draw, slope)
            for draw, score, slope in zip(draws, scores, slopes)
        ]
        eta, baseline = self.coefficients()
        with torch.no_grad():
            products = [inner(a, b) for a in (controls, scores, estimates) for b in (controls, scores)]
            gram, cross = mean_of_whole_batch(torch.stack(products).to(self.gram)).split([4, 2])
            self.gram.lerp_(gram.view(2, 2), 1 - self.decay)
            self.cross.lerp_(cross, 1 - self.decay)
        gradients = [e - eta * c - baseline * s for e, c, s in zip(estimates, controls, scores)]
        return cost, draws, gradients

    def coefficients(self) -> Tensor:
        """``eta`` and the baseline with the least variance over the batches so far; 1 and 0 before the first."""
        if not self.gram.trace() > 0:
            return torch.tensor([1.0, 0.0]).to(self.gram)
        gram = self.gram.double()  # nearly singular where the cost has a large constant part
        ridge = 1e-10 * gram.trace() * torch.eye(2).to(gram)
        return torch.linalg.solve(gram + ridge, self.cross.double()).float()

    def run_relaxed(self, program: Program, draws: list[_Draw]) -> tuple[Tensor, list[Tensor]]:
        """The cost of the relaxed draws, ``(batch,)``, and its gradient at each ``z``, both without a graph."""
        with torch.enable_grad():
            cost = check_cost(replay(program, draws, lambda draw: (draw.z / self.tau).softmax(-1)))
            if not cost.requires_grad:
                raise ZooError(
                    f"{type(self).__name__} needs a program that is differentiable in its draws; "
                    "for others there are rloo and disarm"
                )
            slopes = torch.autograd.grad(cost.sum(), [draw.z for draw in draws], allow_unused=True)
        return cost.detach(), [torch.zeros_like(d.z) if s is None else s for s, d in zip(slopes, draws)]


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

    def __init__(self, *, tau: float = 1.0, decay: float = 0.99, hidden: int = 32) -> None:
        super().__init__(tau=tau, decay=decay)
        if hidden < 1:
            raise ValueError(f"hidden must be at least 1, got {hidden}")
        last = nn.Linear(hidden, 1, bias=False)
        self.network = nn.Sequential(nn.Linear(3 + PLACE_FEATURES, hidden), nn.Tanh(), last)
        nn.init.normal_(last.weight, std=1e-2)  # starts near REBAR

    def expectation(self, program: Program) -> Tensor:
        if not self.training:
            return Relaxation.expectation(self, program)
        cost, draws, gradients = self.estimate(program)
        with torch.enable_grad():
            learned = sum((self.learned(draw) for draw in draws), torch.zeros_like(cost))
            slopes = torch.autograd.grad(learned.sum(), [draw.z for draw in draws], create_graph=True)
        gradients = [
            gradient - weigh(learned, score_of(draw)) + reparameterisation_gap(draw, slope)
            for draw, gradient, slope in zip(draws, gradients, slopes)
        ]
        squared = sum((sum_per_example(gradient**2) for gradient in gradients), torch.zeros_like(cost))
        variance = squared / mean_of_whole_batch(squared.mean()).clamp_min(torch.finfo(squared.dtype).tiny)
        loss = with_gradient(cost, draws, [gradient.detach() for gradient in gradients])
        return loss + (variance - variance.detach())

    def learned(self, draw: _Draw) -> Tensor:
        """The network's part of the control variate, ``(batch,)``."""
        allowed = draw.logits != -torch.inf
        y = (draw.z / self.tau).softmax(-1)
        logits = draw.logits.log_softmax(-1)
        entries = torch.stack([value.masked_fill(~allowed, 0.0) for value in (draw.z - draw.logits, logits, y)], -1)
        features = torch.cat([entries, place_features(y).expand(*y.shape, PLACE_FEATURES)], -1)
        return sum_per_example(self.network(features).squeeze(-1).masked_fill(~allowed, 0.0))


PLACE_FEATURES = 16


def place_features(like: Tensor) -> Tensor:
    """Sines and cosines of each entry's index within its example, ``(..., PLACE_FEATURES)``."""
    index = torch.arange(like[0].numel(), device=like.device, dtype=like.dtype).view(like.shape[1:])
    angles = index.unsqueeze(-1) * 2.0 ** -torch.arange(PLACE_FEATURES // 2, device=like.device, dtype=like.dtype)
    return torch.cat([angles.sin(), angles.cos()], -1)


def run_hard(program: Program) -> tuple[Tensor, list[_Draw]]:
    """Run ``program`` on hard draws: its cost, ``(batch,)``, and the draws."""
    draws: list[_Draw] = []

    def draw(logits: Tensor, mask: Tensor | None = None) -> Tensor:
        draws.append(_Draw(logits, mask))
        return draws[-1].hard.to(logits.dtype)

    return check_cost(program(draw)), draws


class Known(Protocol):
    """A draw that was made before, at these ``logits``."""

    logits: Tensor


AnyDraw = TypeVar("AnyDraw", bound=Known)


def replay(program: Program, draws: list[AnyDraw], value: Callable[[AnyDraw], Tensor]) -> Tensor:
    """Run ``program`` again, with ``value(draw)`` for each draw.

    Raises:
        ZooError: if the program asks for other draws than before.
    """
    remaining = iter(draws)

    def draw(logits: Tensor, mask: Tensor | None = None) -> Tensor:
        known = next(remaining, None)
        if known is None or not torch.equal(mask_logits(logits.detach(), mask), known.logits):
            raise ZooError(
                "the logits or the mask of a draw changed between two runs of the program: this estimator needs draws "
                "that do not depend on one another and networks without dropout; use rloo or a pathwise relaxation"
            )
        return value(known).to(logits.dtype)

    return program(draw)


def score_of(draw: _Draw) -> Tensor:
    """``grad log p(b)`` in the logits: ``b - p``."""
    return draw.hard - draw.logits.softmax(-1)


def reparameterisation_gap(draw: _Draw, slope: Tensor) -> Tensor:
    """``(dz/dlogits - dz~/dlogits)' slope`` where ``z~ = z`` in value: ``r v - p sum_j r_j v_j``.

    Given the winner, the maximum ``T = log Z - log E`` moves with ``p``, and another entry
    ``z~_j = -log(E_j exp(-logit_j) + exp(-T))`` moves with its own logit by ``1 - r_j`` and with ``T`` by ``r_j``,
    ``r_j = exp(z_j - T)``; ``z`` itself moves with its own logit by 1.
    """
    z = draw.z.detach()
    weighted = (z - z.amax(-1, keepdim=True)).exp() * slope
    return weighted - draw.logits.softmax(-1) * weighted.sum(-1, keepdim=True)


def weigh(cost: Tensor, value: Tensor) -> Tensor:
    """``cost``, ``(batch,)``, times ``value``, ``(batch, ...)``."""
    return cost.view(-1, *[1] * (value.dim() - 1)) * value


def inner(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """The inner product of two gradients over all draws, averaged over the batch."""
    return torch.stack([(a * b).flatten(1).sum(1).mean() for a, b in zip(first, second)]).sum()


def with_gradient(cost: Tensor, draws: list[_Draw], gradients: list[Tensor]) -> Tensor:
    """``cost`` in value and in its own gradient, plus ``gradients`` at the logits of the draws."""
    for draw, gradient in zip(draws, gradients):
        linear = sum_per_example(gradient * draw.raw.masked_fill(draw.logits == -torch.inf, 0.0))
        cost = cost + (linear - linear.detach())
    return cost
