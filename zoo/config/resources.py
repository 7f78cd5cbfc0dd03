"""Where the files that come with the code are."""

from pathlib import Path

PACKAGE = Path(__file__).parent.parent


def resource(name: str) -> Path:
    """The folder ``configs`` or ``checkpoints``: inside an installed package, beside it in a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name
