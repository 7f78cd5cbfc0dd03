"""Two published results, with the settings of their paper: Liu et al. 2023, arXiv 2304.08612 (ReinMax)."""

from zoo.cli import main

if __name__ == "__main__":
    main("lab", "reproduce")
