"""Tours of the instances of TSPLIB by the network, a local search and classical methods, with equal CPU seconds."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "tsplib")
