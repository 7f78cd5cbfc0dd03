"""How the gradient of each estimator on tours compares with the true one, at initialisation and late."""

from zoo.lab.gradients_pointer import main

if __name__ == "__main__":
    main()
