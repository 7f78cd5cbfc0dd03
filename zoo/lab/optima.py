"""Make the stored costs of the standard test instances, optimal or the best known.

    python scripts/optima.py size=20
    python scripts/optima.py size=50 instances=1000 audit=20 seconds=0.05 output=FILE
    python scripts/optima.py task=cvrp size=20 instances=1000

Lengths of tours are those of fast-tsp, the best of two runs; HiGHS proves the optimum of ``audit`` of them, spread
evenly. About two CPU-minutes for 20 points. Needs ``pip install 'discrete-latent-zoo[solvers]'``. Routes are those of
PyVRP, whose solutions the task itself checks; what a file has already is not solved again. That needs ``[bench]``.
"""

import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt

from zoo.data.seeding import TEST
from zoo.errors import ZooError
from zoo.files import atomic
from zoo.models.pointer_net.routes import routes
from zoo.models.pointer_net.solvers import distances, exact_tour, fast_tour, length
from zoo.models.pointer_net.tasks import TASKS
from zoo.models.pointer_net.tasks.tsp import OPTIMA

TOLERANCE = 1e-6
SAVE_EVERY = 100  # instances


def experiment(
    *,
    task: Literal["tsp", "cvrp", "time_windows", "orienteering", "pickup_delivery"] = "tsp",
    size: PositiveInt = 20,
    instances: PositiveInt = 10_000,
    audit: PositiveInt = 300,
    seconds: PositiveFloat = 0.006,
    iterations: PositiveInt = 500,
    output: Path | None = None,
) -> np.ndarray:
    """Find the costs, prove some of those of tours, and store them.

    Args:
        task: whose test instances.
        size: points or customers of an instance.
        instances: how many.
        audit: how many tours are proven.
        seconds: for each run of fast-tsp.
        iterations: of PyVRP's search.
        output: the file; by default where the pointer network looks for it.

    Returns:
        the costs.
    """
    path = output or OPTIMA / f"{task}{size}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = tours(size, instances, audit, seconds) if task == "tsp" else routed(task, size, instances, iterations, path)
    save(path, found)
    print(f"{path}: {path.stat().st_size} bytes; mean of the first 1,000: {found[:1000].mean():.5f}")
    return found


def tours(size: int, instances: int, audit: int, seconds: float) -> np.ndarray:
    """Lengths of closed tours."""
    points = np.random.RandomState(1234).uniform(size=(max(instances, 10_000), size, 2))[:instances]
    began = time.process_time()
    found = np.array([length(p, fast_tour(distances(p), seconds=seconds)) for p in points])
    print(f"{instances} tours of {size} points by fast-tsp: mean {found.mean():.5f}, {cpu(began)}")
    began = time.process_time()
    audited = np.linspace(0, instances - 1, audit).round().astype(int)
    proven = np.array([length(points[i], exact_tour(distances(points[i]))) for i in audited])
    longer = found[audited] / proven - 1
    print(
        f"HiGHS on {len(audited)}: {(longer > TOLERANCE).sum()} not optimal, mean excess {100 * longer.mean():.5f}%, "
        f"{cpu(began)}"
    )
    found[audited] = np.minimum(found[audited], proven)
    return found


def routed(name: str, size: int, instances: int, iterations: int, path: Path) -> np.ndarray:
    """Costs of PyVRP's solutions, each checked by the rules of the task."""
    task, began = TASKS[name](), time.process_time()
    x = task.standard(instances, size, TEST, "cpu")
    found = list(np.load(path)["length"][:instances]) if path.is_file() else []
    for i in range(len(found), instances):
        order = torch.from_numpy(routes(task, x[i].numpy(), iterations=iterations)).view(1, 1, -1)
        if not task.valid(x[i : i + 1], order).all():
            raise ZooError(f"PyVRP's solution of instance {i} does not keep to the rules of {name}: {order.tolist()}")
        found.append(task.cost(x[i : i + 1].double(), order).item())
        if len(found) % SAVE_EVERY == 0:
            save(path, np.array(found))
    print(f"{instances} instances of {name} with {size} customers by PyVRP: mean {np.mean(found):.5f}, {cpu(began)}")
    return np.array(found)


def save(path: Path, found: np.ndarray) -> None:
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, length=found.astype(np.float32))


def cpu(began: float) -> str:
    return f"{time.process_time() - began:.0f} CPU-seconds"
