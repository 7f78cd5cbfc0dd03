"""A world model with categorical latents, and an actor-critic that learns in what it imagines.

DreamerV3 (Hafner et al. 2023, arXiv 2301.04104), small enough for one core. A recurrent state-space model: what it
remembers, h, goes through a GRU; what it sees becomes a few categorical latents, z; rewards, ends of episodes and the
next latents are predicted from h. How gradients pass through z is a relaxation. What differs from the paper is listed
in docs/models/world_model.md.
"""

import copy
import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.config import check_positive
from zoo.data.environments.experience import Experience, Seen
from zoo.data.environments.making import Spaces
from zoo.data.environments.replay import Sequences
from zoo.data.seeding import PREDICT, generator
from zoo.errors import ZooError
from zoo.models.agents import Agent, Player, as_float, existing_options
from zoo.models.layers import RunningNorm
from zoo.models.world_model.nets import TwoHot, perceptron, symlog
from zoo.relaxations import Categorical, Distribution, Pathwise
from zoo.training import AdamW

log = logging.getLogger(__name__)

ACTING = "acting"
"""In a checkpoint: what the agent remembers of the episodes under way."""


class WorldModel(Agent):
    """A recurrent world model with categorical latents, and an actor-critic trained in its imagination.

    Args:
        observation: shape of an observation.
        actions: options of each choice that an action is made of.
        relaxation: how gradients pass through the latents; a pathwise one.
        optimizer: of the world model; actor and critic have learning rates of their own.
        latents, categories: of z.
        memory: units of the GRU.
        hidden: width of the layers of every perceptron; ``depth`` of them.
        depth: hidden layers.
        unimix: share of the uniform law in the latents and the policy.
        free_nats: of the KL divergence, below which it is not lowered.
        dynamics, representation: weights of the two directions of the KL divergence: the prior's towards the posterior,
            and back.
        batch_size, length: sequences of an update, and their steps.
        horizon: steps that are imagined.
        starts: states from which they are, of those of an update.
        gamma: discount of a step; in the configuration that of the data.
        trace: lambda of the returns.
        entropy_weight: what a nat of the policy is worth, in normalised returns.
        actor_lr, critic_lr: learning rates.
        target_rate: share of the critic that the slow one takes on in each update.
        max_grad_norm: gradients are scaled down to this norm.
        updates: gradient steps after each step of every environment.
        bins: of the distributions over rewards and values.
        normalize: whether observations are seen by their running mean and standard deviation, else in symlog.
        masks: whether to predict which options are allowed, for environments that say so. Without it only the first
            action of what is imagined keeps to the environment's mask.

    Raises:
        ValueError: if a number is out of range, or the relaxation is not pathwise.
    """

    def __init__(
        self,
        *,
        observation: Sequence[int],
        actions: Sequence[int],
        relaxation: Pathwise,
        optimizer: AdamW,
        latents: int = 8,
        categories: int = 8,
        memory: int = 128,
        hidden: int = 128,
        depth: int = 1,
        unimix: float = 0.01,
        free_nats: float = 1.0,
        dynamics: float = 0.5,
        representation: float = 0.1,
        batch_size: int = 16,
        length: int = 32,
        horizon: int = 15,
        starts: int = 64,
        gamma: float = 0.99,
        trace: float = 0.95,
        entropy_weight: float = 3e-3,
        actor_lr: float = 2e-4,
        critic_lr: float = 5e-4,
        target_rate: float = 0.02,
        max_grad_norm: float = 100.0,
        updates: int = 3,
        bins: int = 41,
        normalize: bool = True,
        masks: bool = False,
    ) -> None:
        super().__init__()
        check_positive(observation=observation, actions=actions, latents=latents, memory=memory, hidden=hidden)
        check_positive(depth=depth, batch_size=batch_size, horizon=horizon, starts=starts, updates=updates)
        if categories < 2 or length < 2 or bins < 3 or bins % 2 == 0:
            raise ValueError(
                f"need categories >= 2, length >= 2 and an odd number of bins, got {categories}, {length}, {bins}"
            )
        if not (0 <= unimix < 1 and 0 < target_rate <= 1 and 0 <= gamma < 1 and 0 <= trace <= 1):
            raise ValueError(
                "need unimix and gamma in [0, 1), target_rate in (0, 1] and trace in [0, 1], got "
                f"{unimix}, {gamma}, {target_rate}, {trace}"
            )
        if min(free_nats, dynamics, representation, entropy_weight) < 0 or min(actor_lr, critic_lr, max_grad_norm) <= 0:
            raise ValueError(
                "need free_nats, dynamics, representation and entropy_weight >= 0, and actor_lr, critic_lr and "
                f"max_grad_norm > 0, got {free_nats}, {dynamics}, {representation}, {entropy_weight}, {actor_lr}, "
                f"{critic_lr}, {max_grad_norm}"
            )
        if not isinstance(relaxation, Pathwise):
            raise ValueError(
                f"{type(relaxation).__name__} cannot be used here: the latents of a world model depend on each other "
                "over many steps and need a pathwise relaxation, such as straight_through, st_gumbel_softmax or reinmax"
            )
        if len(observation) in (2, 4):
            raise ValueError("a world model remembers by itself: leave data.history=1")
        self.spaces = Spaces(tuple(observation), tuple(actions))
        self.relaxation, self.optimizer = relaxation, optimizer
        self.latents, self.categories, self.unimix = latents, categories, unimix
        self.free_nats, self.dynamics, self.representation = free_nats, dynamics, representation
        self.batch_size, self.length, self.horizon, self.starts = batch_size, length, horizon, starts
        self.gamma, self.trace, self.entropy_weight = gamma, trace, entropy_weight
        self.actor_lr, self.critic_lr, self.target_rate = actor_lr, critic_lr, target_rate
        self.max_grad_norm, self.updates = max_grad_norm, updates

        entries = math.prod(observation)
        choices, options = len(actions), max(actions)
        z, state = latents * categories, memory + latents * categories
        layers = [hidden] * depth
        self.normalizer = RunningNorm(observation) if normalize else None
        self.cell = nn.GRUCell(z + choices * options, memory)
        self.encoder = perceptron(entries, layers, hidden)
        self.posterior = perceptron(memory + hidden, layers, z)
        self.prior = perceptron(memory, layers, z)
        self.decoder = perceptron(state, layers, entries)
        self.reward = perceptron(memory, layers, bins, zero=True)
        self.going = perceptron(memory, layers, 1)
        self.actor = perceptron(state, layers, choices * options, zero=True)
        self.critic = perceptron(state, layers, bins, zero=True)
        self.slow_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.allowing = perceptron(state, layers, choices * options) if masks else None
        self.bins = TwoHot(bins)
        self.spread: Tensor
        self.register_buffer("spread", torch.zeros(()))  # of returns, by which advantages are measured
        self.register_buffer("mask", existing_options(actions), persistent=False)
        self.memory, self.memory_size = memory, state + choices * options

        self.automatic_optimization = False
        self.progress, self.curves = ("return", "loss"), ("entropy", "kl")
        self._warned = masks
        self._acting: Player | None = None
        self._remembered: Tensor | None = None

    def choices(self) -> list[Distribution]:
        return [Categorical(torch.zeros(1, self.latents, self.categories))]

    @property
    def chained(self) -> bool:
        return True

    def read(self, found: Spaces) -> Spaces:
        return Spaces(found.observation, found.actions)  # pictures among other things are flat vectors here, too

    # The world ----------------------------------------------------------------------------------------------------

    def see(self, observation: Tensor) -> Tensor:
        """Observations as the environment gives them to what the networks see, ``(..., entries)``."""
        x = as_float(observation)
        x = symlog(x) if self.normalizer is None else self.normalizer(x)
        return x.flatten(x.dim() - len(self.spaces.observation))

    def latent(self, logits: Tensor) -> Categorical:
        """The law of latents with ``logits`` ``(..., latents * categories)``."""
        return Categorical(logits.unflatten(-1, (self.latents, self.categories)), unimix=self.unimix)

    def world_terms(self, batch: Sequences) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of the world model, each ``(batch, length)``, and the states it was in,
        ``(batch, length, memory + latents * categories)``."""
        seen, action = self.see(batch.observation), self.one_hot(batch.action)
        embedded = self.encoder(seen)
        begins = batch.first.unsqueeze(-1)
        h = seen.new_zeros(len(seen), self.memory)
        remembered: list[Tensor] = []
        after: list[Tensor] = []
        laws: list[Tensor] = []
        drawn: list[Tensor] = []
        for t in range(seen.shape[1]):
            h = h.masked_fill(begins[:, t], 0.0)
            law = self.latent(self.posterior(torch.cat([h, embedded[:, t]], -1)))
            z = self.relaxation(law.logits).flatten(1)
            remembered.append(h)
            laws.append(law.logits)
            drawn.append(z)
            h = self.cell(torch.cat([z, action[:, t]], -1), h)
            after.append(h)
        memory, ahead, z = (torch.stack(parts, 1) for parts in (remembered, after, drawn))
        state = torch.cat([memory, z], -1)
        posterior, prior = Categorical(torch.stack(laws, 1)), self.latent(self.prior(memory))
        terms = {
            "observation_loss": (self.decoder(state) - seen).square().sum(-1) / 2,
            "reward_loss": self.bins.loss(self.reward(ahead), batch.reward),
            "end_loss": nn.functional.binary_cross_entropy_with_logits(
                self.going(ahead).squeeze(-1), (~batch.terminated).float(), reduction="none"
            ),
        }
        if self.allowing is not None:
            logits = self.options(self.allowing(state))
            allowed = self.allowed(batch.mask)
            target = torch.ones_like(logits) if allowed is None else allowed.to(logits.dtype).expand_as(logits)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
            terms["mask_loss"] = loss.sum((-2, -1))
        forward = fixed(posterior).kl(prior).sum(-1)
        backward = posterior.kl(fixed(prior)).sum(-1)
        terms["kl_loss"] = self.dynamics * forward.clamp_min(self.free_nats)
        terms["kl_loss"] = terms["kl_loss"] + self.representation * backward.clamp_min(self.free_nats)
        return terms | {"kl": forward.detach()}, state.detach()

    # The actor-critic ---------------------------------------------------------------------------------------------

    def policy(self, state: Tensor, mask: Tensor | None = None) -> Categorical:
        """The law of actions in states ``(..., memory + latents * categories)``."""
        return Categorical(self.options(self.actor(state)), self.allowed(mask), unimix=self.unimix)

    def options(self, logits: Tensor) -> Tensor:
        """``(..., choices * categories)`` to ``(..., choices, categories)``."""
        return logits.unflatten(-1, (len(self.spaces.actions), max(self.spaces.actions)))

    def expected_mask(self, state: Tensor) -> Tensor | None:
        """Which options are probably allowed in states ``(..., size)``, at least one of each choice, bool
        ``(..., choices, categories)``; None where it is not predicted."""
        if self.allowing is None:
            return None
        logits = self.options(self.allowing(state))
        logits = logits if self.mask is None else logits.masked_fill(~self.mask, -math.inf)
        return (logits > 0) | (logits == logits.amax(-1, keepdim=True))

    @torch.no_grad()
    def imagine(
        self, state: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """Act in what the model imagines, from states ``(starts, size)`` on.

        Args:
            state: where to begin.
            mask: which options are allowed there, bool ``(starts, choices, categories)``; None where that is unknown.

        Returns:
            states ``(horizon + 1, starts, size)``; actions one-hot, ``(horizon, starts, choices, categories)``; what
            they are worth, and the probabilities that the task goes on, each ``(horizon, starts)``; which options were
            allowed, as the actions, or None for all.
        """
        states = [state]
        actions: list[Tensor] = []
        memories: list[Tensor] = []
        masks: list[Tensor | None] = []
        for t in range(self.horizon):
            masks.append(self.expected_mask(state) if t or mask is None else mask)
            action = self.policy(state, masks[-1]).sample(noise=self.noise_source)
            h, z = state.split([self.memory, self.latents * self.categories], -1)
            h = self.cell(torch.cat([z, action.flatten(1)], -1), h)
            z = self.latent(self.prior(h)).sample(noise=self.noise_source)
            state = torch.cat([h, z.flatten(1)], -1)
            states.append(state)
            actions.append(action)
            memories.append(h)
        ahead = torch.stack(memories)
        rewards, going = self.bins.value(self.reward(ahead)), self.going(ahead).squeeze(-1).sigmoid()
        known = next((one for one in masks if one is not None), None)
        allowed = None
        if known is not None:
            every = torch.ones_like(known)
            allowed = torch.stack([(every if one is None else one).expand_as(action) for one in masks])
        return torch.stack(states), torch.stack(actions), rewards, going, allowed

    def returns(self, rewards: Tensor, going: Tensor, values: Tensor) -> Tensor:
        """Lambda-returns ``(horizon, starts)`` of rewards and probabilities to go on of that shape, and values
        ``(horizon + 1, starts)``."""
        result: list[Tensor] = []
        following = values[-1]
        for t in reversed(range(len(rewards))):
            ahead = (1 - self.trace) * values[t + 1] + self.trace * following
            following = rewards[t] + self.gamma * going[t] * ahead
            result.append(following)
        return torch.stack(result[::-1])

    def actor_critic_terms(self, start: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """The losses of actor and critic, each ``(horizon, starts)``, in what is imagined from ``start``, states
        ``(starts, size)``, on; ``mask`` as in :meth:`imagine`."""
        states, actions, rewards, going, allowed = self.imagine(start, mask)
        logits = self.critic(states)
        values = self.bins.value(logits.detach())
        returns = self.returns(rewards, going, values)
        low, high = returns.flatten().quantile(torch.tensor([0.05, 0.95], device=returns.device))
        self.spread.lerp_(high - low, 0.01) if self.spread else self.spread.copy_(high - low)
        advantage = (returns - values[:-1]) / self.spread.clamp_min(1.0)
        # What is imagined after an end does not count.
        weight = torch.cat([torch.ones_like(going[:1]), (self.gamma * going[:-1]).cumprod(0)])
        law = self.policy(states[:-1], allowed)
        entropy = law.entropy().sum(-1)
        actor = -(advantage * law.log_prob(actions).sum(-1) + self.entropy_weight * entropy)
        with torch.no_grad():
            slow = self.bins.value(self.slow_critic(states[:-1]))
        critic = self.bins.loss(logits[:-1], returns) + self.bins.loss(logits[:-1], slow)
        return {
            "actor_loss": weight * actor,
            "critic_loss": weight * critic,
            "entropy": entropy.detach(),
            "imagined_return": returns,
        }

    # Lightning's steps --------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        super().setup(stage)
        rows = self.trainer.datamodule.start // self.trainer.datamodule.envs
        if stage == "fit" and rows < self.length:
            raise ZooError(
                f"sequences of model.length={self.length} steps need data.start of at least model.length * data.envs"
            )

    def configure_optimizers(self) -> dict[str, Any]:
        own = {id(parameter): self.actor_lr for parameter in self.actor.parameters()}
        own |= {id(parameter): self.critic_lr for parameter in self.critic.parameters()}
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in self.parameters():
            if parameter.requires_grad:
                groups.setdefault(own.get(id(parameter), self.optimizer.lr), []).append(parameter)
        return self.optimizer.configure([{"params": part, "lr": lr} for lr, part in groups.items()], self.total_steps)

    def training_step(self, experience: Experience, batch_idx: int) -> dict[str, Tensor]:
        for _ in range(experience.ticks):
            experience.collect(self.explore)
            for _ in range(self.updates):
                values = self.learn(experience.sequences(self.batch_size, self.length))
        return values | {
            "return": torch.tensor(experience.recent_return),
            "env_steps": torch.tensor(float(experience.env_steps * self.trainer.world_size), dtype=torch.float64),
        }

    def learn(self, batch: Sequences) -> dict[str, Tensor]:
        """A gradient step of all parts on ``batch``; the means of their losses."""
        optimizer: Any = self.optimizers()
        schedule: Any = self.lr_schedulers()
        terms = self.terms(batch)
        optimizer.zero_grad()
        self.manual_backward(terms["loss"])
        self.clip_gradients(optimizer, self.max_grad_norm, "norm")
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            slow: list[Tensor] = list(self.slow_critic.parameters())
            fast: list[Tensor] = list(self.critic.parameters())
            torch._foreach_lerp_(slow, fast, self.target_rate)
        return {name: term.detach().mean() for name, term in terms.items()}

    def terms(self, batch: Sequences) -> dict[str, Tensor]:
        """The ``loss`` of all parts, and its parts."""
        terms, states = self.world_terms(batch)
        states = states.flatten(0, 1)
        chosen = torch.randint(len(states), (self.starts,), device=states.device)
        if batch.mask is not None and not self._warned:
            self._warned = True
            log.warning(
                "the environment says which actions are allowed, but the agent also learns from others, which it "
                "imagines: model.masks=true lets the model predict which are allowed"
            )
        mask = None if batch.mask is None else batch.mask.flatten(0, 1)[chosen]
        terms |= self.actor_critic_terms(states[chosen], mask)
        losses = [term.mean() for name, term in terms.items() if name.endswith("_loss")]
        return {"loss": torch.stack(losses).sum(), **terms}

    def explore(self, seen: Seen) -> Tensor:
        """Drawn actions, by which the replay is filled. What is seen here sets the running mean."""
        if self.normalizer is not None:
            self.normalizer.update(as_float(seen.observation))
        if self._acting is None:
            self._acting = self.player(mode=False)
            if self._remembered is not None and len(self._remembered) == len(seen.observation):
                self._acting.memory = self._remembered.to(self.device)
        return self._acting(seen)

    def on_fit_start(self) -> None:
        self._acting = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self._acting is not None:
            checkpoint[ACTING] = self._acting.memory.cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._remembered = checkpoint.get(ACTING)

    # What it is for -----------------------------------------------------------------------------------------------

    @property
    def example_input_array(self) -> Any:
        """What :func:`zoo.export` traces ``forward`` with."""
        g = generator(self.device, 0, PREDICT)
        memory = torch.rand(2, self.memory_size, generator=g, device=self.device)
        return super().example_input_array, memory, torch.tensor([True, False], device=self.device)

    def forward(self, observation: Tensor, memory: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Observations as the environment gives them, what was remembered ``(batch, memory_size)``, and whether an
        episode begins, bool ``(batch,)``, to the logits of actions ``(batch, choices, categories)`` and what to
        remember, if the most probable ones are taken."""
        _, law, memory = self.respond(observation, None, memory, first, mode=True)
        return law.logits, memory

    def respond(
        self, observation: Tensor, mask: Tensor | None, memory: Tensor | None, first: Tensor, *, mode: bool
    ) -> tuple[Tensor, Categorical, Any]:
        assert memory is not None
        h, rest = memory.split([self.memory, memory.shape[1] - self.memory], -1)
        h = self.cell(rest, h).masked_fill(first.unsqueeze(-1), 0.0)
        latent = self.latent(self.posterior(torch.cat([h, self.encoder(self.see(observation))], -1)))
        z = (latent.mode() if mode else latent.sample(noise=self.noise_source)).flatten(1)
        law = self.policy(torch.cat([h, z], -1), mask)
        action = law.mode() if mode else law.sample(noise=self.noise_source)
        return action.argmax(-1), law, torch.cat([h, z, action.flatten(1)], -1)

    def one_hot(self, action: Tensor) -> Tensor:
        """int64 ``(..., choices)`` to ``(..., choices * categories)``."""
        return nn.functional.one_hot(action, max(self.spaces.actions)).float().flatten(-2)


def fixed(law: Categorical) -> Categorical:
    """``law`` without gradient."""
    return Categorical(law.logits.detach())
