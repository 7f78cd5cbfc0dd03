"""Make the stored costs of the standard test instances, optimal or the best known."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "optima")
