"""Train a little: whose runs are whose, what is refused, and that nothing is left behind."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import zoo
from zoo.demo import editing, training
from zoo.errors import ZooError

SORTING = "Sorting (pointer_net)"


@pytest.fixture
def trainings(monkeypatch, tmp_path):
    """Without any training: a process that waits."""

    def started(title, recipe, estimator, seconds, seed, more=()):
        folder = tmp_path / estimator
        (folder / "run").mkdir(parents=True)
        (folder / "output").write_text("error: no \x1b[31mluck\n")
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        return training.Run(title, recipe, seconds, process, folder)

    monkeypatch.setattr(training, "started", started)
    made = training.Trainings()
    yield made
    made.close_all()


def test_sessions_do_not_see_each_other(trainings):
    one = trainings.start("a", SORTING, "rloo", 1.0)
    two = trainings.start("b", SORTING, "reinforce", 1.0)
    assert trainings.of("a") == [one] and trainings.of("b") == [two] and trainings.of("c") == []
    with pytest.raises(ZooError, match="a training of yours is running"):
        trainings.start("a", SORTING, "rloo", 1.0)
    with pytest.raises(ZooError, match="2 trainings of other people are running"):
        trainings.start("c", SORTING, "rloo", 1.0)
    trainings.stop("c")
    assert one.running and two.running
    trainings.stop("a")
    one.process.wait(10)
    assert "stopped" in one.says() and two.running
    trainings.close("b")
    assert not two.running and not two.folder.exists() and trainings.of("b") == []


def test_the_last_two_are_kept_and_compared(trainings):
    for estimator in ("rloo", "reinforce", "straight_through"):
        run = trainings.start("a", SORTING, estimator, 1.0)
        lines = "".join(f"{step},train/cost,{step / 100}\n" for step in (50, 100))
        (run.folder / "run" / "metrics.csv").write_text(f"step,name,value\n{lines}")
        run.stop()
        run.process.wait(10)
    runs = trainings.of("a")
    assert [run.title.rpartition(", ")[2] for run in runs] == ["reinforce", "straight_through"]
    html = training.pictures(runs)
    assert html.count("<svg") == 1 and "— reinforce" in html and "at 1 after 100 steps" in html
    runs[0].stopped = False
    assert "failed: no luck" in runs[0].says()


@pytest.mark.parametrize(
    "name, estimator, minutes",
    [
        ("rm -rf", "rloo", 1),
        (SORTING, "rloo seed=1", 1),
        (SORTING, "rloo", 60),
        (SORTING, "rloo", "1"),
        (SORTING, "x", 1),
    ],
)
def test_only_what_is_in_the_lists_is_started(trainings, name, estimator, minutes):
    with pytest.raises(ZooError, match=r"choose a model|from 0\.25 to 3 minutes"):
        trainings.start("a", name, estimator, minutes)
    assert not trainings.of("a")


@pytest.fixture
def table(tmp_path) -> Path:
    """Of 200 rows, where ``size`` says the label and five others nothing; a name has what a shell reads."""
    draw = random.Random(0)
    path = tmp_path / "own table.csv"
    rows = [[draw.gauss(0, 1) for _ in range(6)] for _ in range(200)]
    lines = [",".join([*(f"{x:.4f}" for x in row), "yes" if row[2] > 0 else "no"]) for row in rows]
    path.write_text("\n".join(["a,b,size,c,d,e,kind; echo $HOME {x}", *lines]) + "\n")
    return path


TABLE, KIND = "Columns of your own table (selector)", "kind; echo $HOME {x}"


@pytest.mark.parametrize(
    "target, k, message",
    [
        ("knd", 1, "has no column data.target=knd"),
        ("", 1, "has no column data.target="),
        (KIND, 7, "give a number from 1 to 6"),
        (KIND, 0, "give a number from 1 to 6"),
        (KIND, None, "give a number from 1 to 6"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_before_anything_starts(trainings, table, target, k, message):
    with pytest.raises(ZooError, match=message):
        trainings.start("a", TABLE, "rloo", 1.0, training.OwnTable(str(table), target, k))
    with pytest.raises(ZooError, match="choose a file first"):
        trainings.start("a", TABLE, "rloo", 1.0)
    assert not trainings.of("a")


@pytest.mark.slow
def test_the_columns_of_a_table_are_selected(table):
    trainings = training.Trainings()
    run = trainings.start("a", TABLE, "st_gumbel_softmax", 3.0, training.OwnTable(str(table), KIND, 1))
    run.process.wait(240)
    assert run.says().endswith("done"), Path(run.folder / "output").read_text()
    assert zoo.from_pretrained(run.folder / "run").selected() == [2]
    assert "data:image/png" in training.pictures(trainings.of("a"))
    trainings.close_all()


@pytest.mark.parametrize("name", training.RECIPES)
def test_recipes_are_valid_options_for_each_of_their_estimators(name):
    from zoo.config.composition import check, compose

    recipe = training.RECIPES[name]
    if name.startswith("CartPole"):
        pytest.importorskip("gymnasium", reason="the extra rl is not installed")
    for estimator in (recipe.estimators[0], recipe.estimators[-1]):
        check(compose([*recipe.options, *training.COMMON, f"relaxation={estimator}", "run=mine"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, recipe in training.RECIPES.items() if not recipe.table])
def test_a_real_training_shows_curves_and_ends_when_its_page_is_closed(name, mnist_root, monkeypatch):
    monkeypatch.setenv("ZOO_DATA_DIR", mnist_root)
    editing.digits.cache_clear()
    if name.startswith("CartPole"):
        pytest.importorskip("gymnasium", reason="the extra rl is not installed")
    trainings = training.Trainings()
    run = trainings.start("a", name, training.RECIPES[name].estimators[0], 3.0)
    end = time.monotonic() + 180

    def shown() -> bool:
        return len(run.metrics.get(run.recipe.curve[0], ())) > 1 and (run.picture() or not run.recipe.pictures)

    while not shown() and time.monotonic() < end:
        assert run.running, (run.folder / "output").read_text()
        time.sleep(0.2)
    html = training.pictures(trainings.of("a"))
    assert "steps" in html and "<path" in html and ("data:image/png" in html or not run.recipe.pictures)
    trainings.close("a")
    assert not run.running and not run.folder.exists()
