"""A network of chosen weights as a small file: a bit a sign, as many as it takes a choice, the rest in float32.

Batch normalisation is folded into a scale and a shift for each unit. The file is safetensors; what is in its head says
how to compute with it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ZooError, cause
from zoo.hub.compact import bits_of, from_bits
from zoo.models.binary_net.nets import BinaryMLP, BrickConv, BrickNet

FORMAT = "zoo-packed-1"
LARGEST = 1_000_000_000  # bytes of a file, and numbers of what is in it


def folded(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> dict[str, Tensor]:
    """``norm`` in ``eval()`` as ``scale * x + shift``."""
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return {"scale": scale, "shift": norm.bias - norm.running_mean * scale}


@torch.no_grad()
def parts(network: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the head of the file says, and its tensors.

    Raises:
        ZooError: if the network is of another kind, or has real weights.
    """
    if not isinstance(network, (BinaryMLP, BrickNet)) or not network.chosen:
        raise ZooError(
            f"{type(network).__name__} has ordinary weights, not weights of one bit: there is nothing to pack"
        )
    tensors: dict[str, Tensor] = {}
    for i, norm in enumerate(network.norms):
        assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
        tensors |= {f"{i}.{name}": value for name, value in folded(norm).items()}
    if isinstance(network, BinaryMLP):
        for i, weight in enumerate(network.weights):
            tensors[f"{i}.bits"] = bits_of(weight > 0, 1)
        shapes = [list(weight.shape) for weight in network.weights]
        head: dict[str, Any] = {"kind": "mlp", "shapes": shapes}
    else:
        tensors["first"] = network.first.weight
        tensors |= {"head.weight": network.head.weight, "head.bias": network.head.bias}
        shapes, bits = [], 1
        for i, layer in enumerate(network.layers, 1):
            assert isinstance(layer, BrickConv)
            bits = max(1, (layer.logits.shape[-1] - 1).bit_length())
            tensors[f"{i}.choices"] = bits_of(layer.logits.argmax(-1), bits)
            tensors |= {f"{i}.bricks": layer.bricks, f"{i}.scales": layer.scales}
            shapes.append(list(layer.logits.shape[:-1]))
        head = {"kind": "bricks", "shapes": shapes, "bits": bits}
    return head, {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}


def pack(network: nn.Module) -> bytes:
    """The file of a network.

    Raises:
        ZooError: as :func:`parts`.
    """
    head, tensors = parts(network)
    return safetensors.torch.save(tensors, {"format": FORMAT, "network": json.dumps(head)})


class Packed(nn.Module):
    """A network out of a packed file: images or rows to logits, as the one that was packed in ``eval()``."""

    first: Tensor
    head_weight: Tensor
    head_bias: Tensor

    def __init__(self, head: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.kind, self.count = head["kind"], len(head["shapes"])
        for i, shape in enumerate(head["shapes"]):
            if self.kind == "mlp":
                value = 2.0 * from_bits(tensors[f"{i}.bits"], 1, shape) - 1.0
            else:
                bricks, scales = tensors[f"{i + 1}.bricks"], tensors[f"{i + 1}.scales"]
                choice = from_bits(tensors[f"{i + 1}.choices"], head["bits"], shape).long()
                value = bricks[choice] * scales[..., None, None, None]
                value = value.flatten(1, 2)  # whole filters: (outputs, fragments * channels, 3, 3)
            self.register_buffer(f"weight_{i}", value)
        for name, value in tensors.items():
            if not name.endswith((".bits", ".choices", ".bricks", ".scales")):
                self.register_buffer(name.replace(".", "_"), value)

    def normed(self, x: Tensor, i: int) -> Tensor:
        scale, shift = getattr(self, f"{i}_scale"), getattr(self, f"{i}_shift")
        more = [1] * (x.dim() - 2)
        return x * scale.view(-1, *more) + shift.view(-1, *more)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "mlp":
            x = x.flatten(1)
            for i in range(self.count):
                x = self.normed(F.linear(x.relu() if i else x, getattr(self, f"weight_{i}")), i)
            return x
        x = self.normed(F.conv2d(x, self.first, padding=1), 0).relu()
        for i in range(self.count):
            x = F.conv2d(F.max_pool2d(x, 2), getattr(self, f"weight_{i}"), padding=1)
            x = self.normed(x, i + 1).relu()
        return F.linear(x.mean((2, 3)), self.head_weight, self.head_bias)


def unpack(content: bytes) -> Packed:
    """The network in a file.

    Raises:
        ZooError: if it is none, or damaged.
    """
    try:
        tensors = safetensors.torch.load(content)
        size = int.from_bytes(content[:8], "little")
        known = json.loads(content[8 : 8 + size])["__metadata__"]
        head = json.loads(known["network"])
        shapes = head["shapes"]
        good = (
            known["format"] == FORMAT
            and head["kind"] in ("mlp", "bricks")
            and 0 < len(shapes) < (1000 if head["kind"] == "mlp" else 10)
        )
        good = good and all(all(type(n) is int and n > 0 for n in shape) and len(shape) == 2 for shape in shapes)
        good = good and (head["kind"] == "mlp" or (type(head["bits"]) is int and 1 <= head["bits"] <= 32))
        if not good or sum(int(np.prod(shape)) for shape in shapes) > LARGEST:
            raise ValueError("its head is of something else")
        packed = Packed(head, tensors).eval()
        with torch.no_grad():  # whether its parts fit together
            size = 2 ** len(shapes)
            packed(
                torch.zeros(1, shapes[0][1])
                if packed.kind == "mlp"
                else torch.zeros(1, tensors["first"].shape[1], size, size)
            )
        return packed
    except Exception as error:  # of safetensors, JSON, NumPy and PyTorch
        raise ZooError(f"this is not a packed network, or it is damaged: {cause(error)}") from error


def load(path: str | Path) -> Packed:
    """The network in the file ``path``.

    Raises:
        ZooError: if it cannot be read; as :func:`unpack`.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST)
    except OSError as error:
        raise ZooError(f"{path} cannot be read: {cause(error)}") from error
    return unpack(content)
