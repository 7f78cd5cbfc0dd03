"""Doing what is left to do: over several processes, with every finished run on disk at once."""

import logging
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache
from pathlib import Path

import torch

from zoo.lab.study import rows as files
from zoo.lab.study.plan import Plan, load
from zoo.lab.study.protocol import Progress, Unit
from zoo.lab.study.rows import Row

log = logging.getLogger("zoo")
SHOW_EVERY = 2.0


@cache
def plan_of(regime: str, more: tuple[str, ...]) -> Plan:
    return load(regime, more)


def perform(regime: str, more: tuple[str, ...], unit: Unit) -> list[Row]:
    """Make the runs of a unit, in this process."""
    torch.set_num_threads(1)
    plan = plan_of(regime, more)
    task = plan.tasks[unit.task]
    estimator = next(one for one in plan.estimators if one.name == unit.estimator)
    cells = [(plan.settings(setting), seed) for setting, seed in unit.cells]
    key = f"{regime} {unit}"
    results = task.run(estimator, cells, share=unit.share, key=key)
    code, versions = task.code(estimator), files.versions()
    return [
        Row(
            task=unit.task,
            estimator=unit.estimator,
            phase=unit.phase,
            rung=unit.rung,
            setting=setting,
            seed=seed,
            settings=files.dumped(plan.told(setting, estimator)),
            runs=result.runs,
            steps=result.steps,
            valid=result.valid,
            test=result.test,
            scores=files.dumped(dict(result.scores)),
            seconds=result.seconds,
            code=code,
            versions=versions,
        )
        for (setting, seed), result in zip(unit.cells, results)
    ]


def run_regime(
    name: str,
    folder: Path,
    *,
    more: Sequence[str] = (),
    only: Sequence[str] = (),
    phases: Sequence[str] = ("search", "final", "cpu"),
    jobs: int = 1,
) -> Progress:
    """Make the runs that a regime lacks. Those of other code or settings than the present ones are made again.

    Args:
        name: of the regime.
        folder: of its file of rows.
        more: estimators beside those of the plan.
        only: of the estimators, those to run; all by default.
        phases: of the protocol.
        jobs: processes.

    Returns:
        what is there now.
    """
    plan, path = plan_of(name, tuple(more)), folder / f"{name}.csv"
    every = files.read(path)
    served = {(task, one.name): plan.tasks[task].serves(one) for task in plan.tasks for one in plan.estimators}
    current = {
        key: plan.tasks[key[0]].code(next(e for e in plan.estimators if e.name == key[1]))
        for key, why in served.items()
        if not why
    }
    told = {
        (one.name, number): files.dumped(plan.told(number, one))
        for one in plan.estimators
        for number in range(plan.trials)
    }
    known = [
        row
        for row in every
        if current.get((row.task, row.estimator), row.code) == row.code
        and told.get((row.estimator, row.setting), row.settings) == row.settings
    ]
    if len(known) < len(every):
        log.info(
            "%s: %d of %d runs are of other code or settings and are made again.",
            name,
            len(every) - len(known),
            len(every),
        )
        files.write(path, known)
    progress = Progress(plan, known, phases)
    wanted = [
        (task, one)
        for task in plan.tasks
        for one in plan.estimators
        if not served[task, one.name] and (not only or one.name in only)
    ]
    show = Show(name)

    def units() -> tuple[list[Unit], float, float]:
        states = [progress.state(task, one) for task, one in wanted]
        return [u for s in states for u in s.units], sum(s.done for s in states), sum(s.left for s in states)

    for found in performed(name, tuple(more), units, jobs, show):
        files.append(path, found)
        for row in found:
            progress.add(row)
    files.write(path, [row for of in progress.rows.values() for each in of.values() for row in each.values()])
    show.end()
    return progress


def performed(
    name: str, more: tuple[str, ...], units: Callable[[], tuple[list[Unit], float, float]], jobs: int, show: "Show"
) -> Iterator[list[Row]]:
    """The rows of each unit as it is done; what can be done is asked for anew after each."""
    if jobs == 1:
        while True:
            ready, done, left = units()
            show(done, left)
            if not ready:
                return
            yield perform(name, more, ready[0])
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        at_work: dict[Future[list[Row]], Unit] = {}
        while True:
            ready, done, left = units()
            show(done, left)
            for unit in ready:
                if len(at_work) < jobs and unit not in at_work.values():
                    at_work[pool.submit(perform, name, more, unit)] = unit
            if not at_work:
                return
            for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                del at_work[future]
                yield future.result()


class Show:
    """A bar with the time left: on a terminal it moves, in a file it is a line now and then."""

    def __init__(self, name: str) -> None:
        self.name, self.start, self.first, self.last = name, time.monotonic(), -1.0, 0.0
        self.moves = sys.stderr.isatty()

    def __call__(self, done: float, left: float) -> None:
        now = time.monotonic()
        if self.first < 0:
            self.first = done
        if now - self.last < (SHOW_EVERY if self.moves else 60.0) and left:
            return
        self.last, whole = now, max(done + left, 1e-9)
        rate = (done - self.first) / max(now - self.start, 1e-9)
        rest = f"{duration(left / rate)} left" if rate > 0 else ""
        bar = "#" * round(30 * done / whole)
        text = f"{self.name:<16} [{bar:<30}] {done:.0f} of {whole:.0f} runs  {rest}"
        print(f"\r{text:<90}" if self.moves else text, end="" if self.moves else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.moves:
            print(file=sys.stderr)


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
