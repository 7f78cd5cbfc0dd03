"""What goes with the weights and is not a number."""

import pytest
import torch
from torch import nn

from zoo.errors import ZooError
from zoo.training import Remembered


def test_it_goes_with_the_weights():
    first, second = (nn.ModuleDict({"about": Remembered(names=[], unit="x")}) for _ in range(2))
    first["about"]["names"], first["about"]["unit"] = ("ä", "b\n"), "word"
    second.load_state_dict(first.state_dict())
    assert second["about"].known == {"names": ["ä", "b\n"], "unit": "word"}
    assert first["about"]["names"] == ["ä", "b\n"]


def test_what_an_earlier_version_did_not_know_stays_unknown():
    about = Remembered(names=[], unit="x")
    about.set_extra_state(torch.tensor(list(b'{"names": ["a"]}'), dtype=torch.uint8))
    assert about.known == {"names": ["a"], "unit": "x"}


@pytest.mark.parametrize(
    "state",
    [
        b"[]",
        b"\xff",
        b'{"names": [1.5], "unit": "x"}',
        b'{"names": [[]], "unit": "x"}',
        b'{"names": "a", "unit": "x"}',
        b'{"names": [], "other": "x"}',
        b'{"names": [], "unit": []}',
        b"[" * 100_000,
    ],
)
def test_anything_else_is_refused(state):
    about = Remembered(names=[], unit="x")
    with pytest.raises(ZooError, match="cannot be read"):
        about.set_extra_state(torch.tensor(list(state), dtype=torch.uint8))
    assert about.known == {"names": [], "unit": "x"}
    with pytest.raises(ZooError, match="it is none"):
        about.set_extra_state(torch.zeros(3))
