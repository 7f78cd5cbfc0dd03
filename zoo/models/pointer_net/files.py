"""Instances of tasks from the user's files.

- ``.npz``: an array ``x`` ``(count, elements, features)`` and, where they are known, their least costs ``optimum``.
- ``.csv``: a heading, then an element a line: a column ``instance``, the same for the elements of one, and a column for
  each feature of the task, in its order.
- ``.tsp``: the points of a TSPLIB file, for tasks whose elements are points.
- a folder: all such files in it.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.models.pointer_net.tasks import Task
from zoo.models.pointer_net.tasks.tsp import unit_square
from zoo.models.pointer_net.tours.reading import number, read, unpacked

SUFFIXES = (".npz", ".csv", ".tsp")
LARGEST = 2_000_000_000  # bytes of numbers in an .npz
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
    for array in arrays:
        x = torch.from_numpy(np.ascontiguousarray(array))
        if suffix == ".tsp":
            x = unit_square(x)
        x = x.float()
        try:
            task.check(x)
        except ZooError as error:
            raise ZooError(f"{path}: {error}") from error
        least = torch.full((len(x),), torch.nan) if optimum is None else torch.from_numpy(optimum).float()
        pairs.append((x, least))
    return pairs


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
        raise ZooError(f"cannot read {path}: {error}") from error
    if x.dtype.kind not in "fiu" or x.ndim != 3 or not len(x):
        raise ZooError(f"{path}: x must be numbers (count, elements, features), got {x.dtype} {x.shape}")
    if optimum is not None and (optimum.dtype.kind not in "fiu" or optimum.shape != (len(x),)):
        raise ZooError(f"{path}: optimum must be {len(x)} numbers, got {optimum.dtype} {optimum.shape}")
    return [x.astype(np.float64)], None if optimum is None else optimum.astype(np.float64)


def from_csv(path: Path, task: Task) -> list[np.ndarray]:
    rows = [row for row in csv.reader(unpacked(path).splitlines()) if any(field.strip() for field in row)]
    heading = [field.strip().lower() for field in rows[0]] if rows else []
    if "instance" not in heading or len(heading) != task.features + 1:
        raise ZooError(
            f"{path} needs a heading with the column instance and {task.features} features of "
            f"{type(task).__name__}, got {', '.join(heading)[:200] or 'none'}"
        )
    key = heading.index("instance")
    found: dict[str, list[list[float]]] = {}
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(heading):
            raise ZooError(f"{path}, row {line}: expected {len(heading)} fields, found {len(row)}")
        features = [number(f"{path}, row {line}", field) for i, field in enumerate(row) if i != key]
        found.setdefault(row[key].strip(), []).append(features)
    if not found:
        raise ZooError(f"{path} has no instances")
    sizes = sorted({len(instance) for instance in found.values()})
    return [np.array([instance for instance in found.values() if len(instance) == size]) for size in sizes]


def count(groups: Groups) -> int:
    """Instances in all."""
    return sum(len(x) for x, _ in groups)


def split(groups: Groups, first: int) -> tuple[Groups, Groups]:
    """About the ``first`` instances, of every size in proportion, and the rest."""
    share = first / count(groups)
    cuts = [round(share * len(x)) for x, _ in groups]
    before = [(x[:cut], optimum[:cut]) for (x, optimum), cut in zip(groups, cuts) if cut]
    after = [(x[cut:], optimum[cut:]) for (x, optimum), cut in zip(groups, cuts) if cut < len(x)]
    return before, after
