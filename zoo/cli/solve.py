"""Find a short closed tour through the points of a file, with a trained pointer network and a local search.

    python scripts/solve.py checkpoint=pointer_net.tsp20 points=FILE
    python scripts/solve.py checkpoint=pointer_net.tsp20 points=FILE output=mine.tour,mine.png
    python scripts/solve.py checkpoint=pointer_net.tsp20 points=cities.csv columns=name,lat,lon distance=great_circle

FILE is a TSPLIB file (.tsp, TYPE TSP), whose EDGE_WEIGHT_TYPE is the length that counts, or a table (.csv, .txt ...) of
coordinates; each may be compressed (.gz). The tour printed is the shortest of all that were found; the table says by
what.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from zoo import hub
from zoo.cli.arguments import command
from zoo.cli.options import pretrained, written
from zoo.errors import ZooError, printable
from zoo.hub.format import read_config
from zoo.hub.registry import pretrained_folder

log = logging.getLogger(__name__)
ARCHS = ("pointer_net",)


def solve(
    checkpoint: str,
    points: Path,
    *,
    columns: Sequence[str] = (),
    distance: str | None = None,
    symmetries: Annotated[int, Field(ge=1, le=8)] = 8,
    starts: PositiveInt | None = None,
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0,
    seed: Annotated[int, Field(ge=0)] = 0,
    output: Sequence[Path] = (),
    trust: Sequence[str] = (),
) -> list[str]:
    """Print the shortest tour that was found, and the lengths of all.

    Args:
        checkpoint: a pointer network for tours: a pretrained model, its folder or a run folder.
        points: a TSPLIB file or a table.
        columns: of a table, by heading or number from 1: two coordinates, or the names and two coordinates.
        distance: of a table: euclid, great_circle (degrees, in km), or one of TSPLIB, such as geo.
        symmetries: reflections and rotations that are solved beside the instance, 1 to 8.
        starts: tours of each, at most; by default 100, fewer of more than 100 points.
        seconds: of CPU time for the local search of the network's best tour, or its repair by the network; others
            get what that took in all.
        seed: of the local search.
        output: files by their endings, .tour, .csv, .json, .txt for the tour, .png, .pdf, .svg for a picture.
        trust: packages whose classes it may name beside those of this project, such as mypkg: their code runs.

    Returns:
        the names of the points in the order of the tour.

    Raises:
        ZooError: if the file cannot be read, its points have no tour, or the checkpoint is of another task.
    """
    from zoo.models.pointer_net.tours.reading import read
    from zoo.models.pointer_net.tours.writing import check_outputs, gap, known_optimum, write

    check_outputs(output, points)
    problem = read(points, columns=columns, distance=distance)

    from zoo.models.pointer_net import TSP, PointerNet
    from zoo.models.pointer_net.tours.finding import FAR, find, trained_sizes

    saved = hub.read(checkpoint, trust, ARCHS)
    model = saved.build()
    if not isinstance(model, PointerNet) or not isinstance(model.task, TSP) or not model.task.cyclic:
        raise ZooError(f"{checkpoint} is not a pointer network for tours, such as pointer_net.tsp20")
    n = len(problem)
    sizes = trained_sizes(saved.data)
    if sizes and not sizes[0] / FAR <= n <= sizes[-1] * FAR:
        points_of = " to ".join(map(str, sizes))
        log.warning("%s was trained on %s points; its tours of %d in one go may be poor", checkpoint, points_of, n)
    size = sizes[-1] if sizes else 20
    rows = find(model, problem, seconds=seconds, symmetries=symmetries, starts=starts, size=size, seed=seed)
    best = min(rows, key=lambda row: row.length)
    optimum = known_optimum(problem)
    tour = [problem.names[i] for i in best.order.tolist()]
    print(printable((", " if any(" " in name for name in tour) else " ").join(tour)))
    print(printable(f"{problem.name}, {n} points, {problem.metric}") + (f", optimum {optimum}" if optimum else ""))
    for row in rows:
        over = "" if (excess := gap(row.length, optimum)) is None else f"{excess:9.3f}% above optimal"
        print(f"{'*' if row is best else ' '} {row.method:<34}{row.length:14.10g}{row.seconds:9.2f} CPU-s{over}")
    for path in output:
        with written(path) as place:
            write(place, problem, rows)
        print(path)
    return tour


def of_tours(name: str) -> bool:
    """Whether the shipped model ``name`` is one for closed tours."""
    task = read_config(pretrained_folder(name))["arguments"]["task"]
    return task["_target_"].rpartition(".")[2] == "TSP"


main = command(solve, text=str(__doc__), notes=lambda: pretrained(*ARCHS, fits=of_tours))
