"""Tours of one problem by the network, by a local search of what it found, and by classical methods beside them."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zoo.models.pointer_net import solvers
from zoo.models.pointer_net.model import WHOLE
from zoo.models.pointer_net.nets import AT_ONCE
from zoo.models.pointer_net.tasks.tsp import unit_square
from zoo.models.pointer_net.tours import repair, search
from zoo.models.pointer_net.tours.problem import Problem

if TYPE_CHECKING:
    from zoo.models.pointer_net.model import PointerNet

log = logging.getLogger(__name__)
LARGE = 500
IN_ONE_GO = 5_000  # points at most that the network orders without parts
DENSE = 20  # times as many points as the network was trained on, from which it is told distances otherwise
APART = 1.1  # over the root of their number: the mean distance of points of the unit square to their five nearest
SEEN = 30  # points that each sees then
MANY = 100  # tours of each symmetric copy of at most so many points; of more points fewer
SLOW = 2_000  # points from which the local search should be compiled
FAR = 2.5  # times as many points as the network was trained on
PIECE = 50  # points that it solves anew at most
SHARE = 0.25  # of the free memory that the network may take: other programs run, too
FAST_TSP = 5_000  # points at most: it takes a whole matrix


@dataclass
class Row:
    """A tour: how it was found, its length, in how many CPU-seconds."""

    method: str
    order: np.ndarray
    length: float
    seconds: float


def find(
    model: "PointerNet",
    problem: Problem,
    *,
    seconds: float,
    symmetries: int = 8,
    starts: int | None = None,
    size: int = 20,
    seed: int = 0,
    restarts: bool = False,
) -> list[Row]:
    """Tours by one method after another. Those that search have as many CPU-seconds in all as the network with its
    search.

    Args:
        model: for tours.
        problem: of at least two points.
        seconds: of CPU time for the local search of the network's best tour.
        symmetries: copies that the network solves, 1 to 8; of more than :data:`LARGE` points one.
        starts: its tours of each; by default :data:`MANY`, fewer of more points.
        size: points that the network was trained on: of many more it repairs its tour, or a shorter one.
        seed: of the searches.
        restarts: whether the search alone and its restarts have rows of their own.
    """
    n = len(problem)
    if n > SLOW and search.numba is None:
        log.warning("%d points: without numba (pip install 'discrete-latent-zoo[solvers]') their search is slow", n)
    rows: list[Row] = []

    def add(method: str, run: Callable[[], np.ndarray], before: float = 0.0) -> Row:
        began = time.process_time()
        order = run()
        rows.append(Row(method, order, problem.length(order), before + time.process_time() - began))
        return rows[-1]

    near = search.neighbours(problem)
    if search.numba is not None:  # compiled before it is timed
        search.local_search(problem, np.arange(n), kicks=1, near=near)
    total = seconds

    def polished(row: Row, name: str) -> Row:
        left = max(0.0, total - row.seconds)
        return add(
            name, lambda: search.local_search(problem, row.order, seconds=left, seed=seed, near=near), row.seconds
        )

    network = None
    if fits(model, n):
        network = add("network", lambda: network_tour(model, problem, symmetries, starts, size))
        total = network.seconds + seconds
        polished(network, "network + local search")
    nearest = add("nearest neighbour", lambda: search.nearest_neighbour(problem))
    inserted = add("farthest insertion", lambda: search.farthest_insertion(problem))
    polished(inserted, "farthest insertion + local search")
    if n > FAR * size and seconds:
        start = min((row for row in (network, inserted) if row), key=lambda row: row.length)
        left = max(0.0, total - start.seconds)
        add(
            f"{start.method}, repaired by network",
            lambda: repair.repair(model, problem, start.order, size=min(size, PIECE), seconds=left, seed=seed),
            start.seconds,
        )
    if restarts:
        polished(nearest, "local search")
        add("local search, ten restarts", lambda: search.restarted(problem, 10, seconds=total, seed=seed, near=near))
    if 3 <= n <= FAST_TSP and solvers.has_fast_tsp():
        matrix = np.stack([problem.row(i) for i in range(n)])
        add("fast-tsp", lambda: solvers.fast_tour(matrix, seconds=max(total, 0.01), starts=1))
    return rows


def trained_sizes(data: dict[str, Any] | None) -> list[int]:
    """The size or the range of sizes of the training instances ``data``; empty if it is not known."""
    size = (data or {}).get("size")
    return [size] if isinstance(size, int) else list(size or [])


def network_tour(model: "PointerNet", problem: Problem, symmetries: int, starts: int | None, size: int) -> np.ndarray:
    """The network's best tour of symmetric copies and from different starts, by the length that the file defines."""
    x = unit_square(torch.from_numpy(np.ascontiguousarray(problem.plane())).unsqueeze(0))
    number = starts or max(1, MANY**3 // max(MANY, len(problem)) ** 2)
    copies = model.task.symmetries(x)[: symmetries if len(problem) <= LARGE else 1]
    with seen_as_few(model, len(problem), size):
        found = np.concatenate([model.greedy(copy, number)[0][0].numpy() for copy in copies])
    lengths = problem.between(found, np.roll(found, -1, 1)).sum(1)
    return found[lengths.argmin()]


@contextmanager
def seen_as_few(model: "PointerNet", n: int, size: int) -> Iterator[None]:
    """Where there are very many more points than in training, the network is told distances as they are there, and an
    element sees no more than it did: tours are 10 to 18% shorter, without any training.

    A network that was trained to generalise by itself is left as it is.
    """
    encoder: Any = model.encoder
    if n < DENSE * size or model.neighbourhood is not None or getattr(encoder, "neighbours", 0) is not None:
        yield
        return
    model.neighbourhood, encoder.neighbours = APART / size**0.5, SEEN
    try:
        yield
    finally:
        model.neighbourhood, encoder.neighbours = None, None


def fits(model: "PointerNet", n: int) -> bool:
    """Whether the network orders ``n`` points in one go, and they fit into a part of the free memory, after saying how
    much they take where that is much."""
    if n > IN_ONE_GO:
        log.info("more than %d points: the network only repairs a tour, in parts", IN_ONE_GO)
        return False
    heads = model.decoder.heads + max([1, *(layer.heads for layer in getattr(model.encoder, "layers", []))])
    at_once = n * n if n <= WHOLE else min(n * n, AT_ONCE)  # distances
    needed, free = 4 * (at_once * (2 * heads + 3) + 40 * n * model.decoder.width), free_memory()
    if needed > SHARE * free:
        log.warning(
            "the network takes %.1f GB for %d points, more than a %s of the %.1f GB that are free: it is left out",
            *(needed / 1e9, n, "quarter", free / 1e9),
        )
    elif needed > 1e9:
        log.warning("the network takes %.1f GB for %d points", needed / 1e9, n)
    return needed <= SHARE * free


def free_memory() -> float:
    """Bytes that can be had, by Linux; elsewhere 4 GB are taken for granted."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 4e9
