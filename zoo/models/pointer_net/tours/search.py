"""Tours of one problem of any distance and up to tens of thousands of points: constructions and a local search.

The search moves with 2-opt and Or-opt along lists of near neighbours and looks only at points about which something has
changed (Bentley 1992, ORSA Journal on Computing 4); then it exchanges two neighbouring pieces of the tour, mostly
short ones, repairs that, and keeps what is no longer than before, or a little longer: the less, the closer the end
(large-step Markov chains; Martin, Otto & Felten 1991, Complex Systems 5; Johnson & McGeoch 1997, section 5). The
shortest tour is the result. It is compiled where numba is installed (``pip install 'discrete-latent-zoo[solvers]'``)
and a hundred times slower elsewhere.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.models.pointer_net.tours import problem as distances
from zoo.models.pointer_net.tours.problem import Problem

try:
    import numba
except ImportError:
    numba = None

NEAR = 10  # neighbours in a list
QUADRANTS = 10_000  # points up to which those of each quadrant are looked for
PIECE, CHAIN = 100, 50  # points of an exchanged piece, and of one that goes to a near point, at most
LONG = 1_000  # points of an exchanged piece now and then
OFTEN = 4  # one in so many exchanges has long pieces, another one has a near point as its aim
HEAT = 1.0  # mean lengths of an edge by which a tour may be longer than the last one at first, in the mean
LOG = 100_000  # reversals after which a repair is given up
KICKS, MOST = 64, 2_000  # between two looks at the clock, at first and at most; of interpreted code fewer


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` by numba, where that is installed."""
    if numba is None:
        return function
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # nowhere to keep what was compiled
        return numba.njit(function)


# Constructions --------------------------------------------------------------------------------------------------------


def nearest_neighbour(problem: Problem, start: int = 0) -> np.ndarray:
    """From ``start`` always on to the nearest point not yet visited, int64 ``(n,)``."""
    order, visited = np.zeros(len(problem), dtype=np.int64), np.zeros(len(problem), dtype=bool)
    order[0] = start
    for step in range(1, len(problem)):
        visited[order[step - 1]] = True
        order[step] = np.where(visited, np.inf, problem.row(int(order[step - 1]))).argmin()
    return order


def farthest_insertion(problem: Problem, start: int = 0) -> np.ndarray:
    """Insert the point farthest from the tour where it costs least, until none is left (Rosenkrantz et al. 1977)."""
    tour = np.array([start])
    to_tour = problem.row(start).copy()
    to_tour[start] = -np.inf  # on it
    for _ in range(1, len(problem)):
        point = int(to_tour.argmax())
        new, onward = problem.row(point), np.roll(tour, -1)
        after = (new[tour] + new[onward] - problem.between(tour, onward)).argmin()
        tour = np.insert(tour, after + 1, point)
        to_tour = np.minimum(to_tour, new)
        to_tour[tour] = -np.inf
    return tour


def neighbours(problem: Problem, count: int = NEAR) -> np.ndarray:
    """Other points that are near each point, the nearest first, int64 ``(n, at most count)``.

    First the nearest two of each quadrant, where there are coordinates and not too many of them, then the nearest of
    all: lists of the nearest alone end within a cluster, and the search hardly finds its way out.
    """
    n = len(problem)
    count = min(count, n - 1)
    near = np.zeros((n, count), dtype=np.int64)
    places = problem.plane() if n <= QUADRANTS and problem.matrix is None else None
    for i in range(n if count else 0):
        row = problem.row(i).copy()
        row[i] = np.inf
        some = np.argpartition(row, count - 1)[:count]
        if places is not None:
            x, y = (places - places[i]).T
            quadrant = 2 * (x >= 0) + (y >= 0)
            quadrant[i] = -1
            first = np.concatenate([least(row, np.flatnonzero(quadrant == k), 2) for k in range(4)])
            first = least(row, first, count)
            rest = some[~np.isin(some, first)]
            some = np.concatenate([first, least(row, rest, count - len(first))])
        near[i] = some[np.argsort(row[some], kind="stable")]
    return near


def least(row: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Of ``index`` those with the least values in ``row``, at most ``count``."""
    return index[np.argpartition(row[index], count - 1)[:count]] if len(index) > count else index


# The search -----------------------------------------------------------------------------------------------------------


def local_search(
    problem: Problem,
    order: np.ndarray,
    *,
    seconds: float = 1.0,
    kicks: int | None = None,
    seed: int = 0,
    near: np.ndarray | None = None,
) -> np.ndarray:
    """A tour that is no longer than ``order``.

    Args:
        problem: with its distance.
        order: a tour, ``(n,)``.
        seconds: of CPU time after which it ends; the first descent is always finished.
        kicks: exchanges after which it ends, whatever the time: the same result on every machine.
        seed: of the exchanges.
        near: of :func:`neighbours`, where it is known.

    Returns:
        int64 ``(n,)``.
    """
    began, n = time.process_time(), len(problem)
    order = np.array(order, dtype=np.int64)
    if n < 4:
        return order
    near = neighbours(problem) if near is None else near
    position = np.empty(n, dtype=np.int64)
    position[order] = np.arange(n)
    # A queue of the points to look at, whether each is in it, where it begins and how long it is.
    queue, queued, ends = order.copy(), np.ones(n, dtype=np.bool_), np.array([0, n])
    least = 1e-10 * max(problem.length(order) / n, 1e-300)  # below it a gain is a rounding error
    log, random = np.zeros((LOG, 2), dtype=np.int64), np.array([1 + seed % 2_147_483_646])
    fixed = (order, position, near, queue, queued, ends, log, problem.kind, problem.places, problem.table, least)
    while ends[1]:
        descend(*fixed)
    edge = problem.length(order) / n
    best, longer = order.copy(), np.zeros(2)  # than after the descent: this tour, the shortest
    done, some = 0, KICKS if numba is not None else 1

    def share() -> float:
        of, used = (seconds, time.process_time() - began) if kicks is None else (kicks, done)
        return used / of if of > 0 else 1.0

    while (spent := share()) < 1:
        part = some if kicks is None else min(some, kicks - done)
        # By the clock it falls from one look to the next, by kicks each time.
        heat = HEAT * edge * np.array([1 - spent, 1 / kicks if kicks else 0.0])
        perturb(*fixed, random, part, heat, best, longer)
        done += part
        if kicks is None and spent < 0.25:
            some = min(2 * some, MOST)
    return best


def restarted(
    problem: Problem, times: int, *, seconds: float, seed: int = 0, near: np.ndarray | None = None
) -> np.ndarray:
    """The best of ``times`` tours, each searched for from a random one in its share of ``seconds``."""
    near = neighbours(problem) if near is None else near
    random, n = np.random.RandomState(seed % 2**32), len(problem)
    found = [
        local_search(problem, random.permutation(n), seconds=seconds / times, seed=seed + i, near=near)
        for i in range(times)
    ]
    return min(found, key=problem.length)


@compiled
def distance(kind, places, table, i, j):
    if len(table):
        return table[i, j]
    return formula(kind, places[i, 0], places[i, 1], places[i, 2], places[j, 0], places[j, 1], places[j, 2])


formula = compiled(distances.formula)


@compiled
def step(order, position, point, way):
    """The point after ``point`` where ``way`` is 0, before it where it is 1."""
    at = position[point] + 1 - 2 * way
    n = len(order)
    return order[at - n if at >= n else at]  # order[-1] is the last


@compiled
def reverse(order, position, first, last):
    """Reverse the path from position ``first`` on to ``last``, or all the rest, which is the same cycle."""
    n = len(order)
    length = (last - first) % n + 1
    if 2 * length > n:
        first, last, length = (last + 1) % n, (first - 1) % n, n - length
    for _ in range(length // 2):
        a, b = order[first], order[last]
        order[first], order[last] = b, a
        position[b], position[a] = first, last
        first = first + 1 if first + 1 < n else 0
        last = last - 1 if last > 0 else n - 1


@compiled
def exchange(order, position, log, logged, a, b, c, d):
    """Put edges (a, c) and (b, d) in place of (a, b) and (c, d), where b and d follow a and c in the same direction."""
    if step(order, position, a, 0) == b:
        first, last = position[b], position[c]
    else:
        first, last = position[a], position[d]
    reverse(order, position, first, last)
    log[logged, 0], log[logged, 1] = first, last
    return logged + 1


@compiled
def look_at(queue, queued, ends, point):
    if not queued[point]:
        queued[point] = True
        queue[(ends[0] + ends[1]) % len(queue)] = point
        ends[1] += 1


@compiled
def descend(order, position, near, queue, queued, ends, log, kind, places, table, least):
    """Improve about the points in the queue until none of them can be; what was gained, and the reversals logged."""
    gained, logged = 0.0, 0
    while ends[1] and logged + 3 <= len(log):
        a = queue[ends[0]]
        ends[0] = (ends[0] + 1) % len(queue)
        ends[1] -= 1
        queued[a] = False
        while logged + 3 <= len(log):
            gain, logged = improve(
                order, position, near, queue, queued, ends, log, logged, kind, places, table, least, a
            )
            if gain == 0.0:
                break
            gained += gain
    return gained, logged


@compiled
def improve(order, position, near, queue, queued, ends, log, logged, kind, places, table, least, a):
    """The first improving move that gives ``a`` a nearer neighbour: what it gains, 0 for none."""
    for way in range(2):
        b = step(order, position, a, way)
        old = distance(kind, places, table, a, b)
        for k in range(near.shape[1]):
            c = near[a, k]
            closer = old - distance(kind, places, table, a, c)
            if closer <= least:
                break
            d = step(order, position, c, way)  # 2-opt
            gain = closer + distance(kind, places, table, c, d) - distance(kind, places, table, b, d)
            if gain > least:
                logged = exchange(order, position, log, logged, a, b, c, d)
                for point in (a, b, c, d):
                    look_at(queue, queued, ends, point)
                return gain, logged
            e = a  # Or-opt: the piece from a to e, away from b, comes between c and one of its neighbours
            for _ in range(3):
                if e == c:
                    break
                f = step(order, position, e, 1 - way)
                if f == b:
                    break
                out = closer + distance(kind, places, table, e, f) - distance(kind, places, table, b, f)
                for side in range(2):
                    d = step(order, position, c, side)
                    if d in (a, e):
                        continue
                    gain = out + distance(kind, places, table, c, d) - distance(kind, places, table, e, d)
                    if gain <= least:
                        continue
                    if side == way:  # the edge is passed from d to c on the way from a to e and on
                        p, q = d, c
                    else:
                        p, q = c, d
                    logged = exchange(order, position, log, logged, b, a, p, q)
                    logged = exchange(order, position, log, logged, b, p, f, e)
                    if side != way:
                        logged = exchange(order, position, log, logged, p, e, a, q)
                    for point in (a, b, c, d, e, f):
                        look_at(queue, queued, ends, point)
                    return gain, logged
                e = f
    return 0.0, logged


@compiled
def swap_pieces(order, position, first, left, right):
    """Exchange the ``left`` points from position ``first`` on and the ``right`` points after them."""
    n = len(order)
    both = left + right
    kept = np.empty(both, dtype=np.int64)
    for i in range(both):
        kept[i] = order[(first + i) % n]
    for i in range(both):
        point = kept[(i + left) % both]
        order[(first + i) % n] = point
        position[point] = (first + i) % n


@compiled
def relocation(order, position, near, random, first, left, right):
    """The two pieces whose exchange puts a chain of points, from position ``first`` on, behind a point near to its
    first one: where they begin and their lengths. The given ones where that is no move, or one of too many points."""
    n = len(order)
    random[0] = random[0] * 48271 % 2147483647
    chain = 1 + random[0] % min(CHAIN, (n - 1) // 2)
    random[0] = random[0] * 48271 % 2147483647
    aim = position[near[order[first], random[0] % near.shape[1]]]
    between = (aim - first) % n + 1 - chain  # from the chain's end to the aim
    rest = n - chain - between
    if between < 1 or rest < 1 or min(between, rest) > LONG:
        return first, left, right
    if rest < between:  # exchanged with these the chain stands at the same place, and fewer points are moved
        return (first - rest) % n, rest, chain
    return first, chain, between


@compiled
def perturb(
    order, position, near, queue, queued, ends, log, kind, places, table, least, random, kicks, heat, best, longer
):
    """``kicks`` times: exchange two pieces, repair, and undo all of it where the tour became longer by too much: in the
    mean by ``heat[0]``, which falls by ``heat[1]`` each time."""
    n = len(order)
    now = heat[0]
    for _ in range(kicks):
        random[0] = random[0] * 48271 % 2147483647  # Park & Miller 1988
        # Short pieces mend a tour here and there; only long ones change the way that it takes as a whole.
        longest = min(LONG if random[0] // n % OFTEN == 0 else PIECE, (n - 1) // 2)
        first = random[0] % n
        random[0] = random[0] * 48271 % 2147483647
        left = 1 + random[0] % longest
        random[0] = random[0] * 48271 % 2147483647
        right = 1 + random[0] % longest
        random[0] = random[0] * 48271 % 2147483647
        if random[0] // n % OFTEN == 0:
            first, left, right = relocation(order, position, near, random, first, left, right)
        a, b = order[(first - 1) % n], order[first]
        c, d = order[(first + left - 1) % n], order[(first + left) % n]
        e, f = order[(first + left + right - 1) % n], order[(first + left + right) % n]
        change = distance(kind, places, table, a, d) + distance(kind, places, table, e, b)
        change += distance(kind, places, table, c, f) - distance(kind, places, table, a, b)
        change -= distance(kind, places, table, c, d) + distance(kind, places, table, e, f)
        swap_pieces(order, position, first, left, right)
        for point in (a, b, c, d, e, f):
            look_at(queue, queued, ends, point)
        gained, logged = descend(order, position, near, queue, queued, ends, log, kind, places, table, least)
        random[0] = random[0] * 48271 % 2147483647
        if change - gained > least - now * np.log(random[0] / 2147483647.0):
            for i in range(logged - 1, -1, -1):
                reverse(order, position, log[i, 0], log[i, 1])
            swap_pieces(order, position, first, right, left)
        else:
            longer[0] += change - gained
            if longer[0] < longer[1] - least:
                longer[1] = longer[0]
                best[:] = order
        now = max(0.0, now - heat[1])
        while ends[1]:  # what a repair that was given up has left
            ends[1] -= 1
            queued[queue[(ends[0] + ends[1]) % n]] = False
