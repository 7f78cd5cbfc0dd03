"""Make a pretrained model of a run: ``python scripts/publish.py RUN_FOLDER NAME``."""

from zoo.cli.publish import main

if __name__ == "__main__":
    main()
