"""The gradient lab: every estimator of the registry against the exact gradient, by enumeration.

    python scripts/gradients.py
    python scripts/gradients.py problems=quadratic,polynomial draws=5000 out=FOLDER
    python scripts/gradients.py quick=true                                            a minute: does it all run?

For each problem, each estimator and each temperature, at three stages of training: bias, standard deviation, mean
squared error and cosine similarity of the gradient in the logits, and the time of a gradient relative to
straight-through. Estimators are compared by the cosine between the exact gradient and the mean of as many gradients as
64 runs of the program give: it does not depend on the scale, which a learning rate makes up for, and a gradient that
vanishes is no good one.

The problems are a separable quadratic, a coupled polynomial, and the decoder of a categorical VAE trained here through
the command line (about 20 seconds, kept in ``runs/gradients_vae``), all with 8 choices among 4: 65,536 configurations;
gates, 12 of them; and a subset, 3 of 12. Writes ``gradients.md``, ``gradients.csv`` and one picture a problem. About
15 minutes on one core.

An estimator gets into the lab by being registered in ``zoo.relaxations.RELAXATIONS``, for the distributions it serves.
"""

import csv
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from zoo.data import MNIST
from zoo.errors import ZooError
from zoo.hub import from_pretrained
from zoo.lab.common import check_names, command, one_thread, trained
from zoo.relaxations import RELAXATIONS, Bernoulli, Categorical, Distribution, Exact, Noise, Relaxation, Subset
from zoo.relaxations.distributions import Perturbed
from zoo.training import plots

TAUS = (0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 3.0)
PROBLEMS = ("quadratic", "polynomial", "vae", "gates", "subset")
STAGES = {"start": 1.0, "middle": 0.5, "late": 0.1}
"""Of training: the share of the gap between the expected cost and the least one that is left."""
RUNS = 64
"""Of the program, whose gradients are averaged for the cosine that estimators are compared by."""
SURE = 4.0
"""Standard errors within which a bias counts as none: by Chebyshev at most 1/16 beyond, 6e-5 if normal."""


@dataclass(frozen=True)
class Problem:
    """A cost of discrete choices at some logits.

    Attributes:
        logits: ``(cases, latents, *choice)``: independent examples; the errors below are over all of them.
        cost: ``(draws, cases, latents, *value)`` to ``(draws, cases)``, defined for relaxed values too. One case
            broadcasts to all.
        draws: how many gradients are measured.
        chunk: how many at a time.
        law: the distribution of logits.
        stage: of training: one of :data:`STAGES`.
    """

    name: str
    about: str
    logits: Tensor
    cost: Callable[[Tensor], Tensor]
    draws: int
    chunk: int
    law: Callable[[Tensor], Distribution] = Categorical
    stage: str = "start"


@dataclass(frozen=True)
class Score:
    """One row. Bias, error, std and mse are relative to the norm of the exact gradient (mse to its square).

    Attributes:
        tau: nan for an estimator without one.
        default: whether this is the tau that the estimator has by default.
        bias: norm of the mean of all draws minus the exact gradient. It contains the statistical error.
        error: what ``bias`` is expected to be (root mean square) of an unbiased estimator: std / sqrt(draws).
        std: root of the summed variance of one draw.
        runs: of the program for one draw.
        cosine: between one draw and the exact gradient, mean.
        cosine_of_runs: between the mean of as many draws as :data:`RUNS` give, at least one, and the exact gradient.
        cosine_of_mean: between the mean of all draws and the exact gradient.
        mse: of one draw: bias^2 + std^2.
        time: of a gradient relative to straight-through; nan if it was not timed.
    """

    problem: str
    stage: str
    estimator: str
    family: str
    tau: float
    default: bool
    draws: int
    runs: int
    bias: float
    error: float
    std: float
    cosine: float
    cosine_of_runs: float
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


def gates(latents: int, draws: int, cases: int = 4) -> Problem:
    """The coupled polynomial of gates that are open or closed."""
    g = torch.Generator().manual_seed(3)
    features = torch.randn(3, latents, generator=g) * (3 / latents) ** 0.5
    logits = torch.randn(cases, latents, generator=g)

    def cost(z: Tensor) -> Tensor:
        u = torch.einsum("bcn,fn->fbc", z, features)
        return u[0] * u[1] * u[2] + u[0].square() + u[1]

    about = f"the coupled polynomial of {latents} gates"
    return Problem("gates", about, logits, cost, draws, 2_000, Bernoulli)


def subset(items: int, k: int, draws: int, cases: int = 4) -> Problem:
    """The mean squared distance of the sum of the chosen columns to a target: which ones make it up?"""
    g = torch.Generator().manual_seed(4)
    columns = torch.randn(20, items, generator=g)
    target = columns[:, :k] @ torch.ones(k) + 0.5 * columns[:, k : 2 * k].prod(1)
    logits = 0.5 * torch.randn(cases, 1, items, generator=g)

    def cost(z: Tensor) -> Tensor:
        return ((z @ columns.T).squeeze(-2) - target).square().mean(-1)

    about = f"the mean squared distance of the sum of {k} of {items} columns to a target"
    return Problem("subset", about, logits, cost, draws, 2_000, lambda logits: Subset(logits, k))


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
        "model.prior=uniform",
        "model.optimizer.weight_decay=0.0",
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


def support(problem: Problem) -> Tensor:
    """The values of a choice, ``(values, *value)``."""
    return problem.law(problem.logits[:1, :1]).enumerate_support()[:, 0, 0]


@dataclass(frozen=True)
class Enumeration:
    """Every combination of the choices of a problem, and its cost.

    What ``relaxation=exact`` computes, with the combinations in the batch and not in a Python loop.

    Attributes:
        problem: whose.
        index: which value each choice has, ``(combinations, latents)``.
        costs: ``(combinations, cases)``, or one case for all.
    """

    problem: Problem
    index: Tensor
    costs: Tensor

    @classmethod
    def of(cls, problem: Problem, chunk: int = 4096) -> "Enumeration":
        values = support(problem)
        latents = problem.logits.shape[1]
        index = torch.cartesian_prod(*[torch.arange(len(values))] * latents).view(-1, latents)
        with torch.no_grad():
            costs = [problem.cost(values[part].unsqueeze(1)).double() for part in index.split(chunk)]
        return cls(problem, index, torch.cat(costs))

    def expected(self, logits: Tensor) -> Tensor:
        """The expected cost of each case, float64, differentiable."""
        law = self.problem.law(logits)
        values = law.enumerate_support().detach()  # (values, cases, latents, *value)
        log_p = law.expand(values.shape[:1]).log_prob(values)
        each = torch.stack([log_p[self.index[:, n], :, n] for n in range(self.index.shape[1])])
        return (each.sum(0).exp() * self.costs).sum(0)

    def gradient(self, logits: Tensor) -> Tensor:
        """Of the expected cost, in the shape of ``logits``, float64."""
        logits = logits.double().detach().requires_grad_()
        return torch.autograd.grad(self.expected(logits).sum(), logits)[0]

    def at(self, stage: str, *, lr: float = 0.05, most: int = 4_000) -> Problem:
        """The problem as it is when Adam on the exact gradient has come as far as :data:`STAGES` says."""
        best = self.costs.min(0).values
        logits = self.problem.logits.double().clone().requires_grad_()
        adam = torch.optim.Adam([logits], lr=lr)
        first = None
        for _ in range(most):
            cost = self.expected(logits)
            gap = (cost - best).sum()
            first = gap.item() if first is None else first
            if gap <= STAGES[stage] * first:
                break
            (logits.grad,) = torch.autograd.grad(cost.sum(), logits)
            adam.step()
        else:
            raise ZooError(f"{self.problem.name}: training on the exact gradient does not come as far as {stage!r}")
        return replace(self.problem, logits=logits.detach().float(), stage=stage)


def exact_gradient(problem: Problem, chunk: int = 4096) -> Tensor:
    """``grad sum_z p(z) cost(z)``, in the shape of the logits, float64."""
    return Enumeration.of(problem, chunk).gradient(problem.logits)


def expectation(relaxation: Relaxation, problem: Problem, draws: int) -> tuple[Tensor, Tensor]:
    """The value, ``(draws * cases,)``, of as many independent estimates, and the leaf that has their logits."""
    cases = len(problem.logits)
    logits = problem.logits.expand(draws, *problem.logits.shape).flatten(0, 1).requires_grad_()
    cost = relaxation.expectation(
        lambda draw: problem.cost(draw(problem.law(logits)).unflatten(0, (draws, cases))).flatten()
    )
    return cost, logits


def program_runs(relaxation: Relaxation, problem: Problem) -> int:
    """How often one gradient runs the program. Neither its state nor its noise changes by this."""
    if isinstance(relaxation, Exact):
        return len(support(problem)) ** problem.logits.shape[1]
    logits, runs = problem.logits, 0
    same = type(relaxation)(**relaxation.arguments)

    def program(draw: Callable[[Distribution], Tensor]) -> Tensor:
        nonlocal runs
        runs += 1
        return problem.cost(draw(problem.law(logits)).unsqueeze(0)).flatten()

    with torch.no_grad():
        same.expectation(program, noise=Noise(torch.Generator()))
    return runs


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
    runs = program_runs(relaxation, problem)
    group = min(chunk, max(1, RUNS // runs))
    total, squared, cosine, cosine_of_runs = torch.zeros_like(exact), 0.0, 0.0, 0.0
    for _ in range(chunks):
        drawn = exact.unsqueeze(0) if enumerated else gradients(relaxation, problem, chunk).double()
        total += drawn.sum(0)
        squared += (drawn - exact).square().sum().item()
        cosine += F.cosine_similarity(drawn, exact, dim=-1).mean().item() / chunks
        means = drawn[: chunk // group * group].unflatten(0, (-1, group)).mean(1)
        cosine_of_runs += F.cosine_similarity(means, exact, dim=-1).mean().item() / chunks
    draws, norm = chunk * chunks, exact.norm().item()
    mean = total / draws
    bias = (mean - exact).norm().item() / norm
    mse = squared / draws / norm**2
    std = math.sqrt(max(0.0, mse - bias**2) * draws / (draws - 1)) if draws > 1 else 0.0
    return {
        "draws": draws,
        "runs": runs,
        "bias": bias,
        "error": std / math.sqrt(draws),
        "std": std,
        "cosine": cosine,
        "cosine_of_runs": cosine_of_runs,
        "cosine_of_mean": F.cosine_similarity(mean, exact, dim=-1).mean().item(),
        "mse": mse,
    }


def relative_times(problem: Problem, *, rounds: int) -> dict[str, float]:
    """Time of 32 gradients at default settings relative to straight-through's, in turns in one run.

    The least processor time of one thread, which other work on the machine disturbs least.
    """
    relaxations = {name: cls() for name, cls in estimators(problem).items() if not issubclass(cls, Exact)}
    seconds = dict.fromkeys(relaxations, math.inf)
    with one_thread():
        for _ in range(rounds):
            for name, relaxation in relaxations.items():
                began = time.thread_time()
                gradients(relaxation, problem, 32)
                seconds[name] = min(seconds[name], time.thread_time() - began)
    return {name: value / seconds["straight_through"] for name, value in seconds.items()}


def estimators(problem: Problem | None = None) -> dict[str, type[Relaxation]]:
    """The relaxations that serve the choices of a problem, by default categorical ones."""
    law = Categorical.example() if problem is None else problem.law(problem.logits)
    return {name: cls for name, cls in RELAXATIONS.items() if all(isinstance(law, need) for need in cls.needs)}


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
        rounds: of the measurement of time; 0 for none.
        learning: steps in which an estimator's own parameters are trained.
    """
    exact = exact_gradient(problem)
    times = relative_times(problem, rounds=rounds) if rounds else {}
    rows = []
    for name, cls in estimators(problem).items():
        for arguments, default in temperatures(name, taus):
            relaxation = cls(**arguments)
            if relaxation.stochastic and not isinstance(relaxation, Exact):
                warm_up(relaxation, problem, steps=learning)
            rows.append(
                Score(
                    problem=problem.name,
                    stage=problem.stage,
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
    """Statements that are theorems, or the point of a paper, held against the measurement at the start."""
    found = []
    rows = [row for row in rows if row.stage == "start"]
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
        rloo, reinforce = best("rloo"), best("reinforce")
        found.append(
            Claim(
                f"{problem}: RLOO has less variance than REINFORCE",
                rloo.std < reinforce.std,
                f"std {rloo.std:.3f} < {reinforce.std:.3f}",
            )
        )
        if "reinmax" not in {row.estimator for row in here}:
            continue
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
    return found


# Output ---------------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def table(rows: list[Score]) -> list[str]:
    """Markdown: each estimator at its default tau, at the start."""
    lines = [
        "| estimator | tau | runs | bias | error | std | MSE | cosine | cosine of 64 runs | time |",
        "| --- | " + "---: | " * 8 + "---: |",
    ]
    for row in (row for row in rows if row.default and row.stage == "start"):
        bias = f"({number(row.bias)})" if row.unbiased else number(row.bias)
        cells = [number(row.tau), str(row.runs), bias, *map(number, (row.error, row.std, row.mse, row.cosine))]
        cells += [number(row.cosine_of_runs), number(row.time)]
        lines.append(f"| `{row.estimator}` | " + " | ".join(cells) + " |")
    return lines


def at_best(rows: list[Score], estimator: str, stage: str) -> Score:
    """The row of the tau whose gradients point best."""
    return max((r for r in rows if (r.estimator, r.stage) == (estimator, stage)), key=lambda row: row.cosine_of_runs)


def staged(rows: list[Score]) -> list[str]:
    """Markdown: each estimator at its best tau, by stage; the best at the late one first."""
    stages = [stage for stage in STAGES if any(row.stage == stage for row in rows)]
    names = sorted({row.estimator for row in rows}, key=lambda name: -at_best(rows, name, stages[-1]).cosine_of_runs)
    lines = ["| estimator | " + " | ".join(stages) + " | best tau |", "| --- | " + "---: | " * len(stages) + "---: |"]
    for name in names:
        best = [at_best(rows, name, stage) for stage in stages]
        taus = ", ".join(number(row.tau) for row in best) if not math.isnan(best[0].tau) else ""
        lines.append(f"| `{name}` | " + " | ".join(f"{row.cosine_of_runs:.3f}" for row in best) + f" | {taus} |")
    return lines


HEAD = """\
# Gradient estimators against the exact gradient

Written by `{command}` in {seconds:.0f} seconds of processor time. All configurations are enumerated. For each problem
a table of each estimator at its default temperature, with the logits that training begins from, and one of the stages
of training, each estimator at the temperature at which it points best; [gradients.csv](gradients.csv) has all.

- **bias**: the norm of the mean of all draws minus the exact gradient. **error**: the bias that an unbiased estimator
  would show with as many draws. A bias within {sure:g} times its error is in parentheses: there may be none.
- **std**: the root of the summed variance of one draw. **MSE** = bias^2 + std^2. These four are relative to the norm of
  the exact gradient.
- **runs**: of the program for one draw. **cosine**: between one draw and the exact gradient. **cosine of 64 runs**:
  between the mean of as many draws as 64 runs give and the exact gradient. It is what estimators are compared by, at
  equal runs: a learning rate makes up for the scale of a gradient, and a gradient of zero has an MSE of 1, less than
  that of many a noisy one.
  Temperatures are chosen by the exact gradient, and what warms an estimator up is not counted. The exact gradient
  itself runs the program once for each configuration.
- **start, middle, late**: the logits after training on the exact gradient, when half and a tenth of the gap between the
  expected and the least cost, summed over the cases, are left. Of the VAE the start is the posterior of the trained
  encoder.
- **time**: of a gradient in the logits, the cost included, relative to straight-through: processor time of one thread,
  the least of several rounds in which all estimators take turns.

Running means have settled and what is learned (by `relax`, `aimle`) has been trained before the draws that count.
`exact` stands for the enumeration: the layer's own loop runs the program once a configuration, too slow to be timed
here.
"""


def report(problems: list[Problem], rows: list[Score], command: str, seconds: float) -> str:
    lines = HEAD.format(command=command, seconds=seconds, sure=SURE).splitlines()
    for problem in problems:
        here = [row for row in rows if row.problem == problem.name]
        draws = max(row.draws for row in here)
        lines += ["", f"## `{problem.name}`", "", f"{problem.about[0].upper()}{problem.about[1:]}."]
        lines += [f"{draws:,} draws of {len(problem.logits)} cases each.", "", *table(here), ""]
        lines += ["Cosine of 64 runs, each estimator at its best tau of that stage:", "", *staged(here), ""]
        lines += [f"![{message(problem.name, here)}]({problem.name}.png)"]
    lines += ["", "## Does it agree with theory?", "", "| claim | measured | holds |", "| --- | --- | --- |"]
    lines += [
        f"| {claim.statement} | {claim.figures} | {'yes' if claim.holds else '**no**'} |" for claim in claims(rows)
    ]
    return "\n".join(lines) + "\n"


SHOWN = ("softmax", "gumbel_softmax", "st_gumbel_softmax", "straight_through", "reinmax", "rloo")
"""What the pictures show of all that the tables have."""


def message(name: str, rows: list[Score]) -> str:
    """What the picture says, in a line."""
    shown = [one for one in SHOWN if any(row.estimator == one for row in rows)]
    late = sorted((at_best(rows, one, "late").cosine_of_runs, one) for one in shown)
    (low, worst), (high, best) = late[0], late[-1]
    return f"{name}, late in training: of these {best} points best ({high:.2f}), {worst} worst ({low:.2f})"


def picture(problem: Problem, rows: list[Score]) -> Figure:
    """The cosine of as many runs of the program over the stages of training, of a few estimators at their best tau."""
    rows = [row for row in rows if row.problem == problem.name]
    stages = [stage for stage in STAGES if any(row.stage == stage for row in rows)]
    shown = [one for one in SHOWN if any(row.estimator == one for row in rows)]
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    ax = figure.subplots()
    ends = []
    for index, name in enumerate(shown):
        y = [at_best(rows, name, stage).cosine_of_runs for stage in stages]
        ax.plot(range(len(stages)), y, "-o", color=f"C{index}", markersize=4)
        ends.append((y[-1], name, f"C{index}"))
    ax.axhline(0, color="0.8", linewidth=1, zorder=0)
    low, high = ax.get_ylim()
    place = -math.inf
    for end, name, color in sorted(ends):
        place = max(end, place + (high - low) / 16)  # one label above the other
        ax.annotate(name, (len(stages) - 1, end), (len(stages) - 0.96, place), color=color, va="center")
    left = {"start": "the start", "middle": "middle\n(half of the gap left)", "late": "late\n(a tenth left)"}
    ax.set_xticks(range(len(stages)), [left[stage] for stage in stages])
    ax.set_xlim(-0.1, len(stages) - 0.3)
    ax.set_ylabel(f"cosine of {RUNS} runs with the exact gradient")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(message(problem.name, rows), loc="left")
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
        problems: which of quadratic, polynomial, vae, gates and subset.
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
        if name in ("quadratic", "polynomial"):
            return {"quadratic": quadratic, "polynomial": polynomial}[name](*size, draws)
        if name == "gates":
            return gates(8 if quick else 12, draws)
        if name == "subset":
            return subset(6 if quick else 12, 3, draws)
        default = out / "vae" if quick else Path("runs/gradients_vae")
        return vae_problem(vae or train_vae(default, quick=quick), draws // 2)

    chosen = [build(name) for name in problems]
    rows = []
    for problem in chosen:
        enumeration = Enumeration.of(problem)
        for stage in STAGES:
            rounds = 0 if stage != "start" else 3 if quick else 30
            rows += scores(enumeration.at(stage), taus, rounds=rounds, learning=30 if quick else 200)
        print(f"{problem.name}: {time.time() - began:.0f} s", flush=True)
    write(out, chosen, rows, made_by, time.process_time())
    for claim in claims(rows):
        print(f"{'holds' if claim.holds else 'FAILS'}  {claim.statement}  ({claim.figures})")
    print(out / "gradients.md")
    return rows
