"""Train the pointer network on tours with several training signals on one budget: the table of docs/results."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "compare_pointer")
