"""What the models have in common that act in environments."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.environments.experience import Seen
from zoo.data.environments.making import (
    Recipe,
    Spaces,
    action_names,
    action_space,
    allowed,
    as_actions,
    observer,
    spaces,
)
from zoo.data.environments.module import seed_of_reset
from zoo.data.environments.returns import EpisodeReturns
from zoo.data.environments.trial import Trial
from zoo.data.seeding import EPISODE, PREDICT, generator, seed_default_generators
from zoo.errors import ZooError
from zoo.relaxations import Categorical
from zoo.training import ZooModule

log = logging.getLogger(__name__)

FILM_EVERY, FILM_FRAMES = 4, 128  # environment steps a frame, and frames at most
NARROW = 160  # pixels, below which a picture is enlarged to stand beside the bars
PANEL, BAR = 96, 14  # pixels: the width of what stands beside a picture, and the height of a bar


class Agent(ZooModule):
    """A model that acts: what it takes to play with it, to score it and to show it.

    A subclass has ``spaces`` and ``updates``, and writes :meth:`respond`; one that remembers says how much in
    ``memory_size``.
    """

    spaces: Spaces
    updates: int
    """Gradient steps after each step of every copy."""
    memory_size = 0
    """Numbers that the agent takes along from step to step."""
    monitor = "val/neg_return"
    mask: Tensor | None
    """Which options choices of different sizes have, bool ``(choices, categories)``; None if all have as many."""

    def __init__(self) -> None:
        super().__init__()
        self.mode_returns, self.sampled_returns = EpisodeReturns(), EpisodeReturns()

    def respond(
        self, observation: Tensor, mask: Tensor | None, memory: Tensor | None, first: Tensor, *, mode: bool
    ) -> tuple[Tensor, Categorical, Tensor | None]:
        """Act once.

        Args:
            observation: ``(batch, *observation)``.
            mask: which options are allowed, bool ``(batch, choices, categories)``; None for all.
            memory: ``(batch, memory_size)``, of which nothing counts where an episode begins.
            first: where that is, bool ``(batch,)``.
            mode: the most probable actions, else drawn ones.

        Returns:
            actions, int64 ``(batch, choices)``; the law they are of; the memory for the next step.
        """
        raise NotImplementedError

    @property
    def steps_per_batch(self) -> int:  # type: ignore[override]
        return self.updates * self.trainer.datamodule.ticks

    def player(self, *, mode: bool = True) -> "Player":
        """A policy that plays episodes: of the most probable actions, or drawn ones."""
        return Player(self, mode=mode)

    def allowed(self, mask: Tensor | None) -> Tensor | None:
        """``mask`` of the environment, of the options that there are at all; None where every one is."""
        if mask is None or self.mask is None:
            return self.mask if mask is None else mask
        return mask & self.mask

    def setup(self, stage: str) -> None:
        data = self.trainer.datamodule
        self._check_fits(data.spaces, data.env)

    def read(self, found: Spaces) -> Spaces:
        """What the networks tell apart in the spaces of an environment."""
        return found

    def _check_fits(self, found: Spaces, env: object) -> None:
        if self.read(found) != self.spaces:
            raise ZooError(f"the model is for {self.spaces}; the environment {env} has {found}")

    # Evaluation -------------------------------------------------------------------------------------------------------

    def validation_step(self, trial: Trial, batch_idx: int) -> dict[str, Tensor]:
        return self._play(trial)

    def test_step(self, trial: Trial, batch_idx: int) -> dict[str, Tensor]:
        return self._play(trial)

    def _play(self, trial: Trial) -> dict[str, Tensor]:
        """One episode from each seed of ``trial`` with each of the two policies."""
        for mode, returns in ((True, self.mode_returns), (False, self.sampled_returns)):
            played = trial.play(self.player(mode=mode), self.device)
            returns.update(*(value.to(self.device) for value in played))
        return {}

    def on_validation_epoch_end(self) -> None:
        self._log_returns("val")

    def on_test_epoch_end(self) -> None:
        self._log_returns("test")

    def _log_returns(self, stage: str) -> None:
        values: dict[str, Tensor] = {}
        for kind, returns in {"": self.mode_returns, "sampled_": self.sampled_returns}.items():
            values |= {f"{stage}/{kind}{name}": value for name, value in returns.compute().items()}
            returns.reset()
        if stage == "val":  # the Trainer counts training batches where a module makes its own steps
            values["step"] = torch.tensor(float(self.global_step))
        self.log_dict(values, sync_dist=True)
        # Lower is better, and of two agents that are perfect in one policy the better in the other.
        neg_return = -(values[f"{stage}/return"] + values[f"{stage}/sampled_return"]) / 2
        self.log(f"{stage}/neg_return", neg_return, sync_dist=True)

    @torch.no_grad()
    def evaluate(
        self,
        *,
        episodes: int = 100,
        deterministic: bool = True,
        seed: int = 0,
        env: "str | Mapping[str, Any] | None" = None,
    ) -> dict[str, float]:
        """Play whole episodes, which begin with seeds that no training and no choice of weights has had.

        Args:
            episodes: how many.
            deterministic: the most probable actions; else drawn ones.
            seed: of the episodes and the draws.
            env: the name of an environment or a configuration of :class:`Environments`, in place of that the model was
                trained on.

        Returns:
            the mean ``return``, its interquartile mean ``return_iqm`` with a 95% interval over episodes
            (``return_iqm_low``, ``return_iqm_high``), and the mean ``length``.

        Raises:
            ZooError: if the model does not know its environment, or is for another, or a number is out of range.
        """
        if env is None and "env" not in self.trained_on:
            raise ZooError("this model does not know its environment: say which, evaluate(env='CartPole-v1')")
        for name, number, least in (("episodes", episodes, 1), ("seed", seed, 0)):
            if not isinstance(number, (int, np.integer)) or number < least:
                raise ZooError(f"{name}={number} is not valid: it must be a whole number, {least} or more")
        recipe = Recipe.of(self.trained_on if env is None else env)
        self._check_fits(spaces(recipe), recipe)
        trial = Trial(recipe, [seed_of_reset(seed, PREDICT, EPISODE, i) for i in range(episodes)])
        training, returns = self.training, EpisodeReturns()
        self.eval()
        try:
            with torch.random.fork_rng():
                seed_default_generators(seed, PREDICT)
                returns.update(*trial.play(self.player(mode=deterministic), self.device))
        finally:
            self.train(training)
        return {name: value.item() for name, value in returns.compute().items()}

    # Acting -----------------------------------------------------------------------------------------------------------

    @property
    def history(self) -> int:
        """The number of observations that the agent sees at a time."""
        return self.spaces.observation[0] if len(self.spaces.observation) in (2, 4) else 1

    @torch.no_grad()
    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
        *,
        action_masks: Any = None,
    ) -> tuple[np.ndarray, Any]:
        """Actions for ``env.step``, from observations as the environment gives them; the signature is that of
        Stable-Baselines3, so that its ``evaluate_policy`` takes this model.

        ::

            state = None
            while not done:
                action, state = agent.predict(observation, state)
                observation, reward, terminated, truncated, info = env.step(action)
                done = terminated or truncated

        Args:
            observation: of one environment, or of several as Gymnasium's vector environments give it: an array, a
                number, a dict or a tuple.
            state: what the last call returned; None where an episode begins. Only agents that remember need it.
            episode_start: of several environments, which of them begin an episode, ``(batch,)``.
            deterministic: the most probable actions; else drawn ones.
            action_masks: which options are allowed, as the environment gives it; of several observations as many,
                ``(batch, options of all choices)``.

        Returns:
            actions, int64, of one environment of the shape of its action space, else ``(batch, ...)``; and the state
            for the next call, None of an agent that does not remember.

        Raises:
            ValueError: if the observations are none of the environment's or not finite, or the state or the masks are
                not theirs.
        """
        array, single = self._as_batch(observation)
        if not np.isfinite(array).all():
            raise ValueError(f"observations must be finite, got {np.array2string(array.flatten(), threshold=8)}")
        count = len(array)
        window, memory = (None, None) if state is None else self._as_state(state, (count, *array.shape[1:]))
        first = np.ones(count, bool) if state is None else np.zeros(count, bool)
        if state is not None and episode_start is not None:
            first = np.broadcast_to(np.asarray(episode_start, bool), (count,))
        if self.history > 1:
            begun = np.repeat(array[:, None], self.history, 1)
            moved = begun if window is None else np.concatenate([window[:, 1:], array[:, None]], 1)
            array = window = np.where(first.reshape(-1, *[1] * array.ndim), begun, moved)
        if self.memory_size and memory is None:
            memory = torch.zeros(count, self.memory_size, device=self.device)
        mask = None if action_masks is None else self._as_mask(action_masks, count, single)
        actions, _, memory = self.respond(
            self.given(array), mask, memory, torch.from_numpy(np.array(first)).to(self.device), mode=deterministic
        )
        choices = actions.cpu().numpy()
        if "env" in self.trained_on:
            choices = as_actions(action_space(self.trained_on), choices)
        elif choices.shape[1] == 1:
            choices = choices[:, 0]
        remembers = self.history > 1 or self.memory_size
        return (choices[0] if single else choices), ((window, memory) if remembers else None)

    def _as_batch(self, observation: Any) -> tuple[np.ndarray, bool]:
        """Observations as the environment gives them as ``(batch, ...)``, and whether it is one."""
        if isinstance(observation, Tensor):
            observation = observation.cpu().numpy()
        if "env" in self.trained_on:
            return observer(self.trained_on).batch(observation)
        array = np.asarray(observation)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        expected = self.spaces.observation[1:] if self.history > 1 else self.spaces.observation
        single = array.shape == tuple(expected)
        array = array[None] if single else array
        if array.shape[1:] != tuple(expected):
            raise ValueError(f"observations must be {tuple(expected)} or (batch, ...), got {array.shape}")
        return array, single

    def _as_state(self, state: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """A history and a memory, as the last call returned them for observations of ``shape``."""
        pair = isinstance(state, (tuple, list)) and len(state) == 2
        window, memory = state if pair else (None, None)
        seen, remembered = (shape[0], self.history, *shape[1:]), (shape[0], self.memory_size)
        if not (
            pair
            and (self.history == 1 or getattr(window, "shape", None) == seen)
            and (not self.memory_size or (isinstance(memory, Tensor) and memory.shape == remembered))
        ):
            raise ValueError(
                f"state must be what the last call returned for {shape[0]} observation{'s' * (shape[0] != 1)}, or None "
                "where episodes begin"
            )
        return window, memory

    def _as_mask(self, masks: Any, count: int, single: bool) -> Tensor:
        masks = masks.cpu().numpy() if isinstance(masks, Tensor) else masks
        if not single and len(masks) != count:
            wanted = (count, sum(self.spaces.actions))
            raise ValueError(f"action_masks must be of {count} observations, {wanted}, got {len(masks)}")
        rows = [masks] if single else masks
        return torch.from_numpy(np.stack([allowed(row, self.spaces.actions) for row in rows])).to(self.device)

    @property
    def example_input_array(self) -> Tensor:
        """Two observations of noise: what :func:`zoo.export` traces ``forward`` with."""
        g = generator(self.device, 0, PREDICT)
        noise = torch.rand(2, *self.spaces.observation, generator=g, device=self.device)
        try:
            kind = observer(self.trained_on).dtype if "env" in self.trained_on else np.float32
        except ZooError:  # it can be exported where its environment is not installed
            kind = np.float32
        if kind is np.uint8:
            return (noise * 255).to(torch.uint8)
        return noise > 0.5 if kind is np.bool_ else noise * 2 - 1

    @property
    def action_names(self) -> tuple[str, ...]:
        """What the environment calls its actions, where it says so and the model knows which environment it is."""
        return action_names(self.trained_on) if "env" in self.trained_on else ()

    def film(
        self, trial: Trial, *, every: int = FILM_EVERY, most: int = FILM_FRAMES, mode: bool = True
    ) -> list[np.ndarray]:
        """One episode, its pictures with the probabilities of the actions beside them.

        Raises:
            ZooError: if the environment cannot be shown.
        """
        player, names = self.player(mode=mode), action_names(trial.recipe)

        def beside(picture: np.ndarray) -> np.ndarray:
            return with_bars(picture, player.probabilities[0].cpu().numpy(), self.spaces.actions, names)

        return trial.film(player, self.device, every=every, most=most, beside=beside)

    def films(self, batch: Trial) -> "dict[str, Sequence[np.ndarray]]":
        """One episode of the mode policy."""
        try:
            return {"episode": self.film(batch)}
        except ZooError as error:
            log.warning("no film of an episode: %s", error)
            return {}


class Player:
    """A policy in the middle of episodes, for trials.

    Args:
        agent: whose it is.
        mode: the most probable actions, else drawn ones.

    Attributes:
        probabilities: of the options when it last acted, ``(batch, choices, categories)``.
    """

    def __init__(self, agent: Agent, *, mode: bool) -> None:
        self.agent, self.mode = agent, mode
        self.memory = torch.zeros(0, agent.memory_size, device=agent.device)
        self.probabilities = torch.empty(0)

    @torch.no_grad()
    def __call__(self, seen: Seen) -> Tensor:
        memory, slots = None, list(seen.slots)
        if self.agent.memory_size:
            if (missing := max(slots) + 1 - len(self.memory)) > 0:
                self.memory = torch.cat([self.memory, self.memory.new_zeros(missing, self.agent.memory_size)])
            memory = self.memory[slots]
        actions, law, memory = self.agent.respond(seen.observation, seen.mask, memory, seen.first, mode=self.mode)
        if memory is not None:
            self.memory[slots] = memory
        self.probabilities = law.logits.softmax(-1)
        return actions


def as_float(observation: Tensor) -> Tensor:
    """Observations as the environment gives them as float32, bytes in [0, 1]."""
    return observation.float() / 255 if observation.dtype == torch.uint8 else observation.float()


def existing_options(actions: Sequence[int]) -> Tensor | None:
    """Which options choices of different sizes have, bool ``(choices, categories)``; None if all have as many."""
    if len(set(actions)) == 1:
        return None
    return torch.arange(max(actions)) < torch.tensor(actions).unsqueeze(1)


def with_bars(
    picture: np.ndarray, probabilities: np.ndarray, actions: Sequence[int], names: Sequence[str] = ()
) -> np.ndarray:
    """``picture`` with a bar for the probability of each option to its right.

    Args:
        picture: uint8 ``(height, width, 3)``.
        probabilities: ``(choices, categories)``.
        actions: options of each choice.
        names: of the options of the only choice; numbers where there are none.
    """
    from PIL import Image, ImageDraw

    scale = max(1, -(-NARROW // picture.shape[1]))
    picture = picture.repeat(scale, 0).repeat(scale, 1)
    rows = [
        (names[k] if len(names) == n else str(k), probabilities[c][k]) for c, n in enumerate(actions) for k in range(n)
    ]
    height = picture.shape[0]
    bar = max(3, min(BAR * max(1, height // 200), (height - 4) // max(1, len(rows))))
    width = PANEL * max(1, picture.shape[1] // 300)
    panel = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(panel)
    text = width // 3 if bar >= 9 else 0
    for i, (name, p) in enumerate(rows):
        top = 2 + i * bar
        draw.rectangle((text, top, text + int((width - text - 4) * float(p)), top + bar - 2), fill=(70, 110, 180))
        if text:
            draw.text((2, top), name[: text // 6], fill="black", font_size=min(bar - 1, 20))
    return np.concatenate([picture, np.asarray(panel)], 1)
