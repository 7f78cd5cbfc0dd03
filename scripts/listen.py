"""A page to hear the answer on: real voices, ten draws of each relaxation, mean vectors, a blend of two voices."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "listen")
