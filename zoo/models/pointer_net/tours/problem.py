"""Points or a matrix with the distance that their file defines: what a tour of them is long."""

from dataclasses import dataclass, field

import numpy as np

from zoo.errors import ZooError

EUCLID, EUC_2D, CEIL_2D, FLOOR_2D, MAN_2D, MAX_2D, ATT, GEO, GREAT_CIRCLE, EXPLICIT = range(10)
METRICS = {
    "EUCLID": EUCLID,
    "EUC_2D": EUC_2D,
    "EUC_3D": EUC_2D,
    "CEIL_2D": CEIL_2D,
    "FLOOR_2D": FLOOR_2D,
    "MAN_2D": MAN_2D,
    "MAN_3D": MAN_2D,
    "MAX_2D": MAX_2D,
    "MAX_3D": MAX_2D,
    "ATT": ATT,
    "GEO": GEO,
    "GREAT_CIRCLE": GREAT_CIRCLE,
    "EXPLICIT": EXPLICIT,
}
"""TSPLIB's names of distances (Reinelt 1995, section 2), two of our own, and the formula of each.

``EUCLID`` is not rounded; ``GREAT_CIRCLE`` is of latitudes and longitudes in degrees, in kilometres, not rounded.
"""
PI, RADIUS = 3.141592, 6378.388  # of TSPLIB's GEO, both
EARTH = 6371.0088  # km, the mean radius
SMALLEST = 1e-140  # extent whose parts can still be squared
AT_ONCE = 2_500  # points whose distances are all kept: 50 MB


def formula(kind, ax, ay, az, bx, by, bz):
    """Distance of a and b by ``kind``: of numbers, compiled where numba is installed, and of arrays, by NumPy."""
    if kind == GEO:
        near = 0.5 * ((1 + np.cos(ay - by)) * np.cos(ax - bx) - (1 - np.cos(ay - by)) * np.cos(ax + bx))
        return np.floor(RADIUS * np.arccos(np.minimum(1.0, np.maximum(-1.0, near))) + 1.0)
    if kind == GREAT_CIRCLE:
        half = np.sin((ax - bx) / 2) ** 2 + np.cos(ax) * np.cos(bx) * np.sin((ay - by) / 2) ** 2
        return 2 * EARTH * np.arcsin(np.sqrt(np.minimum(1.0, half)))
    dx, dy, dz = np.abs(ax - bx), np.abs(ay - by), np.abs(az - bz)
    if kind == MAN_2D:
        return np.floor(dx + dy + dz + 0.5)
    if kind == MAX_2D:
        return np.floor(np.maximum(np.maximum(dx, dy), dz) + 0.5)
    square = dx * dx + dy * dy + dz * dz
    if kind == EUC_2D:
        return np.floor(np.sqrt(square) + 0.5)
    if kind == CEIL_2D:
        return np.ceil(np.sqrt(square))
    if kind == FLOOR_2D:
        return np.floor(np.sqrt(square))
    if kind == ATT:
        return np.ceil(np.sqrt(square / 10.0))  # that is the next whole number where rounding has shortened it
    return np.sqrt(square)


@dataclass
class Problem:
    """A symmetric travelling salesman problem.

    Attributes:
        name: of the instance.
        names: of its points.
        metric: one of :data:`METRICS`.
        points: float64 ``(n, 2 or 3)``, as in the file; None where there is only a matrix. With GEO and GREAT_CIRCLE
            latitude and longitude.
        matrix: float64 ``(n, n)`` where the metric is EXPLICIT.
        display: coordinates to draw it by, ``(n, 2)``, where there are others than ``points``.

    Raises:
        ZooError: if a distance would not be a finite number.
    """

    name: str
    names: list[str]
    metric: str
    points: np.ndarray | None = None
    matrix: np.ndarray | None = None
    display: np.ndarray | None = None
    kind: int = field(init=False)
    places: np.ndarray = field(init=False, repr=False)
    table: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.kind, n = METRICS[self.metric], len(self.names)
        self.places = np.zeros((n, 3))  # what the formula takes
        if self.points is not None and self.kind != EXPLICIT:
            self.places[:, : self.points.shape[1]] = self.points
            if self.kind == GEO:  # whole degrees and minutes: 50.42 is 50 degrees 42 minutes
                degrees = np.trunc(self.points)
                self.places[:, :2] = PI * (degrees + 5 * (self.points - degrees) / 3) / 180
            elif self.kind == GREAT_CIRCLE:
                self.places[:, :2] = np.radians(self.points)
        if (
            self.kind in (GEO, GREAT_CIRCLE)
            and (np.abs(self.places[:, :2]).max(0) > (np.pi / 2 + 1e-4, 2 * np.pi)).any()
        ):
            raise ZooError(f"{self.name}: latitudes are within -90 and 90 degrees, longitudes within -360 and 360")
        self.table = np.zeros((0, 0))
        if self.matrix is not None:
            self.table = np.ascontiguousarray(self.matrix, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            corners = self.places.min(0), self.places.max(0)
            widest = (
                self.table.max(initial=0) if self.matrix is not None else formula(self.kind, *corners[0], *corners[1])
            )
            if not np.isfinite(widest * n):
                raise ZooError(f"{self.name}: its distances are too large to be added up; give it in another unit")
            if self.kind == EUCLID and widest < SMALLEST and (corners[0] != corners[1]).any():
                raise ZooError(f"{self.name}: its distances are too small to be squared; give it in another unit")
        if self.matrix is None and n <= AT_ONCE:
            self.table = np.stack([self.row(i) for i in range(n)])

    def __len__(self) -> int:
        return len(self.names)

    def row(self, i: int) -> np.ndarray:
        """Distances of point ``i`` to all, ``(n,)``; zero to itself."""
        if len(self.table):
            return self.table[i]
        row = formula(self.kind, *self.places[i], *self.places.T)
        row[i] = 0.0
        return row

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Distances of points ``a`` and ``b``, arrays of one shape."""
        if len(self.table):
            return self.table[a, b]
        return np.where(a == b, 0.0, formula(self.kind, *self.places[a].T, *self.places[b].T))

    def length(self, order: np.ndarray) -> float:
        """Of the closed tour ``order``, as the file defines it.

        Raises:
            ZooError: if that is not a tour of these points.
        """
        order = np.asarray(order)
        if not np.array_equal(np.sort(order), np.arange(len(self))):
            raise ZooError(f"{self.name}: this is not a tour of its {len(self)} points")
        return float(self.between(order, np.roll(order, -1)).sum())

    def plane(self) -> np.ndarray:
        """Coordinates in the plane, float64 ``(n, 2)``, for a network: their Euclidean distances are about these.

        Latitude and longitude are as on a map about their middle, cut along the widest strip of longitudes without
        points: across the date line, too, neighbours are neighbours. Of three dimensions the two in which the points
        differ most; of a matrix by classical scaling (Torgerson 1952).
        """
        if self.matrix is not None:
            return scaled(self.matrix)
        assert self.points is not None
        if self.kind in (GEO, GREAT_CIRCLE):
            latitude, longitude = self.places[:, 0], self.places[:, 1]
            return np.stack([uncut(longitude) * np.cos(latitude.mean()), latitude], 1)
        if self.points.shape[1] == 2:
            return self.points
        centred = self.points - self.points.mean(0)
        return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T

    def drawn(self) -> np.ndarray:
        """Coordinates to draw it by, ``(n, 2)``."""
        return self.plane() if self.display is None else self.display


def uncut(longitude: np.ndarray) -> np.ndarray:
    """Longitudes in radians, counted from the widest gap between them eastwards; as they are where that is the cut."""
    around = np.sort(np.mod(longitude, 2 * np.pi))
    gaps = np.diff(around, append=around[0] + 2 * np.pi)
    if np.ptp(longitude) <= 2 * np.pi - gaps.max() + 1e-12:
        return longitude
    first = around[(gaps.argmax() + 1) % len(around)]
    return np.mod(longitude - first + 1e-12, 2 * np.pi)


def scaled(matrix: np.ndarray) -> np.ndarray:
    """Points of the plane ``(n, 2)`` whose distances are nearest to ``matrix`` in the sense of inner products."""
    largest = matrix.max() or 1.0  # whose square may be too large
    square = (matrix / largest) ** 2
    inner = -0.5 * (square - square.mean(0) - square.mean(1)[:, None] + square.mean())
    values, vectors = np.linalg.eigh(inner)
    return largest * vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0.0))
