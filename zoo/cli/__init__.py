"""One command line, ``zoo``: a module for each command. ``scripts/*.py`` are doors to the same."""

from zoo.cli.commands import main

__all__ = ["main"]
