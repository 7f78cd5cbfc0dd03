"""Show or record what an agent does."""

import logging
import sys
from pathlib import Path
from typing import Any

from zoo import hub
from zoo.cli import options
from zoo.config import composition
from zoo.errors import ZooError

log = logging.getLogger(__name__)

HELP = """Play episodes with an agent, on fresh environments, and record the first one.

    python scripts/play.py checkpoint=actor_critic.cartpole                 a GIF, and the returns
    python scripts/play.py checkpoint=runs/mine policy=sampled episodes=10  actions drawn from the policy
    python scripts/play.py checkpoint=actor_critic.cartpole show=true       in a window

Options: checkpoint=, episodes=, seed=, policy=mode or sampled, show=, output=episode.gif.

Pretrained models: {pretrained}
"""


@options.fail_politely
def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        print(
            options.usage(HELP).format(
                pretrained=", ".join(hub.list_models("actor_critic.*", pretrained=True)) or "none"
            )
        )
        return
    from zoo.training.runs import set_up_logging

    set_up_logging(None)
    values: dict[str, Any] = {"checkpoint": "", "episodes": 1, "seed": 0, "policy": "mode", "show": False}
    values["output"] = "episode.gif"
    for override in composition.parse(arguments):
        key, value = override.key_or_group, override.value()
        if key not in values:
            raise ZooError(f"there is no option {key!r}. Options: {', '.join(values)}.")
        values[key] = value
    for key, least in {"episodes": 1, "seed": 0}.items():
        if type(values[key]) is not int or values[key] < least:
            raise ZooError(f"{key}={values[key]!r} is not valid: it must be a whole number, {least} or more.")
    if values["policy"] not in ("mode", "sampled") or type(values["show"]) is not bool:
        raise ZooError("policy is mode or sampled, show is true or false")
    if not values["checkpoint"]:
        raise ZooError("say which checkpoint: checkpoint=NAME or checkpoint=FOLDER")
    play(**values)


def play(*, checkpoint: str, episodes: int, seed: int, policy: str, show: bool, output: str) -> None:
    """Play ``episodes``, tell their returns, and show or record the first.

    Raises:
        ZooError: if ``checkpoint`` is no agent, or ``output`` cannot be written.
    """
    from functools import partial

    from zoo.data.seeding import EPISODE, PREDICT, seed_default_generators
    from zoo.models.actor_critic import ActorCritic
    from zoo.models.actor_critic.data import seed_of_reset
    from zoo.models.actor_critic.trial import Trial
    from zoo.training.plots import save_film

    saved = hub.read(str(checkpoint))
    if "env" not in saved.data:
        raise ZooError(f"{checkpoint} does not say which environment it is for: give the folder of an agent or run")
    model = saved.build()
    if not isinstance(model, ActorCritic):
        raise ZooError(f"{checkpoint} is a {type(model).__name__}, not an agent")
    act = partial(model.act, mode=policy == "mode")
    trial = Trial(saved.data["env"], [seed_of_reset(seed, PREDICT, EPISODE, i) for i in range(episodes)])
    seed_default_generators(seed, PREDICT)
    if show:
        trial.film(act, render_mode="human")
    returns, lengths = trial.play(act)
    for i in range(episodes):
        log.info("episode %d: return %.1f, %d steps", i, returns[i], lengths[i])
    if episodes > 1:
        log.info("mean return %.1f", returns.mean())
    if not show:
        seed_default_generators(seed, PREDICT)
        frames = trial.film(act, every=2)
        try:
            save_film(frames, Path(str(output)), frames_per_second=25)
        except (OSError, ValueError) as error:
            raise ZooError(f"cannot write output={output}: {error}") from error
        log.info("%s", output)
