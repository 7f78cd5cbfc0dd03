"""The protocol: what is still to be done, what is chosen, what counts; and the study through the command line."""

import ast
import hashlib
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import ROOT
from zoo.cli.study import study
from zoo.errors import ZooError
from zoo.lab.study import page, rows
from zoo.lab.study.answers import CLAIMS
from zoo.lab.study.fingerprint import defined, dumped, fingerprint
from zoo.lab.study.plan import FAMILIES, common, load, regimes
from zoo.lab.study.protocol import Progress
from zoo.lab.study.regime import Regime, Result
from zoo.lab.study.rows import Row
from zoo.lab.study.statistics import contrast
from zoo.relaxations import RELAXATIONS


class Coin(Regime):
    """A regime of nothing: an estimator's score is how far its learning rate is from 0.05, and a little noise."""

    side_by_side = True

    def __init__(self, *, shift: float = 0.0) -> None:
        self.shift = shift

    def run(self, estimator, cells, *, share, key):
        bonus = {"gumbel_softmax": -self.shift, "mine": -1.0}.get(estimator.name, 0.0)
        scores = [
            abs(math.log(s["lr"] / 0.05)) + 0.01 * math.sin(seed * len(estimator.name)) + bonus for s, seed in cells
        ]
        return [Result(score, score, 10, 10, 0.5 if estimator.name == "rloo" else 0.1) for score in scores]


REGIME = """# A regime from outside.
_target_: tests.lab.study.test_protocol.Coin
tasks: {even: {shift: 0.0}, better: {shift: 1.0}}
margin: 0.1
estimators: [softmax, gumbel_softmax, straight_through, rloo]
seeds: 5
trials: 4
rungs:
  - {share: 0.5, seeds: 1, keep: 2}
  - {share: 1.0, seeds: 2, keep: 1}
"""


@pytest.fixture
def outside(tmp_path, monkeypatch) -> Path:
    """A folder of configuration files with a regime and an estimator of somebody else's."""
    for group in ("study", "relaxation"):
        (tmp_path / "configs" / group).mkdir(parents=True)
    (tmp_path / "configs/study/coin.yaml").write_text(REGIME)
    (tmp_path / "configs/relaxation/mine.yaml").write_text("# Mine.\n_target_: zoo.relaxations.Softmax\n")
    monkeypatch.setenv("ZOO_CONFIG_PATH", str(tmp_path / "configs"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(page, "regimes", lambda: {"coin": ""})
    return tmp_path


def test_the_study_of_a_regime_from_outside(outside):
    """From search to page; then nothing is left to do, and an estimator that joins is all that is run."""
    study(["coin"], folder=outside / "out", phases=["search", "final", "cpu", "again"])
    path = outside / "out/coin.csv"
    made = rows.read(path)
    # 4 settings with one seed, 2 with two, the winner with five: in itself, at equal CPU time, again
    assert len(made) == 2 * 4 * (4 + 2 * 2 + 3 * 5)
    winners = {row.setting for row in made if row.phase == "final"}
    settings = load("coin")._settings()
    assert winners == {min(range(4), key=lambda i: abs(math.log(settings[i]["lr"] / 0.05)))}
    shares = {row.estimator: row.seconds for row in made if row.phase == "cpu"}
    assert shares["rloo"] == 0.5
    text = (outside / "out/README.md").read_text()
    assert "Yes in 1, no in 1, not decided in 0 of 2 tasks. Yes: coin (better)." in text
    assert "1 regimes were run again with the same settings and other seeds: in" in text
    before = path.read_bytes()
    study(["coin"], folder=outside / "out")
    assert path.read_bytes() == before
    study(["coin"], folder=outside / "out", add=["mine"])
    more = rows.read(path)
    assert {row.estimator for row in set(more) - set(made)} == {"mine"} and set(made) < set(more)
    joined = (outside / "out/README.md").read_text()
    assert "| `mine` | deterministic | -" in joined and "| mine | `mine` | `" in joined
    assert [line for line in text.splitlines() if line.startswith("- **")] == [
        line for line in joined.splitlines() if line.startswith("- **")
    ]  # who joins changes no planned contrast


def test_a_study_goes_on_where_it_was_stopped(outside, monkeypatch):
    study(["coin"], folder=outside / "whole")
    calls, run = [], Coin.run

    def stops(self, *given, **named):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return run(self, *given, **named)

    monkeypatch.setattr(Coin, "run", stops)
    with pytest.raises(KeyboardInterrupt):
        study(["coin"], folder=outside / "parts")
    path = outside / "parts/coin.csv"
    assert 0 < len(rows.read(path)) < len(rows.read(outside / "whole/coin.csv"))
    with path.open("a") as file:
        file.write("even,softmax,fin")  # as if it had been killed while it wrote
    study(["coin"], folder=outside / "parts")
    assert path.read_bytes() == (outside / "whole/coin.csv").read_bytes()


def test_runs_of_other_code_are_made_again(outside):
    study(["coin"], folder=outside / "out")
    path = outside / "out/coin.csv"
    made = rows.read(path)
    old = [replace(row, code="other", test=99.0) if row.estimator == "rloo" else row for row in made]
    rows.write(path, old)
    study(["coin"], folder=outside / "out")
    assert rows.read(path) == made


def test_what_is_wrong_is_refused_before_anything_is_run(outside):
    with pytest.raises(ZooError, match=r"no 'cion' for regimes=. Did you mean 'coin'"):
        study(["cion"])
    with pytest.raises(ZooError, match=r"there is no relaxation 'mien'. Did you mean 'mine'"):
        study(["coin"], add=["mien"])
    (outside / "configs/study/bad.yaml").write_text("_target_: tests.lab.study.test_protocol.Coin\nmargn: 1\n")
    with pytest.raises(ZooError, match="study=bad: margn is unknown"):
        study(["bad"])
    assert not (outside / "docs").exists()


def test_halving_keeps_the_best():
    plan = replace(load("image_codes"), trials=3)

    def row(setting, seed, rung, valid):
        return Row("2x8", "softmax", "search", rung, setting, seed, "{}", 1, 1, valid, valid, "{}", 1.0, "", "")

    one = plan.estimators[0]
    progress = Progress(plan, [row(i, 1000, 0, v) for i, v in enumerate((3.0, 1.0, 2.0))])
    units = progress.state("2x8", one).units
    assert [unit.cells[0] for unit in units] == [(1, 1000), (2, 1000), (0, 1000)][: plan.rungs[0].keep]
    assert all(unit.rung == 1 and unit.share == 1.0 for unit in units)
    for setting, valid in ((0, 1.0), (1, 5.0), (2, 4.0)):
        progress.add(row(setting, 1000, 1, valid))
    assert progress.winner("2x8", "softmax") == (0, 1.0)


@pytest.mark.parametrize("name", regimes())
def test_every_regime_has_a_plan_in_order(name):
    plan = load(name)
    assert plan.tasks.keys() == plan.margin.keys() and min(plan.margin.values()) > 0
    assert {one.relaxation for one in plan.estimators} <= RELAXATIONS.keys()
    assert plan.seeds >= 5 and plan.rungs[-1].keep == 1 and plan.rungs[-1].share == 1.0
    assert plan.settings(0) == load(name).settings(0) and len(plan._settings()) == plan.trials
    asked = [q.name for q in plan.questions if plan.family(*q.better) and plan.family(*q.than)]
    assert asked and (name == "sequences" or {"gumbel_pays", "sampling_needed", "noiseless_pays"} <= set(asked))
    for file in sorted((ROOT / "docs/study").glob(f"{name}.csv")):
        known = {one.name for one in plan.estimators}
        for row in rows.read(file):
            assert row.task in plan.tasks and row.estimator in known


@pytest.mark.parametrize("name", regimes())
def test_the_search_covers_each_range_evenly(name):
    plan = load(name)
    for value, how in plan.search.items():
        found = [one[value] for one in plan._settings()]
        if "of" in how:
            expected = {of: plan.trials * how["of"].count(of) / len(how["of"]) for of in how["of"]}
            assert all(abs(found.count(of) - count) < 1 for of, count in expected.items())
        else:
            low, high = how["log"]
            parts = sorted(math.log(v / low) / math.log(high / low) * plan.trials for v in found)
            assert all(i - 0.1 < part < i + 1.1 for i, part in enumerate(parts))  # of numbers rounded to three digits


def test_families_are_what_classes_say():
    """The plan's table and what an estimator from outside is taken for agree."""
    from zoo.lab.study.plan import family_of

    special = {"perturbed_optimizer", "blackbox", "gumbel_rao", "unordered_set", "gaussian_imle"}  # not said by a class
    for name, one in common()["estimators"].items():
        if name not in special:
            assert family_of(RELAXATIONS[name]) == one["family"], name


def test_every_family_has_a_colour_and_a_line_on_the_page():
    assert page.COLORS.keys() == set(FAMILIES) == common()["families"].keys()
    assert {one["family"] for one in common()["estimators"].values()} == set(FAMILIES)


def test_code_reads_alike_in_every_python():
    """As Python 3.11 wrote it when the first rows were made."""
    text = dumped(ast.parse('class A(B):\n    def f(self, x=()):\n        return [f"{x}"]\n'))
    assert hashlib.sha256(text.encode()).hexdigest()[:8] == "e4f3e08c"


def test_a_fingerprint_is_of_code_alone(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = '"""Text."""\nfrom zoo.relaxations import Softmax\nx = 1  # a comment\n'
    for name, code in (
        ("a", text),
        ("b", text.replace("Text", "Other").replace("a comment", "")),
        ("c", text + "y = 2\n"),
    ):
        (tmp_path / f"fingered_{name}.py").write_text(code)
    a, b, c = (fingerprint(f"fingered_{name}").encode() for name in "abc")
    assert len(a) == 8 and a != c and b != c
    assert defined("zoo.relaxations", "Softmax") == "zoo.relaxations.softmax"
    assert fingerprint("zoo.relaxations.softmax") == fingerprint("zoo.relaxations.softmax")
    assert fingerprint("zoo.relaxations.softmax") != fingerprint("zoo.relaxations.gumbel")


def test_a_yes_stands_against_the_strongest_of_the_other_side_too():
    asked = next(one for one in load("gates").questions if one.name == "sampling_needed")

    def run(estimator, phase, seed, test):
        return Row("independent", estimator, phase, 0, 0, seed, "{}", 1, 1, test, test, "{}", 1.0, "", "")

    means = {"rloo": 0.1, "softmax": 0.3, "st_argmax": 0.2, "reinmax": 0.01}  # the last is of the same side
    made = [run(n, "final", s, v + 1e-3 * s) for n, v in means.items() for s in range(10)]
    made += [run(n, "again", 100 + s, means[n] + 1e-3 * s * s) for n in ("rloo", "st_argmax") for s in range(5)]
    made += [run("entmax15", "final", 0, 0.0)]  # one that is still being run
    progress = Progress(replace(load("gates"), seeds=10), made)
    one = page.Finding("gates", "independent", asked, "rloo", "softmax", None, None, None, 0.02)
    (text, empty) = page.strongest(progress, one)
    assert "against `st_argmax`, the best of the other side by its fresh seeds: +0.100 (" in text and "15 seeds" in text
    assert "beyond the margin too" in text and not empty
    assert page.strongest(progress, replace(one, than="st_argmax")) == []


def test_the_level_of_an_open_question_is_that_of_its_step_in_holm():
    asked = load("gates").questions[0]

    def one(mean, planned=True):
        found = contrast([0.0] * 4, [mean, mean + 0.01, mean - 0.01, mean], 0.1)
        return page.Finding("gates", "independent", asked, "a", "b", found, None, None, 0.1, planned=planned)

    found = page.adjusted([one(5.0), one(0.1), one(0.104), one(0.2, planned=False)])
    assert [f.verdict for f in found[:3]] == ["yes", "not decided", "not decided"]
    assert [f.level for f in found] == pytest.approx([0.025, 0.025, 0.025, 0.05])


def test_each_claim_points_to_regimes_that_there_are():
    assert {name for claim in CLAIMS.values() for name in claim.study} <= set(regimes())
