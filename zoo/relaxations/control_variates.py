"""REBAR and RELAX: the score function with a relaxed run of the same program as its control variate."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from zoo.errors import ZooError
from zoo.relaxations import eager
from zoo.relaxations.base import InEval, Program, Relaxation, Tempered, run, shaped, sum_like
from zoo.relaxations.distributions import Recoupled
from zoo.relaxations.following import Following, unwrapped
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
    dropout before a draw), its cost must be differentiable in the draws, without jumps
    (:mod:`zoo.relaxations.following`), and no row may see another's draw. Two program runs. Any tau is unbiased; the
    least variance is at about 1.

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
        return self.with_gradients(cost, draws, gradients), auxiliary

    def with_gradients(self, cost: Tensor, draws: list[_Draw], gradients: list[Tensor]) -> Tensor:
        for draw, gradient in zip(draws, gradients):
            cost = with_gradient(cost, draw.distribution.logits, gradient, by=self)
        return cost

    def both_runs(self, program: Program, noise: Noise) -> tuple[Tensor, Any, list[_Draw], list[Tensor]]:
        """The hard run's cost and auxiliary values, its draws, and the estimated gradient at the logits of each."""
        if torch.compiler.is_compiling():  # nothing can be followed inside of a graph: it ends here, and goes on behind
            return torch._dynamo.disable(self.both_runs)(program, noise)
        draws: list[_Draw] = []

        def draw(x: Any, mask: Tensor | None = None) -> Tensor:
            draws.append(_Draw(self.served(x, mask), noise))
            return draws[-1].distribution.place(draws[-1].hard)

        cost, auxiliary = run(program, draw)
        if not draws or not torch.is_grad_enabled():  # no gradient can be asked for
            return cost, auxiliary, [], []
        relaxed_cost, slopes = self.run_relaxed(program, draws, cost)
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

    def run_relaxed(self, program: Program, draws: list[_Draw], hard: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The cost of the relaxed draws and its gradient at each ``z``, both without a graph."""

        def total(*scores: Tensor) -> tuple[Tensor, Tensor]:
            soft = [d.fixed.relax(z, self.temperature_for(d.fixed)) for d, z in zip(draws, scores)]
            values = [draw.distribution.place(value) for draw, value in zip(draws, soft)]
            with Following(self, smooth=True, independent=True) as following:
                replay = Replay(self, draws, values)
                cost, _ = run(program, following.drawing(replay.draw))
                replay.check(cost, hard)
                following.check(cost)
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
        if not draws:
            return cost, auxiliary
        with torch.enable_grad():
            values = [self.learned(draw, draw.z) for draw in draws]
            learned = sum((sum_like(value, cost) for value in values), torch.zeros_like(cost, requires_grad=False))
            slopes = [gradient_at(functools.partial(self.total, draw), draw.z, create_graph=True) for draw in draws]
            changes = [draw.gap(slope) - shaped(learned, draw.score) * draw.score for draw, slope in zip(draws, slopes)]
            # A cost that is not finite teaches the network nothing.
            squares = [(g.masked_fill(~g.isfinite(), 0.0) + change) ** 2 for g, change in zip(gradients, changes)]
            squared = sum((sum_like(square, cost) for square in squares), torch.zeros_like(learned))
            size = noise.mean(squared.mean()).clamp_min(torch.finfo(squared.dtype).tiny)
            variance = squared / size
        loss = self.with_gradients(cost, draws, [g + change for g, change in zip(gradients, changes)])
        return loss + (variance - variance.detach()), auxiliary

    def total(self, draw: _Draw, z: Tensor) -> Tensor:
        return self.learned(draw, z).sum()

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


class Replay:
    """A second run of a program on other values of the same draws.

    Args:
        by: the relaxation, for messages.
        draws: those of the first run, each with its ``distribution``.
        values: what each is in this run.
    """

    def __init__(self, by: Relaxation, draws: Sequence[Any], values: Sequence[Tensor]) -> None:
        self.by, self.draws, self.values, self.count = by, draws, values, 0

    def draw(self, x: Any, mask: Tensor | None = None) -> Tensor:
        """Raises ``ZooError`` if the program asks for another draw than in its first run."""
        now = self.by.served(x, mask).logits
        if self.count == len(self.draws):
            self.differs(f"it asked for more than the {self.count} draws of the first time")
        known = self.draws[self.count].distribution.logits
        if now.shape != known.shape:
            self.differs(f"draw {self.count} was {tuple(known.shape)} and is now {tuple(now.shape)}")
        if not same(now, known):
            self.differs(f"draw {self.count} had other logits or another mask")
        self.count += 1
        return self.values[self.count - 1]

    def check(self, cost: Tensor, first: Tensor) -> None:
        """Raises ``ZooError`` if the program has drawn less than in its first run, or given another number of costs."""
        if self.count < len(self.draws):
            self.differs(f"it asked for {self.count} draws in place of {len(self.draws)}")
        if cost.shape != first.shape:
            self.differs(f"its costs were {tuple(first.shape)} and are now {tuple(cost.shape)}")

    def differs(self, how: str) -> None:
        raise ZooError(
            f"{type(self.by).__name__} runs a program twice, and the second time {how}. What comes before a draw must "
            "not be random (such as dropout: draw such noise outside of the program) nor depend on an earlier draw. Use "
            "rloo or reinforce, or a pathwise relaxation"
        )


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, in a transform of ``torch.func`` for all that it maps over."""
    if torch._C._are_functorch_transforms_active():
        with temporarily_clear_interpreter_stack():
            return same_values(inside(one), inside(other))
    return same_values(one, other)


def same_values(one: Tensor, other: Tensor) -> bool:
    one, other = one.detach(), other.detach()
    return torch.equal(one, other) or torch.equal(one.nan_to_num(), other.nan_to_num())


def inside(tensor: Tensor) -> Tensor:
    """``tensor`` without the wrappers of transforms."""
    *_, tensor = unwrapped(tensor)
    return tensor


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


def with_gradient(cost: Tensor, at: Tensor, gradient: Tensor, *, by: Relaxation) -> Tensor:
    """``cost`` in value and in its own gradient, plus ``gradient`` at ``at``, whose first dimensions are the cost's.

    Raises:
        ZooError: when the gradient is differentiated in turn: its derivative would be a wrong one.
        ValueError: if the dimensions of ``at`` are others.
    """
    if at.shape[: cost.dim()] != cost.shape:
        sum_like(at, cost)
    return _WithGradient.apply(cost, at, gradient.detach(), type(by).__name__)


class _WithGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(cost: Tensor, at: Tensor, gradient: Tensor, name: str) -> Tensor:
        return cost.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, str], output: Tensor) -> None:
        _, at, gradient, ctx.name = inputs
        ctx.save_for_backward(at, gradient)
        ctx.save_for_forward(at, gradient)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None, None]:
        at, gradient = ctx.saved_tensors
        return slope, shaped(slope, gradient) * _Once.apply(gradient, at, ctx.name), None, None

    @staticmethod
    def jvp(ctx: Any, cost: Tensor, at: Tensor, gradient: None, name: None) -> Tensor:
        point, gradient = ctx.saved_tensors
        moved = _Once.apply(gradient, point, ctx.name) * at
        return cost + moved.flatten(cost.dim()).sum(-1) if moved.dim() > cost.dim() else cost + moved


class _Once(torch.autograd.Function):
    """``gradient``, which depends on ``at`` in a way that is not known."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, at: Tensor, name: str) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
        ctx.name = inputs[2]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:
        raise no_second_derivative(ctx.name)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        raise no_second_derivative(ctx.name)


def no_second_derivative(name: str) -> ZooError:
    return ZooError(
        f"{name} estimates no second derivative: use exact, or reinforce or rloo, which are right for any order"
    )
