"""Make a pretrained model of a run: ``python scripts/publish.py runs/mine cat_vae.mine``."""

from zoo.cli import main

if __name__ == "__main__":
    main("publish")
