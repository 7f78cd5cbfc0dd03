"""Reinforcement-learning environments as a data module: many copies of one, and recent experience in them."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import distributed

from zoo.data.batches import Batches, DataModule, Place
from zoo.data.environments.arena import Arena
from zoo.data.environments.experience import Experience
from zoo.data.environments.making import Recipe, Spaces, spaces
from zoo.data.environments.replay import Replay
from zoo.data.environments.trial import Trial
from zoo.data.seeding import EPISODE, TEST, TRAIN, VALIDATE, derive_seed

MOST = 20_000  # environments, and episodes
TICKS = 5  # steps of every copy in a training batch, at most: the Trainer has a millisecond of its own for each batch
EVAL_SEED = 0  # validation and test episodes start alike in every run


class Once(Batches[Trial]):
    """An evaluation loader: one trial. (A plain list is several loaders to the Trainer.)"""

    def __init__(self, trial: Trial) -> None:
        super().__init__(1, Place())
        self.trial = trial

    def epoch(self, epoch: int, start: int) -> Iterator[Trial]:
        yield self.trial


class Acting(Batches[Experience]):
    """The training loader: the same experience again and again, an epoch long."""

    def __init__(self, experience: Experience, length: int, place: Place) -> None:
        super().__init__(length, place)
        self.experience = experience

    def epoch(self, epoch: int, start: int) -> Iterator[Experience]:
        for _ in range(start, len(self)):
            yield self.experience


class Environments(DataModule):
    """Any registered Gymnasium environment with discrete actions.

    A training batch is an :class:`Experience`, the same each time: the step acts in it, ``ticks`` times in every copy,
    and samples from it. A batch of validation or test is a :class:`Trial`. Each process of a distributed training has
    environments and a replay of its own, and a share of the episodes of an evaluation.

    The checkpoint holds the replay and, of each episode under way, its number and its actions: a resumed run acts them
    again and goes on as if it had not been stopped. Where an environment is random beyond its seed, new episodes begin
    in their place; in another number of processes than before, in all but the first.

    Args:
        env: the name, such as ``CartPole-v1``, ``MinAtar/Breakout-v1`` or ``ALE/Pong-v5``; ``module:Name-v0`` of one
            that a module registers when it is imported.
        env_kwargs: for its constructor.
        wrappers: around it, the first one innermost: a list of configurations with ``_target_``, such as
            ``[{_target_: gymnasium.wrappers.TimeAwareObservation}]``.
        max_episode_steps: steps after which an episode is truncated, in place of the environment's own limit; of one
            without a limit the default is 10,000.
        history: observations that the agent sees at a time: a stack of frames, or what a network with a memory
            remembers. The replay still keeps each once.
        workers: processes that step the copies at the same time, where one step takes long; 0 for none.
        envs: copies in each process.
        epoch_steps: environment steps from one validation to the next, of all processes together, rounded down to
            whole steps of all copies. A batch of training has up to five of those, as many as divide them.
        replay: transitions kept in each process, rounded down to whole steps of all copies.
        start: environment steps of each process before the first update.
        steps: n of the n-step returns, of no effect on ``world_model``. The policy has changed since: the replay must
            be short where n is large, or ``model.correction=true``.
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

    built_later: ClassVar = {"wrappers": ("env",)}

    def __init__(
        self,
        *,
        env: str = "CartPole-v1",
        env_kwargs: dict[str, Any] | None = None,
        wrappers: Sequence[dict[str, Any]] = (),
        max_episode_steps: int | None = None,
        history: int = 1,
        workers: int = 0,
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
        if not (1 <= eval_episodes <= MOST and 1 <= test_episodes <= MOST and envs <= MOST) or seed < 0:
            raise ValueError(
                f"need eval_episodes and test_episodes in [1, {MOST}], envs not above {MOST} and seed >= 0, got "
                f"{eval_episodes}, {test_episodes}, {envs}, {seed}"
            )
        if not 0 <= workers <= MOST or history > replay // envs:
            raise ValueError(
                f"need workers in [0, {MOST}] and history not above replay / envs, got workers={workers}, "
                f"history={history}"
            )
        self.recipe = Recipe.of(
            {
                "env": env,
                "env_kwargs": env_kwargs,
                "wrappers": list(wrappers),
                "max_episode_steps": max_episode_steps,
                "history": history,
            }
        )
        self.env, self.envs, self.epoch_steps, self.replay_size = env, envs, epoch_steps, replay
        self.workers = workers
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
        return spaces(self.recipe)

    @property
    def ticks(self) -> int:
        """Steps of every copy in a training batch: as many, up to five, as divide those of an epoch; a resumed run goes
        on with those it had."""
        if self.experience:
            return self.experience.ticks
        return max(n for n in range(1, TICKS + 1) if self._epoch_ticks % n == 0)

    @property
    def _epoch_ticks(self) -> int:
        return max(1, self.epoch_steps // (self.envs * self.world_size))

    def setup(self, stage: str | None = None) -> None:
        """Make the training environments (on the CPU) and the replay (on the training device)."""
        if stage not in (None, "fit") or self.experience:
            return
        arena = Arena(self.recipe, self.envs, self._training_seed, workers=self.workers)
        known, history = self.spaces, self.recipe.history
        replay = Replay(
            self.replay_size // self.envs,
            self.envs,
            known.observation if history == 1 else known.observation[1:],
            len(known.actions),
            dtype=torch.from_numpy(arena.observation).dtype,
            device=self.device,
            history=history,
        )
        self.experience = Experience(
            arena,
            replay,
            steps=self.steps,
            gamma=self.gamma,
            start=self.start,
            ticks=self.ticks,
            reward_scale=self.reward_scale,
            alone=self.world_size == 1,
        )

    def teardown(self, stage: str | None = None) -> None:
        """End the processes of the training environments."""
        if stage == "fit" and self.workers and self.experience:
            self.experience.arena.close()
            self.experience = None

    def _training_seed(self, copy: int, episode: int) -> int:
        return seed_of_reset(self.seed, TRAIN, EPISODE, self.rank, copy, episode)

    def train_dataloader(self) -> Acting:
        assert self.experience, "setup comes first"
        return Acting(self.experience, self._epoch_ticks // self.ticks, self.in_training)

    def val_dataloader(self) -> Once:
        return self._trials(VALIDATE, self.eval_episodes)

    def test_dataloader(self) -> Once:
        return self._trials(TEST, self.test_episodes)

    def _trials(self, stage: int, episodes: int) -> Once:
        if stage not in self.trials:
            seeds = [seed_of_reset(EVAL_SEED, stage, EPISODE, i) for i in range(episodes)]
            self.trials[stage] = Trial(self.recipe, seeds[self.rank :: self.world_size])
        return Once(self.trials[stage])

    # Lightning asks every process, and keeps what the first one says in every checkpoint.
    def state_dict(self) -> dict[str, Any]:
        if not self.experience:
            return {}
        state = {
            "env_steps": self.experience.env_steps,
            "ticks": self.experience.ticks,
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
        ticks = state.get("ticks", 1)  # version 0.2 acted once in a batch
        if self._epoch_ticks % ticks == 0:  # it may not, in another number of processes
            experience.ticks = ticks
        experience.recent.clear()
        experience.recent.extend(state["recent"])
        if "replay" in state:
            experience.replay.restore(state["replay"])
            if "mask" in experience.replay.tensors:  # though the first observations may come without
                experience.arena.keep_masks()
        if not own or "replay" not in state:
            experience.arena.skip(state["arena"]["episode"].tolist())
            experience.replay.cut()
        elif not experience.arena.restore(state["arena"]):
            experience.replay.cut()


def seed_of_reset(*key: int) -> int:
    """A seed that every environment takes, 31 bits, from ``key``."""
    return derive_seed(*key) % 2**31
