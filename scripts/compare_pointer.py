"""Train the pointer network on tours with several training signals on one budget: the table of the README."""

from zoo.lab.compare_pointer import main

if __name__ == "__main__":
    main()
