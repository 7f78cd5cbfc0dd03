"""Play episodes with an agent, on fresh environments, and record the first one.

    python scripts/play.py checkpoint=actor_critic.cartpole                 a GIF, and the returns
    python scripts/play.py checkpoint=runs/mine policy=sampled episodes=10  actions drawn from the policy
    python scripts/play.py checkpoint=actor_critic.cartpole show=true       in a window

Episodes begin with seeds of their own, the same for every agent.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from zoo import hub
from zoo.cli.arguments import command
from zoo.cli.options import pretrained, written
from zoo.errors import ZooError

log = logging.getLogger(__name__)
ARCHS = ("actor_critic", "world_model")


def play(
    checkpoint: str,
    *,
    episodes: Annotated[int, Field(ge=1, le=20_000)] = 1,
    seed: NonNegativeInt = 0,
    policy: Literal["mode", "sampled"] = "mode",
    show: bool = False,
    output: Path = Path("episode.gif"),
    trust: Sequence[str] = (),
) -> None:
    """Play episodes, tell their returns, and show or record the first.

    Args:
        checkpoint: an agent: a pretrained model, its folder or a run folder.
        episodes: how many, 20,000 at most.
        seed: of the environments and the draws.
        policy: mode, the most probable action, or sampled.
        show: in a window, in place of a file.
        output: the GIF.
        trust: packages whose classes it may name beside those of this project, such as mypkg: their code runs.

    Raises:
        ZooError: if ``checkpoint`` is not an agent, or ``output`` cannot be written.
    """
    from zoo.data.environments.making import Recipe
    from zoo.data.environments.module import seed_of_reset
    from zoo.data.environments.trial import Trial
    from zoo.data.seeding import EPISODE, PREDICT, seed_default_generators
    from zoo.models.agents import Agent
    from zoo.training.plots import save_film
    from zoo.training.runs import set_up_logging

    set_up_logging(None)
    saved = hub.read(checkpoint, trust, ARCHS)
    if "env" not in saved.data:
        raise ZooError(f"{checkpoint} does not say which environment it is for: give the folder of an agent or run")
    model = saved.build()
    if not isinstance(model, Agent):
        raise ZooError(f"{checkpoint} is a {type(model).__name__}, not an agent")
    mode = policy == "mode"
    seeds = [seed_of_reset(seed, PREDICT, EPISODE, i) for i in range(episodes)]
    trial = Trial(Recipe.of(saved.data), seeds)
    seed_default_generators(seed, PREDICT)
    if show:
        trial.film(model.player(mode=mode), render_mode="human")
    returns, lengths = trial.play(model.player(mode=mode))
    for i in range(episodes):
        log.info("episode %d: return %.1f, %d steps", i, returns[i], lengths[i])
    if episodes > 1:
        log.info("mean return %.1f", returns.mean())
    if not show:
        seed_default_generators(seed, PREDICT)
        frames = model.film(trial, every=2, most=10_000, mode=mode)
        with written(output) as path:
            save_film(frames, path, frames_per_second=25)
        log.info("%s", output)


main = command(play, text=str(__doc__), notes=lambda: pretrained(*ARCHS))
