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
        (lambda f: f.assign(kind=f.index % 2), {"bins": 3}, r"bins=3.*so many classes.*is in 50% of the rows"),
        (lambda f: f.assign(number=1e308 * (-1.0) ** f.index), {}, "'number' has numbers too large"),
        (lambda f: f.assign(number=f.index * 1e200), {}, "'number' has numbers too large"),
        (lambda f: f.assign(number=[f"{i},{i:03}" for i in range(1, 41)]), {}, "numbers such as '1,001'"),
        (lambda f: f.assign(number=["999", "1,234,567"] * 20), {}, "numbers such as '1,234,567'"),
        (lambda f: f.assign(number=["999,5", "1.234,5"] * 20), {}, "whose digits may be in groups"),
        (lambda f: f, {"bins": 1}, "data.bins=1 is not valid"),
        (lambda f: f, {"val_share": 0.7, "test_share": 0.5}, "together less than 1"),
        (lambda f: f, {"batch_size": 500}, "28 rows are all to train on: give a smaller"),
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
        ("empty.csv", b"", "or is empty"),
        ("bytes.csv", b"a,kind\n\xff\xfe\xfa,1\n", "is not text in UTF-8: save it so"),
        ("twice.csv", b"a,kind,kind\n1,2,2\n", "more than one column 'kind': rename or remove"),
        ("twice.csv", b'a;"a";kind\n1;2;2\n', "more than one column 'a'"),
        ("mine.xlsx", b"PK\x03\x04", "is a spreadsheet: save it as CSV"),
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


def test_whole_numbers_of_any_size_are_classes(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["y,a", *[f"{(1 + i % 2) * 1e20:.0f},{i}" for i in range(100)]]))
    assert Table(path=str(path), target="y", batch_size=4).inputs({"path": str(path), "target": "y"}).classes == 2


def test_decimal_commas_are_read_where_groups_are_out_of_the_question(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["y;a", *[f"{i % 2};{i},{'125' if i % 3 else '5'}" for i in range(100)]]))
    data = Table(path=str(path), target="y", batch_size=4)
    x = torch.cat([data.rows(split)[0] for split in ("train", "val", "test")]).flatten()
    assert x.unique().numel() == 100 and (x.diff().abs() > 0).all()


def test_dates_and_durations_of_parquet_are_numbers_and_what_is_nested_is_refused(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    days, y = pa.array(range(60), pa.int32()), [i % 2 for i in range(60)]
    columns = {"y": y, "day": days.cast(pa.date32()), "took": pa.array(range(60), pa.int64()).cast(pa.duration("s"))}
    path = tmp_path / "mine.parquet"
    parquet.write_table(pa.table(columns), path)
    data = Table(path=str(path), target="y", batch_size=4)
    x = torch.cat([data.rows(split)[0] for split in ("train", "val", "test")])
    assert x.shape == (60, 2) and torch.allclose(x[:, 0], x[:, 1], atol=1e-5)
    for name, value in {"both": [[1, 2]] * 60, "pair": [{"a": 1}] * 60, "raw": [b"x"] * 60}.items():
        for target in ("y", name):
            parquet.write_table(pa.table({**columns, name: value}), path)
            with pytest.raises(ZooError, match=f"column '{name}' has .* in its cells"):
                Table(path=str(path), target=target)
    parquet.write_table(pa.Table.from_arrays([days, days, days], names=["y", "a", "a"]), path)
    with pytest.raises(ZooError, match="more than one column 'a'"):
        Table(path=str(path), target="y")


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
