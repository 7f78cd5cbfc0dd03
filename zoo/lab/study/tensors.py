"""Small tasks as one tensor program: seeds, learning rates and temperatures train side by side.

Everything has a leading dimension of *cells*, a cell being one run: parameters ``(cells, ...)``, batches ``(cells,
batch, ...)``. The loss of each cell depends on its own parameters alone, so the gradient of the sum is that of each.
The draws see ``(cells * batch, ...)`` rows, as any program's, with a temperature for each row.
"""

import hashlib
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.lab.study.regime import Clock, Regime, Result
from zoo.relaxations import Noise, Program, Relaxation

if TYPE_CHECKING:
    from zoo.lab.study.plan import Estimator

Params = dict[str, Tensor]
Expect = Callable[[Program], Tensor]
DECAY_FROM = 0.75
"""Share of training after which learning rates fall to zero, for every estimator alike."""
BASELINE_DECAY = 0.99


class Seeds:
    """What is random of a run and the same for every estimator: data, start, order. Each from its own seed.

    Args:
        seeds: of the cells.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.unique = sorted(set(seeds))
        self.index = torch.tensor([self.unique.index(seed) for seed in seeds])
        self.count = 0

    def __len__(self) -> int:
        return len(self.index)

    def each(self, make: Callable[[torch.Generator], Tensor]) -> Tensor:
        """``make`` for each different seed: ``(seeds, ...)``. Each call has random numbers of its own."""
        self.count += 1
        generators = [torch.Generator().manual_seed(seed * 1009 + self.count) for seed in self.unique]
        return torch.stack([make(g) for g in generators])

    def cells(self, make: Callable[[torch.Generator], Tensor]) -> Tensor:
        """``make`` for each cell, the same for those of a seed: ``(cells, ...)``."""
        return self.each(make)[self.index]

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Normal numbers ``(cells, *shape)``."""
        return self.cells(lambda g: scale * torch.randn(shape, generator=g))


class TensorRegime(Regime):
    """A task of small tensors. A new one writes :meth:`begin`, :meth:`loss` and :meth:`scores`.

    Args:
        steps: program runs in training; an estimator that takes several in a step has as many fewer steps.
        batch: examples of a step.

    Attributes:
        dims: dimensions of the logits of one example that are not a choice, and those of the choice: what a temperature
            has to broadcast to.
        slow: parameters with a learning rate of their own, that is not searched.
    """

    side_by_side = True
    dims: ClassVar[int] = 1
    slow: ClassVar[Mapping[str, float]] = {}

    def __init__(self, *, steps: int = 400, batch: int = 32) -> None:
        self.steps, self.batch = steps, batch
        self._served: dict[str, str] = {}

    @abstractmethod
    def begin(self, seeds: Seeds) -> tuple[Params, Any]:
        """Parameters ``(cells, ...)`` at the start, and whatever else the task needs: its data."""

    @abstractmethod
    def loss(self, params: Params, data: Any, step: int, run: "Run") -> Tensor:
        """What each cell minimises, ``(cells,)``."""

    @abstractmethod
    def scores(self, params: Params, data: Any) -> dict[str, Tensor]:
        """``valid``, ``test`` and what else there is of the hard decision, each ``(cells,)``; lower is better."""

    def serves(self, estimator: "Estimator") -> str:
        if estimator.name not in self._served:
            try:
                self.run(estimator, [({"lr": 0.0, "tau": 1.0, "end": 1.0}, 0)], share=1 / self.steps, key="")
                self._served[estimator.name] = ""
            except ZooError as error:
                self._served[estimator.name] = str(error)
        return self._served[estimator.name]

    def run(
        self, estimator: "Estimator", cells: Sequence[tuple[Mapping[str, Any], int]], *, share: float, key: str
    ) -> list[Result]:
        clock = Clock()
        seeds = Seeds([seed for _, seed in cells])
        steps = max(1, round(self.steps * share / estimator.runs))
        run = Run(self, estimator, [settings for settings, _ in cells], steps, key)
        params, data = self.begin(seeds)
        params = {name: value.clone().requires_grad_() for name, value in params.items()}
        adam = Adam(params, {name: run.lr for name in params if name not in self.slow} | dict(self.slow))
        spoilt = torch.zeros(len(seeds))
        for step in range(steps):
            run.at(step)
            loss = self.loss(params, data, step, run)
            gradients = torch.autograd.grad(loss.sum(), list(params.values()), allow_unused=True)
            spoilt += adam.step(gradients, min(1.0, (1 - step / steps) / (1 - DECAY_FROM)))
        with torch.no_grad():
            scores = self.scores({name: value.detach() for name, value in params.items()}, data)
        seconds = clock.seconds() / len(cells)
        more = {name: value for name, value in scores.items() if name not in ("valid", "test")}
        if spoilt.any():
            more["spoilt"] = spoilt / steps
        return [
            Result(
                valid=finite(scores["valid"][i]),
                test=finite(scores["test"][i]),
                steps=steps,
                runs=steps * estimator.runs,
                seconds=seconds,
                scores={name: float(value[i]) for name, value in more.items()},
            )
            for i in range(len(cells))
        ]


class Run:
    """The estimator of a call, and where it stands: what a task computes its expectation with."""

    def __init__(
        self, regime: TensorRegime, estimator: "Estimator", settings: Sequence[Mapping[str, Any]], steps: int, key: str
    ) -> None:
        self.estimator, self.steps, self.batch = estimator, steps, regime.batch
        self.relaxation: Relaxation = estimator.build()
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big")
        self.generator = torch.Generator().manual_seed(seed)
        self.noise = Noise(self.generator)
        self.settings = settings
        self.lr = self.of("lr")
        self.dims, self.tau = regime.dims, self.of("tau") if estimator.knob else None
        self.end = self.of("end") if estimator.knob else None
        self.baseline, self.weight = torch.zeros(len(settings)), 0.0

    def of(self, name: str) -> Tensor:
        """A value of the search, ``(cells,)``."""
        return torch.tensor([float(one[name]) for one in self.settings])

    def at(self, step: int) -> None:
        """Set the temperatures of a step."""
        if self.estimator.knob is None:
            return
        assert self.tau is not None and self.end is not None
        tau = self.tau * self.end ** (step / self.steps)
        rows = tau.repeat_interleave(self.batch)
        setattr(self.relaxation, self.estimator.knob, rows.view(-1, *[1] * self.dims))

    def expectation(self, program: Program) -> Tensor:
        """The estimate of a program of ``(cells * batch,)`` costs, as the mean over the batch of each cell."""
        more = {}
        if self.estimator.relaxation == "reinforce":  # whose own running mean would be one for all cells
            mean = self.baseline / max(self.weight, 1e-8)
            more["baseline"] = mean.repeat_interleave(self.batch)
        loss = self.relaxation.expectation(program, noise=self.noise, **more)
        loss = loss.view(len(self.settings), -1).mean(1)
        if more:
            self.baseline = self.baseline.lerp(loss.detach(), 1 - BASELINE_DECAY)
            self.weight = self.weight * BASELINE_DECAY + 1 - BASELINE_DECAY
        return loss


class Adam:
    """Adam with a learning rate for each cell. A cell whose gradient is not finite stays where it is in that step.

    Args:
        params: ``(cells, ...)`` each.
        lr: a number, or ``(cells,)``, for each of them.
    """

    def __init__(self, params: Params, lr: Mapping[str, Tensor | float]) -> None:
        self.params = list(params.values())
        self.lr = [shaped(torch.as_tensor(lr[name]), p) for name, p in params.items()]
        self.mean = [torch.zeros_like(p) for p in self.params]
        self.square = [torch.zeros_like(p) for p in self.params]
        self.count = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], factor: float) -> Tensor:
        """A step of ``factor`` times the learning rates. Returns which cells had no finite gradient, ``(cells,)``."""
        self.count += 1
        given = [g for g in gradients if g is not None]
        fine = torch.stack([g.flatten(1).isfinite().all(1) for g in given]).all(0) if given else torch.ones(0).bool()
        one, two = 1 - 0.9**self.count, 1 - 0.999**self.count
        for p, g, m, v, lr in zip(self.params, gradients, self.mean, self.square, self.lr):
            if g is None:
                continue
            if not fine.all():
                g = torch.where(shaped(fine, g), g, 0.0)
            m.lerp_(g, 0.1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            change = lr * factor / one * m / ((v / two).sqrt() + 1e-8)
            p.sub_(change if fine.all() else torch.where(shaped(fine, change), change, 0.0))
        return (~fine).float()


def shaped(value: Tensor, like: Tensor) -> Tensor:
    """``(cells,)`` or a number, to broadcast with ``like``."""
    return value.view(-1, *[1] * (like.dim() - 1)) if value.dim() else value


def finite(value: Tensor) -> float:
    """The number; a large one in place of what is not finite, which is no score to be proud of."""
    number = float(value)
    return number if math.isfinite(number) else 1e6


def linear(params: Params, name: str, x: Tensor) -> Tensor:
    """``x`` ``(cells, batch, in)`` through the layer ``name`` of each cell: ``(cells, batch, out)``."""
    return torch.baddbmm(params[f"{name}.b"], x, params[f"{name}.w"])


def layer(seeds: Seeds, name: str, inputs: int, outputs: int, scale: float = 1.0) -> Params:
    """A layer for each cell, its start drawn from its seed."""
    weight = seeds.normal(inputs, outputs, scale=scale / inputs**0.5)
    return {f"{name}.w": weight, f"{name}.b": torch.zeros(len(seeds), 1, outputs)}


def mlp(params: Params, name: str, x: Tensor) -> Tensor:
    """Two layers, ``name.0`` and ``name.1``, with a SiLU between."""
    return linear(params, f"{name}.1", torch.nn.functional.silu(linear(params, f"{name}.0", x)))


def mlp_params(seeds: Seeds, name: str, inputs: int, hidden: int, outputs: int, last: float = 1.0) -> Params:
    return layer(seeds, f"{name}.0", inputs, hidden) | layer(seeds, f"{name}.1", hidden, outputs, last)


def rows(x: Tensor) -> Tensor:
    """``(cells, batch, ...)`` as ``(cells * batch, ...)``."""
    return x.flatten(0, 1)


@dataclass
class Examples:
    """A training set, and others to score on; the same for all cells of a seed.

    Attributes:
        train, valid, test: name -> ``(seeds, examples, ...)``.
        seeds: of the cells.
        order: which examples are in the batch of a step, ``(seeds, steps, batch)``; it starts over at its end.
    """

    train: dict[str, Tensor]
    valid: dict[str, Tensor]
    test: dict[str, Tensor]
    seeds: Seeds
    order: Tensor

    @classmethod
    def of(
        cls,
        seeds: Seeds,
        make: Callable[[int], dict[str, Tensor]],
        batch: int,
        sizes: tuple[int, int, int] = (512, 256, 512),
    ) -> "Examples":
        """``make`` gives examples ``(seeds, count, ...)``."""
        order = seeds.each(lambda g: torch.randint(sizes[0], (256, batch), generator=g))
        train, valid, test = (make(size) for size in sizes)
        return cls(train, valid, test, seeds, order)

    def batch(self, step: int) -> dict[str, Tensor]:
        """``(cells, batch, ...)`` of each."""
        index = self.order[:, step % self.order.shape[1]]
        first = torch.arange(len(index)).unsqueeze(1)
        return {name: value[first, index][self.seeds.index] for name, value in self.train.items()}

    def held_out(self) -> dict[str, dict[str, Tensor]]:
        """The sets to score on, ``(cells, examples, ...)`` of each."""
        sets = {"valid": self.valid, "test": self.test}
        return {name: {key: value[self.seeds.index] for key, value in one.items()} for name, one in sets.items()}
