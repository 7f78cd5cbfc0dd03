"""What a regime is: something that trains with an estimator and is scored by its hard decision."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from zoo.config import Configurable

if TYPE_CHECKING:
    from zoo.lab.study.plan import Estimator


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        valid: the score of the hard decision by which settings are chosen; lower is better.
        test: the same for the test.
        steps: of the optimiser.
        runs: program runs in training.
        seconds: CPU time.
        scores: what else was measured.
    """

    valid: float
    test: float
    steps: int
    runs: int
    seconds: float
    scores: Mapping[str, float] = field(default_factory=dict)


class Regime(Configurable, ABC):
    """A task under the protocol. What it is built with says all of it: data, networks, budget.

    Attributes:
        side_by_side: whether many runs are made by one call; else each call is for one.
    """

    side_by_side: ClassVar[bool] = False

    @abstractmethod
    def run(
        self, estimator: "Estimator", cells: Sequence[tuple[Mapping[str, Any], int]], *, share: float, key: str
    ) -> list[Result]:
        """Train and score.

        Args:
            estimator: what the gradient is.
            cells: the settings of the search and the seed of each run.
            share: of the budget, more or less than 1.
            key: what the noise of this call is seeded with, beside the seeds.

        Returns:
            a result for each of the cells.
        """

    def serves(self, estimator: "Estimator") -> str:
        """Why an estimator cannot take part; empty if it can."""
        return ""

    def code(self, estimator: "Estimator") -> str:
        """Fingerprint of what a result depends on."""
        import hashlib

        from zoo.config import to_config
        from zoo.lab.study.fingerprint import fingerprint

        config = repr(sorted(to_config(self).items())) + repr(estimator)
        settings = hashlib.sha256(config.encode()).hexdigest()[:4]
        return f"{fingerprint(type(self).__module__, *self.modules(), estimator.module)}{settings}"

    def modules(self) -> tuple[str, ...]:
        """Of the code behind it, more than its own imports show."""
        return ()


class Clock:
    """CPU seconds of this process."""

    def __init__(self) -> None:
        self.start = time.process_time()

    def seconds(self) -> float:
        return time.process_time() - self.start
