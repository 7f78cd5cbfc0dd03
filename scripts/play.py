"""Show or record what an agent does: ``python scripts/play.py checkpoint=actor_critic.cartpole``."""

from zoo.cli import main

if __name__ == "__main__":
    main("play")
