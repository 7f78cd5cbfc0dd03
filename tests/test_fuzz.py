"""Damaged files for every reader, 100 each, and 100 more that are slow; ``python -m tests.fuzzing`` runs 20,000."""

import pytest

from tests.fuzzing import READERS, fuzz

FEW, MORE = range(100), range(100, 200)


@pytest.mark.parametrize("cases", [FEW, pytest.param(MORE, marks=pytest.mark.slow)], ids=["few", "more"])
@pytest.mark.parametrize("reader", READERS)
def test_whatever_is_wrong_with_a_file_is_one_error_in_bounds(reader, cases, tmp_path):
    refused, _, _ = fuzz(reader, cases, tmp_path)
    assert refused > (0 if reader == "card" else len(cases) / 5)  # some damage is harmless
