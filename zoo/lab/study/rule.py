"""The rule of thumb at the end of the page: questions in order, each with what carries its answer and what does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.lab.study.protocol import mean

if TYPE_CHECKING:
    from zoo.lab.study.page import Finding
    from zoo.lab.study.protocol import Progress


@dataclass(frozen=True)
class Rule:
    """A question of the tree.

    Args:
        question: to whose "yes" the advice belongs; who says "no" goes on to the next.
        advice: what to do.
        use: the estimators that it names, whose own scores stand beside the contrasts.
        evidence: (contrast, verdict that it must have, regime, tasks).
    """

    question: str
    advice: str
    use: Sequence[str]
    evidence: Sequence[tuple[str, str, str, Sequence[str]]]


RULES = (
    Rule(
        "Does a solver find a path by many scores, and is the whole judged by how far it is from the right one, or by "
        "a curved cost? (Not orders, matchings or sets, where `imle` is behind a softmax.)",
        "`imle`: its difference of two arg maxes together with noise. Gaussian noise serves as well as Gumbel's. "
        "Where the true cost of each part is told (`paths: cost`), a softmax is enough.",
        ("imle",),
        (
            ("gumbel_pays", "yes", "paths", ("imitate", "load")),
            ("gumbel_kind", "no", "paths", ("imitate", "load")),
            ("sampling_needed", "no", "paths", ("cost",)),
        ),
    ),
    Rule(
        "Is a sequence built step by step, where what comes next is priced by where the last step ended, as in a "
        "tour? (Not orders or sets.)",
        "Draw whole sequences and score them: `rloo`.",
        ("rloo",),
        (
            ("unbiased_pays", "yes", "tours", ("six_cities",)),
            ("gumbel_pays", "no", "tours", ("six_cities",)),
        ),
    ),
    Rule(
        "Does an action decide what is learnt next, and must the estimator itself explore?",
        "Draw the action that is taken, for without a draw nothing explores: `straight_through`. Where "
        "something else explores, no sample is needed: `st_argmax`.",
        ("straight_through", "st_argmax"),
        (
            ("sampling_needed", "yes", "bandit", ("concatenated_own_exploration", "linear_own_exploration")),
            ("gumbel_pays", "no", "bandit", ("concatenated_own_exploration", "linear_own_exploration")),
            ("sampling_needed", "no", "bandit", ("concatenated", "linear")),
            ("sampling_needed", "yes", "factored", ("million_actions_own_exploration",)),
        ),
    ),
    Rule(
        "Does what follows have to live with on and off: gates?",
        "A sample with a straight-through gradient: `straight_through`, `gapped_st`.",
        ("straight_through", "gapped_st"),
        (
            ("sampling_needed", "yes", "gates", ("independent", "almost_the_same")),
            ("gumbel_pays", "no", "gates", ("independent", "almost_the_same")),
        ),
    ),
    Rule(
        "Is it the code of an autoencoder?",
        "A sample, tuned and annealed: `gumbel_softmax`; with 30 latents of 10 `gumbel_rao` and `gapped_st` are within "
        "a margin of it. `softmax` does not do. Gaussian noise is behind Gumbel's by less than a margin, if at all, "
        "over all of the training; over the last part of it alone that is not decided.",
        ("gumbel_softmax", "gumbel_rao", "gapped_st", "softmax"),
        (
            ("sampling_needed", "yes", "image_codes", ("2x8", "30x10")),
            ("gumbel_kind", "no", "image_codes", ("2x8", "30x10")),
            ("unbiased_pays", "no", "image_codes", ("2x8", "30x10")),
            ("gumbel_pays", "no", "late_switch", ("30x10",)),
            ("gumbel_kind", "no", "late_switch", ("30x10",)),
        ),
    ),
    Rule(
        "A codebook, or experts to route to?",
        "`st_argmax`: with codes it is good from either start. Of experts the rows decide little; its mean is behind "
        "nobody's by much.",
        ("st_argmax",),
        (
            ("sampling_needed", "no", "codebooks", ("spread_start", "idle_start")),
            ("gumbel_pays", "no", "codebooks", ("spread_start", "idle_start")),
            ("sampling_needed", "no", "routing", ("even_start", "balanced", "dead_start", "dead_start_balanced")),
            ("gumbel_pays", "no", "routing", ("even_start", "balanced", "dead_start", "dead_start_balanced")),
        ),
    ),
    Rule(
        "Anything else: a choice whose cost is linear, curved or deceptive, a next word, an order, a selection?",
        "A softmax whose temperature is tuned, and annealed where the tables say so (`end` below 1): `softmax`. Not "
        "`st_argmax`, which is far behind in selections.",
        ("softmax", "st_argmax"),
        (
            (
                "sampling_needed",
                "no",
                "costs",
                ("linear", "slightly_convex", "convex", "concave", "deceptive", "blend_rewarded"),
            ),
            ("sampling_needed", "no", "next_word", ("cross_entropy", "right_or_wrong")),
            (
                "sampling_needed",
                "no",
                "orders",
                (
                    "ranking_one_answer",
                    "ranking_several_answers",
                    "matching_one_answer",
                    "matching_several_answers",
                ),
            ),
            ("sampling_needed", "no", "select_one", ("one_answer", "several_answers")),
            ("sampling_needed", "no", "select_each", ("one_answer", "several_answers")),
            ("sampling_needed", "no", "binary_weights", ("linear", "layers")),
        ),
    ),
)
OUTSIDE = ("control", "exact")
"""Families with which no advice is compared: other noise than Gumbel's, and the exact gradient."""


def lines(found: Mapping[str, "Progress"], findings: Sequence["Finding"]) -> list[str]:
    """Markdown: each question with its advice and a table of what it rests on."""
    by = {(one.question.name, one.regime, one.task): one for one in findings}
    text = [
        "## A rule of thumb",
        "",
        "Take the first question whose answer is yes. The advice is written by hand after the runs; whether the rows "
        "carry it is computed. Under it stand the contrasts that it rests on: the verdict that it wants, the one "
        "that was found, and the margins by which the first estimator is ahead of the second. The last column is "
        "about the estimators that the advice names: by how many margins each is behind the best of all but the "
        "families control and exact, by their means.",
        "",
    ]
    for number, rule in enumerate(RULES, 1):
        rests = [
            (by[question, regime, task], verdict)
            for question, verdict, regime, tasks in rule.evidence
            for task in tasks
            if (question, regime, task) in by
        ]
        run = [(one, verdict) for one, verdict in rests if one.result is not None]
        counts = {
            "as wanted": sum(one.verdict == verdict for one, verdict in run),
            "not decided": sum(one.verdict == "not decided" for one, _ in run),
            "against it": sum(one.verdict not in (verdict, "not decided") for one, verdict in run),
            "not run": len(rests) - len(run),
        }
        text += [
            f"**{number}. {rule.question}** {rule.advice} "
            f"({', '.join(f'{count} {name}' for name, count in counts.items() if count)}.)",
            "",
            "| contrast | task | wanted | found | margins | estimators | named, behind the best |",
            "| --- | --- | --- | --- | ---: | --- | --- |",
            *(row(one, verdict, behind(found.get(one.regime), one, rule.use)) for one, verdict in rests),
            "",
        ]
    return text


def row(one: "Finding", verdict: str, named: str) -> str:
    told = one.verdict if one.verdict == verdict else f"**{one.verdict}**"
    start = f"| {one.question.name.replace('_', ' ')} | {one.regime}: {one.task} | {verdict} | {told} |"
    if one.result is None:
        return f"{start} | | |"
    r, m = one.result, one.margin
    margins = f"{r.mean / m:z.1f} ({r.low / m:z.1f} to {r.high / m:z.1f})"
    return f"{start} {margins} | `{one.better}`, `{one.than}` | {named} |"


def behind(progress: "Progress | None", one: "Finding", use: Sequence[str]) -> str:
    """Of each estimator that takes part, how far its mean is from the lowest one, in margins."""
    if progress is None:
        return ""
    means = {}
    for estimator in progress.plan.estimators:
        runs = progress.final(one.task, estimator.name).values()
        if runs and estimator.family not in OUTSIDE and estimator.name not in progress.plan.more:
            means[estimator.name] = mean([each.test for each in runs])
    best = min(means.values(), default=0.0)
    return ", ".join(f"`{name}` {(means[name] - best) / one.margin:z.1f}" for name in use if name in means)
