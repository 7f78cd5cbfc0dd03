"""A check that constructors share."""

from collections.abc import Sequence


def check_positive(**sizes: int | Sequence[int]) -> None:
    """Raise ``ValueError`` for the first of ``sizes`` that is or has a number less than 1, or is empty."""
    for name, size in sizes.items():
        numbers = [size] if isinstance(size, int) else size
        if not numbers or min(numbers) < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
