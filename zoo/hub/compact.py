"""Weights in little room: half precision, and one bit for those of which in the end only the sign counts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError

if TYPE_CHECKING:
    from torch import Tensor


def bits_of(values: "Tensor", bits: int) -> "Tensor":
    """Whole numbers below ``2 ** bits`` one after another, uint8 ``(ceil(n * bits / 8),)``."""
    import numpy as np
    import torch

    numbers = values.flatten().cpu().numpy().astype(np.int64)
    table = (numbers[:, None] >> np.arange(bits)) & 1
    return torch.from_numpy(np.packbits(table.astype(np.uint8)))


def from_bits(packed: "Tensor", bits: int, shape: list[int]) -> "Tensor":
    """The inverse of :func:`bits_of`, of a shape: uint8, or int64 where they have more than 8 bits.

    Raises:
        ValueError: if there are not just as many bits.
    """
    import math

    import numpy as np
    import torch

    count = math.prod(shape)
    if packed.dtype != torch.uint8 or packed.shape != (-(-count * bits // 8),):
        raise ValueError(f"{tuple(packed.shape)} bytes are not {count} numbers of {bits} bits")
    table = np.unpackbits(packed.numpy(), count=count * bits).reshape(count, bits)
    bit = torch.from_numpy(table)
    numbers = torch.zeros(count, dtype=torch.uint8 if bits <= 8 else torch.int64)
    for i in range(bits):  # one after another: a stranger's file may have many
        numbers |= bit[:, i].to(numbers.dtype) << i
    return numbers.view(*shape)


def one_bit(model: Any) -> Sequence[str]:
    """Names of the weights of ``model`` that become -1 or +1; none where it does not say, as one from outside."""
    return getattr(model, "one_bit", tuple)()


def compact(state: "Mapping[str, Tensor]", signs: Iterable[str]) -> "tuple[dict[str, Tensor], dict[str, list[int]]]":
    """Weights as they are stored in little room, and the shapes of those that are bits.

    Matrices and more in float32 become float16.

    Args:
        signs: names of weights that become -1 or +1.

    Raises:
        ZooError: if a number is too large for half precision.
    """
    import torch

    bits = {name: list(state[name].shape) for name in signs}
    stored = {}
    for name, value in state.items():
        if name in bits:
            stored[name] = bits_of(value > 0, 1)
            continue
        halved = value.dim() > 1 and value.dtype is torch.float32
        stored[name] = value.half() if halved else value
        if not torch.equal(stored[name].isfinite(), value.isfinite()):
            raise ZooError(f"{name} has numbers that are too large for half precision: leave out small=true")
    return stored, bits


def expanded(state: "Mapping[str, Tensor]", bits: Any, where: str) -> "dict[str, Tensor]":
    """The inverse of :func:`compact`, but for what was rounded.

    Raises:
        ZooError: if the shapes of bits are none, or do not fit.
    """
    shapes = bits if isinstance(bits, dict) else {"bits": bits}
    weights = dict(state)
    for name, shape in shapes.items():
        try:
            if not isinstance(shape, list) or not all(type(n) is int and 0 < n < 2**40 for n in shape):
                raise ValueError(f"its shape is {str(shape)[:100]}")
            weights[name] = from_bits(state[name], 1, shape).float().mul_(2).sub_(1)
        except (KeyError, ValueError) as error:
            raise ZooError(f"{where}: {str(name)[:100]!r} does not hold the bits it should: {error}") from error
    return weights


def rounded(model: Any) -> "dict[str, Tensor]":
    """The weights of ``model`` as they are loaded when :func:`compact` has stored them."""
    state = model.state_dict()
    stored, bits = compact(state, one_bit(model))
    return {name: value.to(state[name].dtype) for name, value in expanded(stored, bits, "the model").items()}
