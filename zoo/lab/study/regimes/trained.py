"""Models of the zoo, through ``scripts/train.py``."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo.lab.common import trained
from zoo.lab.study.regime import Clock, Regime, Result
from zoo.training.loggers import read_metrics

if TYPE_CHECKING:
    from zoo.lab.study.plan import Estimator


class Trained(Regime):
    """A run of ``scripts/train.py``, scored by the metrics of its test and of its last validation.

    Args:
        options: of the run, with the model.
        epochs: of the whole budget.
        score: metric -> weight in the score, which is their weighted sum, lower is better.
        constant: added to it.
        diverged: the score of a run whose loss is not finite any more; no better than that of any other.
    """

    def __init__(
        self,
        *,
        options: Sequence[str],
        epochs: int,
        score: Mapping[str, float],
        constant: float = 0.0,
        diverged: float,
    ) -> None:
        self.options, self.epochs, self.measure = list(options), epochs, score
        self.constant, self.diverged = constant, diverged

    def modules(self) -> tuple[str, ...]:
        name = next(option.partition("=")[2] for option in self.options if option.startswith("model="))
        return tuple(f"zoo.models.{name}.{part}" for part in ("model", "nets", "data", "metrics"))

    def run(
        self, estimator: "Estimator", cells: Sequence[tuple[Mapping[str, Any], int]], *, share: float, key: str
    ) -> list[Result]:
        ((settings, seed),) = cells
        clock = Clock()
        epochs = max(1, round(self.epochs * share / estimator.runs))
        options = [
            *self.options,
            f"epochs={epochs}",
            f"seed={seed}",
            "pictures_every_n_epochs=100000",
            "checkpoint_every_n_steps=1000000",
            "trainer.accelerator=cpu",
            f"relaxation={estimator.relaxation}",
            f"model.optimizer.lr={settings['lr']}",
            *(f"relaxation.{name}={value}" for name, value in estimator.fixed.items()),
        ]
        if estimator.knob:
            options.append(f"relaxation.{estimator.knob}={settings['tau']}")
        if estimator.knob == "tau" and settings["end"] < 1:
            options += ["annealing=exponential", f"annealing.end={settings['tau'] * settings['end']:.4g}"]
        with tempfile.TemporaryDirectory() as folder:
            try:
                run = trained(Path(folder) / "run", options)
                results, curves = run.read_results(), read_metrics(run.metrics)
            except ZooError as error:
                if "finite" not in str(error):
                    raise
                return [Result(self.diverged, self.diverged, 0, 0, clock.seconds())]
        test = {name: results["metrics"][f"test/{name}"] for name in self.measure}
        valid = {name: curves[f"val/{name}"][-1][1] for name in self.measure}
        return [
            Result(
                valid=self.weighed(valid),
                test=self.weighed(test),
                steps=results["steps"],
                runs=results["steps"] * estimator.runs,
                seconds=clock.seconds(),
                scores=test,
            )
        ]

    def weighed(self, metrics: Mapping[str, float]) -> float:
        score = self.constant + sum(weight * metrics[name] for name, weight in self.measure.items())
        return score if math.isfinite(score) else self.diverged
