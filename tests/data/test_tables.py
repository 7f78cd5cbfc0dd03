"""Tables of one's own: what is made of them, and what is refused."""

import re
from decimal import Decimal

import numpy as np
import pytest
import torch

from zoo.config import composition, from_config
from zoo.data import MNIST, Inputs, Table, inputs
from zoo.errors import ZooError

pd = pytest.importorskip("pandas")


@pytest.fixture
def frame():
    """Forty rows: a number with a gap, a constant, words, a date, and a target."""
    g = np.random.default_rng(0)
    number = g.normal(size=40) * 5 + 3
    number[::8] = np.nan
    words = np.array(["red", "green", "blue", None], dtype=object)[np.arange(40) % 4]
    return pd.DataFrame(
        {
            "number": number,
            "constant": 7,
            "colour": words,
            "when": pd.date_range("2020-01-01", periods=40).astype("datetime64[ns]"),
            "open": np.arange(40) % 2 == 0,
            "kind": np.array(["a", "b"])[np.arange(40) % 2],
        }
    )


@pytest.mark.parametrize("ending", [";csv", ",csv", "parquet"])
def test_columns_become_numbers(tmp_path, frame, ending):
    path = tmp_path / f"mine.{ending.lstrip(';,')}"
    if ending == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep=ending[0], index=False)
    data = Table(path=str(path), target="kind", batch_size=4)
    data.setup()
    found = inputs({"_target_": "zoo.data.Table", "path": str(path), "target": "kind"})
    assert found.names == ("number", "constant", "colour", "when", "open") and found.labels == ("a", "b")
    assert found.groups is not None and len(found.groups) == found.features == data.rows("train")[0].shape[1]
    x = torch.cat([data.rows(split)[0] for split in ("train", "val", "test")])
    y = torch.cat([data.rows(split)[1] for split in ("train", "val", "test")])
    assert len(x) == 40 and torch.isfinite(x).all()
    at = {name: [i for i, group in enumerate(found.groups) if found.names[group] == name] for name in found.names}
    assert len(at["number"]) == 2 and x[:, at["number"][1]].sum() == 5  # and where it is missing
    assert (x[x[:, at["number"][1]] == 1][:, at["number"][0]] == 0).all()
    train = data.rows("train")[0][:, at["number"]]
    known = train[train[:, 1] == 0][:, 0]
    assert known.mean().abs() < 1e-5 and (known.std(correction=0) - 1).abs() < 1e-5
    assert (x[:, at["constant"]] == 0).all()
    colour = x[:, at["colour"]]
    assert colour.shape[1] == 4 and (colour.sum(1) == 1).all()  # a missing word is one, too
    which = x[:, at["open"]]
    assert ((which[:, 0] == which[0, 0]).long() == (y == y[0]).long()).all()  # the one column that gives it away


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("y,when\n{y},2020-01-{day}\n", 1),
        ("y,when\n{y},2020-01-{day}T10:00:00+02:00\n", 1),
        ("y,a\n{y},?\n{y},{i}.5\n", 2),  # with a feature that says where it is missing
        ("y;a\n{y};{i},5\n", 1),
        ('"y";"Weight, kg";"Height, cm"\n{y};{i},5;{i}\n', 2),
        ("y,a\n{y},{i},\n", 1),  # a comma too many in every row
        ("y,a\n{y}, {i}\n", 1),
    ],
)
def test_numbers_and_dates_of_a_csv_are_what_they_are(tmp_path, text, features):
    head, *rows = text.splitlines(keepends=True)
    path = tmp_path / "mine.csv"
    lines = [row.format(y=i % 2, i=i, day=f"{i % 28 + 1:02}") for i in range(300) for row in rows]
    path.write_text(head + "".join(lines))
    assert Table(path=str(path), target="y").inputs({"path": str(path), "target": "y"}).features == features


def test_a_parquet_file_says_what_is_a_text(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "mine.parquet"
    exact = [Decimal(i) / 8 for i in range(80)]
    columns = {"code": [str(i % 3) for i in range(80)], "exact": exact, "y": [i % 2 for i in range(80)]}
    pd.DataFrame(columns).to_parquet(path)
    assert Table.inputs({"path": str(path), "target": "y"}).groups == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([f"{i % 2},{i if i % 50 else 'n. a. (sick)'}" for i in range(300)], "'a' has numbers, and in 6 of 300 rows"),
        ([f"{i % 2},{i},{i}" for i in range(300)], "cannot be read as a table"),
        (["0,1"] * 297 + ["1,1"] * 3, "one class only in the rows for training"),
    ],
)
def test_a_csv_that_would_be_misread_is_refused(tmp_path, rows, message):
    path = tmp_path / "mine.csv"
    if "training" in message:  # the rare class where the test is
        order = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:3].tolist()
        rows = [f"{int(i in order)},1" for i in range(300)]
    path.write_text("\n".join(["y,a", *rows]) + "\n")
    with pytest.raises(ZooError, match=re.escape(message)):
        Table(path=str(path), target="y")


def test_a_column_of_names_is_told_of(tmp_path, caplog):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["y,who,a", *[f"{i % 2},name{i},{i}" for i in range(300)]]))
    Table(path=str(path), target="y")
    assert "'who' has 300 different texts in 300 rows" in caplog.text


def test_the_split_is_the_same_in_every_run_and_batches_are_rows():
    first, second = Table(seed=0), Table(seed=5)
    for data in (first, second):
        data.setup()
    for split in ("train", "val", "test"):
        assert torch.equal(first.rows(split)[0], second.rows(split)[0])
    batches = [list(data.train_dataloader()) for data in (first, first, second)]
    assert torch.equal(batches[0][0][0], batches[1][0][0]) and not torch.equal(batches[0][0][0], batches[2][0][0])
    assert len(first.rows("test")[0]) == round(0.15 * 569)


def test_a_target_that_is_a_number_is_cut_into_classes(tmp_path):
    path = tmp_path / "mine.csv"
    pd.DataFrame({"x": np.arange(60.0), "price": np.linspace(0.1, 9.9, 60)}).to_csv(path, index=False)
    with pytest.raises(ZooError, match=r"60 different values.*data\.bins=10"):
        Table(path=str(path), target="price")
    data = Table(path=str(path), target="price", bins=3, batch_size=8)
    counts = sum(torch.bincount(data.rows(split)[1], minlength=3) for split in ("train", "val", "test"))
    assert counts.tolist() == [20, 20, 20]


@pytest.mark.parametrize(
    "change, options, message",
    [
        (lambda f: f.assign(kind="a"), {}, "one class only, a"),
        (lambda f: f.assign(kind=f.kind.where(f.index > 3)), {}, "missing in 4 of 40 rows"),
        (lambda f: f.assign(number=np.nan), {}, "column 'number' has no values"),
        (lambda f: f.assign(number=np.inf), {}, "column 'number' has infinite values"),
        (lambda f: f[["kind"]], {}, "no column but kind"),
        (lambda f: f[:3], {}, "3 rows, which are too few"),
        (lambda f: f[:0], {}, "has no rows"),
        (lambda f: f, {"target": "knid"}, r"no column data.target=knid. Did you mean 'kind'"),
        (lambda f: f, {"target": None}, "needs data.target=COLUMN"),
        (lambda f: f, {"bins": 3}, "kind is not a number"),
        (lambda f: f.assign(kind=2.5), {"bins": 3}, "one class only: there"),
        (lambda f: f, {"bins": 1}, "data.bins=1 is not valid"),
        (lambda f: f, {"val_share": 0.7, "test_share": 0.5}, "together less than 1"),
        (lambda f: f, {"batch_size": 500}, "28 rows are all to train on"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(tmp_path, frame, change, options, message):
    path = tmp_path / "mine.csv"
    change(frame).to_csv(path, index=False)
    arguments = {"path": str(path), "target": "kind", "batch_size": 4} | options
    with pytest.raises(ZooError, match=message):
        from_config({"_target_": "zoo.data.Table", **arguments}, where="data")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("empty.csv", b"", "cannot be read as a table"),
        ("bytes.csv", b"a,kind\n\xff\xfe\xfa,1\n", "cannot be read as a table"),
        ("ragged.csv", b"a,kind\n1,2\n1,2,3,4\n", "cannot be read as a table"),
        ("twice.parquet", b"PAR1 no", "cannot be read as a table"),
        ("missing.csv", None, "no such file"),
        ("/dev/zero", None, "is not a file"),
    ],
)
def test_files_that_are_no_tables(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ZooError, match=message):
        Table(path=str(tmp_path / name), target="kind")


def test_a_command_with_a_bad_table_is_refused_before_anything_starts(tmp_path):
    words = ["model=selector", "data=table", f"data.path={tmp_path}/none.csv", "data.target=x", "run=unused"]
    with pytest.raises(ZooError, match="no such file"):
        composition.check(composition.compose(words), words)


def test_images_say_what_they_are():
    found = inputs({"_target_": "zoo.data.MNIST", "batch_size": 3})
    assert (found.features, found.columns, found.classes, found.groups) == (784, 784, 10, None)
    assert found.names[30] == "row 1, column 2"
    assert isinstance(MNIST.inputs({}), Inputs)
    with pytest.raises(ZooError, match="does not say how large"):
        inputs({"_target_": "zoo.models.polynomial.Steps"})
