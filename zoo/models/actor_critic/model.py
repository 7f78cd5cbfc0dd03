"""An off-policy actor-critic for discrete actions whose critic takes the action itself, one-hot.

The actor is trained by the critic's gradient through the sampled action: one choice inside a network, like the code of
an autoencoder. With ``relaxation=exact`` it is soft actor-critic for discrete actions (Christodoulou 2019, arXiv
1910.07207); with a straight-through or Gumbel relaxation it is what deep deterministic policy gradients become when
actions are discrete (Lowe et al. 2017, arXiv 1706.02275, section 4.1).
"""

import copy
import itertools
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.data.environments.experience import Experience, Seen
from zoo.data.environments.making import Spaces
from zoo.data.environments.replay import Path, Transitions
from zoo.models.actor_critic.nets import Critic, Policy, RunningNorm
from zoo.models.agents import Agent, as_float, existing_options
from zoo.relaxations import Categorical, Distribution, Exact, Relaxation
from zoo.training import AdamW
from zoo.training.callbacks.log_metrics import mean_over_ranks

ENUMERATED = 64  # the most combinations of choices whose values a target adds up; beyond, it averages samples
SAMPLED = 16
BIAS_SAMPLES = 16  # gradients behind the logged bias


class ActorCritic(Agent):
    """Actor-critic for discrete actions, trained through the sampled action by any relaxation.

    Args:
        policy: observations ``(batch, *observation)`` to logits ``(batch, choices, categories)``.
        critic: observations and one-hot or relaxed actions ``(batch, candidates, choices, categories)`` to values
            ``(members, batch, candidates)``. With the head ``linear`` it is asked by ``table`` and ``rate``.
        relaxation: how gradients pass through the action; any of :mod:`zoo.relaxations`.
        optimizer: of policy and critic, with its learning-rate schedule.
        updates: gradient steps after each step of every environment.
        batch_size: transitions of an update, in each process.
        target_rate: share of the critic that its target takes on in each update, in (0, 1].
        entropy_weight: alpha, what a nat of entropy is worth in rewards. With ``target_entropy`` its first value.
        target_entropy: share of the largest possible entropy, in (0, 1), that alpha is adjusted to; null to keep it.
            Where there are masks the largest is that of the allowed options.
        critic_entropy_weight: what a nat is worth in the critics' targets, in place of alpha: 0 for critics of rewards
            alone (arXiv 2509.09838).
        twins: which of the members' values counts: ``min``, the smallest (Fujimoto et al. 2018, arXiv 1802.09477), or
            ``mean``, which underestimates less (arXiv 2209.10081).
        value_clip: how far a critic's value may go from its target's to lower its loss (the same); null for no limit.
        path_entropy: whether n-step returns have the entropies on the way, as one-step ones have (arXiv 2512.13165).
        correction: whether n-step returns are corrected for the policy having changed since, by Retrace (Munos et al.
            2016, arXiv 1606.02647) of soft values; they then have the entropies, too.
        critic_lr, entropy_lr: learning rates of the critics and of alpha; null for the optimiser's.
        max_grad_norm: gradients are scaled down to this norm; null for no limit.
        critic_max_grad_norm: the same of the critics by themselves; null to count them with the rest.
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
        critic_entropy_weight: float | None = None,
        twins: Literal["min", "mean"] = "min",
        value_clip: float | None = None,
        path_entropy: bool = False,
        correction: bool = False,
        critic_lr: float | None = None,
        entropy_lr: float | None = None,
        max_grad_norm: float | None = None,
        critic_max_grad_norm: float | None = None,
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
        positive = {"value_clip": value_clip, "critic_lr": critic_lr, "entropy_lr": entropy_lr}
        positive |= {"max_grad_norm": max_grad_norm, "critic_max_grad_norm": critic_max_grad_norm}
        for name, value in positive.items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive or null, got {value}")
        if critic_entropy_weight is not None and not critic_entropy_weight >= 0:
            raise ValueError(f"critic_entropy_weight must not be negative, got {critic_entropy_weight}")
        self.policy, self.critic, self.relaxation, self.optimizer = policy, critic, relaxation, optimizer
        self.updates, self.batch_size, self.target_rate = updates, batch_size, target_rate
        self.target_entropy, self.max_grad_norm = target_entropy, max_grad_norm
        self.critic_entropy_weight, self.twins, self.value_clip = critic_entropy_weight, twins, value_clip
        self.path_entropy, self.correction = path_entropy, correction
        self.critic_lr, self.entropy_lr, self.critic_max_grad_norm = critic_lr, entropy_lr, critic_max_grad_norm
        self.target_critic = copy.deepcopy(critic).requires_grad_(False)
        log_alpha = torch.tensor(math.log(entropy_weight) if entropy_weight else -math.inf)
        self.log_alpha = nn.Parameter(log_alpha, requires_grad=target_entropy is not None)

        observation = policy.arguments["observation"]
        parts = tuple(tuple(part) for part in policy.arguments.get("parts", ()))
        self.spaces = Spaces(tuple(observation), tuple(policy.arguments["actions"]), parts)
        one = observation[1:] if len(observation) in (2, 4) else observation  # of a history
        self.normalizer = RunningNorm(one) if normalize else nn.Identity()
        actions, categories = self.spaces.actions, max(self.spaces.actions)
        self.register_buffer("mask", existing_options(actions), persistent=False)
        # Every action, if there are few: (1, combinations, choices, categories), one-hot.
        every = None
        if math.prod(actions) <= ENUMERATED:
            every = torch.tensor(list(itertools.product(*(range(n) for n in actions)))).unsqueeze(0)
            every = nn.functional.one_hot(every, categories).float()
        self.register_buffer("every_action", every, persistent=False)

        self.automatic_optimization = False
        self.progress, self.curves = ("return", "steps_per_second"), ("entropy",)

    def choices(self) -> list[Distribution]:
        actions = self.spaces.actions
        return [Categorical(torch.zeros(1, len(actions), max(actions)), self.mask)]

    # The objective ------------------------------------------------------------------------------------------------

    def actor_terms(
        self, observation: Tensor, mask: Tensor | None = None, table: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The actor's loss ``E[-Q(s, a)] - alpha H``, and the entropy H in nats, each ``(batch,)``.

        Args:
            observation: ``(batch, *observation)``.
            mask: which options are allowed, bool ``(batch, choices, categories)``; None for all.
            table: what a linear critic makes of the observations, if it is known already.
        """
        logits, allowed = self.policy(observation), self.allowed(mask)
        table = None if table is None else table.detach()
        # The critic's gradient at the action is wanted, not at its weights.
        with frozen(self.critic) if table is None else nullcontext():
            cost = self.relaxation.expectation(lambda draw: -self.value(observation, draw(logits, allowed), table))
        entropy = Categorical(logits, allowed).entropy().sum(-1)
        return {"actor_loss": cost - self.log_alpha.exp().detach() * entropy, "entropy": entropy}

    def critic_terms(
        self, observation: Tensor, action: Tensor, target: Tensor, table: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The critics' squared error to ``target`` ``(batch,)``, summed over members, and the values, ``(batch,)``."""
        q = self._rate(self.critic, observation, self.one_hot(action), table)
        error = (q - target).square()
        if self.value_clip is not None:
            with torch.no_grad():
                old = self._rate(self.target_critic, observation, self.one_hot(action))
            near = old + (q - old).clamp(-self.value_clip, self.value_clip)
            error = error.maximum((near - target).square())
        return {"critic_loss": error.sum(0), "q": q.detach().mean(0)}

    @torch.no_grad()
    def targets(self, batch: Transitions) -> Tensor:
        """What the critics should say of ``batch``: its rewards and the soft value of what follows, ``(batch,)``."""
        if batch.path is not None and (self.path_entropy or self.correction):
            return self._along(batch.path, batch.discount > 0)
        return batch.reward + batch.discount * self.soft_value(self.observe(batch.following), batch.following_mask)

    def _along(self, path: Path, going: Tensor) -> Tensor:
        """The same of returns that know of what lies between, from their ends backwards.

        Args:
            path: what lies between.
            going: where the task is not over at the end, bool ``(batch,)``.
        """
        batch, steps = path.reward.shape
        observation = self.observe(path.observation.flatten(0, 1))
        mask = None if path.mask is None else path.mask.flatten(0, 1)
        law = Categorical(self.policy(observation), self.allowed(mask))
        table = self._table(self.target_critic, observation)
        value = self.soft_value(observation, mask, law, table).view(batch, steps)
        if self.correction:
            action = self.one_hot(path.action.flatten(0, 1))
            ratio = (law.log_prob(action).sum(-1).view(batch, steps) - path.log_prob).exp().clamp_max(1.0)
            rated = self.combine(self._rate(self.target_critic, observation, action, table)).view(batch, steps)
        else:
            entropy = (law.entropy().sum(-1) * self._alpha_of_critics()).view(batch, steps)
        last = path.inside.sum(1) - 1
        target = value.new_zeros(batch)
        for i in reversed(range(steps)):
            if i + 1 < steps:
                ahead = path.reward[:, i + 1] + path.gamma * target
                corrects = self.correction
                inner = value[:, i] + ratio[:, i] * (ahead - rated[:, i]) if corrects else entropy[:, i] + ahead
                target = torch.where(last > i, inner, target)
            target = torch.where(last == i, value[:, i] * going, target)
        return path.reward[:, 0] + path.gamma * target

    @torch.no_grad()
    def soft_value(
        self,
        observation: Tensor,
        mask: Tensor | None = None,
        law: Categorical | None = None,
        table: Tensor | None = None,
    ) -> Tensor:
        """``E[Q(s, a)] + alpha H`` under the target critic, ``(batch,)``.

        The expectation is a sum over all actions; only where they are too many, a mean over samples. Of an n-step
        return it is the last term: the entropy on the way there is left out but with ``path_entropy``.

        Args:
            observation: ``(batch, *observation)``.
            mask: which options are allowed, bool ``(batch, choices, categories)``; None for all.
            law: of the policy there, if it is known already.
            table: what a linear target critic makes of the observations, if it is known already.
        """
        if law is None:
            law = Categorical(self.policy(observation), self.allowed(mask))
        logits = law.logits
        if self.every_action is not None:
            value = (self.probabilities(logits) * self._values(self.target_critic, observation, table)).sum(1)
        else:
            actions = Categorical(logits.unsqueeze(1).expand(-1, SAMPLED, -1, -1)).sample(noise=self.noise_source)
            value = self.combine(self._ask(self.target_critic, observation, actions, table)).mean(1)
        return value + self._alpha_of_critics() * law.entropy().sum(-1)

    def _alpha_of_critics(self) -> Tensor | float:
        return self.log_alpha.exp() if self.critic_entropy_weight is None else self.critic_entropy_weight

    def value(self, observation: Tensor, action: Tensor, table: Tensor | None = None) -> Tensor:
        """``Q(s, a)``, ``(batch,)``, of actions ``(batch, choices, categories)``, of the member that counts."""
        return self.combine(self._rate(self.critic, observation, action, table))

    def _rate(self, critic: Critic, observation: Tensor, action: Tensor, table: Tensor | None = None) -> Tensor:
        """``(members, batch)`` of one action each, ``(batch, choices, categories)``."""
        return self._ask(critic, observation, action.unsqueeze(1), table).squeeze(2)

    def _ask(self, critic: Critic, observation: Tensor, action: Tensor, table: Tensor | None) -> Tensor:
        """``(members, batch, candidates)`` of actions ``(batch or 1, candidates, choices, categories)``."""
        return critic(observation, action) if table is None else critic.rate(table, action)

    def combine(self, values: Tensor) -> Tensor:
        """Values of the members ``(members, ...)`` to those that count, ``(...)``."""
        if self.twins == "mean":
            return values.mean(0)
        return values.amin(0) if len(values) != 2 else torch.minimum(*values)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of every action, ``(batch, combinations)``."""
        p = logits.softmax(-1)
        return p.squeeze(1) if p.shape[1] == 1 else (p.unsqueeze(1) * self.every_action).sum(-1).prod(-1)

    def observe(self, observation: Tensor) -> Tensor:
        """Observations as the environment gives them to what the networks see, float32; bytes become [0, 1]."""
        return self.normalizer(as_float(observation))

    def one_hot(self, action: Tensor) -> Tensor:
        """int64 ``(batch, choices)`` to ``(batch, choices, categories)``."""
        return nn.functional.one_hot(action, max(self.spaces.actions)).float()

    # Lightning's steps --------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> dict[str, Any]:
        parts: list[tuple[Iterable[nn.Parameter], float | None, float | None]] = [
            (self.policy.parameters(), None, None),
            (self.critic.parameters(), self.critic_lr, None),
            (self.relaxation.parameters(), None, None),
            ([self.log_alpha], self.entropy_lr, 0.0),  # decay would pull alpha towards 1
        ]
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        order = {parameter: i for i, parameter in enumerate(self.parameters())}
        for parameters, lr, decay in parts:
            key = (lr or self.optimizer.lr, self.optimizer.weight_decay if decay is None else decay)
            groups.setdefault(key, []).extend(p for p in parameters if p.requires_grad)
        chosen = [
            {"params": sorted(members, key=order.__getitem__), "lr": lr, "weight_decay": decay}
            for (lr, decay), members in groups.items()
            if members
        ]
        return self.optimizer.configure(chosen, self.total_steps)

    def on_train_start(self) -> None:
        self._clock: tuple[float, int] | None = None

    def on_train_epoch_start(self) -> None:
        self._clock = None  # time spent on evaluation does not count

    def training_step(self, experience: Experience, batch_idx: int) -> dict[str, Tensor]:
        if self._clock is None:
            self._clock = time.perf_counter(), experience.env_steps
        paths = self.path_entropy or self.correction
        for _ in range(experience.ticks):
            experience.collect(self.explore)
            terms = self.learn(experience.sample(self.updates * self.batch_size, paths=paths))
        if self.trainer.is_last_batch:
            seen = experience.sample(self.batch_size)
            diagnosis = self.diagnose(self.observe(seen.observation), seen.mask)
            means = mean_over_ranks({f"train/{name}": value for name, value in diagnosis.items()}, self.trainer)
            for logger in self.trainer.loggers:  # now: what waits for the end of the epoch is lost if it is stopped
                logger.log_metrics(means, step=self.global_step)
        began, from_step = self._clock
        return {name: term.detach().mean() for name, term in terms.items()} | {
            "alpha": self.log_alpha.exp(),
            "return": torch.tensor(experience.recent_return),
            "env_steps": torch.tensor(float(experience.env_steps * self.trainer.world_size), dtype=torch.float64),
            "steps_per_second": torch.tensor((experience.env_steps - from_step) / (time.perf_counter() - began)),
        }

    def learn(self, batch: Transitions) -> dict[str, Tensor]:
        """Gradient steps on ``batch``, ``batch_size`` transitions each; the :meth:`terms` of the last one.

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
            self._clip(optimizer)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                torch._foreach_lerp_(followers, leaders, self.target_rate)
        return terms

    def _clip(self, optimizer: Any) -> None:
        if self.critic_max_grad_norm is None:
            if self.max_grad_norm is not None:
                self.clip_gradients(optimizer, self.max_grad_norm, "norm")
            return
        critics = list(self.critic.parameters())
        own = set(map(id, critics))
        rest = [parameter for parameter in self.parameters() if id(parameter) not in own]
        nn.utils.clip_grad_norm_(critics, self.critic_max_grad_norm)
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(rest, self.max_grad_norm)

    def terms(self, batch: Transitions, target: Tensor) -> dict[str, Tensor]:
        """The ``loss`` of actor, critics and, if it is adjusted, alpha, all at the same weights, and its parts."""
        observation = self.observe(batch.observation)
        table = self._table(self.critic, observation)  # one call for both
        terms = self.critic_terms(observation, batch.action, target, table)
        terms |= self.actor_terms(observation, batch.mask, table)
        loss = (terms["actor_loss"] + terms["critic_loss"]).mean()
        if self.target_entropy is not None:  # more alpha while there is too little entropy
            excess = terms["entropy"].detach().mean() - self.target_entropy * self.largest_entropy(batch.mask)
            loss = loss + self.log_alpha.exp() * excess
        return {"loss": loss, **terms}

    def largest_entropy(self, mask: Tensor | None) -> float | Tensor:
        """Of a policy that keeps to ``mask``, bool ``(batch, choices, categories)``: the mean over the batch, nats."""
        if mask is None:
            return sum(math.log(n) for n in self.spaces.actions)
        options = mask if self.mask is None else mask & self.mask
        return options.sum(-1).log().sum(-1).mean()

    # What it is for -----------------------------------------------------------------------------------------------

    def forward(self, observation: Tensor) -> Tensor:
        """Observations, as the environment gives them, to logits ``(batch, choices, categories)``."""
        return self.policy(self.observe(observation))

    @torch.no_grad()
    def explore(self, seen: Seen) -> Tensor | tuple[Tensor, Tensor]:
        """Actions to learn from, and with ``correction`` the logarithm of their probability. What is seen here sets the
        running mean."""
        if isinstance(self.normalizer, RunningNorm):
            new = as_float(seen.observation)
            self.normalizer.update(new[:, -1] if new.dim() > self.normalizer.mean.dim() + 1 else new)
        action, law, _ = self.respond(seen.observation, seen.mask, None, seen.first, mode=False)
        return (action, law.log_prob(self.one_hot(action)).sum(-1)) if self.correction else action

    @torch.no_grad()
    def act(self, observation: Tensor, mask: Tensor | None = None, *, mode: bool = False) -> Tensor:
        """Actions, int64 ``(batch, choices)``: drawn from the policy, or the most probable ones with ``mode``."""
        return self.respond(observation, mask, None, None, mode=mode)[0]

    def respond(
        self, observation: Tensor, mask: Tensor | None, memory: Tensor | None, first: Tensor | None, *, mode: bool
    ) -> tuple[Tensor, Categorical, Tensor | None]:
        law = Categorical(self(observation), self.allowed(mask))
        drawn = law.mode() if mode else law.sample(noise=self.noise_source)
        return drawn.argmax(-1), law, memory

    def diagnose(self, observation: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """How the relaxation and the critic get on, from observations ``(batch, *observation)``.

        - ``type_gap``: ``|Q(s, p) - sum_a p(a) Q(s, a)|``: how much the critic errs about a softmax.
        - ``gradient_cosine``: of one draw's gradient at the logits with the exact one.
        - ``gradient_bias``: norm of the mean gradient's difference from the exact one, relative to that.

        Empty where the actions are too many to enumerate.
        """
        if self.every_action is None:
            return {}
        allowed = self.allowed(mask)
        with frozen(self.critic), torch.enable_grad():
            logits = self.policy(observation).detach().requires_grad_()
            p = Categorical(logits, allowed).logits.softmax(-1)
            expected = (
                self.probabilities(Categorical(logits, allowed).logits) * self._values(self.critic, observation)
            ).sum(1)
            gap = (self.value(observation, p) - expected).abs().mean().detach()

            def gradient(relaxation: Relaxation) -> Tensor:
                cost = relaxation.expectation(lambda draw: -self.value(observation, draw(logits, allowed)))
                return torch.autograd.grad(cost.sum(), logits)[0]

            exact = gradient(Exact().train())
            relaxation = copy.deepcopy(self.relaxation)  # some learn from each call
            drawn = torch.stack([gradient(relaxation) for _ in range(BIAS_SAMPLES)])
        cosines = nn.functional.cosine_similarity(drawn.flatten(1), exact.flatten().unsqueeze(0))
        bias = (drawn.mean(0) - exact).norm() / exact.norm().clamp_min(1e-12)
        return {"type_gap": gap, "gradient_cosine": cosines.mean(), "gradient_bias": bias}

    def _table(self, critic: Critic, observation: Tensor) -> Tensor | None:
        """What a linear critic makes of the observations, whatever it is asked of them; None of another."""
        return critic.table(observation) if getattr(critic, "head", None) == "linear" else None

    def _values(self, critic: Critic, observation: Tensor, table: Tensor | None = None) -> Tensor:
        """``Q(s, a)`` of every action, ``(batch, combinations)``."""
        table = self._table(critic, observation) if table is None else table
        if table is not None and len(self.spaces.actions) == 1:
            return self.combine(table)  # as it is, what every action is worth
        return self.combine(self._ask(critic, observation, self.every_action, table))


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
