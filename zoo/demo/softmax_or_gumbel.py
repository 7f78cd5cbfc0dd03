"""Softmax or Gumbel? One choice among three to eight, its draws, and the gradient that an estimator makes of them.

Draws are those of the relaxation layer, gradients those of the gradient lab; nothing here is computed by formulas of
its own. The same seed gives the same noise, so that a slider moves what is seen and does not throw the dice anew.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from zoo.demo import drawing
from zoo.demo.shared import polite
from zoo.errors import ZooError
from zoo.lab.gradients import SURE, Problem, estimators, exact_gradient, gradients
from zoo.relaxations import RELAXATIONS, Exact, Noise

FEWEST, MOST = 3, 8
DRAWS = 2_000
"""Draws that are shown, and gradients at the chosen temperature."""
FEWER = 200
"""At each of the other temperatures: as many as 80 ms allow for the slowest estimator."""
CLOUD = 30
KEPT = 64
"""Settings of which what does not depend on the temperature is remembered."""
TAUS = (0.1, 0.17, 0.3, 0.5, 0.85, 1.5, 3.0)
TAU = (0.05, 5.0)
LOGIT = 4.0
AS_DRAWN = "as drawn"
DRAWN = {
    ("none", False): "softmax",
    ("none", True): "st_argmax",
    ("Gumbel", False): "gumbel_softmax",
    ("Gumbel", True): "st_gumbel_softmax",
    ("Gaussian", False): "gaussian_softmax",
    ("Gaussian", True): "st_gaussian_softmax",
}
"""The relaxation of a noise, soft or hard."""
NOISES = ("none", "Gumbel", "Gaussian")
NEAR = 0.95
"""Of a largest entry, from which a draw counts as near a corner."""
LAW = 0.03
"""Distance in variation within which 2,000 draws count as following the softmax: they are off by chance up to this."""


def values(categories: int) -> Tensor:
    """What each category is worth to the costs: evenly from 1 to -1."""
    return torch.linspace(1.0, -1.0, categories)


COSTS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear: v·z": lambda z: (z * values(z.shape[-1])).sum(-1),
    "square: (v·z - 0.3)²": lambda z: ((z * values(z.shape[-1])).sum(-1) - 0.3).square(),
    "cubic: (v·z)³ - v·z / 2": lambda z: (
        (z * values(z.shape[-1])).sum(-1).pow(3) - 0.5 * (z * values(z.shape[-1])).sum(-1)
    ),
    "the same at all corners: 1 - z·z": lambda z: 1 - z.square().sum(-1),
}
"""Costs of a one-hot ``z`` of ``(..., categories)``, defined in between, too; ``v`` goes evenly from 1 to -1."""


@dataclass(frozen=True)
class Setting:
    """What the controls say.

    Raises:
        ZooError: if one of them is out of range.
    """

    logits: tuple[float, ...] = (1.0, 0.0, -0.5)
    tau: float = 0.7
    noise: str = "Gumbel"
    hard: bool = False
    estimator: str = AS_DRAWN
    cost: str = "square: (v·z - 0.3)²"
    seed: int = 0

    def __post_init__(self) -> None:
        if not FEWEST <= len(self.logits) <= MOST:
            raise ZooError(f"there are {len(self.logits)} logits: give {FEWEST} to {MOST}")
        if not all(isinstance(x, (int, float)) and abs(x) <= LOGIT for x in self.logits):
            raise ZooError(f"logits are numbers from -{LOGIT:g} to {LOGIT:g}")
        if not (isinstance(self.tau, (int, float)) and TAU[0] <= self.tau <= TAU[1]):
            raise ZooError(f"tau is a number from {TAU[0]:g} to {TAU[1]:g}")
        if self.noise not in NOISES or self.cost not in COSTS:
            raise ZooError("choose a noise and a cost from their lists")
        if self.estimator not in (AS_DRAWN, *estimators()):
            raise ZooError(f"there is no estimator {self.estimator!r} for one choice among several")

    @property
    def drawn(self) -> str:
        return DRAWN[self.noise, bool(self.hard)]

    @property
    def estimated(self) -> str:
        return self.drawn if self.estimator == AS_DRAWN else self.estimator


@dataclass(frozen=True)
class Gradients:
    """Of an estimator at a temperature: the draws ``(draws, categories)`` and what the gradient lab says of them.

    ``bias``, ``error`` and ``std`` are as in :class:`zoo.lab.gradients.Score`, relative to the norm of the exact
    gradient; where that is zero they are absolute.
    """

    drawn: Tensor
    bias: float
    error: float
    std: float
    cosine: float

    @property
    def mse(self) -> float:
        return self.bias**2 + self.std**2


@dataclass(frozen=True)
class Seen:
    """What there is to see.

    Attributes:
        probabilities: the softmax of the logits, ``(categories,)``.
        draws: ``(2000, categories)``.
        shares: how often each category is the arg max, ``(categories,)``.
        largest: noise -> mean of the largest entry at each of :data:`TAUS`.
        exact: gradient, ``(categories,)``.
        now: gradients at the chosen temperature.
        taus: temperatures at which gradients are compared; none where the estimator has no temperature.
        over: gradients at each of ``taus``.
    """

    setting: Setting
    probabilities: Tensor
    draws: Tensor
    shares: Tensor
    largest: dict[str, list[float]]
    exact: Tensor
    now: Gradients
    taus: tuple[float, ...]
    over: tuple[Gradients, ...]

    @property
    def largest_now(self) -> float:
        return self.draws.amax(-1).mean().item()


def problem(logits: Sequence[float], cost: str) -> Problem:
    """The choice as a problem of the gradient lab: one example, one latent."""
    return Problem(
        "one choice", cost, torch.tensor(logits).view(1, 1, -1), lambda z: COSTS[cost](z).sum(-1), DRAWS, DRAWS
    )


def made(name: str, tau: float, seed: int) -> Any:
    """A relaxation at a temperature, where it has one, with noise of its own."""
    arguments: dict[str, Any] = {"tau": tau} if has_tau(name) else {}
    relaxation = RELAXATIONS[name](**arguments)
    relaxation.noise = Noise(torch.Generator().manual_seed(seed))
    return relaxation


@cache
def has_tau(name: str) -> bool:
    return RELAXATIONS[name]().arguments.get("tau") is not None


@cache
def temperatures(name: str) -> tuple[float, ...]:
    """At which the gradients of an estimator are compared; fewer of one with parameters of its own, which is slow."""
    if not has_tau(name):
        return ()
    return TAUS[::2] if sum(p.numel() for p in RELAXATIONS[name]().parameters()) > 2 else TAUS


@torch.no_grad()
def draw(name: str, logits: Sequence[float], tau: float, seed: int, count: int) -> Tensor:
    """``count`` draws of a pathwise relaxation, ``(count, categories)``."""
    return made(name, tau, seed)(torch.tensor(logits).expand(count, -1))


def estimate(name: str, at: Problem, exact: Tensor, tau: float, seed: int, draws: int) -> Gradients:
    """Gradients by the lab, and its figures: as :func:`zoo.lab.gradients.measure` of the same noise."""
    relaxation, norm = made(name, tau, seed), exact.norm().item() or 1.0
    if isinstance(relaxation, Exact):
        drawn = exact.unsqueeze(0)
    else:
        drawn = gradients(relaxation, at, draws if relaxation.stochastic else 1)[:, 0].double()
    n, mean = len(drawn), drawn.mean(0)
    bias = (mean - exact).norm().item() / norm
    std = (drawn - mean).square().sum(-1).sum().div(max(1, n - 1)).sqrt().item() / norm
    cosine = torch.nn.functional.cosine_similarity(drawn, exact.unsqueeze(0), dim=-1).mean().item()
    return Gradients(drawn.float(), bias, std / math.sqrt(n), std, cosine)


@lru_cache(KEPT)
def largest(logits: tuple[float, ...], seed: int) -> dict[str, list[float]]:
    """Noise -> mean of the largest entry of soft draws, at each of :data:`TAUS`."""
    return {
        noise: [draw(DRAWN[noise, False], logits, tau, seed, FEWER).amax(-1).mean().item() for tau in TAUS]
        for noise in NOISES
    }


@lru_cache(KEPT)
def over_taus(logits: tuple[float, ...], cost: str, name: str, seed: int) -> tuple[Tensor, tuple[Gradients, ...]]:
    """The exact gradient ``(categories,)``, and those of an estimator at each of its :func:`temperatures`."""
    at = problem(logits, cost)
    exact = exact_gradient(at)[0, 0]
    return exact, tuple(estimate(name, at, exact, tau, seed, FEWER) for tau in temperatures(name))


def look(setting: Setting) -> Seen:
    """Everything that the pictures show. What does not depend on the chosen temperature is remembered."""
    logits, seed, name = setting.logits, setting.seed, setting.estimated
    draws = draw(setting.drawn, logits, setting.tau, seed, DRAWS)
    exact, over = over_taus(logits, setting.cost, name, seed)
    return Seen(
        setting,
        probabilities=torch.tensor(logits).softmax(-1),
        draws=draws,
        shares=torch.bincount(draws.argmax(-1), minlength=len(logits)) / DRAWS,
        largest=largest(logits, seed),
        exact=exact.float(),
        now=estimate(name, problem(logits, setting.cost), exact, setting.tau, seed, DRAWS),
        taus=temperatures(name),
        over=over,
    )


# What it says ---------------------------------------------------------------------------------------------------------


def names(categories: int) -> list[str]:
    return list("ABCDEFGH"[:categories])


def sentence(seen: Seen) -> str:
    """What the numbers say, in words."""
    return " ".join(part for part in (of_draws(seen), of_law(seen), of_gradient(seen), of_taus(seen)) if part)


def of_draws(seen: Seen) -> str:
    setting, near = seen.setting, (seen.draws.amax(-1) > NEAR).float().mean().item()
    if setting.noise == "none":
        value = ", ".join(f"{v:.2f}" for v in seen.draws[0].tolist())
        return f"Without noise every draw is the same, ({value})."
    if setting.hard:
        return "Every draw is exactly one-hot."
    return (
        f"{near:.0%} of the draws have an entry above {NEAR:g}; the largest entry is {seen.largest_now:.2f} on average."
    )


def of_law(seen: Seen) -> str:
    away = (seen.shares - seen.probabilities).abs()
    distance, worst = away.sum().item() / 2, int(away.argmax())
    name = names(len(seen.shares))[worst]
    if distance <= LAW:
        return f"Their arg max follows the softmax within {away.max().item():.1%}."
    return (
        f"Their arg max does not follow the softmax: {name} comes up in {seen.shares[worst].item():.0%} of the draws, "
        f"and its probability is {seen.probabilities[worst].item():.0%}."
    )


def of_gradient(seen: Seen) -> str:
    name, now = seen.setting.estimated, seen.now
    if seen.exact.norm() < 1e-6:
        found = "zero, too" if now.bias <= max(1e-6, SURE * now.error) else f"one of length {now.bias:.2g}"
        return f"The cost is the same at all corners, so the exact gradient is zero; {name} makes of it {found}."
    known = now.error == 0
    if now.bias <= (1e-4 if known else SURE * now.error):
        right = "is the exact one" if known else f"is the exact one as far as {DRAWS:,} draws can tell"
    else:
        right = f"is off by {now.bias:.0%} of its length"
    varies = "it does not vary" if known else f"one draw is {now.std:.1f} times its length away from that mean"
    return f"The mean gradient of {name} {right}; {varies}."


def of_taus(seen: Seen) -> str:
    if not seen.over:
        return f"{seen.setting.estimated} has no temperature."
    errors = [one.mse for one in seen.over]
    best = min(range(len(errors)), key=errors.__getitem__)
    end = {0: "the lowest shown", len(errors) - 1: "the highest shown"}.get(best, "bias and variance in balance")
    return f"Over the temperatures its squared error is least near tau {seen.taus[best]:g} ({end})."


# Pictures -------------------------------------------------------------------------------------------------------------


MIDDLE, RADIUS = (170.0, 110.0), 80.0


def corners(categories: int) -> Tensor:
    """Corners of a regular polygon, ``(categories, 2)``, in pixels."""
    angle = torch.arange(categories) * (2 * math.pi / categories) - math.pi / 2
    return torch.tensor(MIDDLE) + RADIUS * torch.stack([angle.cos(), angle.sin()], -1)


def cloud(seen: Seen) -> str:
    """Every draw as the point between the corners that its entries weigh."""
    at, labels = corners(len(seen.shares)), names(len(seen.shares))
    outline = "L".join(f"{x:.1f} {y:.1f}" for x, y in at.tolist())
    parts = [f'<path class="axis" d="M{outline}Z"/>']
    if seen.setting.hard:
        radius = 4 + 22 * seen.shares.sqrt()
        for (x, y), r, share in zip(at.tolist(), radius.tolist(), seen.shares.tolist()):
            parts.append(drawing.circle(x, y, r, "fill a", f"{share:.1%}", 0.55) if share else "")
    else:
        parts.append(drawing.dots((seen.draws @ at).numpy()))
    x, y = (seen.draws[0] @ at).tolist()
    parts.append(drawing.circle(x, y, 5, "fill b", "the draw on the left"))
    for (x, y), label in zip(at.tolist(), labels):
        dx, dy = (x - MIDDLE[0]) * 0.2, (y - MIDDLE[1]) * 0.2
        parts.append(drawing.text(x + dx, y + dy + 4, label, "middle", "ink"))
    if not seen.setting.hard:
        x, y = (seen.draws.mean(0) @ at).tolist()
        parts.append(f'<path class="line ink" d="M{x - 5:.1f} {y:.1f}h10M{x:.1f} {y - 5:.1f}v10"/>')
    return drawing.svg(f"{DRAWS} draws on the simplex of {len(labels)} categories. {of_draws(seen)}", *parts)


def over_tau(seen: Seen) -> str:
    """The entry of the gradient that is largest: exact, and the estimator's mean, standard deviation and draws."""
    worst = int(seen.exact.abs().argmax()) if seen.exact.norm() > 1e-6 else int(seen.now.drawn.abs().mean(0).argmax())
    exact, taus = seen.exact[worst].item(), seen.taus or TAUS
    rows = seen.over or (seen.now,) * len(taus)
    means = [row.drawn[:, worst].mean().item() for row in rows]
    stds = [row.drawn[:, worst].std().item() if len(row.drawn) > 1 else 0.0 for row in rows]
    low = min([exact, *(m - 1.6 * s for m, s in zip(means, stds))])
    high = max([exact, *(m + 1.6 * s for m, s in zip(means, stds))])
    pad = 0.08 * (high - low) + 1e-3
    axes = drawing.Axes(
        (TAUS[0], TAUS[-1]), (low - pad, high + pad), ticks=(0.1, 0.3, 1, 3), log=True, about=("tau", "")
    )
    xs, ys = [], []
    for i, row in enumerate(rows):
        some = row.drawn[:CLOUD, worst].tolist()
        inside = [v for v in some if low - pad <= v <= high + pad]
        xs += [taus[i] * 1.012 ** (k % 9 - 4) for k in range(len(inside))]
        ys += inside
    axes.cloud(xs, ys, "a")
    axes.band(taus, [m - s for m, s in zip(means, stds)], [m + s for m, s in zip(means, stds)], "a")
    axes.line([TAUS[0], TAUS[-1]], [exact, exact], "b")
    axes.line(taus, means, "a")
    axes.upright(min(max(seen.setting.tau, TAUS[0]), TAUS[-1]))
    axes.parts += [
        drawing.text(330, 14, "— exact", "end", "b"),
        drawing.text(330, 27, "— mean, ± std, draws", "end", "a"),
    ]
    return axes.drawn(
        f"Gradient of logit {names(len(seen.exact))[worst]} over tau: exact {exact:.3g}. {of_gradient(seen)}"
    )


def pictures(seen: Seen, before: str = "") -> str:
    """All of them, under the sentence, and that under what is said ``before``."""
    labels, setting = names(len(seen.shares)), seen.setting
    p, one = seen.probabilities.tolist(), seen.draws[0].tolist()
    listed = ", ".join(f"{n} {v:.2f}" for n, v in zip(labels, one))
    argmax = ", ".join(f"{n} {s:.1%} (softmax {q:.1%})" for n, s, q in zip(labels, seen.shares.tolist(), p))
    mean, std = seen.now.drawn.mean(0), (seen.now.drawn.std(0) if len(seen.now.drawn) > 1 else 0 * seen.exact)
    everything = torch.cat([mean - std, mean + std, seen.exact, torch.zeros(1)])
    ends = everything.min().item() * 1.05, everything.max().item() * 1.05 + 1e-9
    kinds = {"none": "faint", "Gumbel": "a", "Gaussian": "c"}
    titles = {False: f"{DRAWS:,} draws", True: f"{DRAWS:,} draws: area is share"}
    return drawing.page(
        drawing.figure(
            "One draw",
            drawing.bars(one, labels, f"One draw: {listed}", outline=p, high=1.0),
            "outline: the softmax of the logits",
        ),
        drawing.figure(titles[bool(setting.hard)], cloud(seen), "orange: the draw on the left; +: the mean of all"),
        drawing.figure(
            "How often each is the arg max",
            drawing.bars(seen.shares.tolist(), labels, f"Arg max: {argmax}", outline=p, high=1.0, kind="c"),
            "outline: the softmax of the logits",
        ),
        drawing.figure(
            "Mean of the largest entry, soft",
            drawing.curves(
                [(noise, TAUS, seen.largest[noise], kinds[noise]) for noise in NOISES],
                "Mean of the largest entry over tau: "
                + "; ".join(
                    f"{n}: {v[0]:.2f} at tau {TAUS[0]} to {v[-1]:.2f} at {TAUS[-1]}" for n, v in seen.largest.items()
                ),
                ticks=(0.1, 0.3, 1, 3),
                log=True,
                names=("tau", ""),
                y=(0.0, 1.0),
                now=min(max(setting.tau, TAUS[0]), TAUS[-1]),
            ),
        ),
        drawing.figure(
            f"Gradient of each logit by {setting.estimated}",
            drawing.bars(
                mean.tolist(),
                labels,
                f"Mean gradient at tau {setting.tau:g}. {of_gradient(seen)}",
                outline=seen.exact.tolist(),
                spread=std.tolist(),
                low=ends[0],
                high=ends[1],
            ),
            f"outline: exact; whisker: standard deviation of one draw; cosine {seen.now.cosine:.2f}",
        ),
        drawing.figure("Gradient over tau, of the largest entry", over_tau(seen)),
        say=f"{before}What you see: {sentence(seen)}",
    )


# Presets --------------------------------------------------------------------------------------------------------------

LEVEL, SKEW = (0.5, 0.2, -0.3), (2.0, 0.5, -1.0)
LINEAR, SQUARE, CUBIC, SAME = COSTS
PRESETS: dict[int, Setting] = {
    2: Setting(SKEW, 0.1, "Gumbel", False, AS_DRAWN, LINEAR),
    3: Setting(SKEW, 3.0, "Gumbel", False, AS_DRAWN, SQUARE),
    4: Setting(LEVEL, 1.0, "Gumbel", True, AS_DRAWN, LINEAR),
    5: Setting((1.5, 0.5, 0.0, -0.5, -1.0, -2.0), 1.0, "Gumbel", True, AS_DRAWN, LINEAR),
    6: Setting(LEVEL, 1.0, "none", False, AS_DRAWN, SQUARE),
    7: Setting(SKEW, 0.7, "none", True, AS_DRAWN, LINEAR),
    8: Setting((1.0, 0.0, -0.5, -1.0), 0.5, "Gumbel", False, AS_DRAWN, SQUARE),
    9: Setting(LEVEL, 0.3, "Gumbel", False, "gumbel_softmax", SQUARE),
    10: Setting(LEVEL, 0.7, "Gumbel", True, "st_gumbel_softmax", CUBIC),
    19: Setting(LEVEL, 0.3, "none", False, "softmax", SAME),
    20: Setting(LEVEL, 1.0, "Gumbel", True, "reinforce", CUBIC),
    21: Setting(LEVEL, 0.7, "Gaussian", True, AS_DRAWN, SQUARE),
    22: Setting(LEVEL, 1.0, "Gumbel", True, "straight_through", CUBIC),
    23: Setting(SKEW, 5.0, "Gumbel", False, AS_DRAWN, SQUARE),
    24: Setting(LEVEL, 0.5, "Gumbel", False, AS_DRAWN, SQUARE),
}
"""Settings at which a claim of the thread can be looked at, by its number; the others need more than one choice."""


def claims() -> dict[str, int]:
    """The claims that have a preset, as they are listed."""
    from zoo.lab.study.answers import CLAIMS

    return {f"{number}. {CLAIMS[number].text}": number for number in PRESETS}


# The page -------------------------------------------------------------------------------------------------------------


def build(gr: Any) -> None:
    """Controls, and what they change."""
    first = Setting()
    gr.Markdown(
        "A network chooses one of several. Move the logits, the temperature and the noise, and see what it draws; "
        "choose an estimator and a cost, and see what gradient it makes of the draws."
    )
    seed = gr.State(0)
    with gr.Row():
        with gr.Column(scale=1, min_width=280, elem_classes="zoo-left"):
            with gr.Column():
                preset = gr.Dropdown(list(claims()), value=None, label="A claim to look at", elem_id="preset")
                tau = gr.Slider(*TAU, first.tau, step=0.05, label="Temperature tau", elem_id="tau")
                noise = gr.Radio(list(NOISES), value=first.noise, label="Noise", elem_id="noise")
                hard = gr.Checkbox(first.hard, label="Hard: one-hot draws, soft gradient", elem_id="hard")
            with gr.Column(elem_classes="zoo-more"):
                with gr.Accordion("Gradient: estimator and cost", open=True):
                    estimator = gr.Dropdown(
                        [AS_DRAWN, *estimators()], value=AS_DRAWN, label="Estimator", elem_id="estimator"
                    )
                    cost = gr.Dropdown(list(COSTS), value=first.cost, label="Cost of the choice; v from 1 to -1")
                count = gr.Slider(FEWEST, MOST, len(first.logits), step=1, label="Categories", elem_id="count")
                with gr.Accordion("Logits", open=True):
                    logits = [
                        gr.Slider(
                            -LOGIT,
                            LOGIT,
                            first.logits[i] if i < len(first.logits) else -0.5,
                            step=0.1,
                            label=f"Logit of {name}",
                            visible=i < len(first.logits),
                        )
                        for i, name in enumerate(names(MOST))
                    ]
                again = gr.Button("Draw again")
        with gr.Column(scale=3, min_width=320, elem_classes="zoo-seen"):
            shown = gr.HTML(pictures(look(first)), elem_id="softmax-or-gumbel")
    controls = [count, *logits, tau, noise, hard, estimator, cost, seed]

    def setting(count: int, *values: Any) -> Setting:
        logits, (tau, noise, hard, estimator, cost, seed) = values[:MOST], values[MOST:]
        return Setting(tuple(logits[: int(count)]), tau, noise, bool(hard), estimator, cost, seed)

    @polite
    def show(*values: Any) -> str:
        return pictures(look(setting(*values)))

    def draw_again(seed: int) -> int:
        return seed + 1

    def visible(count: int) -> list[Any]:
        return [gr.update(visible=i < count) for i in range(MOST)]

    def choose(claim: str | None) -> list[Any]:
        number = claims().get(claim or "")
        one = PRESETS.get(number or -1, first)
        before = f"Claim {claim} The command zoo answers {number} tests it. " if number else ""
        n = len(one.logits)
        given = [gr.update(value=one.logits[i] if i < n else -0.5, visible=i < n) for i in range(MOST)]
        return [n, *given, one.tau, one.noise, one.hard, one.estimator, one.cost, one.seed, pictures(look(one), before)]

    live: dict[str, Any] = {
        "show_progress": "hidden",
        "trigger_mode": "always_last",
        "queue": False,
    }
    for control in (*logits, tau, noise, hard, estimator, cost):
        control.input(show, controls, shown, **live)
    count.input(visible, count, logits, show_progress="hidden").then(show, controls, shown, **live)
    again.click(draw_again, seed, seed, show_progress="hidden").then(show, controls, shown, **live)
    preset.input(choose, preset, [*controls, shown], **live)
