"""An off-policy actor-critic for discrete actions whose critic takes the action itself, one-hot.

The actor is trained by the critic's gradient through the sampled action: one choice inside a network, like the code of
an autoencoder. With ``relaxation=exact`` it is soft actor-critic for discrete actions (Christodoulou 2019, arXiv
1910.07207); with a straight-through or Gumbel relaxation it is what deep deterministic policy gradients become when
actions are discrete (Lowe et al. 2017, arXiv 1706.02275, section 4.1).
"""

import copy
import itertools
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.data.seeding import PREDICT, generator
from zoo.errors import ZooError
from zoo.models.actor_critic.environments import Spaces, action_names, action_space, as_actions
from zoo.models.actor_critic.experience import Experience
from zoo.models.actor_critic.metrics import EpisodeReturns
from zoo.models.actor_critic.nets import Critic, Policy, RunningNorm
from zoo.models.actor_critic.replay import Transitions
from zoo.models.actor_critic.trial import Trial
from zoo.relaxations import Categorical, Exact, Relaxation
from zoo.training import AdamW, ZooModule
from zoo.training.callbacks.log_metrics import mean_over_ranks

log = logging.getLogger(__name__)

ENUMERATED = 64  # the most combinations of choices whose values a target adds up; beyond, it averages samples
SAMPLED = 16
BIAS_SAMPLES = 16  # gradients behind the logged bias
FILM_EVERY, FILM_FRAMES = 4, 128  # environment steps a frame, and frames at most


class ActorCritic(ZooModule):
    """Actor-critic for discrete actions, trained through the sampled action by any relaxation.

    Args:
        policy: observations ``(batch, *observation)`` to logits ``(batch, choices, categories)``.
        critic: observations and one-hot or relaxed actions ``(batch, candidates, choices, categories)`` to values
            ``(members, batch, candidates)``; the smallest member's counts (Fujimoto et al. 2018, arXiv 1802.09477).
        relaxation: how gradients pass through the action; any of :mod:`zoo.relaxations`.
        optimizer: of policy and critic, with its learning-rate schedule.
        updates: gradient steps in one training step, which acts once in every environment.
        batch_size: transitions of an update, in each process.
        target_rate: share of the critic that its target takes on in each update, in (0, 1].
        entropy_weight: alpha, what a nat of entropy is worth in rewards. With ``target_entropy`` its first value.
        target_entropy: share of the largest possible entropy, in (0, 1), that alpha is adjusted to; null to keep it.
        max_grad_norm: gradients are scaled down to this norm; null for no limit.
        normalize: whether the networks see observations by their running mean and standard deviation.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        critic: Critic,
        relaxation: Relaxation,
        optimizer: AdamW,
        updates: int = 2,
        batch_size: int = 256,
        target_rate: float = 0.05,
        entropy_weight: float = 0.1,
        target_entropy: float | None = None,
        max_grad_norm: float | None = None,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        if updates < 1 or batch_size < 1 or not 0 < target_rate <= 1:
            raise ValueError(
                "need updates >= 1, batch_size >= 1 and target_rate in (0, 1], got "
                f"{updates}, {batch_size}, {target_rate}"
            )
        if entropy_weight < 0 or (target_entropy is not None and not (0 < target_entropy < 1 and entropy_weight)):
            raise ValueError(
                "need entropy_weight >= 0, and with a target_entropy in (0, 1) more than 0, got "
                f"{entropy_weight}, {target_entropy}"
            )
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be positive or null, got {max_grad_norm}")
        self.policy, self.critic, self.relaxation, self.optimizer = policy, critic, relaxation, optimizer
        self.updates, self.batch_size, self.target_rate = updates, batch_size, target_rate
        self.target_entropy, self.max_grad_norm = target_entropy, max_grad_norm
        self.target_critic = copy.deepcopy(critic).requires_grad_(False)
        log_alpha = torch.tensor(math.log(entropy_weight) if entropy_weight else -math.inf)
        self.log_alpha = nn.Parameter(log_alpha, requires_grad=target_entropy is not None)

        observation = policy.arguments["observation"]
        self.normalizer = RunningNorm(observation) if normalize else nn.Identity()
        self.spaces = Spaces(tuple(observation), tuple(policy.arguments["actions"]))
        actions, categories = self.spaces.actions, max(self.spaces.actions)
        self.largest_entropy = sum(math.log(n) for n in actions)
        # Choices of different sizes: which options there are. None if all have the same number.
        allowed = torch.arange(categories) < torch.tensor(actions).unsqueeze(1)
        self.register_buffer("mask", None if len(set(actions)) == 1 else allowed, persistent=False)
        # Every action, if there are few: (1, combinations, choices, categories), one-hot.
        every = None
        if math.prod(actions) <= ENUMERATED:
            every = torch.tensor(list(itertools.product(*(range(n) for n in actions)))).unsqueeze(0)
            every = nn.functional.one_hot(every, categories).float()
        self.register_buffer("every_action", every, persistent=False)

        self.automatic_optimization = False
        self.steps_per_batch = updates
        self.progress, self.curves = ("return", "steps_per_second"), ("entropy",)
        self.monitor = "val/neg_return"
        self.mode_returns, self.sampled_returns = EpisodeReturns(), EpisodeReturns()

    # The objective ------------------------------------------------------------------------------------------------

    def actor_terms(self, observation: Tensor) -> dict[str, Tensor]:
        """The actor's loss ``E[-Q(s, a)] - alpha H``, and the entropy H in nats, each ``(batch,)``."""
        logits = self.policy(observation)
        with frozen(self.critic):  # its gradient at the action is wanted, not at its weights
            cost = self.relaxation.expectation(lambda draw: -self.value(observation, draw(logits, self.mask)))
        entropy = Categorical(logits, self.mask).entropy().sum(-1)
        return {"actor_loss": cost - self.log_alpha.exp().detach() * entropy, "entropy": entropy}

    def critic_terms(self, observation: Tensor, action: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The critics' squared error to ``target`` ``(batch,)``, summed over members, and the values, ``(batch,)``."""
        q = self.critic(observation, self.one_hot(action).unsqueeze(1)).squeeze(2)
        return {"critic_loss": (q - target).square().sum(0), "q": q.detach().mean(0)}

    @torch.no_grad()
    def targets(self, batch: Transitions) -> Tensor:
        """What the critics should say of ``batch``: its rewards and the soft value of what follows, ``(batch,)``."""
        return batch.reward + batch.discount * self.soft_value(self.observe(batch.following))

    @torch.no_grad()
    def soft_value(self, observation: Tensor) -> Tensor:
        """``E[Q(s, a)] + alpha H`` under the target critic, ``(batch,)``.

        The expectation is a sum over all actions; only where they are too many, a mean over samples. Of an n-step
        return it is the last term: the entropy on the way there is left out.
        """
        law = Categorical(self.policy(observation), self.mask)
        logits = law.logits
        if self.every_action is not None:
            actions, p = self.every_action, self.probabilities(logits)
        else:
            actions = Categorical(logits.unsqueeze(1).expand(-1, SAMPLED, -1, -1)).sample(noise=self.noise_source)
            p = torch.full(actions.shape[:2], 1 / SAMPLED, device=logits.device)
        q = self.target_critic(observation, actions).amin(0)
        entropy = law.entropy().sum(-1)
        return (p * q).sum(1) + self.log_alpha.exp() * entropy

    def value(self, observation: Tensor, action: Tensor) -> Tensor:
        """``Q(s, a)``, the smallest of the members, ``(batch,)``, of actions ``(batch, choices, categories)``."""
        return self.critic(observation, action.unsqueeze(1)).min(0).values.squeeze(1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of every action, ``(batch, combinations)``."""
        p = logits.softmax(-1).unsqueeze(1)
        return (p * self.every_action).sum(-1).prod(-1)

    def observe(self, observation: Tensor) -> Tensor:
        """Observations as the environment gives them to what the networks see, float32; bytes become [0, 1]."""
        return self.normalizer(as_float(observation))

    def one_hot(self, action: Tensor) -> Tensor:
        """int64 ``(batch, choices)`` to ``(batch, choices, categories)``."""
        return nn.functional.one_hot(action, max(self.spaces.actions)).float()

    # Lightning's steps --------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        spaces = self.trainer.datamodule.spaces
        if spaces != self.spaces:
            raise ZooError(
                f"the model is for {self.spaces}; the environment {self.trainer.datamodule.env} has {spaces}"
            )

    def configure_optimizers(self) -> dict[str, Any]:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return self.optimizer.configure(trained, self.total_steps)

    def on_train_start(self) -> None:
        self._clock: tuple[float, int] | None = None

    def on_train_epoch_start(self) -> None:
        self._clock = None  # time spent on evaluation does not count

    def training_step(self, experience: Experience, batch_idx: int) -> dict[str, Tensor]:
        if self._clock is None:
            self._clock = time.perf_counter(), experience.env_steps
        experience.collect(self.explore)
        values = self.learn(experience.sample(self.updates * self.batch_size))
        if self.trainer.is_last_batch:
            diagnosis = self.diagnose(self.observe(experience.sample(self.batch_size).observation))
            means = mean_over_ranks({f"train/{name}": value for name, value in diagnosis.items()}, self.trainer)
            for logger in self.trainer.loggers:  # now: what waits for the end of the epoch is lost if it is stopped
                logger.log_metrics(means, step=self.global_step)
        began, from_step = self._clock
        return values | {
            "return": torch.tensor(experience.recent_return),
            "env_steps": torch.tensor(float(experience.env_steps * self.trainer.world_size), dtype=torch.float64),
            "steps_per_second": torch.tensor((experience.env_steps - from_step) / (time.perf_counter() - began)),
        }

    def learn(self, batch: Transitions) -> dict[str, Tensor]:
        """Gradient steps on ``batch``, ``batch_size`` transitions each; the means of the last one.

        The targets of all of them are computed at once, before the first: for small networks the number of calls is
        what costs, and the target critic hardly moves in a few steps.
        """
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        followers: list[Tensor] = list(self.target_critic.parameters())
        leaders: list[Tensor] = list(self.critic.parameters())
        targets = self.targets(batch).split(self.batch_size)
        for part, target in zip(batch.split(self.batch_size), targets):
            terms = self.terms(part, target)
            optimizer.zero_grad()
            self.manual_backward(terms["loss"])
            if self.max_grad_norm is not None:
                self.clip_gradients(optimizer, self.max_grad_norm, "norm")
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                torch._foreach_lerp_(followers, leaders, self.target_rate)
        return {name: term.detach().mean() for name, term in terms.items()} | {"alpha": self.log_alpha.exp()}

    def terms(self, batch: Transitions, target: Tensor) -> dict[str, Tensor]:
        """The ``loss`` of actor, critics and, if it is adjusted, alpha, all at the same weights, and its parts."""
        observation = self.observe(batch.observation)
        terms = self.critic_terms(observation, batch.action, target) | self.actor_terms(observation)
        loss = (terms["actor_loss"] + terms["critic_loss"]).mean()
        if self.target_entropy is not None:  # more alpha while there is too little entropy
            excess = terms["entropy"].detach().mean() - self.target_entropy * self.largest_entropy
            loss = loss + self.log_alpha.exp() * excess
        return {"loss": loss, **terms}

    def validation_step(self, trial: Trial, batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(trial)

    def test_step(self, trial: Trial, batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(trial)

    def _evaluate(self, trial: Trial) -> dict[str, Tensor]:
        """One episode from each seed of ``trial`` with each of the two policies."""
        for mode, returns in ((True, self.mode_returns), (False, self.sampled_returns)):
            played = trial.play(partial(self.act, mode=mode), self.device)
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

    # What it is for -----------------------------------------------------------------------------------------------

    @property
    def example_input_array(self) -> Tensor:
        """Two observations of noise: what :func:`zoo.export` traces ``forward`` with."""
        g = generator(self.device, 0, PREDICT)
        return torch.randn(2, *self.spaces.observation, generator=g, device=self.device)

    def forward(self, observation: Tensor) -> Tensor:
        """Observations, as the environment gives them, to logits ``(batch, choices, categories)``."""
        return self.policy(self.observe(observation))

    def explore(self, observation: Tensor) -> Tensor:
        """Actions to learn from. Observations ``(batch, *observation)`` seen here set the running mean."""
        if isinstance(self.normalizer, RunningNorm):
            self.normalizer.update(as_float(observation))
        return self.act(observation)

    @torch.no_grad()
    def act(self, observation: Tensor, *, mode: bool = False) -> Tensor:
        """Actions, int64 ``(batch, choices)``: drawn from the policy, or the most probable ones with ``mode``."""
        policy = Categorical(self(observation), self.mask)
        return (policy.mode() if mode else policy.sample(noise=self.noise_source)).argmax(-1)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, None]:
        """Actions for ``env.step``, from observations as the environment gives them; the signature is that of
        Stable-Baselines3, so that its ``evaluate_policy`` takes this model.

        Args:
            observation: ``(*observation)`` of one environment or ``(batch, *observation)``, a NumPy array or a tensor.
            state: not used; this policy has no memory.
            episode_start: not used.
            deterministic: the most probable action; else one drawn from the policy.

        Returns:
            actions, int64, of one environment of the shape of its action space, else ``(batch, ...)``; and None.

        Raises:
            ValueError: if the observations have another shape.
        """
        given, expected = self.given(observation), self.spaces.observation
        single = tuple(given.shape) == tuple(expected)
        batch = given.unsqueeze(0) if single else given
        if tuple(batch.shape[1:]) != tuple(expected):
            raise ValueError(f"observations must be {expected} or (batch, ...), got {tuple(given.shape)}")
        choices = self.act(batch, mode=deterministic).cpu().numpy()
        if env := self.trained_on.get("env"):
            actions = as_actions(action_space(env), choices)
        else:
            actions = choices[:, 0] if choices.shape[1] == 1 else choices
        return (actions[0] if single else actions), None

    @property
    def action_names(self) -> tuple[str, ...]:
        """What the environment calls its actions, where it says so and the model knows which environment it is."""
        env = self.trained_on.get("env")
        return action_names(env) if env else ()

    def films(self, batch: Trial) -> "dict[str, Sequence[np.ndarray]]":
        """One episode of the mode policy."""
        try:
            act = partial(self.act, mode=True)
            return {"episode": batch.film(act, self.device, every=FILM_EVERY, most=FILM_FRAMES)}
        except ZooError as error:
            log.warning("no film of an episode: %s", error)
            return {}

    def diagnose(self, observation: Tensor) -> dict[str, Tensor]:
        """How the relaxation and the critic get on, from observations ``(batch, *observation)``.

        - ``type_gap``: ``|Q(s, p) - sum_a p(a) Q(s, a)|``: how much the critic errs about a softmax.
        - ``gradient_cosine``: of one draw's gradient at the logits with the exact one.
        - ``gradient_bias``: norm of the mean gradient's difference from the exact one, relative to that.

        Empty where the actions are too many to enumerate.
        """
        if self.every_action is None:
            return {}
        with frozen(self.critic), torch.enable_grad():
            logits = self.policy(observation).detach().requires_grad_()
            p = Categorical(logits, self.mask).logits.softmax(-1)
            expected = (self.probabilities(Categorical(logits, self.mask).logits) * self._values(observation)).sum(1)
            gap = (self.value(observation, p) - expected).abs().mean().detach()

            def gradient(relaxation: Relaxation) -> Tensor:
                cost = relaxation.expectation(lambda draw: -self.value(observation, draw(logits, self.mask)))
                return torch.autograd.grad(cost.sum(), logits)[0]

            exact = gradient(Exact().train())
            relaxation = copy.deepcopy(self.relaxation)  # some learn from each call
            drawn = torch.stack([gradient(relaxation) for _ in range(BIAS_SAMPLES)])
        cosines = nn.functional.cosine_similarity(drawn.flatten(1), exact.flatten().unsqueeze(0))
        bias = (drawn.mean(0) - exact).norm() / exact.norm().clamp_min(1e-12)
        return {"type_gap": gap, "gradient_cosine": cosines.mean(), "gradient_bias": bias}

    def _values(self, observation: Tensor) -> Tensor:
        """``Q(s, a)`` of every action, ``(batch, combinations)``."""
        return self.critic(observation, self.every_action).amin(0)


def as_float(observation: Tensor) -> Tensor:
    return observation.float() / 255 if observation.dtype == torch.uint8 else observation.float()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside, what ``module`` computes has no gradient at its parameters; its inputs keep theirs."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
