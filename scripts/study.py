"""Run the study of when Gumbel noise pays, and write its page from the rows."""

from zoo.cli import main

if __name__ == "__main__":
    main("study")
