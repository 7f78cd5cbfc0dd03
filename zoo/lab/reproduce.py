"""Two published results, with the settings of their paper: Liu et al. 2023, arXiv 2304.08612 (ReinMax).

    python scripts/reproduce.py polynomial                       training curves of polynomial programming
    python scripts/reproduce.py mnist_vae epochs=60 seeds=3      training -ELBO of VAEs on MNIST, 8 x 4 and 8 x 16

Each run is one of ``scripts/train.py`` with ``experiment=reinmax_polynomial`` or ``experiment=reinmax_vae``; those that
are there already are not trained again, and go on where more epochs are asked for. Tables and pictures go to
``docs/reproductions``, runs to ``runs/reproduce``. The first takes about 15 minutes on one core, the second
hours, most of them for GR-MCK with its 100 samples; the published 160 epochs and 10 seeds, days.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Literal

from matplotlib.figure import Figure
from pydantic import PositiveInt

from zoo.lab.common import check_names, command, trained
from zoo.lab.study.statistics import interval, scipy_stats
from zoo.training import plots
from zoo.training.loggers import read_metrics

# What the paper calls its methods, as options. Where its code has a temperature by default it is 1.
POLYNOMIAL = {
    "exact": ["relaxation=exact", "model.separate=true"],
    "REINFORCE": ["relaxation=reinforce"],
    "STGS": ["relaxation=st_gumbel_softmax", "relaxation.tau=1.0"],
    "GR-MCK": ["relaxation=gumbel_rao", "relaxation.tau=1.0"],
    "GST-1.0": ["relaxation=gapped_st", "relaxation.tau=1.0"],
    "ST": ["relaxation=straight_through"],
    "ReinMax": ["relaxation=reinmax"],
}
POWERS = (1.5, 2.0, 3.0)

MNIST_VAE = {
    "STGS": ["relaxation=st_gumbel_softmax"],
    "GR-MCK": ["relaxation=gumbel_rao", "relaxation.samples=100"],
    "GST-1.0": ["relaxation=gapped_st", "relaxation.gap=1.0"],
    "ST": ["relaxation=straight_through"],
    "ReinMax": ["relaxation=reinmax"],
}
CODES = {  # categories x latents
    "8 x 4": ["model.categories=8", "model.latents=4"],
    # RAdam there; a linear warm-up of 2 / (1 - beta2) steps is about the same (Ma & Yarats 2021, arXiv 1910.04209).
    "8 x 16": ["model.categories=8", "model.latents=16", "model.optimizer.warmup_steps=2000"],
}
# Learning rate and temperature that the search of each method found: Table 8 of the paper, as it stands in the code of
# Wang & Bui 2026, arXiv 2603.08257.
FOUND = {
    "STGS": {"8 x 4": (3e-4, 0.5), "8 x 16": (5e-4, 0.5)},
    "GR-MCK": {"8 x 4": (5e-4, 0.5), "8 x 16": (7e-4, 0.7)},
    "GST-1.0": {"8 x 4": (5e-4, 1.0), "8 x 16": (7e-4, 0.5)},
    "ST": {"8 x 4": (1e-3, 1.3), "8 x 16": (1e-3, 1.5)},
    "ReinMax": {"8 x 4": (5e-4, 1.3), "8 x 16": (7e-4, 1.5)},
}


def experiment(
    result: Literal["polynomial", "mnist_vae"],
    *overrides: str,
    seeds: PositiveInt = 1,
    epochs: PositiveInt | None = None,
    methods: Sequence[str] = (),
    runs: Path = Path("runs/reproduce"),
    out: Path = Path("docs/reproductions"),
) -> str:
    """Train what is not trained yet, and write the table.

    Args:
        result: polynomial or mnist_vae.
        seeds: runs to average.
        epochs: of training; as published, 40 and 160, by default.
        methods: which of the paper's methods, all by default.
        runs: folder of the runs.
        out: folder of the table and the picture.
        overrides: options of scripts/train.py for every run, such as data.steps=5.

    Returns:
        the table.
    """
    known = POLYNOMIAL if result == "polynomial" else MNIST_VAE
    check_names("methods", methods, known)
    chosen = {name: options for name, options in known.items() if not methods or name in methods}
    made_by = command("reproduce", result, epochs=epochs, seeds=seeds, methods=methods or None, overrides=overrides)
    if result == "polynomial":
        some = [f"epochs={epochs}"] if epochs else []
        text = polynomial(runs, out, seeds, chosen, [*overrides, *some], made_by)
    else:
        text = mnist_vae(runs, out, epochs or 160, seeds, chosen, list(overrides), made_by)
    print(text)
    return text


Methods = dict[str, list[str]]
"""The paper's names -> options."""


# Polynomial programming -----------------------------------------------------------------------------------------------


def polynomial(runs: Path, out: Path, seeds: int, methods: Methods, overrides: list[str], made_by: str) -> str:
    curves: dict[tuple[float, str], list[tuple[int, float]]] = {}
    steps = 0
    for power in POWERS:
        for name, options in methods.items():
            series = []
            for seed in range(seeds):
                folder = runs / f"polynomial/p{power:g}_{name}_{seed}"
                common = ["experiment=reinmax_polynomial", f"model.power={power:g}", f"seed={seed}"]
                run = trained(folder, [*common, *options, *overrides])
                steps = run.read_results()["steps"]
                series.append(read_metrics(run.metrics)["val/cost"])
            curves[power, name] = [(points[0][0], sum(cost for _, cost in points) / seeds) for points in zip(*series)]
    lines = [
        "# Polynomial programming",
        "",
        f"`{made_by}`: 128 choices, each to be near 0.45 in the p-th",
        "power (settings: `configs/experiment/reinmax_polynomial.yaml`). The figures are the exact expectation",
        f"of the cost at the end of {steps:,} steps, minus the least there is, 0.45^p, times 10,000. At the start all",
        "choices are even.",
        "",
        "| method | " + " | ".join(f"p = {power:g}" for power in POWERS) + " |",
        "| --- | " + "---: | " * len(POWERS),
        "| at the start | " + " | ".join(f"{1e4 * (even(power) - 0.45**power):.1f}" for power in POWERS) + " |",
    ]
    for name in methods:
        regrets = [1e4 * (curves[power, name][-1][1] - 0.45**power) for power in POWERS]
        lines.append(f"| {name} | " + " | ".join(f"{regret:.1f}" for regret in regrets) + " |")
    lines += ["", "![Cost over steps](polynomial.png)"]
    out.mkdir(parents=True, exist_ok=True)
    (out / "polynomial.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with plots.style():
        figure = Figure(figsize=(11, 4), layout="constrained")
        for axes, power in zip(figure.subplots(1, len(POWERS)), POWERS):
            for index, name in enumerate(methods):
                style = {"color": f"C{index}", "linewidth": 1.6, "linestyle": (3 * index, (4, 3))}  # some coincide
                style = {"color": "0.7", "linewidth": 5} if name == "exact" else style
                axes.plot(*zip(*curves[power, name]), label=name, **style)
            axes.axhline(0.45**power, color="black", linestyle=":", linewidth=1, label="least there is")
            axes.set_title(f"p = {power:g}")
            axes.set_xlabel("step")
            axes.grid(alpha=0.3)
        figure.axes[0].set_ylabel("expected cost")
        figure.axes[-1].legend()
        figure.savefig(out / "polynomial.png")
    return "\n".join(lines)


def even(power: float) -> float:
    """The cost of choices with probability one half."""
    return (0.55**power + 0.45**power) / 2


# MNIST-VAE ------------------------------------------------------------------------------------------------------------


def mnist_vae(
    runs: Path, out: Path, epochs: int, seeds: int, methods: Methods, overrides: list[str], made_by: str
) -> str:
    if seeds > 1:
        scipy_stats()  # which intervals need: what is missing is said before hours of training
    scores: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for seed in range(seeds):
        for code, sizes in CODES.items():
            for name, options in methods.items():
                folder = runs / f"mnist_vae/{code.replace(' ', '')}_{name}_{seed}"
                lr, tau = FOUND[name][code]
                common = ["experiment=reinmax_vae", f"epochs={epochs}", f"trainer.check_val_every_n_epoch={epochs}"]
                common += ["trainer.log_every_n_steps=1", "model.iwae_samples=1", f"seed={seed}"]
                found = [f"model.optimizer.lr={lr:g}", f"relaxation.tau={tau}"]
                done = trained(folder, [*common, *sizes, *options, *found, *overrides])
                results, objective = done.read_results(), read_metrics(done.metrics)["train/neg_elbo"]
                last = [value for step, value in objective if step > results["steps"] * (1 - 1 / epochs)]
                scores.setdefault((code, name), []).append((mean(last), results["metrics"]["test/neg_elbo"]))
    lines = [
        f"# MNIST-VAE, {epochs} epochs",
        "",
        f"`{made_by}`: -ELBO in nats of grey levels",
        f"after {epochs} of the published 160 epochs, with {seeds} of the published 10 seeds (settings:",
        "`configs/experiment/reinmax_vae.yaml`). Codes are categories x latents, as in the paper. Training: the mean",
        "over the last epoch, as it goes; test: at the end. Each method has the learning rate and the temperature that",
        "its own search found in the paper (its Table 8, as it stands in the code of arXiv 2603.08257). Behind",
        "ReinMax: the difference, paired by seed, above zero where ReinMax is better."
        + " Behind each ± half of a 95% interval (Student's t)." * (seeds > 1),
        "",
        "| code | method | training | test | behind ReinMax, training | behind ReinMax, test | lr | tau | options |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for code in CODES:
        for name, options in methods.items():
            cells = [with_interval(values) for values in zip(*scores[code, name])]
            for kind in (0, 1):
                pairs = zip(scores[code, name], scores.get((code, "ReinMax"), []))
                behind = [theirs[kind] - ours[kind] for theirs, ours in pairs]
                cells.append(with_interval(behind, "+") if behind and name != "ReinMax" else "")
            cells += [f"{value:g}" for value in FOUND[name][code]] + [" ".join(f"`{option}`" for option in options)]
            lines.append(f"| {code} | {name} | " + " | ".join(cells) + " |")
    out.mkdir(parents=True, exist_ok=True)
    (out / f"mnist_vae_{epochs}_epochs.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "\n".join(lines)


def with_interval(values: Sequence[float], sign: Literal["", "+"] = "") -> str:
    """The mean, and where there are several values half the width of its 95% interval."""
    middle, half = interval(values)
    return f"{middle:{sign}.2f}" + f" ± {half:.2f}" * (len(values) > 1)
