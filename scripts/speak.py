"""Speak with a speaker generator: ``python scripts/speak.py checkpoint=speaker_generator.fsdd text="4 0 7"``."""

from zoo.cli import main

if __name__ == "__main__":
    main("speak")
