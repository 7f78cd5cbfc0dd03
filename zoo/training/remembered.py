"""What a model knows of its data and is not a number, such as the names of columns: it goes with the weights."""

import json
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ZooError

MOST = 10_000_000  # bytes
KINDS = (str, int)
"""What a list may hold."""


class Remembered(nn.Module):
    """Lists of texts or whole numbers, and texts, by name; in a state dict JSON in bytes, as that holds tensors only.

    Args:
        known: name -> what is there before anything is known, an empty list or a text.
    """

    def __init__(self, **known: Any) -> None:
        super().__init__()
        self.known = known

    def __getitem__(self, name: str) -> Any:
        return self.known[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.known = self.known | {name: value if isinstance(value, str) else list(value)}

    def get_extra_state(self) -> Tensor:
        return torch.tensor(list(json.dumps(self.known).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Raises ``ZooError`` for anything but what :meth:`get_extra_state` gives."""
        try:
            if not isinstance(state, Tensor) or state.dtype != torch.uint8 or state.numel() > MOST:
                raise ValueError("it is none")
            known = json.loads(bytes(state.tolist()))
            if not isinstance(known, dict) or not known.keys() <= self.known.keys():  # fewer, of an earlier version
                raise ValueError("it has other names")
            for name, value in known.items():
                items = value if isinstance(value, list) else []
                if type(value) is not type(self.known[name]) or any(type(item) not in KINDS for item in items):
                    raise ValueError(f"{name} is something else")
        except (TypeError, ValueError, RecursionError) as error:
            raise ZooError(f"what the checkpoint knows of its data cannot be read: {error}") from error
        self.known = self.known | known

    def _load_from_state_dict(self, *arguments: Any) -> None:  # by which readers know that its size may be any
        super()._load_from_state_dict(*arguments)
