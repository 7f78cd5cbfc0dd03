"""How the gradient of each estimator on tours compares with the true one, at initialisation and late."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "gradients_pointer")
