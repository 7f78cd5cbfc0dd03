"""What is in ``examples`` beside the plug-in, which has tests of its own (``cli/test_plugin.py``).

The cells of notebooks run in order, as there, where classes are those of ``__main__``.
"""

import importlib
import json
import sys
import types
from typing import Any

import matplotlib
import pytest

from tests.conftest import ROOT
from zoo.config.folders import REGISTERED
from zoo.training.runs import RunFolder

SMALLER = {  # a notebook -> what is shorter in the fast test
    "own_loop": {"STEPS = 20, 13, 300": "STEPS = 20, 13, 20"},
    "own_images": {
        'EPOCHS = Path(tempfile.mkdtemp()) / "pictures", 20': 'EPOCHS = Path(tempfile.mkdtemp()) / "pictures", 1'
    },
    "ten_minutes": {"STEPS = 400": "STEPS = 5"},
}


pytestmark = pytest.mark.filterwarnings("ignore")


def test_every_notebook_is_stored_clean_and_explains_itself():
    notebooks = sorted((ROOT / "examples").glob("*.ipynb"))
    assert [path.stem for path in notebooks] == ["load_and_sample", "own_images", "own_loop", "ten_minutes"]
    for path in notebooks:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def run(name: str, monkeypatch: pytest.MonkeyPatch, smaller: dict[str, str]) -> dict[str, Any]:
    """What the names of a notebook stand for after its last cell.

    Args:
        name: of the file.
        monkeypatch: puts everything back.
        smaller: replacements in its text.
    """
    matplotlib.use("agg")
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    cells = json.loads((ROOT / f"examples/{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    source = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for old, new in smaller.items():
        assert old in source
        source = source.replace(old, new)
    exec(compile(source, f"{name}.ipynb", "exec"), main.__dict__)
    return main.__dict__


@pytest.fixture(autouse=True)
def as_before(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    known = dict(REGISTERED)
    yield
    matplotlib.pyplot.close("all")
    for key in set(REGISTERED) - set(known):
        REGISTERED.pop(key)


def test_load_and_sample(monkeypatch):
    names = run("load_and_sample", monkeypatch, {})
    assert names["total"] == 500 and names["heard"].digit.tolist() == [4, 0, 7] and names["length"] < 5


@pytest.mark.parametrize("name", SMALLER)
def test_a_short_run_of(name, monkeypatch):
    run(name, monkeypatch, SMALLER[name])


@pytest.mark.slow
def test_own_loop(monkeypatch):
    names = run("own_loop", monkeypatch, {})
    assert set(names["found"].values()) == {names["ANSWER"]} and len(names["found"]) == 3


@pytest.mark.slow
def test_own_images(monkeypatch):
    names = run("own_images", monkeypatch, {})
    assert names["scores"]["neg_elbo"] < 150  # of a mean of all pictures it is some 300


@pytest.mark.slow
def test_what_the_ten_minutes_say_is_so(monkeypatch):
    names = run("ten_minutes", monkeypatch, {})
    linear, curved, code = names["linear"], names["curved"], names["code"]
    best = min(drawn for drawn, _ in linear.values())
    assert linear["softmax, tau 1"][0] < best + 0.01 and linear["softmax, tau 0.3"][0] > best + 0.1
    assert linear["softmax, tau 0.3"][1] < best + 0.01
    assert curved["softmax, tau 1"][0] > 0.24 and max(curved[name][0] for name in ("ReinMax", "RLOO")) < 0.205
    assert curved["Gumbel-softmax, tau 1"][0] < curved["softmax, tau 1"][0]
    assert max(code[name][1] for name in ("Gumbel-softmax, tau 1", "Gumbel-softmax, hard, tau 1")) < 0.02
    assert min(code[name][1] for name in ("softmax, tau 1", "softmax, tau 0.3", "ReinMax", "RLOO")) > 0.02


@pytest.mark.slow
def test_tuning_goes_on_where_it_stood(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    tune = importlib.import_module("tune")
    tune.tune(tmp_path / "tuning", 2)
    study = tune.tune(tmp_path / "tuning", 1)
    assert [trial.number for trial in study.trials] == [0, 1, 2]
    for trial in study.trials:
        run = RunFolder(tmp_path / f"tuning/trial={trial.number}")
        assert trial.value == run.read_results()["best"] and 0 <= trial.value < 1
        assert run.read_config()["model"]["optimizer"]["lr"] == trial.params["lr"]
