"""The gradient lab: every estimator of the registry against the exact gradient, by enumeration.

    python scripts/gradients.py
    python scripts/gradients.py problems=quadratic,polynomial draws=5000 out=FOLDER
    python scripts/gradients.py quick=true                                            a minute: does it all run?

For each problem, each estimator and each temperature: bias, standard deviation, cosine similarity and mean squared
error of the gradient in the logits, and the time of a gradient relative to straight-through. The problems are a
separable quadratic, a coupled polynomial, and the decoder of a categorical VAE trained here through the command
line (about 20 seconds, kept in ``runs/gradients_vae``), all with 8 choices among 4: 65,536 configurations. Writes
``gradients.md``, ``gradients.csv`` and one picture a problem. About 5 minutes on one core.

An estimator gets into the lab by being registered in ``zoo.relaxations.RELAXATIONS``, if it serves a categorical one.
"""

import csv
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from zoo.data import MNIST
from zoo.hub import from_pretrained
from zoo.lab.common import check_names, command, one_thread, trained
from zoo.relaxations import RELAXATIONS, Categorical, Exact, Relaxation
from zoo.relaxations.distributions import Perturbed
from zoo.training import plots

TAUS = (0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 3.0)
PROBLEMS = ("quadratic", "polynomial", "vae")
SURE = 4.0
"""Standard errors within which a bias counts as none: by Chebyshev at most 1/16 beyond, 6e-5 if normal."""


@dataclass(frozen=True)
class Problem:
    """A cost of discrete choices at some logits.

    Attributes:
        logits: ``(cases, latents, categories)``: independent examples; the errors below are over all of them.
        cost: ``(draws, cases, latents, categories)`` to ``(draws, cases)``, defined for relaxed values too. One case
            broadcasts to all.
        draws: how many gradients are measured.
        chunk: how many at a time.
    """

    name: str
    about: str
    logits: Tensor
    cost: Callable[[Tensor], Tensor]
    draws: int
    chunk: int


@dataclass(frozen=True)
class Score:
    """One row. Bias, error, std and mse are relative to the norm of the exact gradient (mse to its square).

    Attributes:
        tau: nan for an estimator without one.
        default: whether this is the tau that the estimator has by default.
        bias: norm of the mean of all draws minus the exact gradient. It contains the statistical error.
        error: what ``bias`` is expected to be (root mean square) of an unbiased estimator: std / sqrt(draws).
        std: root of the summed variance of one draw.
        cosine: between one draw and the exact gradient, mean.
        cosine_of_mean: between the mean of all draws and the exact gradient.
        mse: of one draw: bias^2 + std^2.
        time: of a gradient relative to straight-through; nan if it was not timed.
    """

    problem: str
    estimator: str
    family: str
    tau: float
    default: bool
    draws: int
    bias: float
    error: float
    std: float
    cosine: float
    cosine_of_mean: float
    mse: float
    time: float

    @property
    def unbiased(self) -> bool:
        """Whether the draws leave it possible that there is no bias."""
        return self.bias <= SURE * self.error


# Problems -------------------------------------------------------------------------------------------------------------


def quadratic(latents: int, categories: int, draws: int, cases: int = 4) -> Problem:
    """``sum_n (w_n . z_n - c_n)^2``: each choice on its own. A second-order estimator is exact."""
    g = torch.Generator().manual_seed(1)
    weight, target = torch.randn(latents, categories, generator=g), 0.5 * torch.randn(latents, generator=g)
    logits = torch.randn(cases, latents, categories, generator=g)

    def cost(z: Tensor) -> Tensor:
        return ((z * weight).sum(-1) - target).square().sum(-1)

    about = "separable quadratic `sum_n (w_n . z_n - c_n)^2`"
    return Problem("quadratic", about, logits, cost, draws, 2_000)


def polynomial(latents: int, categories: int, draws: int, cases: int = 4) -> Problem:
    """``u_1 u_2 u_3 + u_1^2 + u_2`` of three linear features ``u`` of all choices: coupled, of third degree."""
    g = torch.Generator().manual_seed(2)
    features = torch.randn(3, latents, categories, generator=g) * (3 / latents) ** 0.5
    logits = torch.randn(cases, latents, categories, generator=g)

    def cost(z: Tensor) -> Tensor:
        u = torch.einsum("bcnk,fnk->fbc", z, features)
        return u[0] * u[1] * u[2] + u[0].square() + u[1]

    about = "coupled polynomial `u_1 u_2 u_3 + u_1^2 + u_2` of three linear features `u` of all choices"
    return Problem("polynomial", about, logits, cost, draws, 2_000)


def vae_problem(run: Path, draws: int, cases: int = 4) -> Problem:
    """The reconstruction error of test images, at their posterior, under the decoder of a trained CatVAE."""
    model = from_pretrained(run).requires_grad_(False)
    data = MNIST()
    data.setup()
    images = next(iter(data.test_dataloader()))[0][:cases]
    pixels = images.flatten(1)

    def cost(z: Tensor) -> Tensor:
        logits = model.decoder(z.flatten(0, 1)).view(*z.shape[:2], -1)
        return (F.softplus(logits) - logits * pixels).sum(-1)  # -log of the Bernoulli likelihood

    about = f"`-log p(x|z)` of {cases} test images under the decoder of a trained VAE, at their posteriors"
    return Problem("vae", about, model.posterior(images).logits, cost, draws, 250)


def train_vae(folder: Path, *, quick: bool) -> Path:
    """A CatVAE with 8 latents of 4 categories in ``folder``, trained by the command line if it is not there yet."""
    overrides = [
        "model=cat_vae",
        "model.latents=8",
        "model.categories=4",
        "model.encoder.hidden=[128]",
        "model.decoder.hidden=[128]",
        "model.iwae_samples=20",
        "epochs=3",
    ]
    if quick:
        overrides += ["epochs=1", "trainer.limit_train_batches=100", "trainer.limit_val_batches=1"]
        overrides += ["trainer.limit_test_batches=1"]
    return trained(folder, overrides).path


# Measurement ----------------------------------------------------------------------------------------------------------


def configurations(latents: int, categories: int) -> Tensor:
    """Every combination of choices as one-hot, ``(categories ** latents, latents, categories)``."""
    codes = torch.cartesian_prod(*[torch.arange(categories)] * latents).view(-1, latents)
    return F.one_hot(codes, categories).float()


def exact_gradient(problem: Problem, chunk: int = 4096) -> Tensor:
    """``grad sum_z p(z) cost(z)``, ``(cases, latents, categories)``, float64.

    What ``relaxation=exact`` computes, with the combinations in the batch and not in a Python loop.
    """
    logits = problem.logits.double().requires_grad_()
    log_p = logits.log_softmax(-1)
    gradient = torch.zeros_like(logits)
    for z in configurations(*logits.shape[1:]).split(chunk):
        with torch.no_grad():
            cost = problem.cost(z.unsqueeze(1)).double()  # (chunk, cases), or (chunk, 1)
        p = torch.einsum("znk,cnk->zc", z.double(), log_p).exp()
        gradient += torch.autograd.grad((p * cost).sum(), logits, retain_graph=True)[0]
    return gradient


def expectation(relaxation: Relaxation, problem: Problem, draws: int) -> tuple[Tensor, Tensor]:
    """The value, ``(draws * cases,)``, of as many independent estimates, and the leaf that has their logits."""
    cases, latents, categories = problem.logits.shape
    logits = problem.logits.expand(draws, -1, -1, -1).flatten(0, 1).requires_grad_()
    cost = relaxation.expectation(
        lambda draw: problem.cost(draw(logits).view(draws, cases, latents, categories)).flatten()
    )
    return cost, logits


def gradients(relaxation: Relaxation, problem: Problem, draws: int) -> Tensor:
    """Independent gradients, ``(draws, cases, latents * categories)``."""
    cost, logits = expectation(relaxation, problem, draws)
    return torch.autograd.grad(cost.sum(), logits)[0].reshape(draws, len(problem.logits), -1)


def warm_up(relaxation: Relaxation, problem: Problem, *, steps: int, draws: int = 64) -> None:
    """Let what an estimator follows settle, such as running means, and train its parameters, if it has some."""
    parameters = list(relaxation.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-2) if parameters else None
    temperatures = getattr(relaxation, "temperatures", ())
    follows = any(name not in temperatures for name, _ in relaxation.named_buffers())
    for _ in range(steps if optimizer or follows else 1):
        cost, _ = expectation(relaxation, problem, draws)
        if optimizer:
            optimizer.zero_grad()
        cost.mean().backward()
        if optimizer:
            optimizer.step()


def measure(relaxation: Relaxation, problem: Problem, exact: Tensor) -> dict[str, Any]:
    """The figures of :class:`Score` that come from draws."""
    exact = exact.flatten(1)  # (cases, latents * categories)
    # An estimator without noise repeats itself; the exact one is not run but enumerated, see exact_gradient.
    enumerated = isinstance(relaxation, Exact)
    chunk = problem.chunk if relaxation.stochastic and not enumerated else 1
    chunks = max(1, problem.draws // problem.chunk) if chunk > 1 else 1
    total, squared, cosine = torch.zeros_like(exact), 0.0, 0.0
    for _ in range(chunks):
        drawn = exact.unsqueeze(0) if enumerated else gradients(relaxation, problem, chunk).double()
        total += drawn.sum(0)
        squared += (drawn - exact).square().sum().item()
        cosine += F.cosine_similarity(drawn, exact, dim=-1).mean().item() / chunks
    draws, norm = chunk * chunks, exact.norm().item()
    mean = total / draws
    bias = (mean - exact).norm().item() / norm
    mse = squared / draws / norm**2
    std = math.sqrt(max(0.0, mse - bias**2) * draws / (draws - 1)) if draws > 1 else 0.0
    return {
        "draws": draws,
        "bias": bias,
        "error": std / math.sqrt(draws),
        "std": std,
        "cosine": cosine,
        "cosine_of_mean": F.cosine_similarity(mean, exact, dim=-1).mean().item(),
        "mse": mse,
    }


def relative_times(problem: Problem, *, rounds: int) -> dict[str, float]:
    """Time of 32 gradients at default settings relative to straight-through's, in turns in one run.

    The least processor time of one thread, which other work on the machine disturbs least.
    """
    relaxations = {name: cls() for name, cls in estimators().items() if not issubclass(cls, Exact)}
    seconds = dict.fromkeys(relaxations, math.inf)
    with one_thread():
        for _ in range(rounds):
            for name, relaxation in relaxations.items():
                began = time.thread_time()
                gradients(relaxation, problem, 32)
                seconds[name] = min(seconds[name], time.thread_time() - began)
    return {name: value / seconds["straight_through"] for name, value in seconds.items()}


def estimators() -> dict[str, type[Relaxation]]:
    """The relaxations that serve a categorical choice."""
    return {name: cls for name, cls in RELAXATIONS.items() if all(issubclass(Categorical, need) for need in cls.needs)}


def family(cls: type[Relaxation]) -> str:
    if cls.unbiased:
        return "unbiased"
    if not cls.stochastic:
        return "no sample"
    if not cls.hard:
        return "relaxed sample"
    perturbed = any(issubclass(need, Perturbed) for need in cls.needs)
    return "hard value of noisy logits" if perturbed else "exact sample, biased"


def temperatures(name: str, taus: tuple[float, ...]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Constructor arguments for each temperature, and whether it is the default one."""
    default = RELAXATIONS[name]().arguments.get("tau")
    if default is None:
        yield {}, True
    else:
        yield from (({"tau": tau}, tau == default) for tau in sorted({*taus, default}))


def scores(problem: Problem, taus: tuple[float, ...], *, rounds: int = 30, learning: int = 200) -> list[Score]:
    """All rows of a problem.

    Args:
        problem: the cost.
        taus: temperatures beside the default ones.
        rounds: of the measurement of time.
        learning: steps in which an estimator's own parameters are trained.
    """
    exact = exact_gradient(problem)
    times = relative_times(problem, rounds=rounds)
    rows = []
    for name, cls in estimators().items():
        for arguments, default in temperatures(name, taus):
            relaxation = cls(**arguments)
            if relaxation.stochastic and not isinstance(relaxation, Exact):
                warm_up(relaxation, problem, steps=learning)
            rows.append(
                Score(
                    problem=problem.name,
                    estimator=name,
                    family=family(cls),
                    tau=arguments.get("tau", math.nan),
                    default=default,
                    time=times.get(name, math.nan),
                    **measure(relaxation, problem, exact),
                )
            )
    return rows


# What theory says -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    statement: str
    holds: bool
    figures: str


def claims(rows: list[Score]) -> list[Claim]:
    """Statements that are theorems, or the point of a paper, held against the measurement."""
    found = []
    at = {(row.problem, row.estimator, row.tau): row for row in rows}
    for problem in dict.fromkeys(row.problem for row in rows):
        here = [row for row in rows if row.problem == problem]

        def best(name: str, rows: list[Score] = here) -> Score:
            return next(row for row in rows if row.estimator == name and row.default)

        def shared(a: str, b: str, rows: list[Score] = here) -> list[tuple[Score, Score]]:
            """Rows of two estimators at the same temperature."""
            pairs = [(row, at.get((row.problem, b, row.tau))) for row in rows if row.estimator == a]
            return [(first, second) for first, second in pairs if second]

        unbiased = [row for row in here if RELAXATIONS[row.estimator].unbiased and row.draws > 1]
        worst = max(unbiased, key=lambda row: row.bias / row.error)
        found.append(
            Claim(
                f"{problem}: every unbiased estimator's bias is within {SURE:g} standard errors of zero at every tau",
                all(row.unbiased for row in unbiased),
                f"worst: `{worst.estimator}`, {worst.bias / worst.error:.2f}",
            )
        )
        reinmax, st = best("reinmax"), best("straight_through")
        found.append(
            Claim(
                f"{problem}: ReinMax has less bias than straight-through (both at tau 1)",
                reinmax.bias < st.bias,
                f"{reinmax.bias:.4f} < {st.bias:.4f}",
            )
        )
        if problem == "quadratic":
            found.append(
                Claim(
                    f"{problem}: ReinMax, being of second order, has no bias",
                    reinmax.unbiased,
                    f"{reinmax.bias / reinmax.error:.2f} standard errors",
                )
            )
        pairs = shared("gumbel_rao", "st_gumbel_softmax")
        found.append(
            Claim(
                f"{problem}: Gumbel-Rao has less variance than straight-through Gumbel at every tau",
                all(rao.std < st.std for rao, st in pairs),
                "ratios of std " + ", ".join(f"{rao.std / st.std:.2f}" for rao, st in pairs),
            )
        )
        found.append(
            Claim(
                f"{problem}: and the same bias",
                all(abs(rao.bias - st.bias) <= SURE * (rao.error + st.error) for rao, st in pairs),
                "differences " + ", ".join(f"{rao.bias - st.bias:+.4f}" for rao, st in pairs),
            )
        )
        rloo, reinforce = best("rloo"), best("reinforce")
        found.append(
            Claim(
                f"{problem}: RLOO has less variance than REINFORCE",
                rloo.std < reinforce.std,
                f"std {rloo.std:.3f} < {reinforce.std:.3f}",
            )
        )
    return found


# Output ---------------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def table(rows: list[Score]) -> list[str]:
    """Markdown: each estimator at its default tau, and the tau at which its squared error is least."""
    lines = [
        "| estimator | tau | bias | error | std | cosine | cosine of mean | MSE | best tau | MSE there | time |",
        "| --- | " + "---: | " * 9 + "---: |",
    ]
    for row in (row for row in rows if row.default):
        least = min((other for other in rows if other.estimator == row.estimator), key=lambda other: other.mse)
        bias = f"({number(row.bias)})" if row.unbiased else number(row.bias)
        cells = [number(row.tau), bias, *map(number, (row.error, row.std, row.cosine, row.cosine_of_mean, row.mse))]
        cells += [number(least.tau), number(least.mse), number(row.time)]
        lines.append(f"| `{row.estimator}` | " + " | ".join(cells) + " |")
    return lines


HEAD = """\
# Gradient estimators against the exact gradient

Written by `{command}` in {seconds:.0f} seconds of processor time. {latents} choices among {categories}, all {all:,}
configurations enumerated. The tables have each estimator at its default temperature and, beside it, the
temperature at which its squared error is least; [gradients.csv](gradients.csv) and the pictures have all.

- **bias**: the norm of the mean of all draws minus the exact gradient. **error**: the bias that an unbiased estimator
  would show with as many draws. A bias within {sure:g} times its error is in parentheses: there may be none.
- **std**: the root of the summed variance of one draw. **MSE** = bias^2 + std^2. These four are relative to the norm of
  the exact gradient.
- **cosine**: between one draw and the exact gradient.
- **time**: of a gradient in the logits, the cost included, relative to straight-through: processor time of one thread,
  the least of several rounds in which all estimators take turns.

Running means have settled and what is learned (by `relax`, `aimle`) has been trained before the draws that count.
`exact` stands for the enumeration: the layer's own loop runs the program once a configuration, too slow to be timed
here.
"""


def report(problems: list[Problem], rows: list[Score], command: str, seconds: float) -> str:
    latents, categories = problems[0].logits.shape[1:]
    lines = HEAD.format(
        command=command,
        seconds=seconds,
        latents=latents,
        categories=categories,
        all=categories**latents,
        sure=SURE,
    ).splitlines()
    for problem in problems:
        here = [row for row in rows if row.problem == problem.name]
        draws = max(row.draws for row in here)
        lines += ["", f"## `{problem.name}`", "", f"{problem.about[0].upper()}{problem.about[1:]}."]
        lines += [f"{draws:,} draws of {len(problem.logits)} cases each.", "", *table(here), ""]
        lines += [f"![{problem.name}: bias, std, cosine and MSE over tau]({problem.name}.png)"]
    lines += ["", "## Does it agree with theory?", "", "| claim | measured | holds |", "| --- | --- | --- |"]
    lines += [
        f"| {claim.statement} | {claim.figures} | {'yes' if claim.holds else '**no**'} |" for claim in claims(rows)
    ]
    return "\n".join(lines) + "\n"


PANELS = {"bias": "relative bias", "std": "relative std", "cosine": "cosine of a draw", "mse": "relative MSE"}


def picture(problem: Problem, rows: list[Score]) -> Figure:
    """A column for each family of estimators, a row for each figure, tau along x; straight-through in all of them."""
    rows = [row for row in rows if row.problem == problem.name and row.draws * row.std + row.bias > 0]
    families = list(dict.fromkeys(row.family for row in rows))
    figure = Figure(figsize=(3.4 * len(families), 11), layout="constrained")
    axes = figure.subplots(len(PANELS), len(families), sharex=True, sharey="row", squeeze=False)
    taus = sorted({row.tau for row in rows if not math.isnan(row.tau)})
    for column, name in enumerate(families):
        members = list(dict.fromkeys(row.estimator for row in rows if row.family == name))
        for line, (panel, label) in enumerate(PANELS.items()):
            ax = axes[line, column]
            reference = [(row.tau, getattr(row, panel)) for row in rows if row.estimator == "straight_through"]
            if "straight_through" not in members:
                ax.plot(*zip(*reference), color="0.75", linewidth=4, label="straight_through", zorder=0)
            for index, member in enumerate(members):
                points = [row for row in rows if row.estimator == member]
                if math.isnan(points[0].tau):  # no temperature: a level
                    points, style = [points[0]] * len(taus), "--"
                    x = taus
                else:
                    x, style = [row.tau for row in points], "-"
                y = [getattr(row, panel) or math.nan for row in points]  # zero has no logarithm
                color, marker = f"C{index}", "osD^vP*X<>"[index % 10]
                ax.plot(x, y, style, color=color, marker=marker, markersize=4.5, linewidth=1.3, label=member)
                hollow = [(a, b) for a, b, row in zip(x, y, points) if panel == "bias" and row.unbiased]
                if hollow:
                    ax.plot(*zip(*hollow), marker, color=color, markersize=4.5, markerfacecolor="white")
            ax.set_xscale("log")
            ax.set_yscale("linear" if panel == "cosine" else "log")
            ax.grid(alpha=0.3)
            if not column:
                ax.set_ylabel(label)
        axes[0, column].set_title(name)
        axes[-1, column].set_xlabel("tau")
        axes[-1, column].set_xticks(taus, [f"{tau:g}" for tau in taus])
        axes[-1, column].minorticks_off()
        axes[-1, column].legend(loc="upper center", bbox_to_anchor=(0.5, -0.25))
    figure.suptitle(f"{problem.about}\n(hollow: a bias that may be none; dashed: no temperature)")
    return figure


def write(folder: Path, problems: list[Problem], rows: list[Score], command: str, seconds: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "gradients.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [field.name for field in fields(Score)]
        writer.writerow(names)
        for row in rows:
            values = [getattr(row, name) for name in names]
            writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in values])
    for problem in problems:
        with plots.style():
            picture(problem, rows).savefig(folder / f"{problem.name}.png", dpi=90)
    (folder / "gradients.md").write_text(report(problems, rows, command, seconds), encoding="utf-8")


def experiment(
    *,
    problems: Sequence[str] = PROBLEMS,
    draws: PositiveInt = 20_000,
    seed: NonNegativeInt = 0,
    quick: bool = False,
    vae: Path | None = None,
    out: Path = Path("docs/gradients"),
) -> list[Score]:
    """Measure every estimator on every problem, and write the tables and pictures.

    Args:
        problems: which of quadratic, polynomial and vae.
        draws: gradients of each estimator; of the VAE half as many.
        seed: of the draws.
        quick: smaller everything, but the tables are complete.
        vae: the run folder of a trained CatVAE with 8 latents of 4; by default one is trained.
        out: folder of the tables and pictures.

    Returns:
        all rows.
    """
    check_names("problems", problems, PROBLEMS)
    made_by = command("gradients", problems=problems if problems != PROBLEMS else None, draws=draws, seed=seed, vae=vae)
    made_by = command("gradients", quick=True) if quick else made_by
    began = time.time()
    torch.manual_seed(seed)
    size, taus = ((4, 3), (0.5, 1.0)) if quick else ((8, 4), TAUS)
    draws = 6_000 if quick else draws

    def build(name: str) -> Problem:
        if name != "vae":
            return {"quadratic": quadratic, "polynomial": polynomial}[name](*size, draws)
        default = out / "vae" if quick else Path("runs/gradients_vae")
        return vae_problem(vae or train_vae(default, quick=quick), draws // 2)

    chosen = [build(name) for name in problems]
    rows = []
    for problem in chosen:
        rows += scores(problem, taus, **({"rounds": 3, "learning": 30} if quick else {}))
        print(f"{problem.name}: {time.time() - began:.0f} s", flush=True)
    write(out, chosen, rows, made_by, time.process_time())
    for claim in claims(rows):
        print(f"{'holds' if claim.holds else 'FAILS'}  {claim.statement}  ({claim.figures})")
    print(out / "gradients.md")
    return rows
