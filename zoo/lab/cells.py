"""Verify every relaxation on every distribution against a reference, and write the table.

    python scripts/cells.py                                                      200,000 draws a cell: ten minutes
    python scripts/cells.py draws=10000000 output=docs/relaxations/table.md      the table of the documentation

Each distribution has a small problem (:meth:`zoo.relaxations.Distribution.example`) and a cost that is a cubic of the
value. The mean gradient of an estimator over many draws is compared with one that knows nothing of the layer's code:

- of estimators without bias, the gradient of the expectation, by listing all values;
- of the others, the mean of their formula, written down here once more in double precision and integrated over their
  noise by a Sobol sequence, or summed over their draws.

A cell is verified if no entry is off by more than 4.5 standard errors, with a standard error of at most 2% of the norm.
With so many draws that the integration is no longer exact beside them, it is repeated, and its own error counts.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor

from zoo.errors import ZooError
from zoo.lab.common import one_thread
from zoo.relaxations import DISTRIBUTIONS, RELAXATIONS, Distribution, Exact, Relaxation

ERRORS = 4.5
"""Standard errors within which a mean must be."""
PRECISION = 0.02
"""The largest standard error, as a share of the gradient's norm, with which a cell counts as verified."""
POINTS = 2**17  # of a Sobol sequence
SEQUENCES = 16  # where the error of one would be seen
MANY = 1_000_000  # draws from which it is
CHUNK = 100_000  # draws at once


def cost(value: Tensor, value_dims: int) -> Tensor:
    """A cubic of a weighted sum of the entries of a value, ``(batch, ..., *value)`` to ``(batch,)``."""
    value = value.flatten(1)
    weights = torch.cos(2.0 * torch.arange(value.shape[1], device=value.device, dtype=value.dtype) + 0.5)
    s = value @ weights
    return s + s**2 + 0.5 * s**3


@dataclass(frozen=True)
class Cell:
    """What was found for one estimator on one distribution.

    Attributes:
        kind: ``unbiased``, ``formula`` (equal to its own formula), ``unverified`` (biased, and nothing to compare with)
            or ``refused``.
        deviation: the largest difference from the reference, in standard errors.
        precision: the standard error as a share of the gradient's norm.
        bias: the distance of the estimator's mean from the gradient of the expectation, relative to its norm; NaN where
            there is no such gradient.
        draws: gradients averaged.
        why: the refusal.
    """

    kind: str
    deviation: float = math.nan
    precision: float = math.nan
    bias: float = math.nan
    draws: int = 0
    why: str = ""

    @property
    def verified(self) -> bool:
        return self.kind == "refused" or (self.deviation <= ERRORS and self.precision <= PRECISION)


def examine(estimator: str, distribution: str, draws: int = 200_000, *, masked: bool = False, seed: int = 0) -> Cell:
    """One cell of the table.

    Args:
        estimator: its name in :data:`zoo.relaxations.RELAXATIONS`.
        distribution: its name in :data:`zoo.relaxations.DISTRIBUTIONS`.
        draws: gradients to average.
        masked: rule out the first choice (the first pair of a matching).
        seed: of the draws.
    """
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"step": 0.0} if estimator == "aimle" else {}  # with the strength that its formula has
    relaxation, law = RELAXATIONS[estimator](**settings), example(distribution, masked)
    try:
        mean, error, count = mean_gradient(relaxation, law, draws)
    except ZooError as refusal:
        return Cell("refused", why=str(refusal))
    exact = exact_gradient(law)
    reference, off = (exact, 0.0) if relaxation.unbiased else integrated(estimator, law, count)
    bias = float((mean - exact).norm() / exact.norm()) if exact is not None else math.nan
    if reference is None:
        return Cell("unverified", bias=bias, draws=count)
    norm = reference.norm().clamp_min(1e-3)
    tolerance = 1e-5 * norm + (error**2 + off**2) ** 0.5  # the first is what float32 leaves
    deviation = ((mean - reference).abs() / tolerance).max()
    kind = "unbiased" if relaxation.unbiased else "formula"
    return Cell(kind, float(deviation), float(error.norm() / norm), bias, count)


def example(distribution: str, masked: bool = False) -> Distribution:
    """The problem of a distribution, with a batch of one."""
    law = DISTRIBUTIONS[distribution].example()
    if masked:
        mask = torch.ones_like(law.logits, dtype=torch.bool)
        mask.flatten(1)[:, 0] = False
        law = law.with_logits(law.logits.masked_fill(~mask, -math.inf))
        law.mask = mask
    return law


def mean_gradient(relaxation: Relaxation, law: Distribution, draws: int) -> tuple[Tensor, Tensor, int]:
    """The mean of the gradients at the logits, its standard errors, and of how many draws.

    Of an estimator that learns from earlier batches, the first batches are left out.
    """
    deterministic = not relaxation.stochastic or isinstance(relaxation, Exact)
    draws, warm_up = (2, 0) if deterministic else (draws, 2 if any(True for _ in relaxation.buffers()) else 0)
    total, squares = torch.zeros(2, *law.logits.shape[1:], dtype=torch.float64)
    count = 0
    for batch in range(warm_up + math.ceil(draws / CHUNK)):
        size = min(CHUNK, draws)
        logits = law.logits.expand(size, *law.logits.shape[1:]).clone().requires_grad_()
        many = law.with_logits(logits)
        many.mask = None if law.mask is None else law.mask.expand(logits.shape)
        loss = relaxation.expectation(lambda draw: cost(draw(many), law.value_dims))  # noqa: B023
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        if batch >= warm_up:
            total = total + gradient.double().sum(0)
            squares = squares + gradient.double().square().sum(0)
            count += size
    mean = total / count
    variance = (squares / count - mean**2).clamp_min(0.0)
    return mean, (variance / count).sqrt() if not deterministic else torch.zeros_like(mean), count


# Listing all values ---------------------------------------------------------------------------------------------------


def values_of(law: Distribution) -> list[Tensor] | None:
    """All values of the whole example, each ``(1, ..., *value)`` in float64; None where there is no list."""
    n = law.logits.shape[-1]
    kind = type(law).__name__
    eye = torch.eye(n, dtype=torch.float64)
    allowed = [i for i in range(n) if law.mask is None or kind == "Matching" or law.mask[0, i]]
    if kind == "Categorical":
        return [eye[i][None] for i in allowed]
    if kind == "Bernoulli":
        options = [(0.0, 1.0) if i in allowed else (0.0,) for i in range(n)]
        return [torch.tensor([z], dtype=torch.float64) for z in itertools.product(*options)]
    if kind in ("Subset", "ConditionalBernoulli"):
        return [eye[list(z)].sum(0)[None] for z in itertools.combinations(allowed, law.k)]  # type: ignore[attr-defined]
    if kind == "Ranking":
        orders = itertools.permutations(allowed)
        rest = torch.zeros(n - len(allowed), n, dtype=torch.float64)
        return [torch.cat([eye[list(z)], rest])[None] for z in orders]
    if kind == "Matching":
        every = [eye[list(z)][None] for z in itertools.permutations(range(n))]
        return [z for z in every if law.mask is None or bool(law.mask[0][z[0] > 0].all())]
    return found_values(law)


def found_values(law: Distribution) -> list[Tensor] | None:
    """All values of a distribution from elsewhere: those that many samples found, if their probabilities sum to one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = law.sample((20_000,)).double().flatten(0, 1).unique(dim=0)
    try:
        total = law.log_prob(found.to(law.logits.dtype).unsqueeze(1)).double().exp().sum()
    except ZooError:
        return None
    return [value[None] for value in found] if abs(float(total) - 1) < 1e-4 else None


def log_prob_of(law: Distribution, logits: Tensor, value: Tensor) -> Tensor | None:
    """Log-probability of one value, a scalar, written down for the distributions of this package."""
    kind, z = type(law).__name__, value[0]
    finite = logits.masked_fill(logits == -math.inf, 0.0)
    if kind == "Categorical":
        return (z * finite).sum() - logits.logsumexp(-1)
    if kind == "Bernoulli":
        return (z * finite).sum() - torch.log1p(logits.exp()).sum()
    if kind == "ConditionalBernoulli":
        every = torch.stack([(v[0] * finite).sum() for v in values_of(law) or []])
        return (z * finite).sum() - every.logsumexp(0)
    if kind == "Subset":
        chosen = z.nonzero()[:, 0].tolist()
        return torch.stack([order_log_prob(logits, order) for order in itertools.permutations(chosen)]).logsumexp(0)
    if kind == "Ranking":
        return order_log_prob(logits, z.argmax(-1)[z.sum(-1) > 0].tolist())
    if kind == "Matching":
        return None
    try:
        return law.with_logits(logits[None]).log_prob(value).sum()
    except ZooError:
        return None


def order_log_prob(logits: Tensor, order: Any) -> Tensor:
    """Of the items ``order`` to be drawn first, one after another."""
    left, total = list(range(len(logits))), logits.new_zeros(())
    for item in order:
        total = total + logits[item] - logits[left].logsumexp(0)
        left.remove(item)
    return total


def exact_gradient(law: Distribution) -> Tensor | None:
    """Of the expected cost at the logits; None where there is no log-probability."""
    values = values_of(law)
    logits = law.logits[0].double().requires_grad_()
    log_p = [log_prob_of(law, logits, value) for value in values or []]
    if not values or any(each is None for each in log_p):
        return None
    expectation = torch.stack([p.exp() * cost(z, law.value_dims)[0] for p, z in zip(log_p, values)]).sum()  # type: ignore[union-attr]
    return torch.autograd.grad(expectation, logits)[0].nan_to_num()


# The formulas of biased estimators ------------------------------------------------------------------------------------
#
# A part of a formula is (weights, hard or soft value h, surrogate y): the gradient is the weighted mean of the Jacobian
# of y times the slope of the cost at h.

Parts = Iterator[tuple[Tensor, Tensor, Tensor]]


def integrated(estimator: str, law: Distribution, draws: int) -> tuple[Tensor | None, Tensor | float]:
    """The mean of the estimator's formula and its standard error; None where there is no formula."""
    found = []
    for sequence in range(SEQUENCES if draws >= MANY else 1):
        SEQUENCE.set(sequence)
        gradient = formula_gradient(estimator, law)
        if gradient is None:
            return None, 0.0
        found.append(gradient)
    many = torch.stack(found)
    return many.mean(0), many.std(0) / len(many) ** 0.5 if len(many) > 1 else 0.0


def formula_gradient(estimator: str, law: Distribution) -> Tensor | None:
    """The mean of the estimator's formula; None where there is none written down."""
    formula = FORMULAS.get(estimator)
    if formula is None or type(law).__name__ not in RELAXED:
        return None
    logits = law.logits[0].double()
    if estimator in ("imle", "aimle", "perturbed_optimizer"):
        return formula(law, logits)
    leaf = logits.clone().requires_grad_()
    total = torch.zeros_like(leaf)
    for weights, h, y in formula(law, leaf):
        total = total + torch.autograd.grad((weights * (slope(law, h) * y).flatten(1).sum(1)).sum(), leaf)[0]
    return total.nan_to_num()


def slope(law: Distribution, h: Tensor) -> Tensor:
    """Of the cost at values ``h``."""
    h = h.detach().requires_grad_()
    return torch.autograd.grad(cost(h, law.value_dims).sum(), h)[0]


SEQUENCE = ContextVar("SEQUENCE", default=0)
"""Which scrambled Sobol sequence is used."""


def uniforms(*shape: int) -> Tensor:
    """A Sobol sequence in the open unit cube, ``(POINTS, *shape)``."""
    engine = torch.quasirandom.SobolEngine(math.prod(shape), scramble=True, seed=1 + SEQUENCE.get())
    points = engine.draw(POINTS, dtype=torch.float64)
    return points.clamp(1e-12, 1 - 1e-12).view(POINTS, *shape)


def gumbel(u: Tensor) -> Tensor:
    return -torch.log(-torch.log(u))


def gaussian(u: Tensor) -> Tensor:
    return math.pi / math.sqrt(6) * torch.special.ndtri(u)


def box(u: Tensor) -> Tensor:
    return math.pi * math.sqrt(2) * (u - 0.5)


def perturbed(law: Distribution, logits: Tensor, noise: Callable[[Tensor], Tensor] = gumbel) -> Tensor:
    """Logits with noise, ``(POINTS, *choice)``; that of a gate is the difference of two."""
    if type(law).__name__ == "Bernoulli":
        u = noise(uniforms(2, *logits.shape))
        return logits + u[:, 0] - u[:, 1]
    return logits + noise(uniforms(*logits.shape))


def relax_subset(law: Any, scores: Tensor, tau: float) -> Tensor:
    total = torch.zeros_like(scores)
    for _ in range(law.k):
        p = (scores / tau).softmax(-1)
        total = total + p
        scores = scores + torch.log1p(-p)
    return total


def relax_order(law: Any, scores: Tensor, tau: float) -> Tensor:
    ordered = scores.sort(-1, descending=True).values
    distance = (ordered.unsqueeze(-1) - scores.unsqueeze(-2)).abs().nan_to_num(nan=0.0, posinf=math.inf)
    rows = (-distance / tau).softmax(-1)
    return torch.where((ordered != -math.inf).unsqueeze(-1) & (scores != -math.inf).unsqueeze(-2), rows, 0.0)


def relax_matching(law: Any, scores: Tensor, tau: float) -> Tensor:
    p = (scores / tau - (scores / tau).amax((-1, -2), keepdim=True)).exp()
    for _ in range(law.iterations):
        p = p / p.sum(-1, keepdim=True)
        p = p / p.sum(-2, keepdim=True)
    return p


RELAXED: dict[str, Callable[[Any, Tensor, float], Tensor]] = {
    "Categorical": lambda law, scores, tau: (scores / tau).softmax(-1),
    "Bernoulli": lambda law, scores, tau: 1 / (1 + (-scores / tau).exp()),
    "Subset": relax_subset,
    "ConditionalBernoulli": relax_subset,
    "Ranking": relax_order,
    "Matching": relax_matching,
}


def relax(law: Distribution, scores: Tensor, tau: float) -> Tensor:
    return RELAXED[type(law).__name__](law, scores, tau)


def harden(law: Any, scores: Tensor) -> Tensor:
    """The best value of each row of scores, ``(n, *choice)``."""
    scores, kind = scores.detach(), type(law).__name__
    if kind == "Bernoulli":
        return (scores > 0).to(scores)
    if kind == "Ranking":
        order = scores.argsort(-1, descending=True)
        rows = torch.nn.functional.one_hot(order, scores.shape[-1]).to(scores)
        return rows * (scores.gather(-1, order) != -math.inf).unsqueeze(-1)
    values = torch.cat(values_of(law) or [])
    fit = torch.einsum(
        "n...,v...->nv", scores.masked_fill(scores == -math.inf, -1e9).unsqueeze(-1), values.unsqueeze(-1)
    )
    return values[fit.argmax(-1)]


def whole(rows: Tensor) -> Tensor:
    """Equal weights."""
    return torch.full((len(rows),), 1 / len(rows), dtype=torch.float64)


def soft_map(law: Distribution, logits: Tensor, tau: float = 1.0) -> Parts:
    y = relax(law, logits[None], tau)
    yield whole(y), y, y


def st_argmax(law: Distribution, logits: Tensor) -> Parts:
    yield whole(logits[None]), harden(law, logits[None]), relax(law, logits[None], 1.0)


def noisy(law: Distribution, logits: Tensor, noise: Any = gumbel, *, hard: bool, tau: float = 1.0) -> Parts:
    scores = perturbed(law, logits, noise)
    y = relax(law, scores, tau)
    yield whole(y), harden(law, scores) if hard else y, y


def drawn(law: Distribution, logits: Tensor) -> tuple[Tensor, Tensor]:
    """All values and their probabilities."""
    values = values_of(law) or []
    log_p = [log_prob_of(law, logits.detach(), value) for value in values]
    return torch.stack(log_p).exp(), torch.cat(values)  # type: ignore[arg-type]


def straight_through(law: Distribution, logits: Tensor) -> Parts:
    y = relax(law, logits[None], 1.0)
    if type(law).__name__ == "Matching":
        hard = harden(law, perturbed(law, logits.detach()))
        yield whole(hard), hard, y.expand_as(hard)
        return
    p, hard = drawn(law, logits)
    yield p, hard, y.expand_as(hard)


def simple(law: Distribution, logits: Tensor) -> Parts:
    values = torch.cat(values_of(law) or [])
    finite = logits.masked_fill(logits == -math.inf, 0.0)
    p = (values * finite).flatten(1).sum(1).softmax(0)
    marginals = (p.view(-1, *[1] * (values.dim() - 1)) * values).sum(0, keepdim=True)
    yield p.detach(), values, marginals.expand_as(values)


def two(law: Distribution, logits: Tensor) -> Tensor:
    """Logits of one of K: of gates, open and closed."""
    return torch.stack([logits, torch.zeros_like(logits)], -1) if type(law).__name__ == "Bernoulli" else logits


def one_hots(law: Distribution, hard: Tensor) -> Tensor:
    return torch.stack([hard, 1 - hard], -1) if type(law).__name__ == "Bernoulli" else hard


def back(law: Distribution, y: Tensor) -> Tensor:
    return y[..., 0] if type(law).__name__ == "Bernoulli" else y


def zeroed(x: Tensor) -> Tensor:
    return x.masked_fill(x == -math.inf, 0.0)


def reinmax(law: Distribution, logits: Tensor) -> Parts:
    """As the authors' code: the second slope is taken at ``(D + p) / 2``."""
    p_draw, hard = drawn(law, logits)
    t, one_hot = two(law, logits), one_hots(law, hard)
    p = t.softmax(-1)
    at_p1 = (((one_hot + p.detach()) / 2).log() + zeroed(t) - zeroed(t).detach()).softmax(-1)
    yield p_draw, hard, back(law, 2 * at_p1 - 0.5 * p)


def gapped_st(law: Distribution, logits: Tensor, tau: float = 0.7, gap: float = 1.0) -> Parts:
    p_draw, hard = drawn(law, logits)
    t, one_hot = two(law, logits), one_hots(law, hard)
    fixed = t.detach().expand_as(one_hot)
    largest = fixed.amax(-1, keepdim=True)
    shifted = torch.where(one_hot == 1, largest, torch.minimum(fixed, largest - gap))
    y = (shifted + zeroed(t) - zeroed(t).detach()).div(tau).softmax(-1)
    yield p_draw, hard, back(law, y)


def conditional(t: Tensor, one_hot: Tensor) -> Tensor:
    """``t + g`` given that ``one_hot`` has won, by the maximum and truncated others, ``(POINTS, ..., K)``."""
    t = t.expand_as(one_hot)
    u = uniforms(*one_hot.shape[1:], 2) if one_hot.dim() > 1 else uniforms(*one_hot.shape, 2)
    top = t.logsumexp(-1, keepdim=True) + gumbel(u[..., :1, 1])
    below = -torch.logaddexp(-(t + gumbel(u[..., 0])), -top)
    return torch.where(one_hot == 1, top, below)


def halfway(t: Tensor, one_hot: Tensor) -> Tensor:
    return ((one_hot + t.detach().softmax(-1)) / 2).log() + zeroed(t) - zeroed(t).detach()


def reinmax_rao(law: Distribution, logits: Tensor, *, eta: float | None = None) -> Parts:
    """Each draw with its noise; with ``eta`` the control-variate form."""
    p_draw, hard = drawn(law, logits)
    t = two(law, logits)
    for p, value in zip(p_draw, hard):
        one_hot = one_hots(law, value[None])
        h = value.expand(POINTS, *value.shape)
        log_p1 = halfway(t, one_hot)
        fixed = conditional(log_p1.detach(), one_hot.expand(POINTS, *one_hot.shape[1:]))
        rao = (fixed + zeroed(log_p1) - zeroed(log_p1).detach()).softmax(-1)
        if eta is None:
            y = 2 * rao - t.softmax(-1) / 2
        else:
            noise = conditional(t.detach(), one_hot.expand(POINTS, *one_hot.shape[1:])) - zeroed(t.detach())
            y = 2 * log_p1.softmax(-1) - t.softmax(-1) / 2 + eta * (rao - (log_p1 + noise).softmax(-1))
        yield p.detach() * whole(h), h, back(law, y)


def igr(law: Distribution, logits: Tensor, tau: float = 0.5) -> Parts:
    t = two(law, logits)
    normal = torch.special.ndtri(uniforms(*t.shape))
    normal[..., -1] = 0.0
    y = back(law, ((t + normal) / tau).softmax(-1))
    yield whole(y), y, y


def projection(alpha: float, law: Distribution, logits: Tensor) -> Parts:
    """An entmax by bisection, differentiated by its own formula ``diag(s) - s s' / sum s``, ``s = p^(2 - alpha)``."""
    t = two(law, logits).detach()
    z = (alpha - 1) * t
    low, high = z.amax(-1, keepdim=True) - 1, z.amax(-1, keepdim=True)
    for _ in range(100):
        middle = (low + high) / 2
        mass = (z - middle).clamp_min(0.0).pow(1 / (alpha - 1)).sum(-1, keepdim=True)
        low, high = torch.where(mass >= 1, middle, low), torch.where(mass >= 1, high, middle)
    p = (z - low).clamp_min(0.0).pow(1 / (alpha - 1))
    s = torch.where(p > 0, p.pow(2 - alpha), 0.0)
    moved = zeroed(two(law, logits))
    y = s * (moved - (s * moved).sum(-1, keepdim=True) / s.sum(-1, keepdim=True))
    yield whole(p[None]), back(law, p)[None], back(law, y)[None]


def difference(law: Distribution, logits: Tensor, *, central: bool) -> Tensor:
    """I-MLE with a strength of 1: the difference of two hard values where the scores follow the cost."""
    scores = perturbed(law, logits)
    hard = harden(law, scores)
    g = slope(law, hard)
    inside = tuple(range(1, g.dim())) if law.choice_dims else ()
    largest = g.abs().amax(inside, keepdim=True) if inside else g.abs()
    move = g / largest.clamp_min(1e-30)
    change = harden(law, scores + move if central else scores) - harden(law, scores - move)
    return (change * largest / (2 if central else 1)).mean(0)


def perturbed_optimizer(law: Distribution, logits: Tensor, samples: int = 10) -> Tensor:
    """The slope at the mean of the hard values, times their covariance with the noise."""
    noise = torch.special.ndtri(uniforms(samples, *logits.shape))
    values = harden(law, (logits + noise).flatten(0, 1)).view(POINTS, samples, *harden(law, logits[None]).shape[1:])
    mean = values.mean(1)
    g = slope(law, mean).unsqueeze(1)
    product = (values - mean.unsqueeze(1)) * g
    weight = product if not law.choice_dims else product.flatten(2).sum(2).view(POINTS, samples, *[1] * logits.dim())
    return ((weight * noise).sum(1).mean(0) / (samples - 1)).masked_fill(logits == -math.inf, 0.0)


FORMULAS: dict[str, Callable[..., Any]] = {
    "softmax": soft_map,
    "sparsemax": partial(projection, 2.0),
    "entmax15": partial(projection, 1.5),
    "st_argmax": st_argmax,
    "gumbel_softmax": partial(noisy, hard=False),
    "gaussian_softmax": partial(noisy, noise=gaussian, hard=False),
    "uniform_softmax": partial(noisy, noise=box, hard=False),
    "st_gumbel_softmax": partial(noisy, hard=True),
    "st_gaussian_softmax": partial(noisy, noise=gaussian, hard=True),
    "st_uniform_softmax": partial(noisy, noise=box, hard=True),
    "decoupled_st_gumbel": partial(noisy, hard=True, tau=0.5),
    "gumbel_rao": partial(noisy, hard=True, tau=0.5),  # which it averages
    "straight_through": straight_through,
    "gapped_st": gapped_st,
    "reinmax": reinmax,
    "reinmax_rao": reinmax_rao,
    "reinmax_cv": partial(reinmax_rao, eta=0.5),
    "igr": igr,
    "imle": partial(difference, central=False),
    "aimle": partial(difference, central=True),
    "perturbed_optimizer": perturbed_optimizer,
    "simple": simple,
}
"""By the estimator's name, with the defaults of its constructor; those that are not here are unbiased."""


# The table ------------------------------------------------------------------------------------------------------------


def table(draws: int, say: Callable[[str], None] = print) -> dict[tuple[str, str], Cell]:
    """Every cell, in the order of the registries."""
    cells = {}
    for estimator in RELAXATIONS:
        for distribution in DISTRIBUTIONS:
            began = time.process_time()
            count = draws
            cell = examine(estimator, distribution, count)
            while cell.kind not in ("refused", "unverified") and cell.precision > PRECISION and count < 64 * draws:
                count *= 4
                cell = examine(estimator, distribution, count)
            cells[estimator, distribution] = cell
            say(f"{estimator:22}{distribution:24}{describe(cell)}  ({time.process_time() - began:.1f} s)")
    return cells


def describe(cell: Cell) -> str:
    """A cell in a few characters: exact, its relative bias, or a dash; an exclamation mark where it is not verified."""
    if cell.kind == "refused":
        return "-"
    if cell.kind == "unbiased":
        text = "unbiased"
    else:
        text = "own formula" if math.isnan(cell.bias) else f"bias {cell.bias:.2f}"
    return text if cell.verified else f"{text} (!)"


def markdown(cells: dict[tuple[str, str], Cell], draws: int) -> str:
    """The table as a page of the documentation."""
    lines = [
        "# Which relaxation serves which distribution",
        "",
        f"Made by `python scripts/cells.py draws={draws} output=...`; `zoo/lab/cells.py` says how a cell is verified. "
        "*unbiased*: the mean gradient is that of the expectation. *bias*: how far the mean is from it, "
        "relative to its norm, on one small problem at the default temperature; the mean itself is equal to an "
        "independent integration of the estimator's formula. *own formula*: the same where there is no exact gradient. "
        "A dash: refused by name.",
        "",
        "| relaxation | " + " | ".join(f"`{name}`" for name in DISTRIBUTIONS) + " |",
        "| --- |" + " --- |" * len(DISTRIBUTIONS),
    ]
    for estimator in RELAXATIONS:
        row = [describe(cells[estimator, distribution]) for distribution in DISTRIBUTIONS]
        lines.append(f"| `{estimator}` | " + " | ".join(row) + " |")
    served = [cell for cell in cells.values() if cell.kind not in ("refused", "unverified")]
    worst = max(cell.deviation for cell in served)
    lines += [
        "",
        f"{sum(c.verified for c in served)} of {len(served)} cells verified with "
        f"{min(c.draws for c in served if c.draws > 2):,} draws or more, the largest deviation {worst:.1f} standard "
        f"errors; {sum(c.kind == 'refused' for c in cells.values())} refused.",
    ]
    return "\n".join(lines) + "\n"


def experiment(*, draws: PositiveInt = 200_000, output: Path | None = None) -> None:
    """Print the table as it grows.

    Args:
        draws: gradients to average in each cell; up to 64 times as many where they vary much.
        output: a Markdown file to write it to.
    """
    with one_thread():
        found = table(draws)
    if output:
        output.write_text(markdown(found, draws), encoding="utf-8")
