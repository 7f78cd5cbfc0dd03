"""Find a short closed tour through the points of a file, with a trained pointer network.

    python scripts/solve.py checkpoint=pointer_net.tsp20 points=FILE
    python scripts/solve.py checkpoint=pointer_net.tsp20 points=FILE polish=200 output=mine.png

FILE is a CSV file with two columns of coordinates, or a TSPLIB file (.tsp) with two-dimensional coordinates. Points are
numbered from 1 in the order of the file, in TSPLIB files as they are there.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from zoo import hub
from zoo.cli.arguments import command
from zoo.cli.options import pretrained, written
from zoo.errors import ZooError

LARGEST, LINES, LINE = 10_000_000, 100_000, 1000  # bytes of a file of points, lines, and characters of one
PLANAR = ("EUC_2D", "CEIL_2D", "MAN_2D", "MAX_2D", "ATT")  # whose coordinates are points of a plane


def solve(
    checkpoint: str,
    points: Path,
    *,
    symmetries: Annotated[int, Field(ge=1, le=8)] = 8,
    starts: PositiveInt = 100,
    polish: NonNegativeInt = 0,
    output: Path = Path("tour.png"),
    trust: Sequence[str] = (),
) -> list[str]:
    """Print a tour and its length, and draw it.

    Args:
        checkpoint: a pointer network for tours: a pretrained model, its folder or a run folder.
        points: a CSV or TSPLIB file.
        symmetries: reflections and rotations that are solved beside the instance, 1 to 8.
        starts: tours of each, at most.
        polish: rounds of local search on the best tour.
        output: the picture; beside the tour a local search's and two heuristics'.
        trust: packages whose classes it may name beside those of this project, such as mypkg: their code runs.

    Returns:
        the names of the points in the order of the tour.

    Raises:
        ZooError: if the file cannot be read, its points have no tour, or the checkpoint is of another task.
    """
    names, coordinates = read_points(points)

    import torch

    from zoo.models.pointer_net import TSP, PointerNet
    from zoo.models.pointer_net.plots import tours
    from zoo.models.pointer_net.solvers import length
    from zoo.models.pointer_net.tasks.heuristics import farthest_insertion, nearest_neighbour

    model = hub.from_pretrained(checkpoint, trust=trust)
    if not isinstance(model, PointerNet) or not isinstance(model.task, TSP):
        raise ZooError(f"{checkpoint} is not a pointer network for tours")
    extent = np.ptp(coordinates, axis=0).max()
    unit = (coordinates - coordinates.min(0)) / (extent or 1.0)  # into the square of the training instances
    x = torch.from_numpy(unit).float().unsqueeze(0)
    model.task.check(x)
    model.eval_starts = starts
    order, _ = model.augmented(x, symmetries)
    if polish:
        order = model.task.improve(x, order, polish)
    found = {
        "network": order,
        "network + local search": model.task.improve(x, order, max(200, len(names))) if len(names) <= 500 else order,
        "nearest neighbour": nearest_neighbour(x),
        "farthest insertion": farthest_insertion(x),
    }
    lengths = {name: length(coordinates, tour[0].numpy()) for name, tour in found.items()}
    tour = [names[i] for i in order[0].tolist()]
    print(" ".join(tour))
    for name, value in lengths.items():
        print(f"{name:<24}{value:12.6g}")
    titles = [f"{name}: {value:.6g}" for name, value in lengths.items()]
    figure = tours([x[0]] * 4, [t[0] for t in found.values()], titles, columns=2)
    with written(output) as path:
        figure.savefig(path, dpi=120)
    print(output)
    return tour


def read_points(path: Path) -> tuple[list[str], np.ndarray]:
    """The names and coordinates, float64 ``(n, 2)``, of the points in a CSV or TSPLIB file.

    Raises:
        ZooError: if it cannot be read, a line is malformed, a number is not finite, or it has fewer than two points.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ZooError(f"points={path} is too large: {LARGEST} bytes are the most")
        text = path.read_text(encoding="utf-8-sig")
    except ZooError:
        raise
    except (OSError, ValueError) as error:
        raise ZooError(f"cannot read points={path}: {error}") from error
    lines = text.splitlines()
    if len(lines) > LINES or max(map(len, lines), default=0) > LINE:
        raise ZooError(f"points={path} is no file of points: {LINES} lines of {LINE} characters are the most")
    rows = parse_tsplib(path, text) if path.suffix.lower() == ".tsp" else parse_csv(path, text)
    if len(rows) < 2:
        raise ZooError(f"{path} has {len(rows)} point{'s' * (len(rows) != 1)}; a tour needs at least 2")
    names, points = zip(*rows)
    return list(names), np.array(points, dtype=np.float64)


def parse_csv(path: Path, text: str) -> list[tuple[str, tuple[float, float]]]:
    """Two columns, separated by comma, semicolon, tab or blanks; a first line without numbers is a heading."""
    rows: list[tuple[str, tuple[float, float]]] = []
    headed = False
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        separator = next((s for s in ",;\t" if s in line), None)
        fields = next(csv.reader([line], delimiter=separator)) if separator else line.split()
        if not rows and not headed and not any(is_number(field) for field in fields):
            headed = True
            continue
        if len(fields) != 2:
            raise ZooError(
                f"{path}, line {number}: expected two coordinates, found {len(fields)} fields: {line[:200]!r}"
            )
        rows.append((str(len(rows) + 1), (coordinate(path, number, fields[0]), coordinate(path, number, fields[1]))))
    return rows


def parse_tsplib(path: Path, text: str) -> list[tuple[str, tuple[float, float]]]:
    """The NODE_COORD_SECTION of a symmetric TSPLIB file (Reinelt 1995)."""
    header: dict[str, str] = {}
    rows: list[tuple[str, tuple[float, float]]] = []
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if words[0] == "EOF":
            break
        if inside and not is_number(words[0]):
            inside = False
        if inside:
            if len(words) != 3:
                raise ZooError(f"{path}, line {number}: expected a number and two coordinates: {line!r}")
            rows.append((words[0], (coordinate(path, number, words[1]), coordinate(path, number, words[2]))))
        elif words[0].rstrip(":") == "NODE_COORD_SECTION":
            inside = True
        elif ":" in line:
            key, _, value = line.partition(":")
            header[key.strip().upper()] = value.strip()
    kind = (header.get("TYPE") or "TSP").split()[0].upper()
    weights = header.get("EDGE_WEIGHT_TYPE", "EUC_2D").upper()
    if kind != "TSP":
        raise ZooError(f"{path} is of TYPE {kind}; only TSP, the symmetric problem, can be solved")
    if weights not in PLANAR or not rows:
        raise ZooError(
            f"{path} has EDGE_WEIGHT_TYPE {weights} and {len(rows)} coordinates: "
            f"it needs a NODE_COORD_SECTION with points of the plane ({', '.join(PLANAR)})"
        )
    if "DIMENSION" in header and header["DIMENSION"] != str(len(rows)):
        raise ZooError(f"{path} says DIMENSION {header['DIMENSION']} but has {len(rows)} points: is it truncated?")
    return rows


def coordinate(path: Path, number: int, field: str) -> float:
    if not is_number(field):
        raise ZooError(f"{path}, line {number}: {field.strip()!r} is no number")
    value = float(field)
    if not math.isfinite(value):
        raise ZooError(f"{path}, line {number}: a coordinate must be finite, got {field.strip()}")
    return value


def is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


main = command(solve, text=str(__doc__), notes=lambda: pretrained("pointer_net.*"))
