"""Actions of several choices: the actor-critic with several relaxations on a factored action space."""

from zoo.lab.factored import main

if __name__ == "__main__":
    main()
