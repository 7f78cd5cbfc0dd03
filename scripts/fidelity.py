"""How close the words of a speaker generator come to recordings: voices, spectrograms, and how takes differ."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "fidelity")
