"""The page of the study, written from the rows alone: tables, pictures, verdicts."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo.files import atomic
from zoo.lab.study import answers, rule
from zoo.lab.study import rows as files
from zoo.lab.study.plan import FAMILIES, Question, common, load, regimes
from zoo.lab.study.protocol import Progress
from zoo.lab.study.statistics import (
    MOST_SEEDS,
    Contrast,
    contrast,
    expected_best,
    holm,
    interval,
    seeds_needed,
)

EFFORTS = (1, 2, 4, 8, 12)
MARGINS = (-50, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50)
"""What the axis of the summary says."""
COLORS = {
    "deterministic": "#0072b2",
    "gumbel": "#d55e00",
    "sampled": "#009e73",
    "score": "#cc79a7",
    "different": "#e69f00",
    "control": "#999999",
    "exact": "#000000",
}

ABOUT = """\
What is compared is the test score of the *hard decision* after equal tuning with a given budget: the same {trials}
settings (fewer where a regime says so) of learning rate, temperature and annealing for every estimator, at random but
spread evenly over their ranges; one is chosen on validation data and trained anew with fresh seeds. The budget is
counted in runs of the program; the same at equal CPU time is beside it. Lower scores are better. A contrast is the
best of some families less the best of others, both chosen in the search, paired by seed: **yes** where it is larger
than the margin, **no** where it is smaller, **not decided** where neither is shown, each by a t test against the
margin, by Holm's method over all {count} planned contrasts together. Beside "not decided" stands the number of seeds
that would decide it at the level that Holm's method has for it, with a chance of about one half, if mean and spread are
what they seem. The plan, `configs/plan.yaml` and `configs/study`, is older than the runs, save for what is
[listed](deviations.md), the number of seeds among it."""

LIMITS = """\
- Families differ in size, and the best of more estimators is better: "the best without Gumbel noise" is chosen among
  more than "the best with it". Scores of single estimators are in the tables.
- All estimators try the same settings. Where the best of them lies at an edge of the search, a wider one might find a
  better: the tables say `edge` beside such a value, but for `end`, of which there are three, 1, 0.3 and 0.1. What is
  not searched is the same for all: the learning rates of a critic, of experts or of weights beside the choice.
- The two of a contrast are those that the search chose, which with few seeds are not always the best. Under each yes
  stands the same against the best of the other side by its fresh seeds.
- At equal CPU time they are the same two, with as many more or fewer steps: one of them that is slow is starved there,
  though another of its side would not be. Where that column is empty, it was not run.
- An estimator without a temperature tries as many learning rates as others try pairs.
- Score functions that run the program several times in a step make as many fewer steps; where an actor acts, they see
  as many fewer rewards. Memory is not counted.
- The tasks are small, and those of one regime are variants of each other. That something holds on all of them is no
  proof that it holds on a large one."""


@dataclass(frozen=True)
class Finding:
    """A planned contrast and what is known of it.

    Attributes:
        better, than: the estimators that the search chose of each side; empty while it is not done.
        result: None while there are not enough runs.
        cpu: the same at equal CPU time, unadjusted.
        again: the same with other seeds.
        p: of ``result``, adjusted for all planned contrasts.
        level: what the unadjusted p-value of a contrast that is not decided has to be below.
    """

    regime: str
    task: str
    question: Question
    better: str
    than: str
    result: Contrast | None
    cpu: Contrast | None
    again: Contrast | None
    margin: float
    p: float = 1.0
    alpha: float = 0.05
    level: float = 0.05
    planned: bool = True

    @property
    def verdict(self) -> str:
        if self.result is None:
            return "not run" if not self.better else "running"
        return self.result.verdict(self.p, self.alpha)


def write(folder: Path, more: Sequence[str] = ()) -> Path:
    """Write the page and its pictures into ``folder``, beside the rows.

    Args:
        folder: of the rows.
        more: estimators beside those of the plan.

    Returns:
        the file of the page.
    """
    found = {name: Progress(load(name, more), files.read(folder / f"{name}.csv")) for name in regimes()}
    findings = adjusted([one for name, progress in found.items() for one in contrasts(progress)])
    pictures = draw(folder, found, findings)
    parts = [
        *head(found, findings),
        *summary(found, findings, pictures),
        *claims(folder, found),
        *(line for name, progress in found.items() for line in regime(progress, findings, pictures.get(name))),
        *rule.lines(found, findings),
        *tail(folder, found, findings),
    ]
    path = folder / "README.md"
    with atomic(path) as temporary:
        temporary.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return path


# What is found -------------------------------------------------------------------------------------------------------


def contrasts(progress: Progress) -> list[Finding]:
    """Every planned contrast of a regime. The order of tasks and questions is that of the plan."""
    plan, found = progress.plan, []
    for task in plan.tasks:
        for question in plan.questions:
            if not all(progress.takes_part(task, families) for families in (question.better, question.than)):
                continue
            better, than = (progress.best(task, families) or "" for families in (question.better, question.than))
            found.append(finding(progress, task, question, better, than))
        for name in plan.more:
            if progress.final(task, name):
                every = tuple(family for family in FAMILIES if family not in ("control", "exact"))
                asked = Question(name, f"Is {name} better than the best of the plan?", (name,), every)
                found.append(finding(progress, task, asked, name, progress.best(task, every) or ""))
    return found


def finding(progress: Progress, task: str, question: Question, better: str, than: str) -> Finding:
    """A contrast of two estimators, empty names where the search is not done."""
    plan, known = progress.plan, bool(better and than)
    margin = plan.margin[task]
    result, cpu, again = (
        paired(progress, task, better, than, phase, margin) if known else None for phase in ("final", "cpu", "again")
    )
    return Finding(
        regime=plan.name,
        task=task,
        question=question,
        better=better if known else "",
        than=than if known else "",
        result=result,
        cpu=cpu,
        again=again,
        margin=margin,
        p=result.p if result else 1.0,
        alpha=plan.alpha,
        planned=question.name not in plan.more,
    )


def paired(progress: Progress, task: str, better: str, than: str, phase: str, margin: float) -> Contrast | None:
    one, other = progress.final(task, better, phase), progress.final(task, than, phase)
    seeds = sorted(one.keys() & other.keys())
    if len(seeds) < progress.plan.seeds:
        return None
    return contrast([one[s].test for s in seeds], [other[s].test for s in seeds], margin)


def adjusted(findings: list[Finding]) -> list[Finding]:
    """With p-values by Holm over all planned contrasts; those that are not run yet count as planned.

    What is not of the plan, estimators from outside, keeps its own p-value and changes nobody's.
    """
    planned = [one for one in findings if one.planned]
    p = dict(zip(map(id, planned), holm([one.result.p if one.result else 1.0 for one in planned])))
    left = sum(p[id(one)] > one.alpha for one in planned)
    return [
        replace(one, p=p[id(one)], level=one.alpha / max(1, left)) if one.planned else replace(one, level=one.alpha)
        for one in findings
    ]


# What is told --------------------------------------------------------------------------------------------------------


def head(found: dict[str, Progress], findings: list[Finding]) -> list[str]:
    plan = common()
    findings = [one for one in findings if one.planned]
    done = sum(finding.result is not None for finding in findings)
    count = sum(len(each) for one in found.values() for of in one.rows.values() for each in of.values())
    seconds = sum(
        row.seconds
        for one in found.values()
        for of in one.rows.values()
        for each in of.values()
        for row in each.values()
    )
    families = [
        f"| {name} | {about} | {', '.join(f'`{e}`' for e in members(name, plan))} |"
        for name, about in plan["families"].items()
    ]
    return [
        "# When does Gumbel noise pay, and when is a softmax with temperature enough?",
        "",
        "Written by `python scripts/study.py` from the rows beside it, a row a run; do not edit it.",
        "",
        f"**{done} of {len(findings)} planned contrasts have their runs**: {count:,} runs, "
        f"{seconds / 60:.0f} CPU-minutes.",
        "",
        ABOUT.format(trials=plan["trials"], count=len(findings)),
        "",
        "| family | what it is | estimators |",
        "| --- | --- | --- |",
        *families,
        "",
    ]


def members(family: str, plan: dict[str, Any]) -> list[str]:
    return [name for name, one in plan["estimators"].items() if one["family"] == family]


def summary(found: dict[str, Progress], findings: list[Finding], pictures: dict[str, str]) -> list[str]:
    """The verdicts of every task, and how often each was given."""
    plan = common()
    names = list(plan["contrasts"])
    lines = ["## The answers so far", "", "[A rule of thumb](#a-rule-of-thumb) for your own network is at the end.", ""]
    for name in names:
        these = [one for one in findings if one.question.name == name]
        decided = {v: [one for one in these if one.verdict == v] for v in ("yes", "no", "not decided")}
        rest = len(these) - sum(map(len, decided.values()))
        lines.append(
            f"- **{plan['contrasts'][name]['question']}** Yes in {len(decided['yes'])}, no in {len(decided['no'])}, "
            f"not decided in {len(decided['not decided'])} of {len(these)} tasks"
            + (f"; {rest} have no runs yet." if rest else ".")
            + (f" Yes: {', '.join(link(one) for one in decided['yes'])}." if decided["yes"] else "")
        )
    lines += ["", "| task | " + " | ".join(name.replace("_", " ") for name in names) + " |"]
    lines.append("| --- |" + " --- |" * len(names))
    for name, progress in found.items():
        for task in progress.plan.tasks:
            cells = []
            for question in names:
                one = next((f for f in findings if (f.regime, f.task, f.question.name) == (name, task, question)), None)
                cells.append(cell(one) if one else "")
            lines.append(f"| [{name}](#{anchor(progress.plan.title)}): {task} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "In each cell the verdict and the difference with its 95% interval, in units of the margin: above 1 is yes.",
        "",
    ]
    if "summary" in pictures:
        lines += [f"![The differences in units of the margin]({pictures['summary']})", ""]
    return lines


def link(one: Finding) -> str:
    return f"{one.regime} ({one.task})"


def cell(one: Finding) -> str:
    if one.result is None:
        return one.verdict
    r, m = one.result, one.margin
    verdict = f"**{one.verdict}**" if one.verdict == "yes" else one.verdict
    return f"{verdict}, {r.mean / m:z.1f} ({r.low / m:z.1f} to {r.high / m:z.1f})"


def claims(folder: Path, found: dict[str, Progress]) -> list[str]:
    """The 24 claims of the thread, as far as small experiments decide them."""
    known = answers.read(folder)
    if not known:
        return []
    counts = {v: sum(one.verdict == v for one in known.values()) for v in answers.VERDICTS}
    lines = [
        "## The thread, claim by claim",
        "",
        "Each claim of the question and its answers has a small experiment, `python scripts/answers.py`; of one of "
        f"them, `python scripts/answers.py 5`. Rows: [{answers.FILE}]({answers.FILE}). "
        f"{', '.join(f'{count} {verdict}' for verdict, count in counts.items())}. A verdict is computed from what the "
        "experiment measured, at its scale.",
        "",
        "| | claim | verdict | evidence | scale | asked at length |",
        "| ---: | --- | --- | --- | --- | --- |",
    ]
    for number, one in sorted(known.items()):
        asked = [f"[{name}](#{anchor(found[name].plan.title)})" for name in answers.CLAIMS[number].study]
        cells = (str(number), one.claim, one.verdict, one.evidence, one.scale, ", ".join(asked))
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def regime(progress: Progress, findings: list[Finding], picture: str | None) -> list[str]:
    """A section: what it is, its scores and its contrasts."""
    plan = progress.plan
    lines = [
        f"## {plan.title}",
        "",
        plan.text,
        "",
        f"Rows: {f'[{plan.name}.csv]({plan.name}.csv)' if progress.rows else f'`{plan.name}.csv`'}. The margin is "
        f"{', '.join(sorted({f'{m:g}' for m in plan.margin.values()}))}.",
        "",
    ]
    if not progress.rows:
        return [*lines, f"Not run yet: `python scripts/study.py {plan.name}`.", ""]
    if picture:
        lines += [f"![{plan.title}]({picture})", ""]
    for task in plan.tasks:
        table = scores(progress, task)
        if not table:
            continue
        lines += [f"### {plan.name}: {task}", "", *table, "", *effort(progress, task)]
        these = [one for one in findings if one.regime == plan.name and one.task == task and one.better]
        if these:
            lines += [
                "| question | better? | than | difference | 95% interval | bootstrap | p | verdict | equal CPU |",
                "| --- | --- | --- | ---: | ---: | ---: | ---: | --- | ---: |",
                *(contrast_line(one) for one in these),
                "",
                *(line for one in these if one.verdict == "yes" for line in strongest(progress, one)),
            ]
    refused = sorted(
        {
            f"`{one.name}` ({task})"
            for task, t in plan.tasks.items()
            for one in plan.estimators
            if not progress.rows.get((task, one.name)) and t.serves(one)
        }
    )
    if refused:
        lines += [f"Refused by name, since they do not serve what is drawn: {', '.join(refused)}.", ""]
    return lines


def contrast_line(one: Finding) -> str:
    if one.result is None:
        return f"| {one.question.name} | `{one.better}` | `{one.than}` | | | | | {one.verdict} | |"
    r = one.result
    verdict = one.verdict
    if verdict == "not decided" and (needed := seeds_needed(r, one.level)):
        verdict += (
            f"; {needed:,} seeds would do" if needed < MOST_SEEDS else f"; more than {MOST_SEEDS:,} seeds would do"
        )
    cpu = f"{one.cpu.mean:+z.3f} ({one.cpu.low:+z.3f} to {one.cpu.high:+z.3f})" if one.cpu else ""
    return (
        f"| {one.question.name} | `{one.better}` | `{one.than}` | {r.mean:+z.3f} | {r.low:+z.3f} to {r.high:+z.3f} | "
        f"{r.bca_low:+z.3f} to {r.bca_high:+z.3f} | {one.p:.2g} | {verdict} | {cpu} |"
    )


def strongest(progress: Progress, one: Finding) -> list[str]:
    """A yes against the best of the other side by its fresh seeds, where the search chose another."""
    by_mean = {
        name: interval([row.test for row in runs.values()])[0]
        for e in progress.plan.estimators
        if e.family in one.question.than
        and len(runs := progress.final(one.task, name := e.name)) >= progress.plan.seeds
    }
    best = min(by_mean, key=lambda name: by_mean[name])
    if best == one.than:
        return []
    better, than = (
        progress.final(one.task, name) | progress.final(one.task, name, "again") for name in (one.better, best)
    )
    seeds = sorted(better.keys() & than.keys())
    r = contrast([better[s].test for s in seeds], [than[s].test for s in seeds], one.margin)
    return [
        f"{one.question.name}, against `{best}`, the best of the other side by its fresh seeds: {r.mean:+z.3f} "
        f"({r.low:+z.3f} to {r.high:+z.3f}, {r.n} seeds), p {r.p:.2g}, not adjusted: "
        f"{'beyond the margin too' if r.low > r.margin else 'not shown to be beyond the margin'}.",
        "",
    ]


def scores(progress: Progress, task: str) -> list[str]:
    """Markdown: a row an estimator, the best first."""
    plan, made = progress.plan, []
    tried = [plan.settings(number) for number in range(plan.trials)]
    ends = {
        name: (min(one[name] for one in tried), max(one[name] for one in tried))
        for name, how in plan.search.items()
        if "log" in how
    }
    for one in plan.estimators:
        runs = list(progress.final(task, one.name).values())
        if not runs:
            continue
        mean, half = interval([row.test for row in runs])
        cpu = [row.test for row in progress.final(task, one.name, "cpu").values()]
        again = [row.test for row in progress.final(task, one.name, "again").values()]
        chosen = ", ".join(
            f"{name} {value:g}{' (edge)' * (value in ends.get(name, ()))}"
            for name, value in json.loads(runs[0].settings).items()
        )
        beside = [f"{interval(v)[0]:z.3f} ± {interval(v)[1]:z.3f}" if v else "" for v in (cpu, again)]
        seconds = sum(row.seconds for row in runs) / len(runs)
        made.append(
            (
                mean,
                f"| `{one.name}` | {one.family} | {mean:z.3f} ± {half:z.3f} | {beside[0]} | {beside[1]} | "
                f"{len(runs)} | {seconds:.3g} | {chosen} |",
            )
        )
    if not made:
        return []
    return [
        "| estimator | family | test score | at equal CPU time | with other seeds | seeds | CPU-seconds | settings |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
        *(line for _, line in sorted(made)),
    ]


def effort(progress: Progress, task: str) -> list[str]:
    """What tuning buys: the expected score of the best of so many settings, by family."""
    plan = progress.plan
    made = {}
    for family in ("deterministic", "gumbel", "sampled", "score", "different"):
        name = progress.best(task, (family,))
        if not name:
            continue
        of = progress.searched(task, name)
        if len(of) == plan.trials:
            by = [sum(row.valid for row in each) / len(each) for _, each in sorted(of.items())]
            test = [sum(row.test for row in each) / len(each) for _, each in sorted(of.items())]
            counts = [m for m in EFFORTS if m <= plan.trials]
            made[name] = [expected_best(by, test, m) for m in counts]
    if not made:
        return []
    lines = ["Expected test score after tuning with so many settings:", ""]
    lines += ["| settings | " + " | ".join(f"`{name}`" for name in made) + " |", "| ---: |" + " ---: |" * len(made)]
    for i, count in enumerate(m for m in EFFORTS if m <= plan.trials):
        lines.append(f"| {count} | " + " | ".join(f"{values[i]:z.3f}" for values in made.values()) + " |")
    return [*lines, ""]


def tail(folder: Path, found: dict[str, Progress], findings: list[Finding]) -> list[str]:
    both = [one for one in findings if one.again is not None and one.result is not None]
    lines = ["## Once more", ""]
    if both:
        covers = [one for one in both if agree(one)]
        lines.append(
            f"{len({one.regime for one in both})} regimes were run again with the same settings and other seeds: in "
            f"{len(covers)} of {len(both)} contrasts the 95% interval of the difference of the two runs covers zero."
        )
    else:
        lines.append("No regime has been run again with other seeds yet: `phases=search,final,cpu,again`.")
    lines += ["", "## What this cannot show", "", LIMITS]
    lines += [
        "",
        "## Your own row",
        "",
        "An estimator: a file `DIR/relaxation/mine.yaml` with its `_target_`, and `python scripts/study.py costs "
        "add=mine folder=runs/study --config-dir DIR`. It is tuned as the others are and stands in the tables beside "
        "them, in the family that its class says. A regime: a class that derives from `zoo.lab.study.regime.Regime` "
        "or `zoo.lab.study.tensors.TensorRegime`, and a file `DIR/study/mine.yaml` as those of `configs/study`.",
        "",
    ]
    return lines


def agree(one: Finding) -> bool:
    """Whether two runs of a contrast with seeds of their own differ by no more than chance: Welch's interval."""
    from zoo.lab.study.statistics import scipy_stats

    a, b = one.result, one.again
    assert a is not None and b is not None
    se = [(c.high - c.mean) / float(scipy_stats().t.ppf(0.975, c.n - 1)) for c in (a, b)]
    total = math.hypot(*se)
    if total == 0:
        return a.mean == b.mean
    freedom = total**4 / sum(s**4 / (c.n - 1) for s, c in zip(se, (a, b)) if s)
    return abs(a.mean - b.mean) <= float(scipy_stats().t.ppf(0.975, freedom)) * total


# Pictures ------------------------------------------------------------------------------------------------------------


def draw(folder: Path, found: dict[str, Progress], findings: list[Finding]) -> dict[str, str]:
    """A picture of each regime that has final runs, and one of all contrasts: name -> file."""
    made = {}
    for name, progress in found.items():
        tasks = [
            task for task in progress.plan.tasks if any(progress.final(task, e.name) for e in progress.plan.estimators)
        ]
        if tasks:
            made[name] = f"{name}.png"
            save(regime_picture(progress, tasks), folder / made[name])
    if any(one.result for one in findings):
        made["summary"] = "summary.png"
        save(summary_picture(findings), folder / made["summary"])
    return made


def save(figure: Any, path: Path) -> None:
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", metadata={"Software": None})


def regime_picture(progress: Progress, tasks: list[str]) -> Any:
    """The test score of every estimator with its interval, best above, a panel a task."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    plan = progress.plan
    columns = min(3, len(tasks))
    lines = math.ceil(len(tasks) / columns)
    figure = Figure(figsize=(4.2 * columns, 0.6 + lines * (0.95 + 0.17 * len(plan.estimators))), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for place in axes[len(tasks) :]:
        place.axis("off")
    for place, task in zip(axes, tasks):
        made = []
        for one in plan.estimators:
            values = [row.test for row in progress.final(task, one.name).values()]
            if values:
                made.append((*interval(values), one))
        made.sort(key=lambda entry: -entry[0])
        for height, (mean, half, one) in enumerate(made):
            color = COLORS[one.family]
            place.errorbar(mean, height, xerr=half if math.isfinite(half) else 0, fmt="o", color=color, ms=4, lw=1.2)
        place.set_yticks(range(len(made)), [one.name for _, _, one in made], fontsize=7)
        for label, (_, _, one) in zip(place.get_yticklabels(), made):
            label.set_color(COLORS[one.family])
        best = made[-1][2]
        wanted = sum(not plan.tasks[task].serves(one) for one in plan.estimators)
        found = f"{best.name} is first ({best.family})" if len(made) >= wanted else f"{len(made)} of {wanted} have runs"
        place.set_title(f"{task}\n{found}", fontsize=8)
        place.tick_params(axis="x", labelsize=7)
        if made[-1][0] > 0 and made[0][0] > 20 * made[-1][0]:
            place.set_xscale("log")
            place.xaxis.set_major_locator(
                LogLocator(subs=(1.0, 2.0, 5.0) if made[0][0] < 200 * made[-1][0] else (1.0,))
            )
            place.xaxis.set_major_formatter("{x:g}")
            place.xaxis.set_minor_formatter(NullFormatter())
        for side in ("top", "right"):
            place.spines[side].set_visible(False)
    figure.suptitle(f"{plan.title}: test score with 95% interval, lower is better", fontsize=9)
    return figure


def summary_picture(findings: list[Finding]) -> Any:
    """Differences in units of the margin, of the two questions that give the page its name."""
    from matplotlib.figure import Figure

    names = ("gumbel_pays", "sampling_needed")
    shown = [[one for one in findings if one.question.name == name and one.result] for name in names]
    figure = Figure(figsize=(9, 1.2 + 0.17 * max(map(len, shown))), layout="constrained")
    for place, these in zip(figure.subplots(1, 2), shown):
        place.axvspan(-1, 1, color="#eeeeee")
        place.axvline(0, color="#bbbbbb", lw=0.8)
        for height, one in enumerate(reversed(these)):
            r, m = one.result, one.margin
            assert r is not None
            color = {"yes": "#d55e00", "no": "#0072b2"}.get(one.verdict, "#999999")
            place.errorbar(
                r.mean / m,
                height,
                xerr=[[(r.mean - r.low) / m], [(r.high - r.mean) / m]],
                fmt="o",
                ms=3,
                color=color,
                lw=1,
            )
        place.set_yticks(range(len(these)), [link(one) for one in reversed(these)], fontsize=6)
        place.set_xscale("symlog", linthresh=2)
        low, high = place.get_xlim()
        place.set_xticks(ticks := [tick for tick in MARGINS if low <= tick <= high], [f"{tick}" for tick in ticks])
        place.minorticks_off()
        yes = sum(one.verdict == "yes" for one in these)
        asked = {"gumbel_pays": "Gumbel noise pays", "sampling_needed": "A sample is needed"}
        if these:
            place.set_title(f"{asked[these[0].question.name]} in {yes} of {len(these)} tasks", fontsize=9)
        place.set_xlabel("margins (grey: not decided; band: too small to matter)", fontsize=6.5)
        place.tick_params(axis="x", labelsize=7)
        for side in ("top", "right"):
            place.spines[side].set_visible(False)
    return figure


def anchor(title: str) -> str:
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c == "-")
