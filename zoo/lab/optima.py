"""Make the stored optimal lengths of the standard TSP test instances, and audit them.

    python scripts/optima.py size=20
    python scripts/optima.py size=50 instances=1000 audit=20 seconds=0.05 output=FILE

The lengths are those of fast-tsp's tours, the best of two runs; HiGHS proves the optimum of ``audit`` of them, spread
evenly. About two CPU-minutes for 20 points. Needs ``pip install 'discrete-latent-zoo[solvers]'``.
"""

import time
from pathlib import Path

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from zoo.models.pointer_net.solvers import distances, exact_tour, fast_tour, length
from zoo.models.pointer_net.tasks.tsp import OPTIMA

TOLERANCE = 1e-6


def experiment(
    *,
    size: PositiveInt = 20,
    instances: PositiveInt = 10_000,
    audit: PositiveInt = 300,
    seconds: PositiveFloat = 0.006,
    output: Path | None = None,
) -> np.ndarray:
    """Find the lengths, prove some, and store them.

    Args:
        size: points of an instance.
        instances: how many.
        audit: how many of them are proven.
        seconds: for each run of fast-tsp.
        output: the file; by default where the pointer network looks for it.

    Returns:
        the lengths.
    """
    path = output or OPTIMA / f"tsp{size}.npz"
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
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, length=found.astype(np.float32))
    print(f"{path}: {path.stat().st_size} bytes; mean of the first 1,000: {found[:1000].mean():.5f}")
    return found


def cpu(began: float) -> str:
    return f"{time.process_time() - began:.0f} CPU-seconds"
