"""Train the actor-critic with several relaxations and critics on one budget: the tables of docs/actor_critic."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "compare_rl")
