"""Find a short tour through points: ``python scripts/solve.py checkpoint=pointer_net.tsp20 points=FILE``."""

from zoo.cli import main

if __name__ == "__main__":
    main("solve")
