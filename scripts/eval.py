"""Score a checkpoint on the test set: ``python scripts/eval.py checkpoint=cat_vae.mnist``."""

from zoo.cli import main

if __name__ == "__main__":
    main("eval")
