"""Train the categorical VAE with each relaxation on one budget: the table and the pictures of the README."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "compare")
