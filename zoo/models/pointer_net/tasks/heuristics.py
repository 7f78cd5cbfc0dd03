"""Classical constructions of tours, many instances at once: what a learned one has to beat.

Each takes points ``(batch, n, 2)`` and gives orders, int64 ``(batch, n)``.
"""

import torch
from torch import Tensor


def nearest_neighbour(x: Tensor) -> Tensor:
    """From the first point always on to the nearest one not yet visited."""
    batch, n = x.shape[:2]
    rows = torch.arange(batch, device=x.device)
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    order = torch.zeros(batch, n, dtype=torch.int64, device=x.device)
    visited = torch.zeros(batch, n, dtype=torch.bool, device=x.device)
    for step in range(1, n):
        visited[rows, order[:, step - 1]] = True
        order[:, step] = distances[rows, order[:, step - 1]].masked_fill(visited, torch.inf).argmin(1)
    return order


def farthest_insertion(x: Tensor) -> Tensor:
    """From the first point: insert the point farthest from the tour where it costs least, until none is left
    (Rosenkrantz et al. 1977, section 3)."""
    batch, n = x.shape[:2]
    rows = torch.arange(batch, device=x.device)
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    order = torch.zeros(batch, n, dtype=torch.int64, device=x.device)
    to_tour = distances[:, 0].clone()
    to_tour[:, 0] = -1.0  # on it
    for count in range(1, n):
        point = to_tour.argmax(1)
        tour = order[:, :count]
        new = distances[rows, point]  # (batch, n)
        to, onward = new.gather(1, tour), new.gather(1, tour.roll(-1, 1))
        edge = distances[rows.unsqueeze(1), tour, tour.roll(-1, 1)]
        after = (to + onward - edge).argmin(1, keepdim=True)  # position before the new point
        steps = torch.arange(count + 1, device=x.device)
        source = torch.where(steps > after, steps - 1, steps).clamp_max(count - 1)
        order[:, : count + 1] = torch.where(steps == after + 1, point.unsqueeze(1), tour.gather(1, source))
        to_tour = torch.minimum(to_tour, new)
        to_tour[rows, point] = -1.0
    return order
