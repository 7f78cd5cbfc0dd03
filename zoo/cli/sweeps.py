"""Several jobs by one command: what their folders are called, and the table that compares them."""

import csv
import json
import logging
import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zoo.config import from_config
from zoo.config.jobs import swept_in
from zoo.errors import ZooError
from zoo.files import atomic

log = logging.getLogger(__name__)

RECORDS = ".jobs"
"""In the folder of a sweep: a file for each job, which may have run on another machine."""
TABLE = "comparison.csv"


@dataclass
class Job:
    """How a job ended.

    Attributes:
        folder: of its run.
        options: that differ from job to job, by name.
        scores: of a job that is complete: the best validation score first.
        error: why it failed; empty if it did not.
    """

    folder: str
    options: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def name(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return options or Path(self.folder).name or "that did not begin"


def record(folder: Path, number: int, run: Path, overrides: Sequence[str], work: Callable[[], float]) -> float:
    """Do the ``work`` of a job and write down how it ended. One that fails does not stop the others.

    Args:
        folder: of the sweep.
        number: of the job.
        run: the folder of its run.
        overrides: of the job.
        work: returns the score, lower is better.

    Returns:
        The score; infinity of a job that failed.
    """
    job, score = Job(str(run), swept_in(overrides)), math.inf
    try:
        score = work()
        job.scores = {"best": score, **scores_of(run)}
    except Exception as error:  # not that it was told to stop: the others are not started then
        if not isinstance(error, ZooError):
            traceback.print_exc()
        job.error = f"{'' if isinstance(error, ZooError) else type(error).__name__ + ': '}{error}"
        log.error("error: the job %s failed: %s", job.name, job.error)
        job.folder = job.folder if run.exists() else ""  # it did not begin
    with atomic(folder / RECORDS / f"{number}.json") as temporary:
        temporary.write_text(json.dumps(asdict(job)), encoding="utf-8")
    return score


def scores_of(run: Path) -> dict[str, float]:
    """The scores of the test, and how long it took."""
    from zoo.training.runs import RunFolder

    results = RunFolder(run).read_results()
    numbers = {name.removeprefix("test/"): value for name, value in results["metrics"].items()}
    return numbers | {name: results[name] for name in ("steps", "seconds") if name in results}


def finish(folder: Path, since: float, loggers: dict[str, Any] | None = None) -> str:
    """Write the table that compares the jobs of a sweep, and return it as text; the best first, failed ones last.

    Args:
        folder: of the sweep.
        since: time of its beginning, before which records are those of an earlier one.
        loggers: configurations of the jobs' loggers; one that has a ``show_table``, such as W&B, shows it, too.

    Raises:
        ZooError: if a job failed, naming it; the table is written, and a part of the message.
    """
    paths = [path for path in (folder / RECORDS).glob("*.json") if path.stat().st_mtime >= since]
    jobs = [Job(**json.loads(path.read_text(encoding="utf-8"))) for path in sorted(paths, key=lambda p: int(p.stem))]
    jobs.sort(key=lambda job: (bool(job.error), job.scores.get("best", math.inf)))
    options = list(dict.fromkeys(name for job in jobs for name in job.options))
    scores = list(dict.fromkeys(name for job in jobs for name in job.scores))
    header = [*options, *scores, "folder", "error"]
    rows: list[list[Any]] = [
        [
            *(job.options.get(name, "") for name in options),
            *(job.scores.get(name, "") for name in scores),
            job.folder,
            job.error,
        ]
        for job in jobs
    ]
    with atomic(folder / TABLE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    for name, config in (loggers or {}).items():
        if config and hasattr(settings := from_config(config, where=f"logger.{name}"), "show_table"):
            settings.show_table(folder, header, rows)
    text = table([header[:-1], *(row[:-1] for row in rows)]) + f"\nTable       {folder / TABLE}"
    if failed := [job for job in jobs if job.error]:
        lines = "".join(f"\n  - {job.name}: {job.error}" for job in failed)
        raise ZooError(f"{len(failed)} of {len(jobs)} jobs failed:{lines}\n\n{text}")
    return text


def table(rows: list[list[Any]]) -> str:
    """``rows`` in columns, the first a heading."""
    cells = [[f"{cell:.5g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells)
