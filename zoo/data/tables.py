"""Tables: files of columns with names, of which one is to be predicted, and those that scikit-learn brings along."""

import csv
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.config import Config
from zoo.data.batches import DataModule, Place, Slices
from zoo.data.inputs import Inputs
from zoo.data.seeding import TEST, TRAIN, VALIDATE
from zoo.errors import ZooError, cause, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

log = logging.getLogger(__name__)

Bundled = Literal["breast_cancer", "wine", "iris", "digits"]
LEVELS = 50
"""Values of a column of words that are told from each other; the rarer ones are one more."""
MOST_CLASSES = 100
LARGEST, NUMBERS = 2_000_000_000, 500_000_000  # bytes of a file, and numbers of what is made of it
SPLIT_SEED = 0  # the rows of validation and test are the same in every run
SAFE = 2**53
"""Whole numbers are exact in a float below it."""
GROUPED = r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?|[+-]?[1-9]\d{0,2}(?:\.\d{3})+,\d+"
"""A number in groups of three digits; ``12,068`` may also be one with a decimal comma."""
SURELY_GROUPED = r"[+-]?[1-9]\d{0,2}(?:(?:,\d{3}){2,}(?:\.\d+)?|,\d{3}\.\d+|(?:\.\d{3})+,\d+)"
EXTRA = "needs packages: pip install 'discrete-latent-zoo[tables]'"


@dataclass(frozen=True)
class Encoded:
    """A table as numbers.

    Attributes:
        x: float32 ``(rows, features)``: numbers less their mean in units of their standard deviation, with 0 and a
            feature of its own, 1, where one is missing; a feature for each level of a column of words. Mean, deviation
            and levels are those of the rows for training.
        y: int64 ``(rows,)``.
        rows: ``train``, ``val`` and ``test`` -> their rows, int64.
        inputs: what they are.
    """

    x: Tensor
    y: Tensor
    rows: dict[str, Tensor]
    inputs: Inputs


class TableBatches(Slices[tuple[Tensor, Tensor]]):
    """Batches of rows.

    Yields:
        ``(x, y)``: float32 ``(batch, features)``, labels int64 ``(batch,)``.

    Args:
        passes: how often an epoch goes through all rows, each time in another order.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        *,
        batch_size: int,
        key: tuple[int, int],
        shuffle: bool,
        place: Place,
        passes: int = 1,
    ) -> None:
        super().__init__(len(x), batch_size=batch_size, key=key, shuffle=shuffle, device=x.device, place=place)
        self.x, self.y, self.passes = x, y, passes

    def __len__(self) -> int:
        return self.length * self.passes

    def epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(start // self.length, self.passes):
            yield from super().epoch(epoch * self.passes + number, max(0, start - number * self.length))

    def take(self, index: Tensor, epoch: int, batch: int) -> tuple[Tensor, Tensor]:
        index = index[self.place.share(len(index))]
        return self.x[index], self.y[index]


class Table(DataModule):
    """A table, one column of which is to be predicted from the others.

    Args:
        path: a CSV file, with names in its first line, or a Parquet file; None for a table that scikit-learn has.
        target: the column to predict; of a table of scikit-learn it is known.
        bundled: which of scikit-learn's, where there is no ``path``.
        bins: make so many classes of equal size of a target that is a number; None for the values as they are.
        val_share, test_share: of the rows, drawn alike in every run.
        passes: through the rows for training from one validation to the next: most tables are small.
        batch_size: training rows in a step, over all devices together.
        eval_batch_size: the same for validation and test.
        seed: of shuffling.

    Raises:
        ValueError: if a number is out of range.
        ZooError: if the table cannot be read, lacks the target, or has nothing to learn from: one class only, a target
            or a column without values, infinite numbers, too few rows.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        target: str | None = None,
        bundled: Bundled = "breast_cancer",
        bins: int | None = None,
        val_share: float = 0.15,
        test_share: float = 0.15,
        passes: int = 10,
        batch_size: int = 64,
        eval_batch_size: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (1 <= passes <= 10_000 and batch_size >= 1 and eval_batch_size >= 1 and seed >= 0):
            raise ValueError(
                "need passes in [1, 10000], batch_size >= 1, eval_batch_size >= 1 and seed >= 0, got "
                f"{passes}, {batch_size}, {eval_batch_size}, {seed}"
            )
        self.path, self.target, self.bundled, self.bins = path, target, bundled, bins
        self.val_share, self.test_share, self.passes = val_share, test_share, passes
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}
        table = load(path, target, bundled, bins, val_share, test_share)
        if len(table.rows["train"]) < batch_size:
            raise ZooError(
                f"data.batch_size={batch_size}, but {len(table.rows['train'])} rows are all to train on: give a "
                "smaller data.batch_size"
            )

    @classmethod
    def inputs(cls, arguments: Config) -> Inputs:
        """What the table with these arguments of the constructor gives."""
        known = {name: arguments.get(name, default) for name, default in DEFAULTS.items()}
        return load(*known.values()).inputs

    def setup(self, stage: str | None = None) -> None:
        """Put the rows on the training device (the CPU without a Trainer)."""
        if not self.splits:
            table = load(self.path, self.target, self.bundled, self.bins, self.val_share, self.test_share)
            x, y = table.x.to(self.device), table.y.to(self.device)
            self.splits = {name: (x[rows], y[rows]) for name, rows in table.rows.items()}

    def rows(self, split: str) -> tuple[Tensor, Tensor]:
        """All examples and labels of ``train``, ``val`` or ``test``."""
        self.setup()
        return self.splits[split]

    def train_dataloader(self) -> TableBatches:
        key = (self.seed, TRAIN)
        return self._batches("train", self.batch_size, key, self.in_training, shuffle=True, passes=self.passes)

    def val_dataloader(self) -> TableBatches:
        return self._batches("val", self.eval_batch_size, (SPLIT_SEED, VALIDATE), self.in_evaluation)

    def test_dataloader(self) -> TableBatches:
        return self._batches("test", self.eval_batch_size, (SPLIT_SEED, TEST), self.in_evaluation)

    def _batches(
        self,
        split: str,
        batch_size: int,
        key: tuple[int, int],
        place: Place,
        *,
        shuffle: bool = False,
        passes: int = 1,
    ) -> TableBatches:
        x, y = self.splits[split]
        return TableBatches(x, y, batch_size=batch_size, key=key, shuffle=shuffle, place=place, passes=passes)


DEFAULTS: dict[str, Any] = {
    "path": None,
    "target": None,
    "bundled": "breast_cancer",
    "bins": None,
    "val_share": 0.15,
    "test_share": 0.15,
}
"""The arguments of :class:`Table` that say what is in it, in the order of :func:`load`."""


def load(
    path: str | None, target: str | None, bundled: str, bins: int | None, val_share: float, test_share: float
) -> Encoded:
    """The table that these arguments of :class:`Table` describe; read once.

    Raises:
        ZooError: as :class:`Table`.
    """
    try:
        stamp = Path(path).expanduser().stat().st_mtime_ns if path is not None else 0
    except (OSError, ValueError) as error:
        raise ZooError(f"data.path={path} cannot be read: {cause(error)}") from error
    for name, share in (("val_share", val_share), ("test_share", test_share)):
        if not 0 < share < 1 or val_share + test_share >= 1:
            raise ZooError(f"data.{name}={share} is not valid: both shares must be positive, together less than 1")
    if bins is not None and not 2 <= bins <= MOST_CLASSES:
        raise ZooError(f"data.bins={bins} is not valid: it must be from 2 to {MOST_CLASSES}, or null")
    return _load(path, stamp, target, bundled, bins, val_share, test_share)


@lru_cache(maxsize=4)
def _load(
    path: str | None,
    stamp: int,
    target: str | None,
    bundled: str,
    bins: int | None,
    val_share: float,
    test_share: float,
) -> Encoded:
    frame, target = (
        _bundled(bundled, target) if path is None else (_read(Path(path).expanduser(), path, target), target)
    )
    assert target is not None
    y, labels = _labels(frame.pop(target), target, bins)
    rows = _split(len(frame), val_share, test_share)
    if len(np.unique(y[rows["train"].numpy()])) < 2:
        raise ZooError(
            f"the target {target} has one class only in the rows for training: give it more rows of the others"
        )
    if frame.shape[1] == 0:
        raise ZooError(f"the table has no column but {target}, which is to be predicted")
    x, groups = _encode(frame, rows["train"].numpy())
    names = tuple(map(str, frame.columns))
    owners = tuple(groups) if groups != list(range(len(names))) else None
    found = Inputs((x.shape[1],), len(labels), len(names), owners, table=True, names=names, labels=labels)
    return Encoded(torch.from_numpy(x), torch.from_numpy(y), rows, found)


def _split(count: int, val_share: float, test_share: float) -> dict[str, Tensor]:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))
    test, val = max(1, round(count * test_share)), max(1, round(count * val_share))
    if count - test - val < 2:
        raise ZooError(f"the table has {count} rows, which are too few to train, validate and test on")
    return {"train": order[test + val :], "val": order[test : test + val], "test": order[:test]}


def _bundled(name: str, target: str | None) -> "tuple[pd.DataFrame, str]":
    try:
        import pandas  # noqa: F401
        from sklearn import datasets
    except ImportError as error:
        raise ZooError(f"data=table {EXTRA}") from error
    found = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = found.frame.copy()
    if target not in (None, "target"):
        raise ZooError(f"data.target={target}: what {name} has to predict is called target; data.path=FILE for a file")
    frame["target"] = [str(found.target_names[i]) for i in found.target]
    return frame, "target"


def _read(path: Path, given: str, target: str | None) -> "pd.DataFrame":
    try:
        import pandas as pd
    except ImportError as error:
        raise ZooError(f"data.path={given} {EXTRA}") from error
    if target is None:
        raise ZooError(f"data.path={given} needs data.target=COLUMN, the name of the column that is to be predicted")
    try:
        if not path.is_file():
            raise ZooError(f"data.path={given} is not a file")
        if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
            raise ZooError(f"data.path={given} is a spreadsheet: save it as CSV")
        if path.stat().st_size > LARGEST:
            raise ZooError(f"data.path={given} is too large: {LARGEST} bytes are the most")
        if path.suffix.lower() in (".parquet", ".pq"):
            from pyarrow.parquet import ParquetFile

            with ParquetFile(path) as file:
                size = file.metadata  # a few bytes can stand for many rows
                if size.num_rows * size.num_columns > NUMBERS:
                    raise ZooError(f"data.path={given} is too large: {NUMBERS} values are the most")
                table = file.read()
            table.validate(full=True)  # of texts, whether they are UTF-8
            _columns([str(name) for name in table.column_names], given)
            frame = _flat(table, given).to_pandas().apply(_exact)
        else:
            with path.open(encoding="utf-8-sig") as file:
                head = file.readline(1_000_000)
            bare = re.sub(r'"[^"]*"', "", head)  # what stands in quotes does not separate
            separator = max(",;\t|", key=bare.count)
            if not head.strip():
                raise ZooError(f"data.path={given} has no names of columns in its first line, or is empty")
            _columns(next(csv.reader([head], delimiter=separator)), given)  # pandas would rename them
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # rows with more values than there are names
                frame = pd.read_csv(
                    path,
                    sep=separator,
                    encoding="utf-8-sig",
                    low_memory=False,
                    compression=None,
                    index_col=False,
                    na_values=["?"],
                ).apply(_typed)
    except ZooError:
        raise
    except ImportError as error:
        raise ZooError(f"data.path={given} {EXTRA}") from error
    except UnicodeDecodeError as error:
        raise ZooError(f"data.path={given} is not text in UTF-8: save it so ({cause(error)})") from error
    except Exception as error:  # the readers of pandas and Arrow have many of their own
        raise ZooError(f"data.path={given} cannot be read as a table: {cause(error)}") from error
    frame.columns = [str(name) for name in frame.columns]
    if target not in frame.columns:
        names = list(frame.columns)
        raise ZooError(
            f"data.path={given} has no column data.target={target}.{did_you_mean(target, names)} "
            f"Columns: {', '.join(names[:20])}{' ...' if len(names) > 20 else ''}."
        )
    if frame.empty:
        raise ZooError(f"data.path={given} has no rows")
    return frame


def _columns(names: list[str], given: str) -> None:
    """Refuse two columns of one name."""
    if twice := [name for name, count in Counter(names).items() if count > 1 and name]:
        raise ZooError(f"data.path={given} has more than one column {twice[0]!r}: rename or remove the others")


def _flat(table: "pa.Table", given: str) -> "pa.Table":
    """A table with dates as times and durations as seconds.

    Raises:
        ZooError: if a column is not one value in each row.
    """
    import pyarrow as pa

    for number, field in enumerate(table.schema):
        kind, column = field.type, table.column(number)
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise ZooError(
                f"data.path={given}: the column {field.name!r} has {kind} in its cells, not a number, a text, a truth "
                "value or a time: leave it out, or make columns of it"
            )
        if pa.types.is_date(kind):
            column = column.cast(pa.timestamp("ms"))
        elif pa.types.is_duration(kind):
            column = column.cast(pa.duration("ns")).cast(pa.int64()).cast(pa.float64(), safe=False)
        else:
            continue
        table = table.set_column(number, field.name, column)
    return table


def _exact(column: "pd.Series") -> "pd.Series":
    """A column of exact decimals as numbers. What a Parquet file has as texts stays so."""
    known = column.dropna()
    return column.astype(float) if len(known) and isinstance(known.iloc[0], Decimal) else column


def _typed(column: "pd.Series") -> "pd.Series":
    """A column of texts as the numbers or the dates that these are, if all are.

    Raises:
        ZooError: if nearly all of many are numbers.
    """
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return column
    known = column.dropna()
    words = known.astype("string").str.strip()
    if known.empty or known.isin([True, False]).all():
        return column
    marks = words[words.str.contains(",", regex=False)]
    numerals = words.str.fullmatch(r"[+-]?[\d.,]+").all()
    if numerals and len(marks) and (marks.str.fullmatch(GROUPED).all() or marks.str.fullmatch(SURELY_GROUPED).any()):
        raise ZooError(
            f"the column {str(column.name)!r} has numbers such as {marks.iloc[0]!r}, whose digits may be in groups: "
            "write them without marks between groups, and with a decimal point"
        )
    if words.str.fullmatch(r"[+-]?\d+(,\d+)?").all():  # decimal commas
        words = words.str.replace(",", ".")
    numbers = pd.to_numeric(words, errors="coerce")
    if numbers.notna().all():
        return numbers.reindex(column.index)
    if numbers.notna().mean() > 0.9 and numbers.nunique() > LEVELS:
        other = words[numbers.isna()]
        raise ZooError(
            f"the column {str(column.name)!r} has numbers, and in {len(other)} of {len(column)} rows something else, "
            f"such as {str(other.iloc[0])[:50]!r}: leave these empty, or write all as numbers"
        )
    if words.str.fullmatch(r"\d{4}-\d\d-\d\d.*").all():
        dates = pd.to_datetime(words, errors="coerce", format="ISO8601", utc=True)
        if dates.notna().all():
            return dates.reindex(column.index)
    if words.nunique() > max(LEVELS, len(words) // 2):
        log.warning(
            "The column %r has %s different texts in %s rows, of which the %s most frequent are told apart: leave it "
            "out if it is only a name",
            *(str(column.name), words.nunique(), len(words), LEVELS),
        )
    return column


def _labels(values: "pd.Series", target: str, bins: int | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Classes, int64 ``(rows,)``, and their names."""
    import pandas as pd

    if missing := int(values.isna().sum()):
        raise ZooError(
            f"the target {target} is missing in {missing} of {len(values)} rows (empty, ?, NA, None, null and the "
            "like): leave those rows out, or give the class another name"
        )
    if bins is not None:
        if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            raise ZooError(f"data.bins={bins}: the target {target} is not a number, so it cannot be cut into classes")
        if np.isinf(values.to_numpy(np.float64)).any():
            raise ZooError(f"the target {target} has infinite values: replace them, or leave those rows out")
        cut = pd.qcut(values, bins, duplicates="drop")
        if len(cut.cat.categories) < bins and values.nunique() > 1:
            often = values.mode().iloc[0]
            raise ZooError(
                f"data.bins={bins}: the target {target} cannot be cut into so many classes of equal size, as {often:g} "
                f"is in {(values == often).mean():.0%} of the rows: give fewer, or null for its values as classes"
            )
        codes, labels = cut.cat.codes.to_numpy(np.int64), [str(interval) for interval in cut.cat.categories]
    else:
        if pd.api.types.is_float_dtype(values) and (values % 1 == 0).all() and values.abs().max() < SAFE:
            values = values.astype(np.int64)
        values = values.map(lambda value: value.strip() if isinstance(value, str) else value)
        found, levels = pd.factorize(values, sort=True)
        codes, labels = found.astype(np.int64), [str(level) for level in levels]
    if len(labels) < 2:
        one = "".join(f", {label}" for label in labels)
        raise ZooError(f"the target {target} has one class only{one}: there is nothing to predict")
    if len(labels) > MOST_CLASSES or (bins is None and len(labels) > 20 and pd.api.types.is_float_dtype(values)):
        raise ZooError(
            f"the target {target} has {len(labels)} different values, too many for classes: if it is a number, "
            "data.bins=10 makes ten classes of equal size"
        )
    return codes, tuple(labels)


def _encode(frame: "pd.DataFrame", train: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Features, float32 ``(rows, features)``, and of each the column that it is of."""
    import pandas as pd

    features: list[np.ndarray] = []
    groups: list[int] = []
    for number, name in enumerate(frame.columns):
        column = frame[name]
        if pd.api.types.is_datetime64_any_dtype(column):
            column = (column - column.min()).dt.total_seconds()
        if column.isna().iloc[train].all():
            raise ZooError(f"the column {name!r} has no values in the rows for training: leave it out")
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            made = _numbers(column.to_numpy(np.float64, na_value=np.nan), name, train)
        else:
            made = _levels(column, train)
        features += made
        groups += [number] * len(made)
        if len(frame) * len(features) > NUMBERS:
            raise ZooError(f"the table is too large: {NUMBERS} numbers are the most, {LEVELS} for a column of words")
    return np.stack(features, 1), groups


def _numbers(values: np.ndarray, name: str, train: np.ndarray) -> list[np.ndarray]:
    if np.isinf(values).any():
        raise ZooError(f"the column {name!r} has infinite values: replace them, or leave them empty")
    missing = np.isnan(values)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = np.nanmean(values[train]), np.nanstd(values[train])
    if not np.isfinite(mean) or not np.isfinite(deviation):
        raise ZooError(f"the column {name!r} has numbers too large to be standardised: rescale it")
    scaled = np.where(missing, 0.0, (values - mean) / (deviation if deviation > 0 else 1.0))
    return [scaled.clip(-30, 30).astype(np.float32), *([missing.astype(np.float32)] if missing.any() else [])]


def _levels(column: "pd.Series", train: np.ndarray) -> list[np.ndarray]:
    words = column.astype("string").fillna("")
    levels = list(words.iloc[train].value_counts().index[:LEVELS])
    known = [(words == level).to_numpy(np.float32) for level in levels]
    rest = 1.0 - np.sum(known, axis=0)
    return [*known, *([rest] if rest.any() else [])]
