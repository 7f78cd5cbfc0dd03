"""Optimal and good tours by other people's solvers: ``pip install 'discrete-latent-zoo[solvers]'``.

fast-tsp is a local search with a time limit, exact up to 20 points by slow dynamic programming; HiGHS is a
mixed-integer solver that proves its optimum. Lengths are computed from the tours in float64.
"""

from importlib.util import find_spec

import numpy as np

from zoo.errors import ZooError

GRID = 65_000  # fast-tsp takes whole distances up to 65535
EXACT, QUICK = 20, 12  # fast-tsp solves up to 20 points by dynamic programming, up to 12 within a millisecond


def distances(points: np.ndarray) -> np.ndarray:
    """Euclidean distances, float64 ``(n, n)``, of ``(n, 2)``."""
    return np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))


def length(points: np.ndarray, order: np.ndarray) -> float:
    """Of the closed tour ``order`` through ``points``."""
    tour = np.asarray(points, dtype=np.float64)[order]
    return float(np.sqrt(((tour - np.roll(tour, -1, 0)) ** 2).sum(-1)).sum())


def has_fast_tsp() -> bool:
    return find_spec("fast_tsp") is not None


def fast_tour(matrix: np.ndarray, *, seconds: float = 0.01, starts: int = 2) -> np.ndarray:
    """The best tour of several runs of fast-tsp's local search, int64 ``(n,)``.

    Args:
        matrix: distances ``(n, n)``, n >= 3.
        seconds: of each run.
        starts: runs. From 13 to 20 points each run has points twice, others in each, so that there are 21 and the
            local search is used: the dynamic programme takes 50 ms of 20 points.

    Raises:
        ZooError: if fast-tsp is not installed.
    """
    try:
        import fast_tsp
    except ImportError as error:
        raise missing("fast-tsp") from error
    n, tours = len(matrix), []
    # As they are where they are whole and small enough, else on a grid.
    scale = 1.0 if matrix.max() <= GRID and (matrix == np.round(matrix)).all() else GRID / max(1e-300, matrix.max())
    for run in range(starts if n > QUICK else 1):
        again = (run + np.arange(EXACT + 1 - n if QUICK < n <= EXACT else 0)) % n
        index = np.concatenate([np.arange(n), again])
        whole = np.round(matrix[np.ix_(index, index)] * scale).astype(np.int64)
        found = index[fast_tsp.find_tour(whole, duration_seconds=seconds)]
        _, first = np.unique(found, return_index=True)
        tours.append(found[np.sort(first)])
    return min(tours, key=lambda order: matrix[order, np.roll(order, -1)].sum())


def exact_tour(matrix: np.ndarray, *, seconds: float = 60.0) -> np.ndarray:
    """A tour of proven least length by HiGHS, int64 ``(n,)``: degree constraints, and each subtour forbidden as it is
    found (Dantzig, Fulkerson & Johnson 1954).

    Args:
        matrix: distances ``(n, n)``, n >= 3.
        seconds: after which it gives up.

    Raises:
        ZooError: if highspy is not installed, or the time is over.
    """
    try:
        import highspy
    except ImportError as error:
        raise missing("highspy") from error
    n = len(matrix)
    first, second = np.triu_indices(n, 1)
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("time_limit", seconds)
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.setOptionValue("mip_abs_gap", 1e-9)
    edges = np.arange(len(first), dtype=np.int32)
    for cost in matrix[first, second]:
        solver.addCol(float(cost), 0.0, 1.0, 0, [], [])
    for edge in edges:
        solver.changeColIntegrality(int(edge), highspy.HighsVarType.kInteger)
    for point in range(n):
        at = edges[(first == point) | (second == point)]
        solver.addRow(2.0, 2.0, len(at), at, np.ones(len(at)))
    while True:
        solver.run()
        if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            raise ZooError(f"HiGHS found no optimal tour of {n} points in {seconds:g} s")
        used = np.array(solver.getSolution().col_value) > 0.5
        cycles = cycles_of(n, first[used], second[used])
        if len(cycles) == 1:
            return cycles[0]
        for cycle in cycles:
            inside = np.isin(first, cycle) & np.isin(second, cycle)
            solver.addRow(-np.inf, len(cycle) - 1.0, int(inside.sum()), edges[inside], np.ones(inside.sum()))


def cycles_of(n: int, first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
    """The cycles of a graph in which every node has two edges ``(first, second)``."""
    neighbours: list[list[int]] = [[] for _ in range(n)]
    for a, b in zip(first.tolist(), second.tolist()):
        neighbours[a].append(b)
        neighbours[b].append(a)
    left, cycles = set(range(n)), []
    while left:
        cycle = [min(left)]
        left.remove(cycle[0])
        while onward := [node for node in neighbours[cycle[-1]] if node in left]:
            cycle.append(onward[0])
            left.remove(onward[0])
        cycles.append(np.array(cycle))
    return cycles


def missing(package: str) -> ZooError:
    return ZooError(f"this needs the package {package}: pip install 'discrete-latent-zoo[solvers]'")
