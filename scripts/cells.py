"""How Gumbel noise and tau in the actor's gradient change exploration: curves of the policy's entropy."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "cells")
