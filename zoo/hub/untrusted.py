"""What keeps a saved model from doing harm, beside the rule of :mod:`zoo.config.trust` for what it may name."""

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.errors import ZooError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMES, SPARE = 8, 10_000_000  # numbers that the making of a model may need, for each of its weights and beside them
EACH, FEW = 200, 5000  # operations, the same


class Budget(TorchDispatchMode):
    """Inside, not much more is made than the model with the weights ``state`` needs, in all.

    A damaged or hostile configuration can ask for a layer of a terabyte, or for a billion small ones; it is refused
    before memory is touched.

    Raises:
        ZooError: when more is asked for.
    """

    def __init__(self, state: "Mapping[str, Tensor]") -> None:
        super().__init__()
        self.numbers = TIMES * sum(value.numel() for value in state.values()) + SPARE
        self.operations = EACH * len(state) + FEW

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations -= 1
        if self.operations < 0:
            raise ZooError("the configuration asks for far more layers than there are weights")
        for size in args:
            if isinstance(size, (list, tuple)) and all(type(n) is int for n in size):
                self._check(math.prod(size))
            elif type(size) is int and "arange" in func.__name__:
                self._check(size)
        results = func(*args, **(kwargs or {}))
        for result in results if isinstance(results, (list, tuple)) else [results]:
            if isinstance(result, Tensor) and not any(result is argument for argument in args):
                self._check(result.numel())
                self.numbers -= result.numel()
        return results

    def _check(self, asked: int) -> None:
        if asked > self.numbers:
            raise ZooError(
                f"the configuration asks for a tensor of {asked:.2g} numbers, in all for more than its weights have"
            )


def check_numbers(state: "Mapping[str, Tensor]", where: str) -> None:
    """Check that weights are tensors by their names, and numbers.

    Raises:
        ZooError: naming the first that is not.
    """
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ZooError(f"{where} has {str(name)[:100]!r} among its weights, which is not a tensor with a name")
        if value.is_floating_point() and (count := int(value.isnan().sum())):
            raise ZooError(
                f"{where}: {count} of {value.numel()} numbers of {name[:100]} are not numbers (NaN). The training that "
                "made them had diverged, or the file was altered: no model can be made of it. Take an earlier one."
            )


def check_fit(state: "Mapping[str, Tensor]", skeleton: nn.Module, where: str) -> None:
    """Check names, shapes and kinds of weights against those of a model, which may be on the meta device.

    Modules that load their part in a way of their own decide on its names and shapes themselves.

    Raises:
        ZooError: naming what does not fit.
    """
    expected = {name: value for name, value in skeleton.state_dict().items() if isinstance(value, Tensor)}
    own = tuple(
        f"{name}." if name else ""
        for name, module in skeleton.named_modules()
        if type(module)._load_from_state_dict is not nn.Module._load_from_state_dict
    )
    missing = [name for name in expected if name not in state and not name.startswith(own)]
    extra = [name for name in state if name not in expected and not name.startswith(own)]
    for names, what in ((missing, "lacks weights"), (extra, "has weights that its model has not")):
        if names:
            raise ZooError(
                f"{where}: it {what}: {', '.join(name[:100] for name in names[:5])}"
                + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            )
    for name in expected.keys() & state.keys():
        want, got = expected[name], state[name]
        if want.shape != got.shape and not name.startswith(own):
            raise ZooError(f"{where}: {name} is {tuple(got.shape)}, the model needs {tuple(want.shape)}")
        if want.dtype != got.dtype and not (want.is_floating_point() and got.is_floating_point()):
            kinds = f"{got.dtype}, which cannot be {want.dtype}".replace("torch.", "")
            raise ZooError(f"{where}: {name} is of {kinds}")
