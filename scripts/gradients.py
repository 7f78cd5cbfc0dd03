"""The gradient lab: every estimator of the registry against the exact gradient, by enumeration."""

from zoo.lab.gradients import main

if __name__ == "__main__":
    main()
