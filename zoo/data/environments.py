"""Reinforcement-learning environments as a data module: many copies of one, and what was lived in them lately.

Two words are kept apart throughout. An episode is *terminated* when the task is over, so that nothing is to be gained
after it; it is *truncated* when only the clock ran out, and the value of its last observation still counts.
"""

import dataclasses
import functools
import math
import os
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor, distributed

from zoo.config import Configurable
from zoo.data.replay import Replay, Transitions
from zoo.errors import ZooError, did_you_mean
from zoo.seeding import EPISODE, TEST, TRAIN, VALIDATE, derive_seed

if TYPE_CHECKING:
    import gymnasium

Act = Callable[[Tensor], Tensor]
"""Observations ``(envs, *observation)`` to actions, int64 ``(envs, choices)``."""

EVAL_SEED = 0  # validation and test episodes start alike in every run
PLUGINS = {"MinAtar": "minatar.gym"}
"""Modules with a ``register_envs()`` that Gymnasium has to be told of, by the namespace of their environments."""
LARGEST_IMAGE = 96
RECENT = 40  # finished episodes behind the return that is shown during training


# One environment ------------------------------------------------------------------------------------------------------


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
    env = make(name)
    try:
        return Spaces(env.observation_space.shape, options_of_choices(env))
    finally:
        env.close()


def one_line(error: BaseException) -> str:
    """``error`` with the place it came from, for a message without a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{place}"


class Copy:
    """One copy of an environment, with its mistakes turned into :class:`ZooError`.

    Args:
        name: of the environment.
        options: for its constructor, such as ``render_mode``.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        if options.get("render_mode") == "rgb_array":  # pictures in memory need no screen and no sound
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
            os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
        self.env = make(name, **options)
        self.space = self.env.action_space
        self.single = not self.space.shape  # Discrete: a number, not an array
        self.start = getattr(self.space, "start", 0)
        self.dtype = stored_dtype(self.env.observation_space.dtype)
        self.steps = 0

    def reset(self, seed: int) -> np.ndarray:
        self.steps = 0
        game: Any = getattr(self.env.unwrapped, "game", None)
        if hasattr(game, "last_action"):  # MinAtar's sticky actions would reach over from the episode before
            game.last_action = 0
        try:
            observation = self.env.reset(seed=seed)[0]
        except Exception as error:
            raise ZooError(f"the environment {self.name} failed in reset(seed={seed}): {one_line(error)}") from error
        return self._checked(observation)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """``action``, int64 ``(choices,)``, to observation, reward, terminated, truncated."""
        self.steps += 1
        value = int(action[0]) + self.start if self.single else action.reshape(self.space.shape) + self.start
        try:
            observation, reward, terminated, truncated, _ = self.env.step(value)
        except Exception as error:
            raise ZooError(
                f"the environment {self.name} failed in step {self.steps} of an episode, action {value}: "
                f"{one_line(error)}"
            ) from error
        if not math.isfinite(reward):
            raise ZooError(f"the environment {self.name} gave the reward {reward} in step {self.steps} of an episode")
        return self._checked(observation), float(reward), bool(terminated), bool(truncated)

    def _checked(self, observation: Any) -> np.ndarray:
        observation = np.asarray(observation, self.dtype)
        # Not all(): that takes eight times as long for few entries, most of the time of a step beside the environment.
        if self.dtype is np.float32 and np.count_nonzero(np.isfinite(observation)) < observation.size:
            raise ZooError(
                f"the environment {self.name} gave an observation that is not finite in step {self.steps} of an "
                f"episode: {np.array2string(observation.flatten(), threshold=8)}"
            )
        return observation

    def render(self) -> np.ndarray:
        """A picture of the present state, uint8 ``(height, width, 3)``."""
        try:
            frame = np.asarray(self.env.render())
        except Exception as error:
            raise ZooError(f"the environment {self.name} cannot be shown: {one_line(error)}") from error
        if np.issubdtype(frame.dtype, np.floating):  # MinAtar: colours in [0, 1]
            frame = (frame * 255).clip(0, 255).astype(np.uint8)
        return frame

    def close(self) -> None:
        self.env.close()


def stored_dtype(dtype: np.dtype) -> type:
    """How observations are kept: booleans and bytes as they are, anything else as float32."""
    return {"bool": np.bool_, "uint8": np.uint8}.get(np.dtype(dtype).name, np.float32)


# Many of them ---------------------------------------------------------------------------------------------------------


class Arena:
    """Copies of an environment, each always in the middle of an episode.

    Every episode has its own seed, a function of the copy and the episode's number. So an arena can be rebuilt from
    the actions of the episodes under way, with nothing else to save.

    Args:
        name: of the environment.
        count: of copies.
        seed: (copy, episode) -> the seed of its reset.
    """

    def __init__(self, name: str, count: int, seed: Callable[[int, int], int]) -> None:
        self.name, self.count, self.seed = name, count, seed
        self.copies = [Copy(name) for _ in range(count)]
        self.episode = [-1] * count
        self.actions: list[list[np.ndarray]] = [[] for _ in range(count)]
        self.returns = [0.0] * count
        self.observation = np.stack([self._begin(i) for i in range(count)])

    def _begin(self, i: int) -> np.ndarray:
        self.episode[i] += 1
        self.actions[i], self.returns[i] = [], 0.0
        return self.copies[i].reset(self.seed(i, self.episode[i]))

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[float]]:
        """Act once in every copy; an episode that ends is followed by the next one at once.

        Args:
            actions: int64 ``(count, choices)``.

        Returns:
            What the actions led to, ``(count, *observation)``, where an episode ended its last observation; rewards,
            float32 ``(count,)``; terminated and truncated, bool ``(count,)``; the returns of the episodes that ended.
        """
        following = np.empty_like(self.observation)
        rewards = np.empty(self.count, np.float32)
        terminated, truncated = np.empty(self.count, bool), np.empty(self.count, bool)
        finished = []
        for i, (copy, action) in enumerate(zip(self.copies, actions)):
            following[i], rewards[i], terminated[i], truncated[i] = copy.step(action)
            self.actions[i].append(action)
            self.returns[i] += float(rewards[i])
        self.observation = following
        if (terminated | truncated).any():
            self.observation = following.copy()
            for i in np.flatnonzero(terminated | truncated).tolist():
                finished.append(self.returns[i])
                self.observation[i] = self._begin(i)
        return following, rewards, terminated, truncated, finished

    def state(self) -> dict[str, Any]:
        """The number and the actions of each episode under way, and where they have led."""
        return {
            "episode": torch.tensor(self.episode),
            "actions": [torch.from_numpy(np.array(actions, np.int64)) for actions in self.actions],
            "observation": torch.from_numpy(self.observation.copy()),
        }

    def restore(self, state: dict[str, Any]) -> bool:
        """Go back to ``state`` by acting as before.

        Returns:
            whether every copy is where it was. It is not if the environment is random beyond its seed; then new
            episodes begin.
        """
        for i, (episode, actions) in enumerate(zip(state["episode"].tolist(), state["actions"])):
            self.episode[i] = episode - 1
            self.observation[i] = self._begin(i)
            for action in actions.numpy():
                self.observation[i], reward, terminated, truncated = self.copies[i].step(action)
                self.actions[i].append(action)
                self.returns[i] += float(np.float32(reward))
                if terminated or truncated:
                    break
        if np.array_equal(self.observation, state["observation"].numpy()):
            return True
        self.skip(state["episode"].tolist())
        return False

    def skip(self, episodes: list[int]) -> None:
        """Leave the episodes with these numbers, and begin those after them."""
        self.episode = list(episodes)
        self.observation = np.stack([self._begin(i) for i in range(self.count)])


# What the loaders give ------------------------------------------------------------------------------------------------


class Experience:
    """What the training loader gives to a step: environments to act in, and transitions to learn from.

    Args:
        arena: the environments.
        replay: where their transitions go.
        steps: n of the n-step returns.
        gamma: the discount of one step.
        start: transitions to collect before the first batch is sampled.
        reward_scale: a factor of the rewards in transitions, not of the returns that are shown.
    """

    def __init__(
        self, arena: Arena, replay: Replay, *, steps: int, gamma: float, start: int = 1, reward_scale: float = 1.0
    ) -> None:
        self.arena, self.replay = arena, replay
        self.steps, self.gamma, self.start, self.reward_scale = steps, gamma, start, reward_scale
        self.env_steps = 0
        self.recent: deque[float] = deque(maxlen=RECENT)

    def collect(self, act: Act) -> None:
        """Act once in every environment; before the first update, until there are ``start`` transitions."""
        self._collect(act)
        while len(self.replay) < self.start:
            self._collect(act)

    @torch.no_grad()
    def _collect(self, act: Act) -> None:
        device = self.replay.tensors["reward"].device
        observation = torch.from_numpy(self.arena.observation).to(device)
        action = act(observation)
        following, rewards, terminated, truncated, finished = self.arena.step(action.cpu().numpy())
        rows = {
            "following": following,
            "reward": rewards * np.float32(self.reward_scale),
            "terminated": terminated,
            "ended": terminated | truncated,
        }
        tensors = {name: torch.from_numpy(row).to(device) for name, row in rows.items()}
        self.replay.add(observation=observation, action=action, **tensors)
        self.env_steps += self.arena.count
        self.recent.extend(finished)

    def sample(self, batch: int) -> Transitions:
        """``batch`` transitions of the replay."""
        return self.replay.sample(batch, steps=self.steps, gamma=self.gamma)

    @property
    def recent_return(self) -> float:
        """The mean return of the episodes that ended lately; 0 before the first."""
        return sum(self.recent) / max(1, len(self.recent))


class Trial:
    """What an evaluation loader gives to a step: whole episodes on fresh environments.

    Args:
        name: of the environment.
        seeds: of the episodes.
    """

    def __init__(self, name: str, seeds: list[int]) -> None:
        self.name, self.seeds = name, seeds

    @torch.no_grad()
    def play(self, act: Act, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """One episode from each seed: returns, float32 ``(episodes,)``, and lengths in steps, int64 ``(episodes,)``."""
        copies = [Copy(self.name) for _ in self.seeds]
        running = list(range(len(copies)))
        observations = [copy.reset(seed) for copy, seed in zip(copies, self.seeds)]
        returns, lengths = torch.zeros(len(running)), torch.zeros(len(running), dtype=torch.int64)
        while running:
            batch = torch.from_numpy(np.stack([observations[i] for i in running])).to(device)
            actions = act(batch).cpu().numpy()
            still = []
            for i, action in zip(running, actions):
                observations[i], reward, terminated, truncated = copies[i].step(action)
                returns[i] += reward
                lengths[i] += 1
                if not (terminated or truncated):
                    still.append(i)
                else:
                    copies[i].close()
            running = still
        return returns, lengths

    @torch.no_grad()
    def film(
        self,
        act: Act,
        device: torch.device | str = "cpu",
        *,
        every: int = 1,
        most: int = 10_000,
        render_mode: str = "rgb_array",
    ) -> list[np.ndarray]:
        """Pictures of the first seed's episode, each uint8 ``(height, width, 3)``.

        Args:
            act: the policy.
            device: for the observations.
            every: steps from one picture to the next.
            most: pictures, after which the film ends.
            render_mode: ``human`` shows the episode in a window and returns no pictures.

        Raises:
            ZooError: if the environment cannot be shown.
        """
        copy = Copy(self.name, render_mode=render_mode)
        try:
            observation, done = copy.reset(self.seeds[0]), False
            frames = [copy.render()] if render_mode != "human" else []
            while not done and len(frames) < most:
                action = act(torch.from_numpy(observation[None]).to(device)).cpu().numpy()[0]
                observation, _, terminated, truncated = copy.step(action)
                done = terminated or truncated
                if render_mode != "human" and (done or copy.steps % every == 0):
                    frames.append(copy.render())
            return frames
        finally:
            copy.close()


class Once:
    """An evaluation loader: one trial. (A plain list is several loaders to the Trainer.)"""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Trial]:
        yield self.trial


class Ticks:
    """The training loader: the same experience again and again, an epoch long.

    It holds no place of its own: it asks where training stands, so that a run resumed in mid-epoch ends the epoch
    where it would have ended.
    """

    def __init__(self, experience: Experience, length: int, position: Callable[[], int]) -> None:
        self.experience, self.length, self.position = experience, length, position

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Experience]:
        for _ in range(self.position(), self.length):
            yield self.experience

    # The Trainer warns on a mid-epoch resume of a loader without these two. This one has no state to save.
    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        pass


class Environments(Configurable, LightningDataModule):
    """Any registered Gymnasium environment with discrete actions and vectors or small images as observations.

    A training batch is an :class:`Experience`, the same each time: the step acts in it and samples from it. A batch of
    validation or test is a :class:`Trial`. Each process of a distributed training has environments and a replay
    of its own, and a share of the episodes of an evaluation.

    The checkpoint holds the replay and, of each episode under way, its number and its actions: a resumed run acts them
    again and goes on as if it had not been stopped. Where an environment is random beyond its seed, new episodes begin
    in their place; in another number of processes than before, in all but the first.

    Args:
        env: the name, such as ``CartPole-v1`` or ``MinAtar/Breakout-v1``.
        envs: copies in each process.
        epoch_steps: environment steps from one validation to the next, of all processes together, rounded down to
            whole steps of all copies.
        replay: transitions kept in each process, rounded down to whole steps of all copies.
        start: environment steps of each process before the first update.
        steps: n of the n-step returns. There is no correction for the policy having changed since: the replay must
            be short where n is large.
        gamma: discount of one step.
        reward_scale: factor of the rewards that are learned from.
        save_replay: whether checkpoints hold the replay. Without it they are small, and a resumed run first collects
            ``start`` steps anew.
        eval_episodes: of a validation, with each of the two policies, sampled and mode.
        test_episodes: of the test.
        seed: of the training episodes.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        *,
        env: str = "CartPole-v1",
        envs: int = 40,
        epoch_steps: int = 5000,
        replay: int = 10_000,
        start: int = 1000,
        steps: int = 5,
        gamma: float = 0.99,
        reward_scale: float = 1.0,
        save_replay: bool = True,
        eval_episodes: int = 20,
        test_episodes: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if envs < 1 or epoch_steps < envs or not 1 <= start <= replay // envs * envs:
            raise ValueError(
                "need envs >= 1, epoch_steps >= envs and start >= 1, not more than fits into replay, got "
                f"envs={envs}, epoch_steps={epoch_steps}, start={start}, replay={replay}"
            )
        if not 1 <= steps <= replay // envs or not 0 <= gamma <= 1 or not 0 < reward_scale < float("inf"):
            raise ValueError(
                "need steps in [1, replay / envs], gamma in [0, 1] and reward_scale > 0, got "
                f"steps={steps}, gamma={gamma}, reward_scale={reward_scale}"
            )
        if eval_episodes < 1 or test_episodes < 1 or seed < 0:
            raise ValueError(
                "need eval_episodes >= 1, test_episodes >= 1 and seed >= 0, got "
                f"{eval_episodes}, {test_episodes}, {seed}"
            )
        self.env, self.envs, self.epoch_steps, self.replay_size = env, envs, epoch_steps, replay
        self.start, self.steps, self.gamma, self.reward_scale = start, steps, gamma, reward_scale
        self.save_replay, self.eval_episodes, self.test_episodes, self.seed = (
            save_replay,
            eval_episodes,
            test_episodes,
            seed,
        )
        self.experience: Experience | None = None
        self.trials: dict[int, Trial] = {}

    @property
    def spaces(self) -> Spaces:
        return spaces(self.env)

    @property
    def rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def setup(self, stage: str | None = None) -> None:
        """Make the training environments (on the CPU) and the replay (on the training device)."""
        if stage not in (None, "fit") or self.experience:
            return
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        arena = Arena(self.env, self.envs, self._training_seed)
        replay = Replay(
            self.replay_size // self.envs,
            self.envs,
            self.spaces.observation,
            len(self.spaces.actions),
            dtype=torch.from_numpy(arena.observation).dtype,
            device=device,
        )
        self.experience = Experience(
            arena,
            replay,
            steps=self.steps,
            gamma=self.gamma,
            start=self.start,
            reward_scale=self.reward_scale,
        )

    def _training_seed(self, copy: int, episode: int) -> int:
        return seed_of_reset(self.seed, TRAIN, EPISODE, self.rank, copy, episode)

    def train_dataloader(self) -> Ticks:
        assert self.experience, "setup comes first"
        return Ticks(self.experience, max(1, self.epoch_steps // (self.envs * self.world_size)), self._position)

    def _position(self) -> int:
        """Index of the next batch, as the Trainer has it: right also after a resume in mid-epoch."""
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready if self.trainer else 0

    def val_dataloader(self) -> Once:
        return self._trials(VALIDATE, self.eval_episodes)

    def test_dataloader(self) -> Once:
        return self._trials(TEST, self.test_episodes)

    def _trials(self, stage: int, episodes: int) -> Once:
        if stage not in self.trials:
            seeds = [seed_of_reset(EVAL_SEED, stage, EPISODE, i) for i in range(episodes)]
            self.trials[stage] = Trial(self.env, seeds[self.rank :: self.world_size])
        return Once(self.trials[stage])

    # Lightning asks every process, and keeps what the first one says in every checkpoint.
    def state_dict(self) -> dict[str, Any]:
        if not self.experience:
            return {}
        state = {
            "env_steps": self.experience.env_steps,
            "recent": list(self.experience.recent),
            "arena": self.experience.arena.state(),
        }
        if self.save_replay:
            state["replay"] = self.experience.replay.state()
        if self.world_size > 1:
            states: list[Any] = [None] * self.world_size
            distributed.gather_object(state, None if self.rank else states)
            state["others"] = states[1:]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not self.experience or not state:  # a test needs none
            return
        experience = self.experience
        others = state.get("others", [])
        own = self.rank == 0 or len(others) == self.world_size - 1
        if self.rank and own:
            state = others[self.rank - 1]
        experience.env_steps = state["env_steps"]
        experience.recent.clear()
        experience.recent.extend(state["recent"])
        if "replay" in state:
            experience.replay.restore(state["replay"])
        if not own or "replay" not in state:
            experience.arena.skip(state["arena"]["episode"].tolist())
            experience.replay.cut()
        elif not experience.arena.restore(state["arena"]):
            experience.replay.cut()


def seed_of_reset(*key: int) -> int:
    """A seed that every environment takes, 31 bits, from ``key``."""
    return derive_seed(*key) % 2**31
