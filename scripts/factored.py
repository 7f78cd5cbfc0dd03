"""Actions of several choices: the actor-critic with several relaxations on a factored action space."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "factored")
