"""Damaged files for every reader, 300 each; ``python -m tests.fuzzing`` runs 20,000."""

import pytest

from tests.fuzzing import READERS, fuzz

CASES = 300


@pytest.mark.parametrize("reader", READERS)
def test_whatever_is_wrong_with_a_file_is_one_error_in_bounds(reader, tmp_path):
    refused, _, _ = fuzz(reader, range(CASES), tmp_path)
    assert refused > (0 if reader == "card" else CASES / 5)  # some damage is harmless
