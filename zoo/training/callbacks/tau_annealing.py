"""The temperature of the relaxations as a function of the training step."""

import math
from fnmatch import fnmatchcase
from typing import Any, Literal

from lightning import Callback, LightningModule, Trainer

from zoo.config import Config, Configurable
from zoo.errors import ZooError
from zoo.relaxations import Relaxation, Tempered
from zoo.training.module import ZooModule

Schedule = Literal["constant", "linear", "exponential", "cosine", "step"]


class TauAnnealing(Configurable, Callback):
    """Sets the temperature of every relaxation in the model that has one at the start of each batch.

    Where a relaxation has two, that of the backward pass (:attr:`zoo.relaxations.Tempered.annealed`).

    tau is a pure function of ``trainer.global_step``, so a resumed run has the right one with no state
    to save. With t the share of ``steps`` that is done, in [0, 1]:

    - ``constant``: start
    - ``linear``: start + (end - start) t
    - ``exponential``: start (end / start)^t; with ``rate``, max(end, start exp(-rate step))
    - ``cosine``: end + (start - end) (1 + cos(pi t)) / 2
    - ``step``: start factor^(step // every), not beyond end

    Args:
        schedule: one of the above.
        start: the first tau; the default is the relaxation's own.
        end: the last tau; the floor of ``exponential`` and ``step``.
        steps: after how many steps ``end`` is reached; the default is the whole training.
        rate: of ``exponential``, per step, as in Jang et al. 2017, arXiv 1611.01144, section 4.2.
        factor: of ``step``.
        every: the schedule is evaluated at multiples of this many steps; the stairs of ``step``.
        pattern: only relaxations whose module name matches, such as ``relaxation`` or ``policy.*``.

    Raises:
        ValueError: if a number is out of range or an option does not belong to the schedule.
        ZooError: at the start of training, if no relaxation matches ``pattern``, or there is no temperature to anneal.
    """

    def __init__(
        self,
        *,
        schedule: Schedule = "constant",
        start: float | None = None,
        end: float = 0.5,
        steps: int | None = None,
        rate: float | None = None,
        factor: float = 0.5,
        every: int = 1,
        pattern: str = "*",
    ) -> None:
        if not (end > 0 and (start is None or start > 0) and math.isfinite(end) and math.isfinite(start or 1)):
            raise ValueError(f"start and end must be positive finite temperatures, got {start}, {end}")
        if every < 1 or (steps is not None and steps < 1) or not 0 < factor < 1:
            raise ValueError(
                f"need every >= 1, steps >= 1 and factor in (0, 1), got every={every}, steps={steps}, factor={factor}"
            )
        if rate is not None and (schedule != "exponential" or rate <= 0):
            raise ValueError("rate is a positive number and belongs to the exponential schedule")
        self.schedule, self.start, self.end, self.steps = schedule, start, end, steps
        self.rate, self.factor, self.every, self.pattern = rate, factor, every, pattern

    def tau(self, step: int, total_steps: float, own: float = 1.0) -> float:
        """The temperature at ``step`` of a training of ``total_steps``, of a relaxation made with tau ``own``."""
        start = own if self.start is None else self.start
        step -= step % self.every
        t = min(1.0, step / (self.steps or total_steps))
        if self.schedule == "linear":
            return start + (self.end - start) * t
        if self.schedule == "exponential":
            if self.rate is not None:
                return max(self.end, start * math.exp(-self.rate * step))
            return start * (self.end / start) ** t
        if self.schedule == "cosine":
            return self.end + (start - self.end) * (1 + math.cos(math.pi * t)) / 2
        if self.schedule == "step":
            return max(self.end, start * self.factor ** (step // self.every))
        return start

    @classmethod
    def paced(cls, arguments: Config) -> str:
        """What of it depends on how long training is to be; empty if nothing does."""
        shape = arguments["schedule"] in ("linear", "cosine", "exponential")
        follows = shape and arguments["steps"] is None and arguments["rate"] is None
        return "tau reaches its end with training (annealing.steps)" if follows else ""

    @property
    def changes(self) -> bool:
        """Whether there is anything to set."""
        return self.schedule != "constant" or self.start is not None

    def selected(self, module: LightningModule) -> dict[str, Tempered]:
        """The relaxations of ``module`` with a temperature that ``pattern`` selects, by name."""
        relaxations = {name: m for name, m in module.named_modules() if isinstance(m, Relaxation)}
        named = {name: m for name, m in relaxations.items() if fnmatchcase(name, self.pattern)}
        chosen = {name: m for name, m in named.items() if isinstance(m, Tempered)}
        if not named and self.pattern != "*":
            raise ZooError(
                f"annealing.pattern={self.pattern!r} selects no relaxation; the model has: "
                f"{', '.join(relaxations) or 'none'}"
            )
        if not chosen and self.changes:
            kinds = ", ".join(type(m).__name__ for m in named.values()) or "no relaxation"
            raise ZooError(f"there is no temperature to anneal: the model has {kinds}. Leave annealing= out.")
        return chosen

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._relaxations = self.selected(pl_module)
        own = isinstance(pl_module, ZooModule)
        self._total_steps = pl_module.total_steps if own else trainer.estimated_stepping_batches

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # Here and not at the start of an epoch, which is not reached when a run is resumed in mid-epoch.
        for relaxation in self._relaxations.values() if self.changes else ():
            own = relaxation.arguments[relaxation.annealed]
            setattr(relaxation, relaxation.annealed, self.tau(trainer.global_step, self._total_steps, own))
