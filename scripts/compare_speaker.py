"""The example that explains the subject: a mix of 70% one speaker and 30% another, without labels; and six speakers."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "compare_speaker")
