"""The rule of thumb: it rests on contrasts of the plan, and says which of them do not carry it."""

from dataclasses import replace

import pytest

from zoo.lab.study import rule
from zoo.lab.study.page import Finding
from zoo.lab.study.plan import load
from zoo.lab.study.protocol import Progress
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
    text = "\n".join(rule.lines([one, other, replace(one, task="elsewhere")]))
    assert "Carried by: sampling needed in gates (independent): yes, 20.1 (" in text
    assert "`rloo` against `softmax`.\n" in text
    assert "Not shown: sampling needed in gates (almost_the_same): not decided" in text
    assert "elsewhere" not in text
    assert text.count("**") == 2 * len(rule.RULES)  # questions without evidence are asked all the same
