"""Draw from a generative model: ``python scripts/sample.py checkpoint=cat_vae.mnist``."""

from zoo.cli import main

if __name__ == "__main__":
    main("sample")
