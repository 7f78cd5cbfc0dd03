"""Model cards, in the format of the Hugging Face hub: metadata at the head, what the model is for, its scores and what
they mean.

What is the same for all weights of a model stands beside its code, in ``card.yaml``.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from zoo.config.resources import PACKAGE

CARD = "card.yaml"
STAGES = re.compile(r"^(train|val|test)/")
LICENSES = {"CC BY-SA 4.0": "cc-by-sa-4.0", "no part of it is in here": "mit", "licence": "other"}
"""What the notice of a model may say of its licence -> the hub's name of it; without that it is the project's own."""
DATASETS = {"MNIST": "ylecun/mnist", "FashionMNIST": "zalando-datasets/fashion_mnist"}
"""Classes of data -> the data set's name on the hub, where it has one."""
HEAD = "---\nlicense: "


@dataclass(frozen=True)
class Score:
    """What a metric means.

    Attributes:
        about: what it is.
        unit: such as ``nats``; empty for a pure number.
        better: ``lower``, ``higher``, or another word.
        good: how good is good.
    """

    about: str
    unit: str = ""
    better: str = ""
    good: str = ""


@dataclass(frozen=True)
class About:
    """What is the same for all weights of a model.

    Attributes:
        use: what it is meant for.
        limits: what it cannot do.
        tags: for the hub.
        metrics: its scores.
        prefixes: of the names of scores -> what they add to the meaning.
    """

    use: str = ""
    limits: str = ""
    tags: tuple[str, ...] = ()
    metrics: dict[str, Score] = field(default_factory=dict)
    prefixes: dict[str, str] = field(default_factory=dict)

    def score(self, name: str) -> Score | None:
        """What the metric ``name`` means, with ``val/`` and the like or without; None if nothing is known of it."""
        name = STAGES.sub("", name)
        if name in self.metrics:
            return self.metrics[name]
        for prefix, more in self.prefixes.items():
            if name.startswith(prefix) and (base := self.score(name.removeprefix(prefix))):
                return Score(f"{more} ({name.removeprefix(prefix)})", base.unit, base.better, base.good)
        return None


@cache
def about(target: str) -> About:
    """What is known of the model with the class ``target``, a dotted path; nothing of a class from outside."""
    import yaml

    from zoo.config.moved import present
    from zoo.config.objects import ours

    parts = present(target).split(".")
    path = PACKAGE.joinpath(*parts[1:3], CARD)
    if not ours(target) or not path.is_file():
        return About()
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    metrics = {name: Score(**score) for name, score in values.pop("metrics", {}).items()}
    return About(**values | {"tags": tuple(values.get("tags", ())), "metrics": metrics})


def license_of(notice: str) -> str:
    """The hub's name of the licence of a model whose card has ``notice``."""
    return next((name for words, name in LICENSES.items() if words in notice), "mit")


def metadata(arch: str, notice: str, data: dict[str, Any], more: Sequence[str] = (), scores: Sequence[str] = ()) -> str:
    """The head of a card.

    Args:
        arch: the model's name.
        notice: what the card has to say of the licence of the data.
        data: configuration of the data.
        more: tags.
        scores: names of the metrics.
    """
    dataset = DATASETS.get(str(data.get("_target_", "")).rpartition(".")[2])
    lines = [f"{HEAD}{license_of(notice)}", "library_name: discrete-latent-zoo"]
    lists: dict[str, Sequence[str]] = {
        "tags": ["pytorch-lightning", "discrete-latent", arch, *more],
        "datasets": [dataset] if dataset else [],
        "metrics": scores,
    }
    for key, values in lists.items():
        lines += [f"{key}:", *(f"- {value}" for value in values)] if values else []
    return "\n".join([*lines, "---", "", ""])


def scores_table(metrics: dict[str, float], known: About) -> Iterator[str]:
    """Lines of Markdown: every score, and what is known of it."""
    yield "| metric | value | meaning |"
    yield "| --- | ---: | --- |"
    for name, value in metrics.items():
        score = known.score(name)
        unit = f"; {score.unit}" if score and score.unit not in ("", "share", "count") else ""
        better = f"; {score.better} is better" if score and score.better in ("lower", "higher") else ""
        meaning = score.about.replace("|", "\\|") + unit + better if score else ""
        yield f"| {name} | {value:.4g} | {meaning} |"
    goods = {name: score.good for name in metrics if (score := known.metrics.get(name)) and score.good}
    if goods:
        yield ""
        yield "How good is good: " + "; ".join(f"**{name}** {text}" for name, text in goods.items()) + "."


def as_command(text: str) -> str:
    """``text`` with commands as an installed package has them."""
    return re.sub(
        r"\bpython (?:scripts/(\w+)\.py|-m zoo)\b", lambda match: f"zoo {match[1]}" if match[1] else "zoo", text
    )


def pictures_in(folder: Path) -> dict[str, Path]:
    """Captions and files of what a published model shows."""
    shown = [path for suffix in ("png", "gif") for path in sorted(folder.glob(f"*.{suffix}"))]
    heard = sorted(folder.glob("*.wav"))
    captions = {path.stem.replace("_", " ").capitalize(): path for path in shown}
    return captions | {f"Sound: {path.stem.replace('_', ' ')}": path for path in heard}
