"""Good routes by PyVRP (Wouda, Lan & Kool 2024, INFORMS Journal on Computing 36): ``pip install
'discrete-latent-zoo[bench]'``."""

import math

import numpy as np

from zoo.errors import ZooError
from zoo.models.pointer_net.solvers import distances
from zoo.models.pointer_net.tasks import Orienteering, PickupDelivery, Task, TimeWindows, VehicleRouting

WHOLE = 100_000  # PyVRP's distances are whole numbers of this part of a unit
PRIZE = 100_000_000  # of a prize of 1: above what any detour costs


def routes(task: Task, x: np.ndarray, *, iterations: int = 500, seed: int = 0) -> np.ndarray:
    """The best solution that PyVRP finds of one instance, as an order of elements with returns between routes.

    Args:
        task: vehicle routing, with or without time windows, orienteering, or pickup and delivery.
        x: ``(elements, features)``.
        iterations: of its iterated local search; up to 100 times as many where it has no solution by then.
        seed: of it.

    Raises:
        ZooError: if PyVRP is not installed, does not know the task, or finds nothing.
    """
    try:
        from pyvrp import Model
        from pyvrp.stop import MaxIterations
    except ImportError as error:
        raise ZooError("this needs the package pyvrp: pip install 'discrete-latent-zoo[bench]'") from error
    x = np.asarray(x, dtype=np.float64)
    n, model = len(x) - 1, Model()
    places = [model.add_location(a * WHOLE, b * WHOLE) for a, b in x[:, :2]]
    windowed = isinstance(task, TimeWindows)
    depot = model.add_depot(places[0], tw_late=int(x[0, 4] * WHOLE)) if windowed else model.add_depot(places[0])
    if isinstance(task, VehicleRouting):
        model.add_vehicle_type(n, int(x[0, 2]), depot, depot)
        for i in range(1, n + 1):
            window = {"tw_early": math.ceil(x[i, 3] * WHOLE), "tw_late": int(x[i, 4] * WHOLE)} if windowed else {}
            model.add_client(places[i], delivery=int(x[i, 2]), **window)
    elif isinstance(task, Orienteering):
        model.add_vehicle_type(1, [], depot, depot, max_distance=int(x[0, 2] * WHOLE))
        for i in range(1, n + 1):
            model.add_client(places[i], prize=round(x[i, 3] * PRIZE), required=False)
    elif isinstance(task, PickupDelivery):
        model.add_vehicle_type(1, [], depot, depot)
        for i in range(1, n // 2 + 1):
            model.add_shipment(places[i], places[n // 2 + i])
    else:
        raise ZooError(f"PyVRP does not know {type(task).__name__}")
    way = np.ceil(distances(x[:, :2]) * WHOLE).astype(np.int64)  # up, so that no limit is passed by rounding
    for i in range(n + 1):
        for j in range(n + 1):
            if i != j:
                model.add_edge(places[i], places[j], int(way[i, j]), int(way[i, j]))
    for longer in (1, 10, 100):  # at first it may have none that keeps to the rules
        stop = MaxIterations(longer * iterations)
        best = model.solve(stop, seed=seed, collect_stats=False, display=False).best
        if best.is_feasible():
            break
    else:
        raise ZooError(
            f"PyVRP found no solution of an instance of {type(task).__name__} in {100 * iterations} iterations"
        )
    order: list[int] = []
    for route in best.routes():
        order += [0] if order else []
        for visit in route:
            if not visit.is_depot():
                order.append(visit.idx + 1 + (n // 2 if visit.is_delivery() else 0))
    return np.array(order or [0])
