"""Tours of the instances of TSPLIB by the network, a local search and classical methods, with equal CPU seconds.

    python scripts/tsplib.py instances=FOLDER
    python scripts/tsplib.py instances=FOLDER checkpoint=pointer_net.tsp20 seconds=1 largest=1002

FOLDER holds the .tsp files of TSPLIB (Reinelt 1991, University of Heidelberg), which are not part of this project.
Lengths are TSPLIB's own, gaps to the optima that it lists. On each instance every method that searches has as many CPU
seconds as the network with its search. What this version has done is not done again. Writes ``tsplib.md``,
``tsplib.json``.
"""

import json
import statistics
import sys
from pathlib import Path

from pydantic import PositiveFloat, PositiveInt

from zoo import hub
from zoo.errors import ZooError
from zoo.lab.common import one_thread
from zoo.models.pointer_net import TSP, PointerNet
from zoo.models.pointer_net.tours.finding import find, trained_sizes
from zoo.models.pointer_net.tours.reading import read
from zoo.models.pointer_net.tours.writing import gap, known_optimum

OURS, THEIRS = "network + local search", "farthest insertion + local search"
SMALL = 200


def experiment(
    *,
    instances: Path,
    checkpoint: str = "pointer_net.tsp20",
    seconds: PositiveFloat = 1.0,
    largest: PositiveInt = 1002,
    folder: Path = Path("runs/tsplib"),
) -> str:
    """Solve what is not solved yet, and write the table.

    Args:
        instances: folder of TSPLIB's files.
        checkpoint: a pointer network for tours.
        seconds: of CPU time for the search of the network's tour.
        largest: number of points of an instance.
        folder: of the results.

    Returns:
        the table.
    """
    saved = hub.read(checkpoint)
    model = saved.build()
    if not isinstance(model, PointerNet) or not isinstance(model.task, TSP):
        raise ZooError(f"{checkpoint} is not a pointer network for tours")
    size = (trained_sizes(saved.data) or [20])[-1]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tsplib.json"
    done = json.loads(path.read_text()) if path.is_file() else {}
    version = sys.modules["zoo"].__version__
    how = f"{checkpoint}, {seconds:g} s, version {version}"  # others search otherwise
    for file in sorted(instances.glob("*.tsp*"), key=lambda file: file.stat().st_size):
        try:
            problem = read(file)
        except ZooError as error:  # such as a fixed edge
            print(error)
            continue
        key = f"{problem.name}, {how}"
        if len(problem) > largest or (optimum := known_optimum(problem)) is None or key in done:
            continue
        with one_thread():
            rows = find(model, problem, seconds=seconds, size=size, restarts=True)
        gaps = {row.method: gap(row.length, optimum) for row in rows}
        done[key] = {"points": len(problem), "gaps": gaps, "seconds": {row.method: row.seconds for row in rows}}
        path.write_text(json.dumps(done, indent=1) + "\n")
        print(f"{problem.name} {gaps}", flush=True)
    chosen = [value for key, value in done.items() if key.endswith(f", {how}")]
    chosen = [value for value in chosen if value["points"] <= largest]
    if not chosen:
        raise ZooError(f"instances={instances} holds no instance of TSPLIB of at most {largest} points")
    text = table(chosen)
    (folder / "tsplib.md").write_text(text)
    print(text)
    return text


def table(results: list[dict]) -> str:
    """Mean gaps by size, and how often the network is no worse than farthest insertion with the same search."""
    small = [r for r in results if r["points"] <= SMALL]
    lines = [
        f"| method | up to {SMALL} points ({len(small)}) | all ({len(results)}) | optimal | CPU-s |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for method in dict.fromkeys(name for result in results for name in result["gaps"]):
        has = [r for r in results if method in r["gaps"]]
        gaps = [r["gaps"][method] for r in has]
        few = [r["gaps"][method] for r in has if r["points"] <= SMALL]
        lines.append(
            f"| {method} | {f'{statistics.mean(few):.3f}%' if few else ''} | {statistics.mean(gaps):.3f}% "
            f"| {sum(g < 1e-9 for g in gaps)} | {statistics.mean(r['seconds'][method] for r in has):.2f} |"
        )
    both = [(r["gaps"][OURS], r["gaps"][THEIRS]) for r in results if OURS in r["gaps"]]
    share = sum(a <= b + 1e-9 for a, b in both) / max(1, len(both))
    return "\n".join([*lines, "", f"{OURS} is no longer than {THEIRS} on {share:.0%} of {len(both)}.", ""])
