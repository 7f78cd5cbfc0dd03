"""Train the variants of a model that a table of the documentation compares, several seeds each."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "variants")
