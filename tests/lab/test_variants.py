"""The comparisons of a model's variants."""

import pytest

from zoo.config.composition import check, compose
from zoo.errors import ZooError
from zoo.lab import variants

pytestmark = pytest.mark.filterwarnings("ignore")

TINY = (
    "model.experts.hidden=4",
    "data.batch_size=8",
    "epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
)


@pytest.mark.parametrize(
    ("table", "row"), [(name, row) for name, table in variants.TABLES.items() for row in table.rows]
)
def test_every_row_is_a_choice_of_options(table, row):
    words = [*variants.TABLES[table].options, *variants.TABLES[table].rows[row]]
    check(compose(words), words)


def test_runs_that_are_there_are_not_trained_again(tmp_path, mnist_root):
    options = (*TINY, "data=mnist_grey", f"data.root={mnist_root}")
    path = variants.experiment(*options, table="routers", rows=["softmax"], seeds=[0], folder=tmp_path)
    first = (tmp_path / "routers/softmax-0/results.json").stat().st_mtime_ns
    assert path.read_text().splitlines()[-1].startswith("| `softmax` |")
    variants.experiment(*options, table="routers", rows=["softmax", "rloo"], seeds=[0], folder=tmp_path)
    written, _, heading, _, *rows = path.read_text().splitlines()
    assert written.startswith("`python scripts/variants.py table=routers rows=softmax,rloo seeds=0 ")
    assert [row.split("|")[1].strip() for row in rows] == ["`softmax`", "`rloo`"]
    assert {len(row.split("|")) for row in rows} == {len(heading.split("|"))}
    assert (tmp_path / "routers/softmax-0/results.json").stat().st_mtime_ns == first


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, mnist_root, monkeypatch):
    options = (*TINY, "data=mnist_grey", f"data.root={mnist_root}")
    given = {"table": "routers", "seeds": [0], "folder": tmp_path}

    def fails(folder, words):
        if "relaxation=rloo" in words:
            raise ZooError("the loss is nan")
        return trained(folder, words)

    trained = variants.trained
    monkeypatch.setattr(variants, "trained", fails)
    written = variants.experiment(*options, rows=["rloo", "softmax"], **given).read_text()
    assert "| `softmax` |" in written and "`rloo` with seed 0 is missing: the loss is nan" in written
    with pytest.raises(ZooError, match="no run of the table is complete: `rloo` with seed 0 is missing"):
        variants.experiment(*options, rows=["rloo"], **given)
    assert (tmp_path / "routers.md").read_text() == written  # what was there stays
    with pytest.raises(ZooError, match=r"no option 'model\.nonsense'"):
        variants.experiment(*options, "model.nonsense=1", rows=["softmax"], **given)


def test_names_are_checked_and_several_seeds_are_a_range():
    with pytest.raises(ZooError, match="Did you mean 'fsq'"):
        variants.experiment(table="codes_cifar10", rows=["fsqq"])
    with pytest.raises(ZooError, match="Did you mean 'routers'"):
        variants.experiment(table="router")
    assert variants.spread([], 1) == ""
    assert variants.spread([1.0], 2) == "1.00" and variants.spread([1.0, 2.0], 1) == "1.5 (1.0 to 2.0)"
