"""The rule of thumb: it rests on contrasts of the plan, and says which of them do not carry it."""

from dataclasses import replace

import pytest

from zoo.lab.study import rule
from zoo.lab.study.page import Finding
from zoo.lab.study.plan import load
from zoo.lab.study.protocol import Progress
from zoo.lab.study.rows import Row
from zoo.lab.study.statistics import contrast

EVIDENCE = [
    (question, verdict, regime, task)
    for one in rule.RULES
    for question, verdict, regime, tasks in one.evidence
    for task in tasks
]


@pytest.mark.parametrize(("question", "verdict", "regime", "task"), EVIDENCE)
def test_each_piece_of_evidence_is_a_planned_contrast(question, verdict, regime, task):
    plan = load(regime)
    asked = next(one for one in plan.questions if one.name == question)
    progress = Progress(plan, [])
    assert verdict in ("yes", "no")
    assert progress.takes_part(task, asked.better) and progress.takes_part(task, asked.than)


def test_what_is_not_shown_stands_apart():
    asked = next(one for one in load("gates").questions if one.name == "sampling_needed")
    far, near = [[1.0 + 0.01 * i for i in range(20)], [3.0 + 0.011 * i for i in range(20)]], [[1.0, 2.0], [2.0, 1.0]]
    one = Finding("gates", "independent", asked, "rloo", "softmax", contrast(*far, 0.1), None, None, 0.1, p=1e-9)
    other = replace(one, task="almost_the_same", result=contrast(*near, 0.1), p=1.0)
    text = "\n".join(rule.lines({}, [one, other, replace(one, task="elsewhere")]))
    assert "`straight_through`, `gapped_st`. (1 as wanted, 1 not decided.)" in text
    assert "| sampling needed | gates: independent | yes | yes | 20.1 (" in text and "| `rloo`, `softmax` |" in text
    assert "| sampling needed | gates: almost_the_same | yes | **not decided** | 0.0 (" in text
    assert "elsewhere" not in text


def test_the_estimators_that_are_named_are_compared_with_the_best():
    asked = next(one for one in load("gates").questions if one.name == "sampling_needed")

    def run(estimator, seed, test):
        return Row("independent", estimator, "final", 0, 0, seed, "{}", 1, 1, test, test, "{}", 1.0, "", "")

    scores = {"rloo": 0.1, "softmax": 0.3, "exact": 0.0, "gapped_st": 0.2}  # the exact gradient is a reference only
    progress = Progress(load("gates"), [run(n, s, v + 0.01 * s) for n, v in scores.items() for s in range(3)])
    one = Finding("gates", "independent", asked, "rloo", "softmax", None, None, None, 0.02)
    assert rule.behind(progress, one, ("gapped_st", "rloo", "straight_through")) == "`gapped_st` 5.0, `rloo` 0.0"


@pytest.mark.parametrize("one", rule.RULES, ids=lambda one: one.question[:20])
def test_who_is_named_takes_part(one):
    for name in one.use:
        assert f"`{name}`" in one.advice
        assert any(name in [e.name for e in load(regime).estimators] for _, _, regime, _ in one.evidence)
