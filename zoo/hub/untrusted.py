"""What keeps a saved configuration from doing harm, beside the rule that it builds only parts of the zoo."""

import math
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from zoo.errors import ZooError

SPARE = 10_000_000  # numbers that a constructor may need beside the weights


class MemoryLimit(TorchDispatchMode):
    """Inside, no tensor much larger than what is needed for ``numbers`` weights is made.

    A damaged or hostile configuration can ask for a layer of a terabyte; it is refused before memory is touched.

    Raises:
        ZooError: when a larger one is asked for.
    """

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.limit = 2 * numbers + SPARE

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for size in args:
            asked = 0
            if isinstance(size, (list, tuple)) and all(type(n) is int for n in size):
                asked = math.prod(size)
            elif type(size) is int and "arange" in func.__name__:
                asked = size
            if asked > self.limit:
                raise ZooError(
                    f"the configuration asks for a tensor of {asked:.2g} numbers, more than its weights have"
                )
        return func(*args, **(kwargs or {}))
