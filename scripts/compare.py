"""Train the categorical VAE with each relaxation on one budget: the table and the pictures of the README."""

from zoo.lab.compare import main

if __name__ == "__main__":
    main()
