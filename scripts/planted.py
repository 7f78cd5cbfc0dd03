"""Plant columns that matter in a table of noise, and see which of them a selector finds."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "planted")
