"""The rule of thumb at the end of the page: questions in order, each with the contrasts that carry its answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.lab.study.page import Finding


@dataclass(frozen=True)
class Rule:
    """A question of the tree.

    Args:
        question: to whose "yes" the advice belongs; who says "no" goes on to the next.
        advice: what to do.
        evidence: (contrast, verdict that it must have, regime, tasks).
    """

    question: str
    advice: str
    evidence: Sequence[tuple[str, str, str, Sequence[str]]]


RULES = (
    Rule(
        "Is the cost right between the choices, too: linear in them or nearly so, a cross-entropy, a blend that is as "
        "good as its parts?",
        "A softmax with temperature (`softmax`) or `st_argmax`; no sample is needed.",
        (
            ("sampling_needed", "no", "costs", ("linear", "slightly_convex", "convex", "blend_rewarded")),
            ("sampling_needed", "no", "next_word", ("cross_entropy",)),
            ("sampling_needed", "no", "paths", ("cost",)),
            ("sampling_needed", "no", "binary_weights", ("linear",)),
            ("sampling_needed", "no", "bandit", ("linear",)),
        ),
    ),
    Rule(
        "Does an action decide what is learnt next, and is it the estimator itself that explores?",
        "Draw the action: a sample forward, no Gumbel noise backward (`gapped_st`, `straight_through`).",
        (
            ("sampling_needed", "yes", "bandit", ("concatenated_own_exploration",)),
            ("sampling_needed", "yes", "factored", ("million_actions_own_exploration",)),
            ("gumbel_pays", "no", "bandit", ("concatenated_own_exploration",)),
            ("gumbel_pays", "no", "factored", ("million_actions_own_exploration",)),
        ),
    ),
    Rule(
        "Does each choice rule out later ones, as the cities of a tour do?",
        "Draw whole solutions and score them: `rloo`.",
        (
            ("unbiased_pays", "yes", "tours", ("six_cities",)),
            ("gumbel_pays", "no", "tours", ("six_cities",)),
        ),
    ),
    Rule(
        "Does a solver make one thing of many scores, a path, and is that judged, not its parts?",
        "`imle`. It is the noise that counts; Gaussian noise is as good as Gumbel's.",
        (
            ("gumbel_pays", "yes", "paths", ("imitate", "load")),
            ("gumbel_kind", "no", "paths", ("imitate", "load")),
        ),
    ),
    Rule(
        "Is what follows trained to live with on or off, gates?",
        "A sample, of any kind: Gumbel noise neither helps nor hurts.",
        (
            ("sampling_needed", "yes", "gates", ("independent", "almost_the_same")),
            ("gumbel_pays", "no", "gates", ("independent", "almost_the_same")),
        ),
    ),
    Rule(
        "Anything else: orders, selections, codebooks, experts?",
        "Begin without noise, `st_argmax` or an annealed softmax; try a sample next, and Gumbel noise last.",
        (
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
            ("sampling_needed", "no", "codebooks", ("spread_start", "idle_start")),
            ("sampling_needed", "no", "routing", ("even_start", "balanced", "dead_start", "dead_start_balanced")),
            ("gumbel_pays", "no", "select_one", ("one_answer", "several_answers")),
            ("gumbel_pays", "no", "select_each", ("one_answer", "several_answers")),
            ("gumbel_pays", "no", "codebooks", ("spread_start", "idle_start")),
            ("gumbel_pays", "no", "routing", ("even_start", "balanced", "dead_start", "dead_start_balanced")),
        ),
    ),
)


def lines(findings: Sequence["Finding"]) -> list[str]:
    """Markdown: each question with its advice, what carries it, and what does not."""
    by = {(one.question.name, one.regime, one.task): one for one in findings}
    text = [
        "## A rule of thumb",
        "",
        "Take the first question whose answer is yes. The advice is written by hand; whether the rows carry it is "
        "computed: under it stand the contrasts that it rests on, in margins by which the first estimator is ahead.",
        "",
    ]
    for number, rule in enumerate(RULES, 1):
        carried: list[str] = []
        other: list[str] = []
        for question, verdict, regime, tasks in rule.evidence:
            for task in tasks:
                one = by.get((question, regime, task))
                if one is not None:
                    (carried if one.verdict == verdict else other).append(told(one))
        text += [f"{number}. **{rule.question}** {rule.advice}", ""]
        if carried:
            text += [f"    Carried by: {'; '.join(carried)}.", ""]
        if other:
            text += [f"    Not shown: {'; '.join(other)}.", ""]
    return text


def told(one: "Finding") -> str:
    name = f"{one.question.name.replace('_', ' ')} in {one.regime} ({one.task}): {one.verdict}"
    if one.result is None:
        return name
    r, m = one.result, one.margin
    return f"{name}, {r.mean / m:z.1f} ({r.low / m:z.1f} to {r.high / m:z.1f}), `{one.better}` against `{one.than}`"
