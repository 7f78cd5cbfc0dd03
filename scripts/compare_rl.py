"""Train the actor-critic with several relaxations and critics on one budget: the tables of docs/actor_critic."""

from zoo.lab.compare_rl import main

if __name__ == "__main__":
    main()
