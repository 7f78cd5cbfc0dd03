"""Following the values of draws through a program: what depends on them, and where a derivative is lost on the way.

REBAR and RELAX run a program on relaxed draws and differentiate it. Their mean is exact only if the cost is continuous
in what it is given: where it reads a draw through an arg max, a comparison or a look-up, the derivative knows nothing
of the jumps, and the estimate is biased without a sign of it. Score functions break where batch normalisation lets one
row see another's draw. Both are seen here, while the program runs, and refused.

Two modes of PyTorch see it. One sees every kernel, also inside of scripted code, transforms and custom functions: it
knows which memory holds something that depends on a draw, and what has jumped there. The other sees every call of
PyTorch's interface, where it is known whether a derivative is kept. Compiled parts run as they were before they were
compiled. What none of this sees: a derivative that is not the function's own (of a custom function with a smooth
forward pass, of a hook of a module or of saved tensors); kernels of extensions that PyTorch does not dispatch; other
threads; memory that something else reads (a DLPack capsule); the text of a printed tensor; what a program keeps from
one run for the next; a jump where a smooth formula divides by zero, as the sign of ``x`` written ``x / x.abs()``.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._C import _functorch as functorch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from zoo.errors import ZooError
from zoo.relaxations.base import Draw, Program, Relaxation, run
from zoo.relaxations.distributions.base import Distribution


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Of kernels, by name without "_" at its end ---------------------------------------------------------------------------

SHAPES = names(
    "zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty new_full "
    "new_empty_strided is_same_size _has_same_storage_numel is_pinned _shape_as_tensor _linalg_check_errors isnan isinf"
)
"""They look at the shape of a tensor, or whether its values are in order, not at these."""

STEPS = names(
    "round floor ceil trunc frac fmod remainder floor_divide sign sgn heaviside copysign nextafter angle atan2 frexp "
    "hardshrink threshold mode eq ne ge gt le lt logical_and logical_or logical_xor logical_not bernoulli binomial "
    "poisson normal histc linalg_lu linalg_lu_factor linalg_lu_factor_ex linalg_ldl_factor_ex"
)
"""They jump, though they may have a derivative: of zero, or of what lies between the jumps."""

SIZES = names("nonzero unique_dim _unique _unique2 unique_consecutive bincount")
"""They make a shape of it; so do masked_select, repeat_interleave and indexing of what has jumped."""

# Of functions, by name ------------------------------------------------------------------------------------------------

ESCAPES = names(
    "tolist numpy __array__ __dlpack__ __cuda_array_interface__ __reduce_ex__ storage untyped_storage _typed_storage "
    "data_ptr"
)
"""They let it out of sight."""

REFUSED = {
    **dict.fromkeys(["requires_grad_", "_make_dual", "backward"], "a derivative that the program itself takes"),
    "register_hook": "a hook that changes its derivative",
    "__set__": "data that is exchanged",
    "set_": "data that is exchanged",
}
"""They change what the derivative is."""

COUPLING = names("batch_norm native_batch_norm sync_batch_norm")
"""They may let a row see the others."""

NAMES = {
    **dict.fromkeys(names("eq ne ge gt le lt"), "a comparison"),
    **dict.fromkeys(
        names("bool int float index complex item is_nonzero local_scalar_dense"),
        "a number of Python's (such as by item, int or if)",
    ),
    "getitem": "indexing",
    "setitem": "indexing",
}

NO_DERIVATIVE = "an operation without a derivative (such as detach, data or no_grad)"
OPAQUE = "code that cannot be followed (such as TorchScript)"


class Following:
    """While it is entered, follows what depends on the draws made through :meth:`drawing`.

    Args:
        by: the relaxation, for messages.
        smooth: whether the values are relaxed, and the cost must be continuous in them: see :meth:`check`.
        independent: whether a draw may not depend on an earlier one.

    Raises:
        ZooError: at the operation that shows that the program cannot be served.
    """

    def __init__(self, by: Any, *, smooth: bool = False, independent: bool = False) -> None:
        self.name, self.smooth, self.independent = type(by).__name__, smooth, independent
        self.jumps: dict[int, str] = {}  # of each memory that depends on a draw, what has jumped on the way, or ""
        # Of some of it, what has lost the derivative. The forward pass of a custom function keeps none, and answers for
        # what it makes of what has one: until that is given, it is the frame of that pass.
        self.lost: dict[int, str | FrameType] = {}
        self.made: dict[int, tuple[Tensor, FrameType]] = {}  # of each tensor that a forward pass has made, which one
        self.forwards: set[CodeType] = set()
        self.seen: set[int] = set()  # by both modes
        self.pins: list[Any] = []  # so that no identity is used twice
        self.level = -1  # of torch.func, where the derivative is taken; -1 is autograd
        self.alone = True  # whether every draw has been of a single row, which has no others to see
        self.excused = False  # whether rows would see each other if there were several
        self.calling = ""  # the present function
        self.written: list[int] = []  # memory that it has changed
        self.harmless = 0  # whether it may take numbers out
        self.escaped = ""
        self.stack = ExitStack()

    def __enter__(self) -> "Following":
        if "torch._dynamo" in sys.modules:  # else nothing is compiled
            self.stack.enter_context(torch.compiler.set_stance("force_eager"))
        for mode in (_Calls(self), _Kernels(self)):
            self.stack.enter_context(mode)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stack.__exit__(kind, error, traceback)

    def drawing(self, draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """``draw``, with what it gives followed."""

        def drawn(x: Tensor | Distribution, mask: Tensor | None = None) -> Tensor:
            if self.independent:
                with torch._C.DisableTorchFunction():
                    self.check_independent([x, mask, *(vars(x).values() if isinstance(x, Distribution) else ())])
            with _disable_current_modes():  # else the draw would take other numbers than in a run that is not followed
                value = draw(x, mask)
            self.alone = self.alone and value.shape[getattr(x, "batch_dim", 0)] == 1
            with torch._C.DisableTorchFunction():
                self.begin(value)
            return value

        return drawn

    def check_independent(self, given: list[Any]) -> None:
        """Raise ``ZooError`` if what a draw is ``given`` depends on an earlier one."""
        if self.escaped or any(self.depends(tensor) for tensor in tensors(given)):
            how = f", or may, since the program reads one by {self.escaped}" if self.escaped else ""
            raise ZooError(
                f"{self.name} cannot serve a program in which a draw depends on an earlier draw{how}: use rloo or "
                "reinforce, or a pathwise relaxation"
            )

    def begin(self, value: Tensor) -> None:
        """Follow ``value``, a draw."""
        key = self.pin(value)
        self.jumps[key] = ""
        self.seen.add(key)
        for each in unwrapped(value):
            if each.requires_grad:
                self.level = functorch.maybe_get_level(each)
                break

    def check(self, cost: Tensor) -> None:
        """Raise ``ZooError`` if ``cost`` depends on the draws in a way that its derivative does not know."""
        with torch._C.DisableTorchFunction():
            key = storage(cost)
            if key in self.jumps and (cut := self.jumps[key] or self.lost_by(cost, key)):
                self.refuse(cut if isinstance(cut, str) else NO_DERIVATIVE)

    def refuse(self, cut: str) -> None:
        raise ZooError(
            f"{self.name} needs a cost that is differentiable in its draws, without jumps: this program reads one "
            f"through {cut}, of which the derivative of its relaxed run knows nothing. Use rloo, reinforce or disarm."
        )

    def depends(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` depends on a draw."""
        return bool(self.jumps) and storage(tensor) in self.jumps

    def pin(self, tensor: Tensor) -> int:
        """The identity of its memory, which from now on nothing else has."""
        *_, inside = unwrapped(tensor)
        try:
            self.pins.append(StorageWeakRef(inside.untyped_storage()))
        except NotImplementedError:  # sparse tensors have none
            self.pins.append(inside)
        return storage(inside)

    # Calls --------------------------------------------------------------------------------------------------------

    def call(self, func: Any, args: Any, kwargs: Any, inputs: list[Tensor]) -> Any:
        """``func`` of ``inputs`` that depend on draws."""
        name = getattr(func, "__name__", "").split(".")[0]
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        if name in COUPLING and batch_statistics(args, kwargs):
            self.excused = True
        if self.excused and not self.alone:
            raise ZooError(
                f"{self.name} cannot serve a program in which batch normalisation behind a draw lets each row see the "
                "others' draws: its gradient would be wrong. Put it into eval(), take layer or group normalisation, or "
                "a pathwise relaxation"
            )
        if name in ESCAPES:
            self.escape(readable(name))
        elif self.smooth and name in REFUSED:
            self.refuse(REFUSED[name])
        harmless = (
            name in ("__repr__", "__format__")
            or (name == "__bool__" and in_distributions())
            or (name == "one_hot" and kwargs.get("num_classes", args[1] if len(args) > 1 else -1) != -1)
        )
        self.calling, self.written = readable(name), []
        self.harmless += harmless
        try:
            lost = self.lost_in(inputs) if self.smooth and not harmless else ""
            result = func(*args, **kwargs)
        finally:
            self.calling = ""
            self.harmless -= harmless
        if self.smooth:
            self.note(name, result, lost, inputs)
            if self.written:
                self.check_written(args, kwargs)
        return result

    def note(self, name: str, result: Any, lost: str | FrameType, inputs: list[Tensor]) -> None:
        """What is known of the results of a call."""
        results = list(tensors(result))
        if name in ("grad", "_unpack_dual"):
            for tensor in results:
                self.jumps[self.pin(tensor)] = REFUSED["_make_dual"]
        keys = {*map(storage, results), *self.written}
        self.seen |= keys
        if lost:
            # A view of what is given has no derivative of its own to keep: that is asked where it is used.
            for key in keys - set(map(storage, inputs)) | set(self.written):
                self.lost[key] = lost
        if not isinstance(lost, str) or (not lost and not torch.is_grad_enabled()):
            by = self.custom_function()
            if by is not None:
                self.made |= {id(tensor): (tensor, by) for tensor in results}

    def check_written(self, args: Any, kwargs: Any) -> None:
        """A tensor that was changed must have got the derivative of the change."""
        for tensor in tensors((args, kwargs)):
            key = storage(tensor)
            if key in self.written:
                kept = self.at_level(tensor).requires_grad
                if not (kept and torch.is_grad_enabled()):
                    self.lost[key] = (not kept and self.custom_function()) or NO_DERIVATIVE

    def lost_in(self, inputs: list[Tensor]) -> str | FrameType:
        """What has lost the derivative of an input, or ``""``."""
        for tensor in inputs:
            if (tensor.is_floating_point() or tensor.is_complex()) and (lost := self.lost_by(tensor, storage(tensor))):
                return lost if isinstance(lost, str) or lost is self.custom_function() else NO_DERIVATIVE
        return ""

    def lost_by(self, tensor: Tensor, key: int) -> str | FrameType:
        """What has lost the derivative of ``tensor``, or ``""``."""
        if key not in self.seen:
            self.jumps[key] = self.jumps[key] or OPAQUE
            return OPAQUE
        here, known = self.at_level(tensor), self.lost.get(key, "")
        if here.requires_grad and here.is_leaf:
            self.refuse("a new leaf (such as requires_grad or Parameter)")
        if not here.requires_grad:
            _, by = self.made.get(id(tensor), (None, None))
            return known or by or NO_DERIVATIVE
        if isinstance(known, FrameType):
            answers = getattr(here.grad_fn, "_forward_cls", None)
            if answers is not None and answers.forward.__code__ is known.f_code:
                del self.lost[key]
                return ""
        return known

    def custom_function(self) -> FrameType | None:
        """The forward pass of a custom autograd function that is running, if one is; of several the outermost."""
        if torch.is_grad_enabled():
            return None
        if not self.forwards:
            self.forwards = forward_passes(torch.autograd.Function)
        frame: FrameType | None = sys._getframe(1)
        found = None
        while frame is not None:
            found = frame if frame.f_code in self.forwards else found
            frame = frame.f_back
        return found

    def at_level(self, tensor: Tensor) -> Tensor:
        """What holds the derivative of ``tensor``, which may be inside of the wrappers of transforms."""
        for each in unwrapped(tensor):
            if functorch.maybe_get_level(each) == self.level:
                return each
        return each

    def escape(self, how: str) -> None:
        """A draw has got out of sight."""
        if self.smooth:
            self.refuse(how)
        self.escaped = how

    # Kernels ------------------------------------------------------------------------------------------------------

    def run(self, func: Any, args: Any, kwargs: Any, cuts: list[str]) -> Any:
        """A kernel, of tensors that depend on draws; ``cuts`` is what has jumped in each."""
        kernel = describe(func)
        if kernel.name in SHAPES:
            return func(*args, **kwargs)
        cut = next(filter(None, cuts), "")
        if kernel.name in SIZES or (cut and self.shapes(kernel.name, args)):
            self.escape(f"a shape that depends on it (of {self.calling or kernel.readable})")
        if not cut and kernel.opaque:
            cut = f"the operator {func}, which cannot be looked into"
        if not cut and (kernel.jumps or (kernel.orders and self.jumps_in(kernel, args, kwargs))):
            cut = self.calling or kernel.readable
        result = func(*args, **kwargs)
        if isinstance(result, (bool, int, float, complex)) and not self.harmless:
            self.escape(self.calling or kernel.readable)
        made = tensors(result)
        if kernel.name == "_pack_padded_sequence" and not self.depends(args[1]):
            made = made[:1]  # the other depends on the lengths alone
        for tensor in made:
            smooth = tensor.is_floating_point() or tensor.is_complex()
            self.put(tensor, cut if smooth else cut or self.calling or kernel.readable)
        for i, name in kernel.written:
            for tensor in tensors(args[i] if i < len(args) else kwargs.get(name)):
                self.put(tensor, cut)
                self.written.append(storage(tensor))
        return result

    def put(self, tensor: Tensor, cut: str) -> None:
        """``tensor`` depends on a draw."""
        key = storage(tensor)
        known = self.jumps.get(key)
        if known is None:
            self.pin(tensor)
        self.jumps[key] = known or cut

    def shapes(self, name: str, args: Any) -> bool:
        """Whether the shape of what a kernel gives depends on something that has jumped."""
        if name == "index":  # by a mask
            return any(t.dtype in (torch.bool, torch.uint8) and self.depends(t) for t in tensors(args[1]))
        return name in ("masked_select", "repeat_interleave")

    def jumps_in(self, kernel: "Kernel", args: Any, kwargs: Any) -> bool:
        """Whether a kernel jumps with these arguments."""
        if kernel.name == "div":
            return kwargs.get("rounding_mode") is not None
        if kernel.name.startswith("grid_sampler"):
            return args[2] == 1 and self.depends(args[1])  # to the nearest
        return any((args[i] if i < len(args) else kwargs.get(name)) == 0 for i, name in kernel.orders)  # which counts


class Kernel(NamedTuple):
    """What is to be known of a kernel.

    Attributes:
        opaque: whether it is not one of PyTorch's own.
        jumps: whether it always does.
        orders: its arguments, by place and name, on which that depends.
        written: those that it changes.
    """

    name: str
    readable: str
    opaque: bool
    jumps: bool
    orders: tuple[tuple[int, str], ...]
    written: tuple[tuple[int, str], ...]


@functools.cache
def describe(func: Any) -> Kernel:
    if not isinstance(func, torch._ops.OpOverload):  # of a higher order
        return Kernel(str(func), str(func), True, False, (), ())
    name = func._opname.rstrip("_")
    arguments = list(enumerate(func._schema.arguments))
    written = tuple((i, a.name) for i, a in arguments if a.alias_info is not None and a.alias_info.is_write)
    norm = "norm" in name or "dist" in name
    special = ("rounding_mode", "interpolation_mode") + (("p", "ord") if norm else ())
    return Kernel(
        name,
        readable(name),
        func.namespace not in ("aten", "prims"),
        name in STEPS or "quantize" in name or func._overloadname == "dtype",
        tuple((i, argument.name) for i, argument in arguments if argument.name in special),
        written,
    )


class _Calls(TorchFunctionMode):
    """Sees what a program calls."""

    def __init__(self, following: Following) -> None:
        super().__init__()
        self.following = following

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        jumps = self.following.jumps
        if jumps:
            inputs = [tensor for tensor in tensors((args, kwargs)) if storage(tensor) in jumps]
            if inputs:
                return self.following.call(func, args, kwargs, inputs)
        return func(*args, **kwargs)


class _Kernels(TorchDispatchMode):
    """Sees what is computed."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or the first program would load the whole compiler

    def __init__(self, following: Following) -> None:
        super().__init__()
        self.following = following

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        jumps = self.following.jumps
        if jumps:
            with torch._C.DisableTorchFunction():  # the other mode is still there where scripted code calls
                cuts = [jumps[key] for key in map(storage, tensors((args, kwargs))) if key in jumps]
                if cuts:
                    return self.following.run(func, args, kwargs, cuts)
        return func(*args, **kwargs)


def tensors(value: Any) -> list[Tensor]:
    """The tensors in nested containers."""
    found: list[Tensor] = []
    collect(value, found)
    return found


def collect(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            if item is not None:
                collect(item, found)
    elif isinstance(value, dict):
        for item in value.values():
            collect(item, found)
    elif isinstance(value, slice):
        collect((value.start, value.stop, value.step), found)


def unwrapped(tensor: Tensor) -> Iterator[Tensor]:
    """``tensor``, and what is inside of it within transforms of ``torch.func``."""
    yield tensor
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
        yield tensor


def storage(tensor: Tensor) -> int:
    """The identity of the memory of ``tensor``."""
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    try:
        return tensor.untyped_storage()._cdata
    except NotImplementedError:
        return id(tensor)


def forward_passes(function: Any) -> set[CodeType]:
    """The code of the forward passes of all custom functions."""
    found = set()
    for each in function.__subclasses__():
        found |= forward_passes(each)
        code = getattr(each.forward, "__code__", None)
        if code is not None:
            found.add(code)
    return found


def readable(name: str) -> str:
    name = name.strip("_")
    return NAMES.get(name, name)


def in_distributions() -> bool:
    """Whether it is a distribution of PyTorch's or ours that asks, which only checks its arguments."""
    asks = sys._getframe(3).f_globals.get("__name__", "")
    return asks.startswith(("torch.distributions", "zoo.relaxations.distributions"))


def batch_statistics(args: Any, kwargs: Any) -> bool:
    """Whether a call of batch normalisation takes the statistics of its batch."""
    training = kwargs.get("training", kwargs.get("use_input_stats"))
    if training is None:
        training = next((value for value in args if isinstance(value, bool)), False)
    return bool(training)


def run_watched(program: Program, draw: Draw, by: Relaxation, *, independent: bool = False) -> tuple[Tensor, Any]:
    """:func:`run`, and refuse a program whose rows depend on each other through its draws.

    A program is watched the first time that ``by`` runs it: afterwards it costs nothing, and compiled parts of it run
    compiled.
    """
    if torch.compiler.is_compiling():
        return run(program, draw)
    known, kind = by.__dict__.setdefault("_watched", set()), kind_of(program)
    if kind in known or torch._C._len_torch_dispatch_stack():  # of another relaxation's program, for example
        return run(program, draw)
    with Following(by, independent=independent) as following:
        result = run(program, following.drawing(draw))
    if not following.excused:
        known.add(kind)
    return result


def kind_of(program: Program) -> int:
    """The same number for programs of the same code, with modules of the same kinds in the same mode."""
    return hash(_kind(program, 0))


def _kind(part: Any, depth: int) -> Any:
    if isinstance(part, (bool, str, type(None))):
        return part
    if isinstance(part, nn.Module):
        return type(part), tuple((type(module), module.training) for module in part.modules())
    if depth == DEEPEST:
        return type(part)
    if isinstance(part, functools.partial):
        inside = [part.func, *part.args, *part.keywords, *part.keywords.values()]
        return tuple(_kind(each, depth + 1) for each in inside)
    inside = [getattr(part, "__self__", None), *(getattr(part, "__defaults__", None) or ())]
    for cell in getattr(part, "__closure__", None) or ():
        try:
            inside.append(cell.cell_contents)
        except ValueError:  # not set yet
            inside.append(None)
    return getattr(part, "__code__", type(part)), tuple(_kind(each, depth + 1) for each in inside)


DEEPEST = 4
"""How far functions within functions are looked into."""
