"""Every run is a row of a CSV file, one file a regime."""

import csv
import json
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from zoo.errors import ZooError
from zoo.files import atomic


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        task, estimator: what was run.
        phase: ``search``; ``final``, the winner with fresh seeds; ``cpu``, the same at equal CPU time; ``again``, the
            same with other seeds.
        rung: of the search.
        setting: number of the setting in the search.
        seed: of the data, the start and the noise.
        settings: JSON: the values that were searched.
        runs: program runs in training, in all.
        steps: of the optimiser.
        valid: the score that settings are chosen by; lower is better.
        test: the same on data for the test.
        scores: JSON: what else was measured.
        seconds: CPU time; of seeds that train side by side each one's share.
        code: fingerprint of the code and the settings of the task.
        versions: of the zoo, PyTorch and Python.
    """

    task: str
    estimator: str
    phase: str
    rung: int
    setting: int
    seed: int
    settings: str
    runs: int
    steps: int
    valid: float
    test: float
    scores: str
    seconds: float
    code: str
    versions: str

    @property
    def key(self) -> tuple[str, str, str, int, int, int]:
        """What tells a run from others."""
        return self.task, self.estimator, self.phase, self.rung, self.setting, self.seed

    def score(self, name: str) -> float:
        """``valid``, ``test``, or one of :attr:`scores`."""
        return float(getattr(self, name)) if name in ("valid", "test") else float(json.loads(self.scores)[name])


NAMES = [field.name for field in fields(Row)]
TYPES = get_type_hints(Row)


def read(path: Path) -> list[Row]:
    """The rows of a file, none if there is no file. A line that was cut off while it was written is left out.

    Raises:
        ZooError: if it is not a file of rows.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        if (header := next(lines, None)) != NAMES:
            raise ZooError(f"{path} is not a file of results: its columns are {header}, not {NAMES}")
        rows = []
        for line in lines:
            try:
                rows.append(Row(**{name: TYPES[name](text) for name, text in zip(NAMES, line, strict=True)}))
            except ValueError:
                continue
    return rows


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write a whole file in place of the one that is there, in the order of the keys."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(NAMES)
        writer.writerows(line(row) for row in sorted(rows, key=lambda row: row.key))


def append(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a file that may not exist."""
    if not path.exists():
        write(path, rows)
        return
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(line(row) for row in rows)


def line(row: Row) -> list[Any]:
    return [f"{value:.6g}" if isinstance(value, float) else value for value in asdict(row).values()]


def dumped(values: dict[str, Any]) -> str:
    """``values`` as JSON, floats to six digits."""
    return json.dumps({name: float(f"{v:.6g}") if isinstance(v, float) else v for name, v in values.items()})


def versions() -> str:
    import torch

    zoo = sys.modules["zoo"].__version__
    return f"zoo {zoo}, torch {torch.__version__.split('+')[0]}, python {platform.python_version()}"
