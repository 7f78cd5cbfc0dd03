"""Instances of tasks from the user's files.

- ``.npz``: an array ``x`` ``(count, elements, features)`` and, where they are known, their least costs ``optimum``.
- ``.csv``: a heading, then an element a line: a column ``instance``, the same for the elements of one, and a column for
  each feature, by the names that are the task's ``columns``; of a task without names in its order.
- ``.tsp``: the points of a TSPLIB file, for tasks whose elements are points.
- a folder: all such files in it.
"""

import csv
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError, cause
from zoo.models.pointer_net.tasks import Task
from zoo.models.pointer_net.tasks.tsp import unit_square
from zoo.models.pointer_net.tours.reading import lines_of, number, read, unpacked

SUFFIXES = (".npz", ".csv", ".tsp")
FAR = 8  # times its own extent from 0
LARGEST = 1_000_000_000  # bytes of numbers in an .npz
Groups = Sequence[tuple[Tensor, Tensor]]
"""Instances ``(count, elements, features)`` and least costs ``(count,)``, NaN where unknown: one pair a size."""


def load(path: str | Path, task: Task) -> Groups:
    """The instances of a file or folder.

    Raises:
        ZooError: if a file cannot be read, or holds no instances of the task.
    """
    path = Path(path)
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise ZooError(f"{path} has no files of instances: {', '.join(SUFFIXES)}")
    found = [pair for file in files for pair in read_file(file, task)]
    sizes = sorted({x.shape[1] for x, _ in found})
    together = [[pair for pair in found if pair[0].shape[1] == size] for size in sizes]
    return [(torch.cat([x for x, _ in pairs]), torch.cat([optimum for _, optimum in pairs])) for pairs in together]


def read_file(path: Path, task: Task) -> list[tuple[Tensor, Tensor]]:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ZooError(f"instances are in files {', '.join(SUFFIXES)} or a folder of them, got {path}")
    optimum = None
    if suffix == ".npz":
        arrays, optimum = from_npz(path)
    elif suffix == ".csv":
        arrays = from_csv(path, task)
    else:
        problem = read(path)
        arrays = [problem.plane()[None]]
    pairs = []
    for numbers in arrays:
        x = torch.from_numpy(np.ascontiguousarray(numbers))
        x = (unit_square(x) if suffix == ".tsp" else near(x, task)).float()
        try:
            task.check(x)
        except ZooError as error:
            raise ZooError(f"{path}: {error}") from error
        least = torch.full((len(x),), torch.nan) if optimum is None else torch.from_numpy(optimum).float()
        pairs.append((x, least))
    return pairs


def near(x: Tensor, task: Task) -> Tensor:
    """Places that lie far off, such as those of a map's grid, shifted to begin at 0: float32 could not tell them apart.

    Nothing else about an instance depends on where it lies.
    """
    axes = [column.rpartition("_")[2] for column in task.columns]
    places = [i for i, axis in enumerate(axes) if axis in ("x", "y")]
    if not places or x.shape[-1] != len(axes) or not x.shape[1] or not x.isfinite().all():
        return x
    x, values = x.clone(), x[..., places]
    first = torch.stack([values[..., [axes[i] == axis for i in places]].amin((1, 2)) for axis in "xy"], 1)
    least = first[:, [int(axes[i] == "y") for i in places]].unsqueeze(1)
    far = values.abs().amax((1, 2)) > FAR * (values - least).amax((1, 2))
    x[..., places] = torch.where(far[:, None, None], values - least, values)
    return x


def from_npz(path: Path) -> tuple[list[np.ndarray], np.ndarray | None]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if sum(info.file_size for info in stored.zip.infolist()) > LARGEST:
                raise ZooError(f"{path} is too large: {LARGEST:,} bytes are the most")
            if "x" not in stored:
                raise ZooError(f"{path} has no array x, only {', '.join(stored.files)[:200] or 'nothing'}")
            x, optimum = stored["x"], stored.get("optimum")
    except ZooError:
        raise
    except Exception as error:  # of zipfile, of NumPy's header, of the system
        raise ZooError(f"cannot read {path}: {cause(error)}") from error
    if x.dtype.kind not in "fiu" or x.ndim != 3 or not len(x):
        raise ZooError(f"{path}: x must be numbers (count, elements, features), got {x.dtype} {x.shape}")
    if optimum is not None and (optimum.dtype.kind not in "fiu" or optimum.shape != (len(x),)):
        raise ZooError(f"{path}: optimum must be {len(x)} numbers, got {optimum.dtype} {optimum.shape}")
    if 8 * x.size > LARGEST:
        raise ZooError(f"{path} is too large: {LARGEST // 8:,} numbers are the most")
    return [x.astype(np.float64)], None if optimum is None else optimum.astype(np.float64)


def from_csv(path: Path, task: Task) -> list[np.ndarray]:
    lines = (line for _, line in lines_of(path, unpacked(path)))
    rows = ((i, row) for i, row in enumerate(csv.reader(lines), 1) if any(field.strip() for field in row))
    try:
        heading = [field.strip().lower() for field in next(rows, (1, []))[1][: task.features + 2]]
        named = ("instance", *task.columns) if task.columns else heading
        if "instance" not in heading or len(heading) != task.features + 1 or set(named) != set(heading):
            features = ", ".join(task.columns) or f"{task.features} features"
            raise ZooError(
                f"{path} needs a heading with the column instance and those of {type(task).__name__}, {features}; "
                f"it has {', '.join(heading)[:200] or 'none'}"
            )
        key, *places = (heading.index(name) for name in ("instance", *(name for name in named if name != "instance")))
        found: dict[str, array[float]] = {}
        for i, row in rows:
            if len(row) != len(heading):
                raise ZooError(f"{path}, row {i}: expected {len(heading)} fields, found {len(row)}")
            values = [number(f"{path}, row {i}", row[place]) for place in places]
            found.setdefault(row[key].strip(), array("d")).extend(values)
    except csv.Error as error:
        raise ZooError(f"cannot read {path}: {cause(error)}") from error
    if not found:
        raise ZooError(f"{path} has no instances")
    sizes = sorted({len(instance) for instance in found.values()})
    return [
        np.array([instance for instance in found.values() if len(instance) == size]).reshape(
            -1, size // task.features, task.features
        )
        for size in sizes
    ]


def count(groups: Groups) -> int:
    """Instances in all."""
    return sum(len(x) for x, _ in groups)


def split(groups: Groups, first: int) -> tuple[Groups, Groups]:
    """``first`` of the instances, of every size in proportion, and the rest."""
    exact = [first * len(x) / count(groups) for x, _ in groups]
    cuts = [int(part) for part in exact]
    rounded_up = sorted(range(len(exact)), key=lambda i: cuts[i] - exact[i])[: first - sum(cuts)]
    cuts = [cut + (i in rounded_up) for i, cut in enumerate(cuts)]
    before = [(x[:cut], optimum[:cut]) for (x, optimum), cut in zip(groups, cuts) if cut]
    after = [(x[cut:], optimum[cut:]) for (x, optimum), cut in zip(groups, cuts) if cut < len(x)]
    return before, after
