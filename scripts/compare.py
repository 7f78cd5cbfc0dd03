"""Train the categorical VAE with each relaxation on one budget: the table and the pictures of docs/results."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "compare")
