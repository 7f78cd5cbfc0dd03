"""Following the values of draws through a program: what depends on them, and where a derivative is lost on the way.

REBAR and RELAX run a program on relaxed draws and differentiate it. Their mean is exact only if the cost is continuous in
what it is given: where it reads a draw through an arg max, a comparison or a look-up, the derivative knows nothing of
the jumps, and the estimate is biased without a sign of it. Score functions break where batch normalisation lets one row
see another's draw. Both is seen here, while the program runs, and refused.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from zoo.errors import ZooError
from zoo.relaxations.distributions.base import Distribution

INDEPENDENT = frozenset(
    [
        "zeros_like",
        "ones_like",
        "empty_like",
        "full_like",
        "rand_like",
        "randn_like",
        "randint_like",
        "new_zeros",
        "new_ones",
        "new_empty",
        "new_full",
        "new_tensor",
        "size",
        "dim",
        "stride",
        "numel",
        "__len__",
        "is_floating_point",
        "is_complex",
        "type_as",
    ]
) - {"type_as"}
"""What looks at the shape of a tensor, not at its values."""

STEPS = frozenset(
    [
        "round",
        "round_",
        "floor",
        "floor_",
        "ceil",
        "ceil_",
        "trunc",
        "trunc_",
        "fix",
        "fix_",
        "sign",
        "sign_",
        "sgn",
        "sgn_",
        "heaviside",
        "heaviside_",
        "frac",
        "frac_",
        "fmod",
        "fmod_",
        "remainder",
        "remainder_",
        "__mod__",
        "__rmod__",
        "__imod__",
        "floor_divide",
        "floor_divide_",
        "__floordiv__",
        "__rfloordiv__",
        "__ifloordiv__",
        "hardshrink",
        "threshold",
        "threshold_",
        "mode",
        "unique",
        "unique_consecutive",
        "angle",
        "bernoulli",
        "bernoulli_",
        "poisson",
        "normal",
        "binomial",
        "nextafter",
        "copysign",
        "copysign_",
        "fake_quantize_per_tensor_affine",
        "fake_quantize_per_channel_affine",
        "quantize_per_tensor",
        "quantize_per_channel",
        "gumbel_softmax",
    ]
)
"""What has a derivative of zero, or one that is not its own, and jumps."""

ESCAPES = frozenset(
    [
        "item",
        "__bool__",
        "__int__",
        "__float__",
        "__index__",
        "__complex__",
        "tolist",
        "numpy",
        "__array__",
        "is_nonzero",
        "equal",
        "allclose",
        "__contains__",
        "__dlpack__",
        "__format__",
        "__repr__",
        "__str__",
    ]
)
"""What turns a tensor into something that cannot be followed."""

COUPLING = frozenset(["batch_norm", "native_batch_norm", "sync_batch_norm"])


class Following(TorchFunctionMode):
    """While it is entered, follows what depends on the draws made through :meth:`drawing`.

    Args:
        by: the relaxation, for messages.
        smooth: whether the values are relaxed, and the cost must be continuous in them: see :meth:`check_smooth`.
        independent: whether a draw may not depend on an earlier one.
        rows: whether no row may see another's draw.

    Raises:
        ZooError: at the operation that shows that the program cannot be served.
    """

    def __init__(self, by: Any, *, smooth: bool = False, independent: bool = False, rows: bool = True) -> None:
        super().__init__()
        self.name, self.smooth, self.independent, self.rows = type(by).__name__, smooth, independent, rows
        self.cuts: dict[int, str] = {}  # of each tensor that depends on a draw, what has cut its derivative, or ""
        self.written: dict[int, str] = {}  # the same, of storages that were written into
        self.kept: list[Any] = []  # so that no number is used twice
        self.escaped = ""

    def drawing(self, draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """``draw``, with what it gives followed."""

        def drawn(x: Tensor | Distribution, mask: Tensor | None = None) -> Tensor:
            given = [x.logits, x.mask] if isinstance(x, Distribution) else [x, mask]
            if self.independent and (self.escaped or any(t is not None and self.cut_of(t) is not None for t in given)):
                raise ZooError(
                    f"{self.name} cannot serve a program in which a draw depends on an earlier draw: use rloo or "
                    "reinforce, or a pathwise relaxation"
                )
            with torch._C.DisableTorchFunction():
                value = draw(x, mask)
            self.note(value, "")
            return value

        return drawn

    def check_smooth(self, cost: Tensor) -> bool:
        """Whether ``cost`` depends on the draws at all.

        Raises:
            ZooError: if it does in a way that has no derivative.
        """
        cut = self.cut_of(cost)
        if cut:
            raise ZooError(
                f"{self.name} needs a cost that is differentiable in its draws, without jumps: this program reads one through "
                f"{cut}, of which the derivative of the relaxed run knows nothing. Use rloo, reinforce or disarm."
            )
        return cut is not None

    # Bookkeeping --------------------------------------------------------------------------------------------------

    def cut_of(self, tensor: Tensor) -> str | None:
        """None if ``tensor`` does not depend on a draw; else what has cut its derivative, or ``""``."""
        found = None
        for each in unwrapped(tensor):
            found = self.cuts.get(id(each))
            if found is not None:
                break
        written = self.written.get(storage(tensor)) if self.written else None
        if found is None or (not found and written):
            found = written if written is not None else found
        if found == "" and self.smooth and not (tensor.is_floating_point() and followed_by_autograd(tensor)):
            return "an operation without a derivative (such as argmax, a comparison or detach)"
        return found

    def note(self, result: Any, cut: str) -> None:
        """``result`` depends on a draw."""
        for tensor in tensors(result):
            for each in unwrapped(tensor):
                self.cuts[id(each)] = cut
                self.kept.append(each)
            if each is not tensor:  # inside a transform, whose result is another tensor of the same storage
                self.written[storage(tensor)] = cut

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = [cut for cut in map(self.cut_of, tensors((args, kwargs))) if cut is not None] if self.cuts else []
        name = getattr(func, "__name__", "")
        if not found or name in INDEPENDENT:
            return func(*args, **kwargs)
        if self.rows and name in COUPLING and batch_statistics(args, kwargs):
            raise ZooError(
                f"{self.name} cannot serve a program in which batch normalisation behind a draw lets each row see the others' "
                "draws: its gradient would be wrong. Put it into eval(), take layer or group normalisation, or a pathwise "
                "relaxation"
            )
        if name in ESCAPES:
            if self.smooth:
                raise ZooError(
                    f"{self.name} needs a cost that is differentiable in its draws, without jumps: this program reads one "
                    f"through {name.strip('_')}, which takes it out of sight. Use rloo, reinforce or disarm."
                )
            self.escaped = name
        result = func(*args, **kwargs)
        cut = next((cut for cut in found if cut), "")
        if name in STEPS and not (name == "gumbel_softmax" and not hard_argument(args, kwargs)):
            cut = cut or name.strip("_")
        if not cut and "nearest" in kwargs.values() and name == "grid_sample":
            cut = "grid_sample"
        if not cut and kwargs.get("rounding_mode"):
            cut = f"{name} with rounding"
        self.note(result, cut)
        into = kwargs.get("out")
        if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")) or name.startswith("__i"):
            into = args[0]
        for tensor in tensors(into):
            self.note(tensor, cut)
            self.written[storage(tensor)] = cut or self.written.get(storage(tensor), "")
        return result


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, slice):
        yield from tensors([value.start, value.stop, value.step])


def unwrapped(tensor: Tensor) -> Iterator[Tensor]:
    """``tensor``, and what is inside of it within transforms of ``torch.func``."""
    yield tensor
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
        yield tensor


def storage(tensor: Tensor) -> int:
    """The identity of the memory of ``tensor``."""
    *_, inside = unwrapped(tensor)
    with torch._C.DisableTorchFunction():
        return inside.untyped_storage()._cdata


def followed_by_autograd(tensor: Tensor) -> bool:
    """Whether a derivative of ``tensor`` is kept, by autograd or by a transform."""
    return any(each.requires_grad for each in unwrapped(tensor))


def batch_statistics(args: Any, kwargs: Any) -> bool:
    """Whether a call of batch normalisation takes the statistics of its batch."""
    training = kwargs.get("training", kwargs.get("use_input_stats"))
    if training is None:
        training = next((value for value in args if isinstance(value, bool)), False)
    return bool(training)


def hard_argument(args: Any, kwargs: Any) -> bool:
    return bool(kwargs.get("hard", args[2] if len(args) > 2 else False))
