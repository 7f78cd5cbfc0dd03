"""A Gymnasium environment with discrete actions: how it is made, and what an agent has to know of it before."""

import dataclasses
import functools
import os
import traceback
import warnings
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import ZooError, did_you_mean

if TYPE_CHECKING:
    import gymnasium

PLUGINS = {"MinAtar": "minatar.gym"}
"""Modules with a ``register_envs()`` that Gymnasium has to be told of, by the namespace of their environments."""
LARGEST_IMAGE = 96


@dataclasses.dataclass(frozen=True)
class Spaces:
    """What an agent has to know of an environment before it is built.

    Attributes:
        observation: the shape of an observation, ``(features,)`` or ``(height, width, channels)``.
        actions: the number of options of each choice that an action is made of.
    """

    observation: tuple[int, ...]
    actions: tuple[int, ...]


def make(name: str, **options: Any) -> "gymnasium.Env":
    """The Gymnasium environment ``name`` with observations and actions as this module has them.

    Observations are arrays of a vector or a small image; other spaces (``Discrete``, ``Tuple``, ``Dict`` ...) are
    flattened to a vector.

    Raises:
        ZooError: if there is no such environment, it cannot be made, its actions are not discrete, or its
            observations are large images.
    """
    try:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        import gymnasium
    except ImportError as error:
        raise ZooError("environments need the package gymnasium: pip install 'discrete-latent-zoo[rl]'") from error
    register(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecated versions; those that are gone raise
            env = gymnasium.make(name, disable_env_checker=True, **options)
    except gymnasium.error.UnregisteredEnv as error:
        known = list(gymnasium.registry)
        raise ZooError(
            f"there is no environment {name!r}.{did_you_mean(name, known)} "
            "One that a package registers when it is imported has the name 'package:Name-v0'."
        ) from error
    except Exception as error:  # a missing package, or whatever the environment's own constructor raises
        raise ZooError(f"the environment {name} cannot be made: {one_line(error)}") from error
    space = env.observation_space
    if not isinstance(space, gymnasium.spaces.Box):
        if not space.is_np_flattenable:
            raise ZooError(f"{name} has observations {space}, which are no vector or image of a fixed size")
        env = gymnasium.wrappers.FlattenObservation(env)
    elif len(space.shape) not in (1, 3):
        env = gymnasium.wrappers.ReshapeObservation(env, (int(np.prod(space.shape)),))
    elif len(space.shape) == 3 and max(space.shape[:2]) > LARGEST_IMAGE:
        raise ZooError(
            f"{name} has images of {space.shape}, larger than {LARGEST_IMAGE} x {LARGEST_IMAGE}: "
            "register it with a wrapper that shrinks them"
        )
    options_of_choices(env)  # refuses what is not discrete
    return env


def register(name: str) -> None:
    """Import the package of ``name`` if its environments are not known to Gymnasium by themselves."""
    import importlib

    import gymnasium

    plugin = PLUGINS.get(name.split("/")[0])
    if plugin and name not in gymnasium.registry:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(plugin).register_envs()
        except ImportError as error:
            raise ZooError(f"{name} needs a package: pip install 'discrete-latent-zoo[rl]' ({error})") from error


def options_of_choices(env: "gymnasium.Env") -> tuple[int, ...]:
    """The number of options of each choice of an action.

    Raises:
        ZooError: if the actions are not discrete.
    """
    from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete

    space = env.action_space
    if isinstance(space, Discrete):
        return (int(space.n),)
    if isinstance(space, MultiDiscrete):
        return tuple(int(n) for n in space.nvec.flatten())
    if isinstance(space, MultiBinary):
        return (2,) * int(np.prod(space.shape))
    raise ZooError(
        f"{env.spec.id if env.spec else env} has the action space {space}; this model makes discrete choices: "
        "it needs a Discrete, MultiDiscrete or MultiBinary one"
    )


@functools.cache
def spaces(name: str) -> Spaces:
    """The spaces of the environment ``name``.

    Raises:
        ZooError: as :func:`make`.
    """
    with closing(make(name)) as env:
        return Spaces(env.observation_space.shape, options_of_choices(env))


@functools.cache
def action_space(name: str) -> Any:
    """The action space of the environment ``name``, as Gymnasium has it.

    Raises:
        ZooError: as :func:`make`.
    """
    with closing(make(name)) as env:
        return env.action_space


def as_actions(space: Any, choices: np.ndarray) -> np.ndarray:
    """``choices``, int64 ``(batch, choices)``, as actions of ``space``: ``(batch, *space.shape)``."""
    return choices.reshape(len(choices), *space.shape) + getattr(space, "start", 0)


@functools.cache
def action_names(name: str) -> tuple[str, ...]:
    """What the environment ``name`` calls its actions; empty if it does not say, or an action is several choices.

    Raises:
        ZooError: as :func:`make`.
    """
    with closing(make(name)) as env:
        game: Any = env.unwrapped
        if hasattr(game, "get_action_meanings"):
            return tuple(map(str, game.get_action_meanings()))
        letters = getattr(getattr(getattr(game, "game", None), "env", None), "action_map", None)  # of MinAtar
        return tuple(letters[i] for i in game.action_set) if letters else ()


def one_line(error: BaseException) -> str:
    """``error`` with the place it came from, for a message without a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{place}"


def stored_dtype(dtype: np.dtype) -> type:
    """How observations are kept: booleans and bytes as they are, anything else as float32."""
    return {"bool": np.bool_, "uint8": np.uint8}.get(np.dtype(dtype).name, np.float32)
