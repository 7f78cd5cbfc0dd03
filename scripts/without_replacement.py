"""Samples with and without replacement: the error of the gradient at equal numbers of program runs."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "without_replacement")
