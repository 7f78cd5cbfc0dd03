"""Tours to files: ``.tour`` (TSPLIB), ``.csv``, ``.json``, ``.txt``, and pictures."""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import ZooError
from zoo.models.pointer_net.tours.finding import Row
from zoo.models.pointer_net.tours.problem import Problem

PICTURES = (".png", ".pdf", ".svg")
TEXTS = (".tour", ".csv", ".json", ".txt")
OPTIMA = Path(__file__).parent / "tsplib.json"
PANELS = 200  # points up to which every tour has a panel; of more only the shortest is drawn


def known_optimum(problem: Problem) -> float | None:
    """The optimal length of an instance of TSPLIB, from the list of the University of Heidelberg, which keeps TSPLIB.

    It is known by its :func:`digest`: a name, which anyone may give to a file, proves nothing.
    """
    if problem.metric in ("EUCLID", "GREAT_CIRCLE"):  # which TSPLIB does not have
        return None
    own = digest(problem)
    return next((length for length, known in json.loads(OPTIMA.read_text()).values() if known == own), None)


def digest(problem: Problem) -> str:
    """Of the distance and the numbers of the file, 16 hexadecimal digits: what a tour's length depends on."""
    numbers = problem.points if problem.matrix is None else problem.matrix
    assert numbers is not None
    exact = np.ascontiguousarray(numbers + 0.0, dtype="<f8")  # where -0 is 0
    found = hashlib.sha256(problem.metric.encode())
    found.update(exact.data)
    return found.hexdigest()[:16]


def gap(length: float, optimum: float | None) -> float | None:
    """By how many per cent ``length`` exceeds the optimum."""
    return 100 * (length / optimum - 1) if optimum else None


def check_outputs(paths: Sequence[Path], points: Path) -> None:
    """Refuse names of files, before anything is computed, whose endings say nothing, and that of the points."""
    for path in paths:
        if path.exists() and points.exists() and path.samefile(points):
            raise ZooError(f"output={path} is the file of the points: give another name")
        if path.suffix.lower() not in (*PICTURES, *TEXTS):
            raise ZooError(f"output={path}: its ending says what it is to be, one of {', '.join((*TEXTS, *PICTURES))}")
        if path.is_dir():
            raise ZooError(f"cannot write output={path}: it is a folder")


def write(path: Path, problem: Problem, rows: Sequence[Row]) -> None:
    """Write the shortest tour, or draw all."""
    best = min(rows, key=lambda row: row.length)
    suffix = path.suffix.lower()
    if suffix in PICTURES:
        from zoo.training.plots import style

        with style():
            draw(problem, rows).savefig(path)
    else:
        text = {".tour": tour, ".csv": table, ".json": record, ".txt": names}[suffix](problem, best, rows)
        path.write_text(text, encoding="utf-8")


def tour(problem: Problem, best: Row, rows: Sequence[Row]) -> str:
    """TSPLIB's own: nodes by number, those of the file where they have numbers."""
    numbered = all(n.isascii() and n.isdigit() for n in problem.names)
    numbers = problem.names if numbered and len(set(problem.names)) == len(problem.names) else None
    nodes = [numbers[i] if numbers else str(i + 1) for i in best.order.tolist()]
    head = [f"NAME : {problem.name}.tour", f"COMMENT : length {best.length:.12g}, by {best.method}", "TYPE : TOUR"]
    return "\n".join([*head, f"DIMENSION : {len(nodes)}", "TOUR_SECTION", *nodes, "-1", "EOF", ""])


def table(problem: Problem, best: Row, rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    points = problem.points
    writer.writerow(["step", "name", *("xyz"[: points.shape[1]] if points is not None else "")])
    for step, i in enumerate(best.order.tolist(), 1):
        writer.writerow([step, problem.names[i], *(points[i].tolist() if points is not None else [])])
    return text.getvalue()


def record(problem: Problem, best: Row, rows: Sequence[Row]) -> str:
    optimum = known_optimum(problem)
    value: dict[str, Any] = {
        "name": problem.name,
        "points": len(problem),
        "metric": problem.metric,
        "length": best.length,
        "method": best.method,
        "optimum": optimum,
        "gap_percent": gap(best.length, optimum),
        "tour": [problem.names[i] for i in best.order.tolist()],
        "methods": [{"method": row.method, "length": row.length, "cpu_seconds": row.seconds} for row in rows],
    }
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def names(problem: Problem, best: Row, rows: Sequence[Row]) -> str:
    return "".join(f"{problem.names[i]}\n" for i in best.order.tolist())


def title(row: Row, best: Row, optimum: float | None) -> str:
    mark = "★ " if row is best else ""
    over = "" if (excess := gap(row.length, optimum)) is None else f", {excess:.2f}% above optimal"
    return f"{mark}{row.method}: {row.length:.7g}{over}"


def draw(problem: Problem, rows: Sequence[Row]) -> Any:
    """A panel for each tour, the shortest marked; of many points that one alone."""
    import torch

    from zoo.models.pointer_net.plots import tours

    best = min(rows, key=lambda row: row.length)
    optimum = known_optimum(problem)
    drawn = list(rows) if len(problem) <= PANELS else [best]
    points = torch.from_numpy(np.ascontiguousarray(problem.drawn()))
    figure = tours(
        [points] * len(drawn),
        [torch.from_numpy(row.order) for row in drawn],
        [title(row, best, optimum) for row in drawn],
        columns=min(3, len(drawn)),
    )
    made_up = ", places fitted to its matrix" if problem.matrix is not None and problem.display is None else ""
    figure.suptitle(f"{problem.name}, {len(problem):,} points{made_up}".replace("$", r"\$"))
    return figure
