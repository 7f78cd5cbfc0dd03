"""A model's inference path as a file that runs without this package."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo.files import atomic
from zoo.hub.loading import from_pretrained

if TYPE_CHECKING:
    from zoo.training import ZooModule


def export(
    model: "str | Path | ZooModule",
    path: str | Path,
    *,
    inputs: tuple[Any, ...] | None = None,
    trust: Sequence[str] = (),
) -> Path:
    """Write ``forward`` of ``model`` in ``eval()`` to a ``.pt2`` file, once it is known to compute the same.

    ``torch.export.load(path).module()`` is the function again, in any program with PyTorch, for any batch size. It
    takes and gives plain tensors, those of named tuples one after another. What was exported is compared with the model
    on another batch size first.

    Args:
        model: a model, or what :func:`zoo.from_pretrained` takes.
        path: of the file; written whole or not at all.
        inputs: of ``forward``, tensors or nested tuples of them, at least two examples each, the batch first; the
            default is the model's own ``example_input_array``, what ``forward`` takes or a plain tuple of that.
        trust: as :func:`zoo.from_pretrained` takes it.

    Returns:
        ``path``.

    Raises:
        ZooError: if the model cannot be exported, what was exported computes something else, or ``path`` cannot be
            written.
    """
    import torch
    from torch.utils._pytree import tree_flatten

    if isinstance(model, (str, Path)):
        model = from_pretrained(model, trust=trust)
    if inputs is None:
        example: Any = model.example_input_array
        if example is None:
            raise ZooError(f"{type(model).__name__} has no example_input_array: give export the inputs of its forward")
        inputs = example if type(example) is tuple else (example,)  # a named tuple is a single argument
    training = model.training
    tensors, spec = tree_flatten(inputs)
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad():
            model.eval()(*inputs)  # what is computed once and kept must be kept as numbers, not as traces
        plain = _plain(model, spec)
        program = torch.export.export(plain, tuple(tensors), dynamic_shapes=(tuple({0: batch} for _ in tensors),))
    except Exception as error:  # the exporter has many error classes of its own
        raise ZooError(f"{type(model).__name__} cannot be exported: {' '.join(str(error).split())[:300]}") from error
    finally:
        model.train(training)
    with atomic(Path(path)) as temporary:
        with temporary.open("wb") as file, warnings.catch_warnings():
            # of weights that are laid out channels last, which are saved as they are
            warnings.filterwarnings("ignore", message="No complete tensor found in the group")
            torch.export.save(program, file)
        with temporary.open("rb") as file:
            _compare(model, torch.export.load(file).module(), inputs)
    return Path(path)


def _plain(model: "ZooModule", spec: Any) -> Any:
    """``model`` with tensors in and out: named tuples could only be read with this package.

    Args:
        spec: how its inputs are made of tensors.
    """
    import torch
    from torch.utils._pytree import tree_leaves, tree_unflatten

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            results = tree_leaves(self.model(*tree_unflatten(list(tensors), spec)))
            return results[0] if len(results) == 1 else tuple(results)

    return Plain().eval()


def _compare(model: "ZooModule", exported: Any, inputs: tuple[Any, ...]) -> None:
    """Raise ``ZooError`` unless ``exported`` gives what ``model`` gives, on a batch of another size and order."""
    import torch
    from torch.utils._pytree import tree_leaves, tree_map

    others = tree_map(lambda value: value[torch.arange(2 * len(value) + 1) % len(value)].flip(0), inputs)
    training = model.training
    with torch.no_grad():
        expected, got = tree_leaves(model.eval()(*others)), tree_leaves(exported(*tree_leaves(others)))
    model.train(training)
    try:
        torch.testing.assert_close(got, expected)
    except AssertionError as error:
        raise ZooError(f"the exported {type(model).__name__} computes something else: {error}") from error
