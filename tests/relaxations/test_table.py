"""Every relaxation on every distribution: verified against an independent reference, or refused by name."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.lab.cells import Cell, examine, markdown
from zoo.relaxations import DISTRIBUTIONS, RELAXATIONS, Relaxation, register

ROOT = Path(__file__).parent.parent.parent
DRAWS = 200_000


QUICK = ("categorical", "bernoulli")
SOME_SLOW = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DISTRIBUTIONS]


@pytest.mark.parametrize("distribution", SOME_SLOW)
@pytest.mark.parametrize("estimator", RELAXATIONS)
def test_cell(estimator, distribution):
    cell = examine(estimator, distribution, DRAWS)
    if cell.kind == "refused":
        assert RELAXATIONS[estimator].__name__ in cell.why and DISTRIBUTIONS[distribution].__name__ in cell.why
        return
    if cell.precision > 0.02:
        cell = examine(estimator, distribution, 16 * DRAWS)
    own = RELAXATIONS[estimator].__module__.startswith("zoo.")
    assert cell.kind == ("unbiased" if RELAXATIONS[estimator].unbiased else "formula" if own else "unverified"), cell
    assert cell.verified or cell.kind == "unverified", cell


@pytest.mark.slow
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("estimator", RELAXATIONS)
def test_cell_with_a_mask(estimator, distribution):
    if distribution == "matching" and RELAXATIONS[estimator].stochastic:
        pytest.skip("an assignment for each draw: its masks have tests of their own")
    cell = examine(estimator, distribution, DRAWS // 4, masked=True)
    if cell.precision > 0.02:
        cell = examine(estimator, distribution, 4 * DRAWS, masked=True)
    assert cell.verified or cell.kind == "unverified", cell


def test_the_page_has_a_row_for_each_relaxation():
    cells = {(e, d): Cell("refused") for e in RELAXATIONS for d in DISTRIBUTIONS}
    cells["exact", "categorical"] = Cell("unbiased", 0.1, 0.0, 0.0, 200_000)
    cells["softmax", "matching"] = Cell("formula", 5.0, 0.01, math.nan, 200_000)
    page = markdown(cells, 200_000)
    assert page.count("\n| `") == len(RELAXATIONS)
    assert "| `exact` | unbiased | - |" in page and "own formula (!)" in page and "1 of 2 cells verified" in page


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="'softmax' is taken"):
        register("softmax")(type("Other", (Relaxation,), {}))
    with pytest.raises(TypeError, match="neither"):
        register("number")(int)


@pytest.mark.slow
def test_what_others_register_is_in_the_table_and_its_tests():
    """The example of the documentation: one method, three methods, and the suite knows them."""
    command = [sys.executable, "-m", "pytest", "-n0", "-v", "-m", "", "-p", "examples.own_relaxation", __file__]
    done = subprocess.run(
        [*command, "-k", "test_cell and (laplace_softmax or (window and (rloo or reinforce or rebar or exact)))"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
