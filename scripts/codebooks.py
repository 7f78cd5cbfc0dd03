"""Train the tokenizer with each way to have discrete codes on one budget: the table of docs/models/tokenizer.md."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "codebooks")
