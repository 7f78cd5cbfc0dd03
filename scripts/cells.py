"""Verify every relaxation on every distribution against a reference, and write the table."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "cells")
