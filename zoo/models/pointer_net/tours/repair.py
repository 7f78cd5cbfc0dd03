"""Large tours by a network that knows small ones: it solves one neighbourhood of the tour after another anew.

About random centres so many near points are taken as the network was trained on. The tour enters and leaves such a
neighbourhood several times; what it does in between is kept, as an edge that must stay. With these edges the points
make a small tour of their own, which the network builds: where it comes to an end of a fixed edge, its next choice is
the other end. What became shorter takes the place of what was there. So memory grows with n alone. (Compare Kim et al.
2021, arXiv 2110.13987, and Ye et al. 2024, arXiv 2312.08224, who solve pieces of the tour.)
"""

import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from zoo.models.pointer_net.tasks.tsp import unit_square
from zoo.models.pointer_net.tours.problem import Problem

if TYPE_CHECKING:
    from zoo.models.pointer_net.model import PointerNet

AT_ONCE = 64  # neighbourhoods in a batch
REACH = 3  # times as many points are looked at as a neighbourhood has
LEAST = 8  # points that are worth it


def repair(
    model: "PointerNet",
    problem: Problem,
    order: np.ndarray,
    *,
    size: int,
    seconds: float | None = None,
    rounds: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """A tour that is no longer than ``order``.

    Args:
        model: for tours.
        problem: with its distance.
        order: a tour, ``(n,)``.
        size: points of a neighbourhood: as many as the network was trained on.
        seconds: of CPU time after which it ends.
        rounds: after which it ends, whatever the time; in each about every point is looked at once. Say one of both.
        seed: of the centres.

    Returns:
        int64 ``(n,)``.

    Raises:
        ValueError: unless it is said when it ends, once.
    """
    if (seconds is None) == (rounds is None):
        raise ValueError(f"need seconds or rounds, got {seconds} and {rounds}")
    order, n, began = np.array(order, dtype=np.int64), len(problem), time.process_time()
    size = min(size, n - 1)
    if size < LEAST:
        return order
    points = torch.from_numpy(np.ascontiguousarray(problem.plane()))
    random, position = np.random.RandomState(seed % 2**32), np.empty(n, dtype=np.int64)
    least = 1e-9 * problem.length(order) / n  # below it a gain is a rounding error
    batch = max(1, min(n // size, AT_ONCE))
    left = float("inf") if rounds is None else rounds * -(-n // (size * batch))
    promising = np.ones(n, dtype=bool)  # as centres: where something has changed since nothing was found
    while left > 0 and (seconds is None or time.process_time() - began < seconds):
        left -= 1
        position[order] = np.arange(n)
        if not promising.any():  # once more, as another symmetric copy
            promising[:] = True
        centres = random.permutation(np.flatnonzero(promising))[:batch]
        promising[centres] = False
        cycles = neighbourhoods(problem, order, position, centres, size)
        if len(cycles):
            new = resolved(model, problem, points, cycles, fixed(cycles, position, n), random.randint(8))
            gain = length(problem, cycles) - length(problem, new)
            for i in np.flatnonzero(gain > least):
                order = replaced(problem, order, position, cycles[i], new[i])
                promising[cycles[i]] = True
    return order


def neighbourhoods(
    problem: Problem, order: np.ndarray, position: np.ndarray, centres: np.ndarray, size: int
) -> np.ndarray:
    """Of each centre ``size`` near points in the order of the tour, ``(at most centres, size)``, no point twice.

    Each stands beside another one of them in the tour: one that does not has no edge that could change.
    """
    n = len(order)
    free = np.ones(n, dtype=bool)
    found = []
    for centre in centres:
        row = problem.row(int(centre))
        reach = min(REACH * size, n)
        near = np.argpartition(row, reach - 1)[:reach]
        near = near[np.argsort(row[near], kind="stable")]
        near = near[free[near]]
        chosen, count = np.zeros(n, dtype=bool), 0  # by position
        for at in position[near]:
            chosen[at] = True
            before, after = chosen[at - 1], chosen[(at + 1) % n]
            if before or after:  # alone so far is who has no other neighbour
                count += 1
                count += int(before and not chosen[at - 2])
                count += int(after and not chosen[(at + 2) % n])
                if count >= size:
                    break
        chosen &= np.roll(chosen, 1) | np.roll(chosen, -1)
        at = np.flatnonzero(chosen)
        if len(at) > size:  # by one or two: the last ones of longer pieces are left out
            ends = ~np.roll(chosen, -1) & chosen & np.roll(chosen, 1) & np.roll(chosen, 2)
            chosen[np.flatnonzero(ends)[: len(at) - size]] = False
            at = np.flatnonzero(chosen)
        if len(at) != size:
            continue
        cycle = order[at]
        free[cycle] = False
        found.append(cycle)
    return np.array(found, dtype=np.int64)


def fixed(cycles: np.ndarray, position: np.ndarray, n: int) -> np.ndarray:
    """Which edge from a point to the next in ``cycles`` stands for a path outside, boolean of that shape."""
    at = position[cycles]
    return (np.roll(at, -1, 1) - at) % n != 1


def resolved(
    model: "PointerNet", problem: Problem, points: Tensor, cycles: np.ndarray, outside: np.ndarray, symmetry: int
) -> np.ndarray:
    """The network's own cycles through the points of ``cycles`` ``(batch, size)``, which keep the ``outside`` edges.

    Of two: each begins with an outside edge, the one from its first end and the other from its second.
    """
    batch, size = cycles.shape
    index = (np.arange(size) + outside.argmax(1)[:, None]) % size
    ahead, kept = np.take_along_axis(cycles, index, 1), np.take_along_axis(outside, index, 1)
    both = np.concatenate([ahead, np.roll(ahead[:, ::-1], 2, 1)])
    kept = np.concatenate([kept, np.roll(kept[:, ::-1], 1, 1)])  # from a point to the next
    mate = np.full(both.shape, -1, dtype=np.int64)
    rows, here = np.nonzero(kept)
    there = (here + 1) % size
    mate[rows, here], mate[rows, there] = there, here
    copies = model.task.symmetries(unit_square(points[torch.from_numpy(both)]))
    x = copies[symmetry % len(copies)].to(model.device)
    with torch.no_grad():
        found, _ = model.build(x, model.encode(x), Bound(torch.from_numpy(mate).to(x.device)), 1)
    new = np.take_along_axis(both, found[:, 0].cpu().numpy(), 1).reshape(2, batch, size)
    return new[length(problem, new).argmin(0), np.arange(batch)]


class Bound:
    """Greedy choices, but after one end of a fixed edge its other end.

    Args:
        mate: of each element the other end of its edge, -1 for none, int64 ``(batch, n)``.
    """

    def __init__(self, mate: Tensor) -> None:
        self.mate, self.last = mate, torch.zeros_like(mate[:, :1])  # the first element is given

    def __call__(self, logits: Tensor, mask: Tensor) -> Tensor:
        free = logits.masked_fill(~mask, -torch.inf).argmax(-1)
        mate = self.mate.gather(1, self.last)
        open_edge = mask.squeeze(1).gather(1, mate.clamp_min(0)) & (mate >= 0)
        self.last = torch.where(open_edge, mate, free)
        return self.last


def length(problem: Problem, cycles: np.ndarray) -> np.ndarray:
    """Of closed tours ``(..., size)`` through some of the points."""
    return problem.between(cycles, np.roll(cycles, -1, -1)).sum(-1)


def replaced(problem: Problem, order: np.ndarray, position: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """``order`` with the cycle ``new`` of some points in place of ``old``; unchanged if that is not shorter, or other
    paths lead out of these points by now. ``position`` is that in ``order``, and is kept so.
    """
    n = len(order)
    now = old[np.argsort(position[old])]
    if length(problem, new) >= length(problem, now):
        return order
    after = dict(zip(now.tolist(), np.roll(now, -1).tolist()))
    out = set(now[fixed(now[None], position, n)[0]].tolist())  # from which a path leads out
    pieces: list[np.ndarray] = []
    paths = 0
    for a, b in zip(new.tolist(), np.roll(new, -1).tolist()):
        pieces.append(np.array([a]))
        for start, end, way in ((a, b, 1), (b, a, -1)):
            if start in out and after[start] == end:
                between = np.arange(position[start] + 1, position[start] + (position[end] - position[start]) % n)
                pieces.append(order[between % n][::way])
                paths += 1
    if paths != len(out):
        return order
    order = np.concatenate(pieces)
    position[order] = np.arange(n)
    return order
