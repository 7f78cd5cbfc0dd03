"""Make the stored optimal lengths of the standard TSP test instances, and audit them."""

from zoo.cli.options import fail_politely
from zoo.lab.optima import main

if __name__ == "__main__":
    fail_politely(main)()
