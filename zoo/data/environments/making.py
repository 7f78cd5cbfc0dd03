"""A Gymnasium environment with discrete actions: how it is made, and what an agent has to know of it before."""

import dataclasses
import functools
import json
import math
import os
import warnings
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.config import Trust, from_config, ours
from zoo.config.objects import import_advice, import_named
from zoo.config.trust import nodes
from zoo.errors import ZooError, did_you_mean, one_line

if TYPE_CHECKING:
    import gymnasium

PLUGINS = {"MinAtar": "minatar.gym:register_envs", "ALE": "ale_py"}
"""What has to be imported, and called, for Gymnasium to know the environments of a namespace."""
LARGEST_IMAGE = 256
LONGEST = 10_000
"""Steps after which an episode of an environment without a limit of its own is cut off."""
LONGEST_HISTORY = 1000
OURS = ("render_mode", "max_episode_steps", "disable_env_checker", "id")
"""What ``env_kwargs`` may not have: it is said elsewhere."""


@dataclasses.dataclass(frozen=True)
class Spaces:
    """What an agent has to know of an environment before it is built.

    Attributes:
        observation: the shape of an observation, ``(features,)`` or ``(height, width, channels)``; with a history the
            number of observations before it.
        actions: the number of options of each choice that an action is made of.
        parts: of an observation that is a vector made of several things, images among them, their shapes.
    """

    observation: tuple[int, ...]
    actions: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Which environment, and how it is made.

    Attributes:
        env: the name that Gymnasium knows it by.
        env_kwargs: for its constructor.
        wrappers: around it, the first one innermost, each a configuration with ``_target_``.
        max_episode_steps: after which an episode is truncated, in place of the environment's own limit.
        history: the number of observations that an agent sees at a time.
    """

    env: str
    env_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    wrappers: tuple[Mapping[str, Any], ...] = ()
    max_episode_steps: int | None = None
    history: int = 1

    @classmethod
    def of(cls, value: "str | Mapping[str, Any] | Recipe") -> "Recipe":
        """The recipe in ``value``, the name of an environment or the configuration of :class:`Environments`.

        Raises:
            ZooError: if it names no environment, or a part is not valid.
        """
        if isinstance(value, Recipe):
            return value
        given = {"env": value} if not isinstance(value, Mapping) else value
        env, kwargs, wrappers = given.get("env"), given.get("env_kwargs") or {}, given.get("wrappers") or []
        limit: Any = given.get("max_episode_steps")
        history: Any = given.get("history", 1)
        if not isinstance(env, str) or not env:
            raise ZooError(f"data.env={env!r} is not valid: give the name of an environment, such as CartPole-v1")
        if not isinstance(kwargs, Mapping) or any(not isinstance(name, str) for name in kwargs):
            raise ZooError(f"data.env_kwargs={kwargs!r} is not valid: give names and values, as {{is_slippery: false}}")
        if taken := [name for name in kwargs if name in OURS]:
            instead = " Write data.max_episode_steps." if taken == ["max_episode_steps"] else ""
            raise ZooError(f"data.env_kwargs cannot say {', '.join(taken)}.{instead}")
        if not isinstance(wrappers, (list, tuple)) or any(
            not isinstance(one, Mapping) or not isinstance(one.get("_target_"), str) for one in wrappers
        ):
            raise ZooError(
                f"data.wrappers={wrappers!r} is not valid: give a list of classes and what they take, such as "
                "[{_target_: gymnasium.wrappers.TimeAwareObservation}]"
            )
        for name, number, most in (("max_episode_steps", limit, 10**9), ("history", history, LONGEST_HISTORY)):
            if number is None and name == "max_episode_steps":
                continue
            if type(number) is not int or not 1 <= number <= most:
                raise ZooError(f"data.{name}={number!r} is not valid: it must be a whole number from 1 to {most}")
        return cls(env, dict(kwargs), tuple(dict(one) for one in wrappers), limit, history)

    @property
    def key(self) -> str:
        """All of it as a text."""
        try:
            return json.dumps(dataclasses.asdict(self), sort_keys=True)
        except TypeError as error:
            raise ZooError(f"data.env_kwargs and data.wrappers must be plain data: {error}") from error

    def __str__(self) -> str:
        return self.env


def make(recipe: "str | Recipe", **options: Any) -> "gymnasium.Env":
    """The Gymnasium environment of ``recipe``, with its wrappers.

    Raises:
        ZooError: if there is no such environment, it cannot be made, its actions are not discrete, or its
            observations are none that a network could take.
    """
    try:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        import gymnasium
    except ImportError as error:
        raise ZooError("environments need the package gymnasium: pip install 'discrete-latent-zoo[rl]'") from error
    recipe = Recipe.of(recipe)
    name = recipe.env
    register(name)
    if recipe.max_episode_steps is not None:
        options["max_episode_steps"] = -1  # no limit of its own: ours counts the agent's steps
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecated versions; those that are gone raise
            if ":" in name:
                import_named(name.partition(":")[0])
            env = gymnasium.make(name, disable_env_checker=True, **options, **recipe.env_kwargs)
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.NameNotFound) as error:
        module, colon, short = name.rpartition(":")
        raise ZooError(
            f"there is no environment {name!r}.{did_you_mean(short, list(gymnasium.registry), before=module + colon)} "
            "One that a package registers when it is imported has the name 'package:Name-v0'."
        ) from error
    except (Exception, SystemExit) as error:  # a missing package, or whatever the environment's constructor raises
        raise ZooError(
            f"the environment {name} cannot be made: {one_line(error)}{import_advice(error, name.partition(':')[0])}"
        ) from error
    for i, config in enumerate(recipe.wrappers):
        where = f"data.wrappers[{i}]"
        # Whoever read the configuration has checked the classes of others; of this project only its parts will do.
        others = {str(v).split(".")[0] for key, v, _ in nodes(config, where) if key == "_target_" and not ours(v)}
        env = from_config(dict(config), where=where, trust=Trust(tuple(others)), objects={"env": env})
        if not isinstance(env, gymnasium.Env):
            raise ZooError(f"{where}: {config['_target_']} makes a {type(env).__name__}, which is not an environment")
    try:
        options_of_choices(env)  # refuses what is not discrete
        Observer(env)  # refuses what no network takes
    except ZooError:
        raise
    except Exception as error:
        raise ZooError(
            f"the environment {name} does not say its action_space and observation_space: {one_line(error)}"
        ) from error
    return env


def register(name: str) -> None:
    """Import the package of ``name`` if its environments are not known to Gymnasium by themselves."""
    import importlib

    import gymnasium

    namespace = name.split("/")[0]
    if namespace not in PLUGINS or name in gymnasium.registry:
        return
    module, _, function = PLUGINS[namespace].partition(":")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plugin = importlib.import_module(module)
            getattr(plugin, function)() if function else gymnasium.register_envs(plugin)
    except ImportError as error:
        extra = "atari" if namespace == "ALE" else "rl"
        raise ZooError(f"{name} needs a package: pip install 'discrete-latent-zoo[{extra}]' ({error})") from error


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
        f"{named(env)} has the action space {space}; this model makes discrete choices: "
        "it needs a Discrete, MultiDiscrete or MultiBinary one"
    )


def named(env: "gymnasium.Env") -> str:
    return env.spec.id if env.spec else str(env)


class Observer:
    """What an environment gives as an observation, as one array.

    Vectors and images stay as they are; an image whose channels come first gets them last, stacked images become the
    channels of one, and an image without channels gets one. Other spaces (``Discrete``, ``Tuple``, ``Dict`` ...) are
    flattened to a vector: a ``Discrete`` part one-hot, images in it with bytes as [0, 1].

    Args:
        env: the environment.

    Attributes:
        shape: of the array.
        dtype: of the array: booleans and bytes as they are, anything else as float32.
        parts: where images are among several things, the shapes of what the vector is made of.

    Raises:
        ZooError: if the observations are none that a network could take.
    """

    def __init__(self, env: "gymnasium.Env") -> None:
        from gymnasium.spaces import Box

        self.space, name = env.observation_space, named(env)
        self.single = isinstance(self.space, Box)
        self.shape: tuple[int, ...]
        self.parts: tuple[tuple[int, ...], ...] = ()
        if self.single:
            self.shape, self.dtype = shape_of(self.space), stored_dtype(self.space.dtype)
            shapes = [self.shape]
        else:
            if not self.space.is_np_flattenable:
                raise ZooError(
                    f"{name} has observations {self.space}, which are neither a vector nor an image of a fixed size"
                )
            shapes = [shape_of(leaf) for leaf in leaves(self.space)]
            self.shape, self.dtype = (sum(map(math.prod, shapes)),), stored_dtype(np.dtype(float))
            if any(len(shape) == 3 for shape in shapes):
                self.parts = joined(shapes)
        if too_large := [shape for shape in shapes if len(shape) == 3 and max(shape[:2]) > LARGEST_IMAGE]:
            raise ZooError(
                f"{name} has images of {too_large[0]}, larger than {LARGEST_IMAGE} x {LARGEST_IMAGE}: shrink them, "
                "data.wrappers='[{_target_: gymnasium.wrappers.ResizeObservation, shape: [84, 84]}]'"
            )

    def __call__(self, observation: Any) -> np.ndarray:
        """An observation as the environment gives it to an array of ``shape``.

        Raises:
            ValueError: if it is not of the space.
        """
        if self.single:
            array: np.ndarray = np.asarray(observation, self.dtype)
            return array if array.shape == self.shape else fitting(array, self.space)
        array = np.concatenate([flattened(leaf, part) for leaf, part in pairs(self.space, observation)])
        if array.shape != self.shape:
            raise ValueError(f"it is a vector of {array.size} entries, not of {self.shape[0]} as {self.space}")
        return array

    def batch(self, observation: Any) -> tuple[np.ndarray, bool]:
        """One observation, or as many as vector environments give at a time, to ``(batch, *shape)``; and whether it is
        one.

        Raises:
            ValueError: if it is neither.
        """
        leaf, part = next(iter(pairs(self.space, observation)))
        extra = np.asarray(part).ndim - len(leaf.shape)
        count = len(np.asarray(part)) if extra == 1 else 1
        try:
            if extra not in (0, 1):
                raise ValueError(f"of {np.asarray(part).shape}")
            rows = [observation] if extra == 0 else [select(self.space, observation, i) for i in range(count)]
            array = np.stack([self(row) for row in rows])
            if array.shape[1:] != self.shape:
                raise ValueError(f"of {array.shape[1:]}")
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ValueError(
                f"observations must be as the environment gives them, {self.space}, one or a batch: {error}"
            ) from error
        return array, extra == 0


def leaves(space: Any) -> list[Any]:
    """The spaces that a space is made of, in Gymnasium's order."""
    inner = getattr(space, "spaces", None)
    if inner is None:
        return [space]
    return [leaf for one in (inner.values() if isinstance(inner, Mapping) else inner) for leaf in leaves(one)]


def pairs(space: Any, value: Any) -> list[tuple[Any, Any]]:
    """The spaces that a space is made of, each with its part of ``value``.

    Raises:
        ValueError: if ``value`` lacks one.
    """
    inner = getattr(space, "spaces", None)
    if inner is None:
        return [(space, value)]
    try:
        items = inner.items() if isinstance(inner, Mapping) else enumerate(inner)
        inside = [(one, value[key]) for key, one in items]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"observations must be as the environment gives them, {space}: {error}") from error
    return [pair for one, part in inside for pair in pairs(one, part)]


def select(space: Any, value: Any, i: int) -> Any:
    """The ``i``-th of several observations."""
    inner = getattr(space, "spaces", None)
    if inner is None:
        return value[i]
    if isinstance(inner, Mapping):
        return {key: select(one, value[key], i) for key, one in inner.items()}
    return tuple(select(one, value[k], i) for k, one in enumerate(inner))


def shape_of(space: Any) -> tuple[int, ...]:
    """Of what a part of an observation becomes."""
    from gymnasium.spaces import Box, utils

    if not isinstance(space, Box):
        return (utils.flatdim(space),)
    return arranged(np.empty(space.shape, bool), space.dtype).shape


def arranged(array: np.ndarray, dtype: Any = None) -> np.ndarray:
    """``array`` as a vector or as ``(height, width, channels)``."""
    shape, kind = array.shape, np.dtype(dtype or array.dtype)
    if len(shape) == 4:  # stacked images
        return np.moveaxis(array, 0, 2).reshape(*shape[1:3], -1)
    if len(shape) == 3:
        return np.moveaxis(array, 0, 2) if shape[0] < min(shape[1:]) else array
    if len(shape) == 2 and kind == np.uint8 and min(shape) > 8:
        return array[..., None]
    return array.reshape(-1)


def fitting(array: np.ndarray, space: Any) -> np.ndarray:
    """``array`` of the ``Box`` ``space`` as :func:`arranged`.

    Raises:
        ValueError: if it becomes something of another shape than the others of its space.
    """
    found = arranged(array)
    if array.shape != space.shape and found.shape != shape_of(space):
        raise ValueError(f"its shape is {array.shape}, not {space.shape}")
    return found


def flattened(space: Any, value: Any) -> np.ndarray:
    """A part of an observation as a vector.

    Raises:
        ValueError: if it is not of its space.
    """
    from gymnasium.spaces import Box, Discrete, MultiDiscrete, utils

    if isinstance(space, Discrete):
        option = value - space.start
        if not 0 <= option < space.n:  # Gymnasium would count one below the range from the end
            raise ValueError(f"{value} is not in {space}")
        row = np.zeros(space.n, np.float32)
        row[option] = 1
        return row
    if not isinstance(space, Box):
        if isinstance(space, MultiDiscrete):
            value = np.asarray(value)
            option = value - space.start
            inside = (option >= 0) & (option < space.nvec)
            if option.shape != space.shape or np.count_nonzero(inside) < inside.size:
                raise ValueError(f"{value} is not in {space}")
        return np.asarray(utils.flatten(space, value), np.float32)
    array = np.asarray(value, space.dtype)
    array = arranged(array) if array.shape == space.shape else fitting(array, space)
    return array.ravel().astype(np.float32) / (255 if array.dtype == np.uint8 and array.ndim == 3 else 1)


def joined(shapes: list[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """``shapes`` with vectors that follow each other as one."""
    found: list[tuple[int, ...]] = []
    for shape in shapes:
        if len(shape) == 1 and found and len(found[-1]) == 1:
            found[-1] = (found[-1][0] + shape[0],)
        else:
            found.append(shape)
    return tuple(found)


class Known(NamedTuple):
    """What an environment says of itself."""

    spaces: Spaces
    observer: Observer
    action_space: Any
    action_names: tuple[str, ...]


@functools.cache
def _known(key: str) -> Known:
    """Of the recipe with ``key``: it is made once for all that is asked of it."""
    recipe = Recipe.of(json.loads(key))
    with closing(make(recipe)) as env:
        observer = Observer(env)
        if recipe.history > 1 and observer.parts:
            raise ZooError(
                f"data.history={recipe.history} is not possible with {recipe}, whose observations are {observer.space}"
            )
        before = (recipe.history,) if recipe.history > 1 else ()
        spaces = Spaces((*before, *observer.shape), options_of_choices(env), observer.parts)
        return Known(spaces, observer, env.action_space, _names(env.unwrapped))


def _names(game: Any) -> tuple[str, ...]:
    if hasattr(game, "get_action_meanings"):
        return tuple(map(str, game.get_action_meanings()))
    letters = getattr(getattr(getattr(game, "game", None), "env", None), "action_map", None)  # of MinAtar
    return tuple(letters[i] for i in game.action_set) if letters else ()


def spaces(recipe: "str | Mapping[str, Any] | Recipe") -> Spaces:
    """The spaces of an environment, by its name or the configuration of :class:`Environments`.

    Raises:
        ZooError: as :func:`make`.
    """
    return _known(Recipe.of(recipe).key).spaces


def observer(recipe: "str | Mapping[str, Any] | Recipe") -> Observer:
    """What turns the observations of an environment into arrays.

    Raises:
        ZooError: as :func:`make`.
    """
    return _known(Recipe.of(recipe).key).observer


def action_space(recipe: "str | Mapping[str, Any] | Recipe") -> Any:
    """The action space of an environment, as Gymnasium has it.

    Raises:
        ZooError: as :func:`make`.
    """
    return _known(Recipe.of(recipe).key).action_space


def action_names(recipe: "str | Mapping[str, Any] | Recipe") -> tuple[str, ...]:
    """What an environment calls its actions; empty if it does not say, or an action is several choices.

    Raises:
        ZooError: as :func:`make`.
    """
    return _known(Recipe.of(recipe).key).action_names


def as_actions(space: Any, choices: np.ndarray) -> np.ndarray:
    """``choices``, int64 ``(batch, choices)``, as actions of ``space``: ``(batch, *space.shape)``."""
    return choices.reshape(len(choices), *space.shape) + getattr(space, "start", 0)


def allowed(mask: Any, actions: tuple[int, ...]) -> np.ndarray:
    """``mask`` of an environment, in the forms that Gymnasium and sb3-contrib have, as bool ``(choices, categories)``.

    Raises:
        ValueError: if it has another size than the actions.
    """
    if isinstance(mask, (tuple, list)) and len(mask) == len(actions) > 1:
        flat = np.concatenate([np.asarray(one).ravel() for one in mask])
    else:
        flat = np.asarray(mask).ravel()
    if flat.size != sum(actions):
        raise ValueError(f"an action mask of {flat.size} entries, and there are {sum(actions)} options")
    table = np.zeros((len(actions), max(actions)), bool)
    at = 0
    for i, n in enumerate(actions):
        table[i, :n] = flat[at : at + n]
        at += n
    return table


def stored_dtype(dtype: np.dtype) -> type:
    """How observations are kept: booleans and bytes as they are, anything else as float32."""
    return {"bool": np.bool_, "uint8": np.uint8}.get(np.dtype(dtype).name, np.float32)
