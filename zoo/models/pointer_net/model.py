"""A pointer network: an encoder over a set and a decoder that points at one element after another.

Each pointer is a hard one-hot draw through the relaxation layer, with a mask of what may still be chosen; the element
drawn is what the decoder sees next. The cost of the whole selection is a program with as many draws as steps (Vinyals
et al. 2015, arXiv 1506.03134; many starts after Kwon et al. 2020, arXiv 2010.16011).
"""

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Config, check_positive, locate
from zoo.data.seeding import PREDICT, generator
from zoo.errors import ZooError
from zoo.models.pointer_net.metrics import OptimalityGap, Validity
from zoo.models.pointer_net.nets import Distances, Memory, PointerDecoder, Rows, State, at_once, mean_near
from zoo.models.pointer_net.tasks import Task
from zoo.models.pointer_net.tasks.base import Objective, Progress
from zoo.relaxations import Categorical, Distribution, Draw, Pathwise, Relaxation, ScoredProgram, UnorderedSet
from zoo.relaxations.search import stochastic_beam_search
from zoo.training import AdamW, ZooModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
WHOLE = 500  # elements up to which all distances are in memory at once

Choose = Callable[[Tensor, Tensor], Tensor]
"""``(logits, mask)``, each ``(batch, starts, elements)``, to the elements chosen: indices ``(batch, starts)``, or
one-hot or relaxed choices of the shape of the logits."""


class PointerNet(ZooModule):
    """Pointer network with hard attention, trained by any relaxation.

    Args:
        task: what is to be solved: its cost, its rules, its metrics.
        encoder: elements ``(batch, n, features)`` and their distances to embeddings ``(batch, n, width)``.
        decoder: embeddings to logits over elements, step by step or of whole solutions.
        relaxation: how gradients pass through the pointers; any of :mod:`zoo.relaxations`.
        optimizer: with its learning-rate schedule.
        objective: ``expectation`` of the cost, by the relaxation; ``self_label``: cross-entropy on the best of the
            sampled solutions (Corsini et al. 2024, arXiv 2401.11849); ``supervised``: cross-entropy on the task's exact
            solutions. The last two do not use the relaxation. Null for the task's own.
        starts: solutions of each instance in training: of tours and routes from different first elements, at most one
            from each, else independent draws. Null for the task's own number.
        polish: rounds of the task's local search that a label goes through.
        max_grad_norm: gradients are scaled down to this norm; null for no limit.
        neighbourhood: the mean distance of elements to their five nearest, to which the distances of an instance are
            scaled as the networks are told them, so that they mean the same at any size; null for them as they are.
        eval_starts: of tours and routes in evaluation, at most one from each first element. Where it matters which is
            the first, as it does not of a cycle, what counts as greedy begins with the network's own choice, unless it
            was trained by ``expectation`` from several starts.
        eval_symmetries: symmetric copies of each test instance, at most as many as the task knows; the best solution
            of any counts as ``augmented_gap`` or ``augmented_cost``. 1 for none.
        eval_samples: sampled solutions of each test instance, the best of which counts as ``sampled_*``. 0 for none.
        eval_beam: width of a beam search on each test instance, which counts as ``beam_*``. 0 for none.

    Raises:
        ValueError: if a number is out of range.
        ZooError: if a pathwise relaxation is to train on a cost without gradient.
    """

    def __init__(
        self,
        *,
        task: Task,
        encoder: nn.Module,
        decoder: PointerDecoder,
        relaxation: Relaxation,
        optimizer: AdamW,
        objective: Objective | None = None,
        starts: int | None = None,
        polish: int = 0,
        max_grad_norm: float | None = 1.0,
        neighbourhood: float | None = None,
        eval_starts: int = 100,
        eval_symmetries: int = 1,
        eval_samples: int = 0,
        eval_beam: int = 0,
    ) -> None:
        super().__init__()
        starts = task.train_starts if starts is None else starts
        if min(starts, eval_starts, eval_symmetries) < 1 or min(polish, eval_samples, eval_beam) < 0:
            raise ValueError(
                "need starts, eval_starts and eval_symmetries >= 1, and polish, eval_samples and eval_beam >= 0, got "
                f"{starts}, {eval_starts}, {eval_symmetries}, {polish}, {eval_samples}, {eval_beam}"
            )
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be positive or null, got {max_grad_norm}")
        if neighbourhood is not None and not neighbourhood > 0:
            raise ValueError(f"neighbourhood must be positive or null, got {neighbourhood}")
        if (
            (objective or task.objective) == "expectation"
            and isinstance(relaxation, Pathwise)
            and not task.differentiable
        ):
            raise ZooError(
                f"the cost of {type(task).__name__} has no gradient for a pathwise relaxation such as "
                f"{type(relaxation).__name__}: use relaxation=rloo or reinforce, or objective=self_label"
            )
        self.task, self.encoder, self.decoder = task, encoder, decoder
        self.relaxation, self.optimizer, self.objective = relaxation, optimizer, objective or task.objective
        self.starts, self.polish, self.eval_starts = starts, polish, eval_starts
        self.eval_symmetries, self.eval_samples, self.eval_beam = eval_symmetries, eval_samples, eval_beam
        self.max_grad_norm, self.neighbourhood = max_grad_norm, neighbourhood
        self.progress = ("loss", "cost")
        self.monitor = "val/cost"
        self.scores: Any = task.metrics()
        self.validity = nn.ModuleDict()  # of the solutions of each way to decode, by name
        self.gaps = nn.ModuleDict()  # of further ways to decode, by name
        self.instance_gaps: list[Tensor] = []  # of the last evaluation, for its histogram
        # What has a memory has begun with a given first element wherever several starts were trained.
        several = starts > 1 and (self.objective == "expectation" or decoder.lstm is not None)
        self.chooses_first = not task.cyclic and (self.objective == "supervised" or not several)
        # Where the first element is always given, nothing is ever in place of the last one.
        decoder.nothing.requires_grad_(self.chooses_first or task.first_elements(task.smallest) is None)

    @classmethod
    def without_effect(cls, arguments: Config) -> str:
        objective = arguments.get("objective") or locate(arguments["task"]["_target_"], "model.task").objective
        if objective != "expectation":
            return f"model.objective={objective} trains without it, model.objective=expectation with it"
        return super().without_effect(arguments)

    # Building solutions -------------------------------------------------------------------------------------------

    def encode(self, x: Tensor) -> Memory:
        """Everything of instances ``(batch, n, features)`` that does not change from step to step.

        Raises:
            ZooError: if the weights were converted to half or double precision.
        """
        if (dtype := self.decoder.instance.weight.dtype) != torch.float32:
            raise ZooError(f"a pointer network has weights in float32, these are {dtype}; for half precision: autocast")
        x = self.task.normal(x).float()
        distances = self.distances(x)
        return self.decoder.prepare(self.encoder(x, distances), distances)

    def distances(self, x: Tensor) -> Distances | None:
        """Of instances that are normal, as the networks are told them; in evaluation of many elements row by row."""
        many = x.shape[1] > WHOLE and not torch.is_grad_enabled()
        if not many or type(self.task).distances_from is Task.distances_from:
            whole = self.task.relation(x)
            if whole is None or self.neighbourhood is None:
                return whole
            return whole * self.scale(mean_near(whole)).view(-1, 1, 1)
        if self.neighbourhood is None:
            return Rows(lambda index: self.task.distances_from(x, index))
        parts = at_once(x.shape[0], x.shape[1], x.device)
        scale = self.scale(torch.cat([mean_near(self.task.distances_from(x, part)) for part in parts], 1))
        return Rows(lambda index: self.task.distances_from(x, index) * scale.view(-1, *[1] * index.dim()))

    def scale(self, near: Tensor) -> Tensor:
        """What distances are multiplied with, ``(batch,)``, where those to near elements are ``(batch, n)``."""
        mean = near.mean(1)
        return torch.where(mean > 0, (self.neighbourhood or 1.0) / mean, 1.0)

    def construct(self, x: Tensor, memory: Memory, choose: Choose, starts: int) -> list[Tensor]:
        """Build ``starts`` solutions of every instance, choice by choice.

        Returns:
            the choices of each step, as ``choose`` gives them; a given first element as an index.

        Raises:
            ZooError: if the mask leaves nothing to choose.
        """
        batch, n = x.shape[:2]
        given = self.first_given(x, starts)
        choices, first, last = [], None, None
        progress, state = self.task.begin(x, starts), State()
        stuck = torch.zeros(batch, starts, dtype=torch.bool, device=x.device)
        for step in range(self.task.steps(n)):
            if step == 0 and given is not None:
                last = given.expand(batch, starts)
            else:
                mask, context = self.mask(x, progress, step), self.task.context(x, progress)
                stuck |= ~mask.any(-1)
                logits, state = self.decoder.step(memory, mask, first, last, context, state)
                last = choose(logits, mask)
            first = last if first is None else first
            index = last.detach().argmax(-1) if last.is_floating_point() else last  # of a relaxed choice its mode
            progress = self.task.advance(x, progress, index)
            choices.append(last)
            if self.all_over(x, progress, step):
                break
        refuse_dead_ends(stuck.any(1))  # once, as each look at the device's data waits for it
        return choices

    def all_over(self, x: Tensor, progress: Progress, step: int) -> bool:
        """Whether after ``step``, counted from 0, only stops would follow in all solutions."""
        if step + 1 < self.task.fewest_steps(x.shape[1]) or step + 1 == self.task.steps(x.shape[1]):
            return False
        # An export cannot look at its data; parts of a batch are to draw as often as the whole.
        if torch.compiler.is_exporting() or self.noise_source.parts > 1:
            return False
        return bool(self.task.over(x, progress).all())

    def build(self, x: Tensor, memory: Memory, choose: Choose, starts: int) -> tuple[Tensor, Tensor]:
        """Orders ``(batch, starts, steps)`` built by a ``choose`` that gives indices, and their costs."""
        order = torch.stack(self.construct(x, memory, choose, starts), -1)
        return order, self.task.cost(x, order)

    def first_given(self, x: Tensor, starts: int) -> Tensor | None:
        """The first elements of so many solutions, ``(starts,)``, where they are given, else None.

        A single start that is not one of a cycle is the network's own choice, if it has learned to choose.
        """
        return None if starts == 1 and self.chooses_first else self.task.starts(x.shape[1], starts, x.device)

    def mask(self, x: Tensor, progress: Progress, step: int) -> Tensor:
        """What may be chosen at ``step``, counted from 0: at the first only what can be given as the first."""
        first = self.task.first_elements(x.shape[1])
        if step or first is None:
            return self.task.mask(x, progress)
        mask = torch.zeros_like(progress["taken"])
        mask[..., list(first)] = True
        return mask

    def score(self, x: Tensor, memory: Memory, order: Tensor, *, starts: int | None = None) -> Tensor:
        """Logits of every choice in whole solutions ``order``, in one masked attention call.

        Args:
            x: instances.
            memory: of :meth:`encode`.
            order: int64 ``(batch, solutions, steps)``.
            starts: of which these are solutions; by default as many.

        Returns:
            ``(batch, solutions, drawn steps, n)``, ``-inf`` where the task's mask forbids.
        """
        given = int(self.first_given(x, order.shape[1] if starts is None else starts) is not None)
        progress = {name: part[:, :, given:] for name, part in self.task.prefixes(x, order).items()}
        masks, context = self.task.mask(x, progress), self.task.context(x, progress)
        if not given:
            begin = {name: part[:, :, 0] for name, part in progress.items()}
            masks = torch.cat([self.mask(x, begin, 0).unsqueeze(2), masks[:, :, 1:]], 2)
        return masked(self.decoder.score(memory, order, masks, given, context), masks)

    def log_prob(self, x: Tensor, memory: Memory, order: Tensor, *, starts: int | None = None) -> Tensor:
        """Log-probability of all choices in solutions ``order``, a given first element apart, ``(batch, solutions)``.

        The arguments are those of :meth:`score`.
        """
        logits = self.score(x, memory, order, starts=starts)
        drawn = order[:, :, order.shape[2] - logits.shape[2] :]
        nats = F.cross_entropy(logits.flatten(0, 2), drawn.flatten(), reduction="none")
        return -nats.view(drawn.shape).sum(-1)

    def choices(self) -> list[Distribution]:
        """Of the smallest instance, two elements: how large others are the data say."""
        return [Categorical(torch.zeros(1, 2))] if self.objective == "expectation" else []

    @property
    def chained(self) -> bool:
        return not isinstance(self.relaxation, UnorderedSet)  # which is given whole solutions

    # The objectives -----------------------------------------------------------------------------------------------

    def expectation(self, x: Tensor) -> dict[str, Tensor]:
        """The expected cost, whose gradient the relaxation estimates."""
        memory = self.encode(x)
        starts = self.train_starts(x)

        def program(draw: Draw) -> Tensor:
            choices = self.construct(x, memory, draw, starts)
            n = x.shape[1]
            one_hot = [c if c.is_floating_point() else F.one_hot(c, n).to(choices[-1].dtype) for c in choices]
            cost = self.task.cost_of_choices(x, torch.stack(one_hot, 2))
            return cost if starts > 1 else cost.squeeze(1)

        def sampled() -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                order, cost = self.build(x, memory, self.sample_choice, starts)
            log_prob = self.log_prob(x, memory, order)
            return (cost, log_prob) if starts > 1 else (cost.squeeze(1), log_prob.squeeze(1))

        def distinct(k: int) -> tuple[Tensor, Tensor]:
            order, exists = self.distinct(x, memory, k, starts)
            flat = order.flatten(1, 2)
            cost = self.task.cost(x, flat).view(exists.shape)
            log_prob = self.log_prob(x, memory, flat, starts=starts).view(exists.shape).masked_fill(~exists, -torch.inf)
            cost, log_prob = cost.movedim(-1, 0), log_prob.movedim(-1, 0)
            return (cost, log_prob) if starts > 1 else (cost.squeeze(-1), log_prob.squeeze(-1))

        cost = self.relaxation.expectation(ScoredProgram(program, sampled, distinct))
        return {"loss": cost.mean(), "cost": cost.detach().mean()}

    def first_choice(self, x: Tensor, memory: Memory, starts: int) -> Tensor | None:
        """The network's own probabilities of the first elements that are given to ``starts`` solutions.

        Returns:
            ``(batch, starts)``, or None where none is given, or one is as good as another.
        """
        given = self.first_given(x, starts)
        if given is None or not self.chooses_first:
            return None
        progress = self.task.begin(x, 1)
        mask, context = self.mask(x, progress, 0), self.task.context(x, progress)
        logits, _ = self.decoder.step(memory, mask, None, None, context, State())
        return logits[:, 0, given].float().softmax(-1)

    @torch.no_grad()
    def distinct(self, x: Tensor, memory: Memory, k: int, starts: int) -> tuple[Tensor, Tensor]:
        """Different solutions from each start, drawn without replacement by a stochastic beam search.

        Returns:
            orders ``(batch, starts, k or as many as there are, steps)``, and whether there are so many, boolean of that
            shape without steps; where not, the first order stands once more.

        Raises:
            ZooError: if the mask leaves nothing to choose.
        """
        batch, n = x.shape[:2]
        given = self.first_given(x, starts)
        chosen = itertools.count(int(given is not None))

        def in_rows(kept: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: part.flatten(0, 1) for name, part in kept.items()}

        def in_batch(kept: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: part.unflatten(0, (batch, -1)) for name, part in kept.items()}

        def step(tokens: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
            progress, kept, first, last = in_batch(state["progress"]), in_batch(state["kept"]), state["first"], None
            if number := next(chosen):
                last = tokens.view(batch, -1)
                first = tokens if number == 1 else first
                progress = self.task.advance(x, progress, last)
            mask, context = self.mask(x, progress, number), self.task.context(x, progress)
            begun = first.view(batch, -1) if number else None
            logits, kept = self.decoder.step(memory, mask, begun, last, context, kept)
            return masked(logits, mask).flatten(0, 1), {
                "progress": in_rows(progress), "kept": in_rows(kept), "first": first,
            }  # fmt: skip

        tokens = torch.zeros(batch * starts, dtype=torch.int64, device=x.device)
        tokens = tokens if given is None else given.repeat(batch)
        state = {"progress": in_rows(self.task.begin(x, starts)), "kept": {}, "first": tokens}
        steps = self.task.steps(n) - (given is not None)
        if not steps:  # the only element is given
            return tokens.view(batch, starts, 1, 1), torch.ones_like(tokens, dtype=torch.bool).view(batch, starts, 1)
        found = stochastic_beam_search(step, tokens, state, k=k, steps=steps, noise=self.noise_source)
        refuse_dead_ends(found.log_prob.isnan().any(1).view(batch, starts).any(1))
        exists = found.log_prob != -torch.inf
        order = torch.where(exists.unsqueeze(-1), found.tokens, found.tokens[:, :1])
        if given is not None:
            order = torch.cat([tokens.view(-1, 1, 1).expand(-1, order.shape[1], 1), order], -1)
        return order.unflatten(0, (batch, starts)), exists.unflatten(0, (batch, starts))

    def self_label(self, x: Tensor) -> dict[str, Tensor]:
        """Cross-entropy on the best of the sampled solutions: sampled without gradient, then scored as a whole.

        Where it matters which element is the first and several were given, the network's own choice of one is trained
        by the costs of all of them, in units of their standard deviation.
        """
        memory, starts = self.encode(x), self.train_starts(x)
        with torch.no_grad():
            order, cost = self.build(x, memory, self.sample_choice, starts)
            label, _ = best_of(order, cost)
            if self.polish:
                label = self.task.improve(x, label, self.polish)
            best = self.task.cost(x, label.unsqueeze(1)).mean()
            advantage = (cost - cost.mean(1, keepdim=True)) / cost.std(1, correction=0, keepdim=True).clamp_min(1e-8)
        loss = self.cross_entropy(x, memory, label, starts)
        if (first := self.first_choice(x, memory, starts)) is not None:
            loss = loss + (first * advantage).sum(1).mean() / label.shape[1]
        return {"loss": loss, "cost": cost.mean(), "best_cost": best}

    def supervised(self, x: Tensor) -> dict[str, Tensor]:
        """Cross-entropy on an exact solution."""
        label = self.task.optimal_order(x)
        cost = self.task.cost(x, label.unsqueeze(1)).mean()
        starts = 1 if self.chooses_first else self.train_starts(x)
        return {"loss": self.cross_entropy(x, self.encode(x), label, starts), "cost": cost}

    def cross_entropy(self, x: Tensor, memory: Memory, label: Tensor, starts: int) -> Tensor:
        """``-log p(label)`` per choice, in nats, of solutions ``(batch, steps)``; of a cycle from each of ``starts``.

        The first element counts as a choice unless it is given to so many starts.
        """
        steps = label.shape[1]
        order = label.unsqueeze(1)
        given = self.first_given(x, starts)
        if given is not None and self.task.cyclic:
            begin = (label.unsqueeze(1) == given.view(1, -1, 1)).int().argmax(-1, keepdim=True)
            rotated = (begin + torch.arange(steps, device=x.device)) % steps
            order = label.unsqueeze(1).expand(-1, len(given), -1).gather(2, rotated)
        return -self.log_prob(x, memory, order, starts=starts).mean() / max(1, steps - (given is not None))

    def train_starts(self, x: Tensor) -> int:
        first = self.task.first_elements(x.shape[1])
        return self.starts if first is None else min(self.starts, len(first))

    # Lightning's steps --------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        task = getattr(getattr(self.trainer, "datamodule", None), "task", None)
        if isinstance(task, Task) and type(task) is not type(self.task):
            raise ZooError(
                f"this pointer network is for {type(self.task).__name__}, the data are instances of "
                f"{type(task).__name__}: choose data= of the same task"
            )

    def on_fit_start(self) -> None:
        if self.objective != "expectation":
            log.info("model.objective=%s trains without the relaxation; objective=expectation uses it", self.objective)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Lightning's own clipping refuses a fused optimiser in mixed precision, though here nothing is scaled any more.
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters(), self.max_grad_norm)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return getattr(self, self.objective)(batch[0])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        x, optimum = batch
        counted, costs = self._greedy_scores(x, optimum)
        return {"cost": counted.mean(), "best_cost": costs.amin(1).mean()}

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        x, optimum = batch
        counted, costs = self._greedy_scores(x, optimum)
        self.instance_gaps.append(100 * (counted.mean(1) - optimum) / optimum.abs())
        decoded = {"cost": counted.mean(1), "one_start_cost": counted[:, 0], "best_cost": costs.amin(1)}
        ways = (
            ("augmented", self.augmented, self.eval_symmetries if self.eval_symmetries > 1 else 0),
            ("sampled", self.best_sample, self.eval_samples),
            ("beam", self.beam, self.eval_beam),
        )
        for name, decode, number in ways:
            if number:
                order, decoded[f"{name}_cost"] = decode(x, number)
                self._check_validity(name, x, order.unsqueeze(1))
        decoded |= {f"{name}_cost": cost for name, cost in self.task.heuristics(x).items()}
        for name, cost in decoded.items():
            self._gap(name).update(cost, optimum)
        return {name: cost.mean() for name, cost in decoded.items()}

    def _greedy_scores(self, x: Tensor, optimum: Tensor) -> tuple[Tensor, Tensor]:
        """Costs of the greedy solutions that count in the task's metrics, and of those from all starts.

        Those from all starts count, unless the network can choose the start: then that one does, ``(batch, 1)``.
        """
        order, costs = self.greedy(x)
        counted = costs
        self._check_validity("greedy", x, order)
        if costs.shape[1] > 1 and self.chooses_first:
            order, counted = self.greedy(x, 1)
            self._check_validity("greedy", x, order)
        for start in range(order.shape[1]):
            self.task.update(self.scores, x, order[:, start], optimum)
        return counted, costs

    def _check_validity(self, name: str, x: Tensor, order: Tensor) -> None:
        if name not in self.validity:
            self.validity[name] = Validity().to(self.device)
        metric: Any = self.validity[name]
        metric.update(self.task.valid(x, order))

    def _gap(self, name: str) -> Any:
        name = name.removesuffix("cost") + "gap"
        if name not in self.gaps:
            self.gaps[name] = OptimalityGap().to(self.device)
        return self.gaps[name]

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_start(self) -> None:
        self.instance_gaps = []

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        metric: Any
        shares: dict[str, float] = {}
        for name, metric in self.validity.items():
            if metric.count:
                shares[name] = float(metric.compute())
            metric.reset()
        if shares:
            self.log(f"{stage}/validity", min(shares.values()), sync_dist=True)
        if wrong := [f"{share:.4%} of those by {name}" for name, share in shares.items() if not share == 1]:
            raise ZooError(
                f"not all solutions keep to the rules of {type(self.task).__name__}, only {', '.join(wrong)}: "
                "its mask allows what its `valid` forbids, or there is an error in the decoder"
            )
        for name, metric in (*self.gaps.items(), *self.scores.items()):
            if metric.count and metric.compute().isfinite():  # what is measured against an optimum needs one
                self.log(f"{stage}/{name}", metric.compute(), sync_dist=True)
            metric.reset()

    # Ways to decode -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def greedy(self, x: Tensor, starts: int | None = None) -> tuple[Tensor, Tensor]:
        """Orders ``(batch, starts, steps)`` of the most probable choices, and their costs ``(batch, starts)``.

        Args:
            x: instances.
            starts: by default ``eval_starts``, at most one for each first element. Where that is always drawn, one.
                One that is not of a cycle is the network's own choice, unless it was trained by ``expectation`` from
                several.

        Raises:
            ValueError: if ``starts`` is less than 1.
        """
        starts = self.eval_starts if starts is None else starts
        check_positive(starts=starts)
        first = self.task.first_elements(x.shape[1])
        starts = 1 if first is None else min(starts, len(first))
        return self.build(x, self.encode(x), most_probable, starts)

    @torch.no_grad()
    def augmented(self, x: Tensor, symmetries: int = 8) -> tuple[Tensor, Tensor]:
        """The best of the greedy solutions of symmetric copies of each instance, from all starts.

        Returns:
            orders ``(batch, steps)`` and costs ``(batch,)``.

        Raises:
            ValueError: if ``symmetries`` is less than 1.
        """
        check_positive(symmetries=symmetries)
        orders, costs = zip(*(best_of(*self.greedy(copy)) for copy in self.task.symmetries(x)[:symmetries]))
        order, _ = best_of(together(orders), torch.stack(costs, 1))
        return order, self.task.cost(x, order.unsqueeze(1)).squeeze(1)

    @torch.no_grad()
    def best_sample(self, x: Tensor, samples: int, *, at_once: int = 100) -> tuple[Tensor, Tensor]:
        """The best of ``samples`` sampled solutions, of a cycle from evenly spread starts.

        Args:
            x: instances.
            samples: of each.
            at_once: solutions of an instance that are under way at a time, which bounds the memory.

        Returns:
            orders ``(batch, steps)`` and costs ``(batch,)``.

        Raises:
            ValueError: if a number is less than 1.
        """
        check_positive(samples=samples, at_once=at_once)
        memory = self.encode(x)
        parts = [
            best_of(*self.build(x, memory, self.sample_choice, min(at_once, samples - begin)))
            for begin in range(0, samples, at_once)
        ]
        orders, costs = zip(*parts)
        return best_of(together(orders), torch.stack(costs, 1))

    def sample_choice(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Indices ``(batch, starts)`` drawn from the allowed elements."""
        return Categorical(masked(logits, mask)).sample_index(noise=self.noise_source)

    @torch.no_grad()
    def beam(self, x: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Beam search for the most probable solution; of the last beam the cheapest.

        A cycle is searched from its first element; other solutions whose first element is given from as many as fit.

        Returns:
            orders ``(batch, steps)`` and costs ``(batch,)``.

        Raises:
            ValueError: if ``width`` is less than 1.
        """
        check_positive(width=width)
        memory = self.encode(x)
        batch, n = x.shape[:2]
        rows = torch.arange(batch, device=x.device).unsqueeze(1)
        first_elements = self.task.first_elements(n)
        begun = 1 if first_elements is None or self.task.cyclic else min(width, len(first_elements))
        log_p = torch.zeros(batch, width, device=x.device)
        alive = (torch.arange(width, device=x.device) < begun).expand(batch, -1)  # the others hold nothing yet
        order = torch.zeros(batch, width, 0, dtype=torch.int64, device=x.device)
        progress, state = self.task.begin(x, width), State()
        for step in range(self.task.steps(n)):
            given = self.first_given(x, begun) if step == 0 else None
            if given is not None:
                chosen = F.pad(given, (0, width - begun), value=int(given[0])).expand(batch, -1)
            else:
                first, last = (order[..., 0], order[..., -1]) if step else (None, None)
                mask, context = self.mask(x, progress, step), self.task.context(x, progress)
                logits, state = self.decoder.step(memory, mask, first, last, context, state)
                longer = (log_p.unsqueeze(-1) + masked(logits, mask).log_softmax(-1)).flatten(1)
                allowed = (mask & alive.unsqueeze(-1)).flatten(1)
                _, flat = longer.masked_fill(~allowed, -torch.inf).topk(width)
                log_p, alive = longer.gather(1, flat), allowed.gather(1, flat)
                parent, chosen = flat // n, flat % n
                order = order[rows, parent]
                progress, state = ({name: part[rows, parent] for name, part in of.items()} for of in (progress, state))
            order = torch.cat([order, chosen.unsqueeze(-1)], -1)
            progress = self.task.advance(x, progress, chosen)
            if self.all_over(x, progress, step):
                break
        refuse_dead_ends(~alive.any(1))
        order = torch.where(alive.unsqueeze(-1), order, order[rows, alive.int().argmax(1, keepdim=True)])
        return best_of(order, self.task.cost(x, order))

    @torch.no_grad()
    def solve(self, instances: Any, *, symmetries: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Solve instances: the best of the greedy solutions from all starts.

        ::

            order, length = model.solve(np.random.rand(20, 2))       # a tour through 20 points

        Args:
            instances: ``(elements, features)`` or ``(batch, elements, features)``, an array, a tensor or lists. The
                columns have the names ``model.task.columns``. Points of a tour may lie anywhere.
            symmetries: copies of each instance that are solved beside it, where the task has them; 8 are the most.

        Returns:
            orders, int64 ``(batch, steps)``, and costs, float64 ``(batch,)``; of one instance ``(steps,)`` and a
            scalar.

        Raises:
            ZooError: if the instances are no numbers, not finite, too small, or of another task.
        """
        try:
            given = torch.as_tensor(instances if isinstance(instances, Tensor) else np.array(instances)).detach().cpu()
        except (TypeError, ValueError) as error:
            raise ZooError(f"instances must be an array of numbers: {error}") from error
        if given.is_complex() or (given.dim() == 3 and not len(given)):
            raise ZooError(f"instances must be real numbers, and some, got {given.dtype} of shape {tuple(given.shape)}")
        x = (given.unsqueeze(0) if given.dim() == 2 else given).double()  # until they are near 0
        order = self.augmented(self.task.as_trained(x).float().to(self.device), symmetries)[0].cpu()
        cost = self.task.cost(x, order.unsqueeze(1)).squeeze(1)
        if given.dim() == 2:
            order, cost = order[0], cost[0]
        return order.numpy(), cost.numpy()

    @property
    def example_input_array(self) -> Tensor:
        """Two random instances: what :func:`zoo.export` traces ``forward`` with. The file is for as many elements."""
        size = max(self.task.smallest, 10)
        return self.task.generate(2, size, generator(self.device, 0, PREDICT))

    def forward(self, x: Tensor) -> Tensor:
        """The best of the greedy solutions, int64 ``(batch, steps)``.

        Raises:
            ZooError: if the instances are not finite, too small, or of another task.
        """
        if not torch.compiler.is_exporting():
            self.task.check(x)
        order, _ = best_of(*self.greedy(x))
        return F.pad(order, (0, self.task.steps(x.shape[1]) - order.shape[1]))  # with stops, where all ended early

    def pictures(self, batch: tuple[Tensor, Tensor]) -> "dict[str, Figure]":
        """The task's own drawings of solutions, the pointers as a heat map, and the gaps of the last test."""
        from zoo.models.pointer_net.plots import histogram
        from zoo.training.plots import heat_map

        x = batch[0][:4]
        order, _ = self.greedy(x)
        best = best_of(*self.greedy(x))[0]
        pictures = self.task.draw(x, best)
        with torch.no_grad():
            p = self.score(x[:1], self.encode(x[:1]), order[:1, :1], starts=order.shape[1]).softmax(-1)[0, 0]
        # Elements in the order in which they are pointed at: a pointer that is sure of itself is a diagonal.
        pictures["pointers"] = heat_map(
            p[:, order[0, 0]].cpu(), "Probability of each pointer", "element, in the order chosen", "step"
        )
        gaps = torch.cat(self.instance_gaps) if self.instance_gaps else torch.zeros(0)
        if (gaps := gaps[gaps.isfinite()]).numel():
            pictures["gaps"] = histogram(
                gaps.cpu(), f"Greedy: {gaps.mean():.2f}% above optimal in the mean", "optimality gap in %"
            )
        return pictures


def best_of(order: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Of orders ``(batch, candidates, steps)`` with costs ``(batch, candidates)`` the cheapest of each instance."""
    cost, best = cost.min(1)
    index = best.view(-1, 1, 1).expand(-1, 1, order.shape[2])  # no len(): it would fix the batch of an export
    return order.gather(1, index).squeeze(1), cost


def together(orders: Sequence[Tensor]) -> Tensor:
    """Orders ``(batch, steps)`` that may differ in their steps as ``(batch, orders, steps)``, with stops at the end."""
    steps = max(order.shape[1] for order in orders)
    return torch.stack([F.pad(order, (0, steps - order.shape[1])) for order in orders], 1)


def refuse_dead_ends(stuck: Tensor) -> None:
    """Raise ``ZooError`` where an instance, of boolean ``(batch,)``, was left with nothing to choose."""
    if not torch.compiler.is_exporting() and stuck.any():  # an exported program cannot look at its data
        raise ZooError(
            f"the mask of the task leaves nothing to choose in {int(stuck.sum())} of {len(stuck)} instances: "
            "they have no solution by its rules"
        )


def masked(logits: Tensor, mask: Tensor) -> Tensor:
    """``logits`` in float32, ``-inf`` where ``mask`` is false; a row may be left with nothing."""
    return logits.float().masked_fill(~mask, -torch.inf)


def most_probable(logits: Tensor, mask: Tensor) -> Tensor:
    """The allowed elements with the largest logits, ``(batch, starts)``."""
    return masked(logits, mask).argmax(-1)
