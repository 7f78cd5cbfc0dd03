"""Which runs a regime still needs: a function of the plan and of the rows that are there, so any run can be resumed."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zoo.lab.study.plan import Estimator, Plan
from zoo.lab.study.rows import Row

PHASES = ("search", "final", "cpu", "again")
MOST_SHARE, LEAST_SHARE = 8.0, 0.1


@dataclass(frozen=True)
class Unit:
    """Runs that are made by one call.

    Attributes:
        cells: number of the setting and seed of each.
        share: of the budget.
    """

    task: str
    estimator: str
    phase: str
    rung: int
    cells: tuple[tuple[int, int], ...]
    share: float


@dataclass
class State:
    """How far a task is with an estimator.

    Attributes:
        winner: number of the chosen setting, None while the search goes on.
        units: that can be done now.
        left: runs that are still needed, in full budgets.
        done: the same of those that are there.
    """

    winner: int | None
    units: list[Unit]
    left: float
    done: float


class Progress:
    """Of a regime.

    Args:
        plan: of it.
        rows: that count.
        phases: that are wanted.
    """

    def __init__(self, plan: Plan, rows: Iterable[Row], phases: Sequence[str] = ("search", "final", "cpu")) -> None:
        self.plan, self.phases = plan, phases
        self.rows: dict[tuple[str, str], dict[tuple[str, int], dict[tuple[int, int], Row]]] = defaultdict(dict)
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        of = self.rows[row.task, row.estimator].setdefault((row.phase, row.rung), {})
        of[row.setting, row.seed] = row

    def state(self, task: str, estimator: Estimator) -> State:
        """What is there and what is missing."""
        found, plan = self.rows.get((task, estimator.name), {}), self.plan
        state = State(None, [], 0.0, 0.0)
        settings, whole = list(range(plan.trials)), True
        for rung, stage in enumerate(plan.rungs):
            seeds = self.seeds("search", stage.seeds)
            keep = len(settings) if rung == 0 else plan.rungs[rung - 1].keep
            if whole:
                settings = settings[:keep] if rung else settings
                have = found.get(("search", rung), {})
                wanted = [(setting, seed) for setting in settings for seed in seeds]
                missing = [cell for cell in wanted if cell not in have]
                state.done += (len(wanted) - len(missing)) * stage.share
                state.left += len(missing) * stage.share
                if missing:
                    whole = False
                    state.units += self.split(task, estimator, "search", rung, missing, stage.share)
                else:
                    settings = sorted(settings, key=lambda s: mean([have[s, seed].valid for seed in seeds]))
            else:
                state.left += keep * stage.seeds * stage.share
        if whole:
            state.winner = settings[0]
        for phase in PHASES[1:]:
            if phase not in self.phases:
                continue
            seeds = self.seeds("final" if phase == "cpu" else phase, plan.seeds)
            have = found.get((phase, 0), {})
            if not whole:
                state.left += len(seeds)
                continue
            missing = [(settings[0], seed) for seed in seeds if (settings[0], seed) not in have]
            state.done += len(seeds) - len(missing)
            state.left += len(missing)
            share = self.equal_share(task, estimator) if phase == "cpu" else 1.0
            if missing and share is not None:
                state.units += self.split(task, estimator, phase, 0, missing, share)
        return state

    def split(
        self, task: str, estimator: Estimator, phase: str, rung: int, cells: list[tuple[int, int]], share: float
    ) -> list[Unit]:
        parts = [tuple(cells)] if self.plan.tasks[task].side_by_side else [(cell,) for cell in cells]
        return [Unit(task, estimator.name, phase, rung, part, share) for part in parts]

    def seeds(self, phase: str, count: int) -> list[int]:
        first = self.plan.first_seed[phase]
        return list(range(first, first + count))

    def final(self, task: str, estimator: str, phase: str = "final") -> dict[int, Row]:
        """The runs of the winner by seed."""
        of = self.rows.get((task, estimator), {}).get((phase, 0), {})
        return {seed: row for (_, seed), row in sorted(of.items())}

    def searched(self, task: str, estimator: str, rung: int = 0) -> dict[int, list[Row]]:
        """The runs of a rung of the search by setting."""
        found: dict[int, list[Row]] = defaultdict(list)
        for (setting, _), row in sorted(self.rows.get((task, estimator), {}).get(("search", rung), {}).items()):
            found[setting].append(row)
        return dict(found)

    def equal_share(self, task: str, estimator: Estimator) -> float | None:
        """Of the budget, so that the estimator takes the CPU time that the median one takes; None if not known yet."""
        times: dict[str, float] = {}
        for one in self.plan.estimators:
            if one.family == "exact":
                continue
            runs = self.final(task, one.name).values()
            if len(runs) < self.plan.seeds:
                if self.plan.tasks[task].serves(one):
                    continue
                return None
            times[one.name] = statistics.median(row.seconds for row in runs)
        if estimator.name not in times:
            return 1.0
        share = statistics.median(times.values()) / max(times[estimator.name], 1e-9)
        return min(MOST_SHARE, max(LEAST_SHARE, share))

    def winner(self, task: str, estimator: str) -> tuple[int, float] | None:
        """The chosen setting and its mean score in the search; None if the search is not complete."""
        one = next(e for e in self.plan.estimators if e.name == estimator)
        state = Progress.state(self, task, one)
        if state.winner is None:
            return None
        last = self.searched(task, estimator, len(self.plan.rungs) - 1)
        return state.winner, mean([row.valid for row in last[state.winner]])

    def begun(self, task: str) -> bool:
        """Whether a task has a row."""
        return any(of == task for of, _ in self.rows)

    def takes_part(self, task: str, families: Sequence[str]) -> list[str]:
        """The estimators of some families that have rows in a task, or can serve it. Before its first row, all."""
        begun, regime = self.begun(task), self.plan.tasks[task]
        names = self.plan.family(*families)
        return [
            one.name
            for one in self.plan.estimators
            if one.name in names and not (begun and not self.rows.get((task, one.name)) and regime.serves(one))
        ]

    def best(self, task: str, families: Sequence[str]) -> str | None:
        """The estimator of some families that is best in the search; None unless all of them have been searched."""
        scores: dict[str, float] = {}
        if not self.begun(task):
            return None
        for name in self.takes_part(task, families):
            found = self.winner(task, name)
            if found is None:
                return None
            scores[name] = found[1]
        return min(scores, key=lambda name: scores[name]) if scores else None


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.inf
