"""The plan of the study: ``configs/plan.yaml``, and one file of ``configs/study`` for each regime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from zoo.config.composition import choices
from zoo.config.folders import config_files
from zoo.config.objects import from_config, locate
from zoo.config.resources import resource
from zoo.errors import ZooError, did_you_mean
from zoo.lab.study.regime import Regime
from zoo.relaxations import RELAXATIONS, Relaxation
from zoo.relaxations.distributions import Perturbed

FAMILIES = ("deterministic", "gumbel", "sampled", "score", "different", "control", "exact")
OWN = ("plan", "rungs", "trials", "seeds", "search", "margin", "estimators", "contrasts", "title", "text")


@dataclass(frozen=True)
class Estimator:
    """How a relaxation takes part.

    Attributes:
        name: in the rows.
        relaxation: the file of configs/relaxation.
        family: one of :data:`FAMILIES`.
        knob: the attribute that the search's ``tau`` sets; None if there is none.
        runs: of the program in a step.
        fixed: other attributes.
    """

    name: str
    relaxation: str
    family: str
    knob: str | None = "tau"
    runs: int = 1
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Relaxation:
        """A new one, in training mode.

        Raises:
            ZooError: if there is no such relaxation, or it cannot be built.
        """
        made = from_config(OmegaConf.to_container(OmegaConf.load(file_of("relaxation", self.relaxation))))
        for name, value in self.fixed.items():
            setattr(made, name, value)
        return made.train()

    @property
    def module(self) -> str:
        """Where its class is written."""
        config: Any = OmegaConf.load(file_of("relaxation", self.relaxation))
        return locate(config["_target_"], "relaxation").__module__


@dataclass(frozen=True)
class Rung:
    """A stage of the search: how much of the budget, how many seeds, how many settings go on."""

    share: float
    seeds: int
    keep: int


@dataclass(frozen=True)
class Question:
    """A planned contrast: the best of some families less the best of others."""

    name: str
    question: str
    better: tuple[str, ...]
    than: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What is done in one regime.

    Attributes:
        name: of the file in configs/study.
        title, text: for the page.
        tasks: name -> the regime, built for this task.
        margin: a difference of scores worth a word; one for all tasks, or one each.
        search: name -> ("log", low, high) or ("of", values).
        more: names of the estimators that are not of the plan.
    """

    name: str
    title: str
    text: str
    tasks: Mapping[str, Regime]
    estimators: tuple[Estimator, ...]
    questions: tuple[Question, ...]
    margin: Mapping[str, float]
    search: Mapping[str, Any]
    rungs: tuple[Rung, ...]
    trials: int
    seeds: int
    first_seed: Mapping[str, int]
    alpha: float
    more: tuple[str, ...] = ()

    def family(self, *names: str) -> list[str]:
        """The planned estimators of these families. Those from outside change no planned contrast."""
        return [one.name for one in self.estimators if one.family in names and one.name not in self.more]

    def settings(self, number: int) -> dict[str, float]:
        """The values of a setting of the search: the same for every estimator."""
        return self._settings()[number]

    def told(self, number: int, estimator: Estimator) -> dict[str, float]:
        """Those of them that the estimator has: what its rows say."""
        values = self.settings(number)
        return {name: value for name, value in values.items() if estimator.knob or name not in ("tau", "end")}

    def _settings(self) -> list[dict[str, float]]:
        """A Latin hypercube: of each value, every part of its range has one setting, in random order."""
        g = np.random.default_rng(14)
        found: list[dict[str, float]] = [{} for _ in range(self.trials)]
        for name, values in sorted(self.search.items()):
            ((kind, given),) = values.items()
            for one, part in zip(found, g.permutation(self.trials)):
                u = (int(part) + float(g.random())) / self.trials
                if kind == "log":
                    one[name] = float(f"{given[0] * (given[1] / given[0]) ** u:.3g}")
                else:
                    one[name] = given[int(u * len(given))]
        return found


def file_of(group: str, name: str) -> Path:
    """The file ``name`` of a group of configurations.

    Raises:
        ZooError: if there is none.
    """
    files = config_files(group)
    if name not in files:
        raise ZooError(f"there is no {group} {name!r}.{did_you_mean(name, list(files))} Known: {', '.join(files)}.")
    return files[name][0]


def regimes() -> dict[str, str]:
    """The regimes, and a line about each."""
    return choices("study")


@cache
def common() -> dict[str, Any]:
    """What ``configs/plan.yaml`` says."""
    return OmegaConf.to_container(OmegaConf.load(resource("configs") / "plan.yaml"))


def load(name: str, more: Sequence[str] = ()) -> Plan:
    """The plan of a regime.

    Args:
        name: of a file in configs/study.
        more: names of relaxations that take part beside the planned ones.

    Raises:
        ZooError: if there is no such regime, or its file is not in order.
    """
    general, own = common(), OmegaConf.to_container(OmegaConf.load(file_of("study", name)), resolve=True)
    assert isinstance(own, dict)
    unknown = own.keys() - {*OWN, "_target_", "tasks", "settings"}
    if unknown or "_target_" not in own or "margin" not in own:
        raise ZooError(
            f"study={name}: {', '.join(sorted(unknown)) or '_target_ or margin'} is "
            f"{'unknown' if unknown else 'missing'}. A regime has _target_, tasks, settings, margin and may have "
            f"{', '.join(OWN)}."
        )
    names = own.get("estimators") or list(general["estimators"])
    estimators = [described(one, general["estimators"]) for one in (*names, *more)]
    tasks = own.get("tasks") or {name: {}}
    shared = own.get("settings") or {}
    built = {task: from_config({"_target_": own["_target_"], **shared, **(one or {})}) for task, one in tasks.items()}
    for task, one in built.items():
        if not isinstance(one, Regime):
            raise ZooError(f"study={name}: {type(one).__name__} is not a Regime of zoo.lab.study.regime ({task})")
    margin = own["margin"] if isinstance(own["margin"], dict) else dict.fromkeys(tasks, float(own["margin"]))
    asked = own.get("contrasts") or list(general["contrasts"])
    questions = [
        Question(
            q, general["contrasts"][q]["question"], *(tuple(general["contrasts"][q][s]) for s in ("better", "than"))
        )
        for q in asked
    ]
    return Plan(
        name=name,
        title=own.get("title", name),
        text=own.get("text", ""),
        tasks=built,
        estimators=tuple(estimators),
        questions=tuple(questions),
        margin=margin,
        search=general["search"] | own.get("search", {}),
        rungs=tuple(Rung(**rung) for rung in own.get("rungs") or general["rungs"]),
        trials=own.get("trials", general["trials"]),
        seeds=own.get("seeds", general["seeds"]),
        first_seed=general["first_seed"],
        alpha=general["alpha"],
        more=tuple(more),
    )


def described(name: str, known: Mapping[str, Any]) -> Estimator:
    """How an estimator takes part: as the plan says, of one from outside by what its class is."""
    if name in known:
        return Estimator(**({"name": name, "relaxation": name} | known[name]))
    config: Any = OmegaConf.load(file_of("relaxation", name))
    cls = locate(config["_target_"], "relaxation")
    return Estimator(name, name, family_of(cls), knob_of(cls), getattr(cls, "program_runs", 1))


def family_of(cls: type[Relaxation]) -> str:
    """Of a class that the plan does not name."""
    if cls.unbiased:
        return "exact" if cls is RELAXATIONS["exact"] else "score"
    if not cls.stochastic:
        return "deterministic"
    perturbed = any(issubclass(need, Perturbed) for need in cls.needs)
    law = getattr(cls, "noise_law", "gumbel" if perturbed else None)
    return {"gumbel": "gumbel", None: "sampled"}.get(law, "control")


def knob_of(cls: type[Relaxation]) -> str | None:
    return getattr(cls, "annealed", None)
