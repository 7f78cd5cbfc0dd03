"""Run the small decisive experiment of each of the thread's 24 claims, and print the table of verdicts."""

from zoo.cli import main

if __name__ == "__main__":
    main("answers")
