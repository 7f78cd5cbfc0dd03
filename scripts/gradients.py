"""The gradient lab: every estimator of the registry against the exact gradient, by enumeration."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "gradients")
