"""Make the stored optimal lengths of the standard TSP test instances, and audit them."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "optima")
