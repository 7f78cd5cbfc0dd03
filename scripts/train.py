"""Train a model: ``python scripts/train.py model=cat_vae``. Without arguments it shows what can be chosen."""

from zoo.cli import main

if __name__ == "__main__":
    main("train")
