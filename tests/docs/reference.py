"""Pages and cards that are made by a program: about options, from the configuration files and the docstrings of what
they build; about metrics, from the ``card.yaml`` of each model; and the cards of the pretrained models.

    python -m tests.docs.reference        write them
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from tests.conftest import ROOT
from zoo.config.composition import CONFIGS, GROUPS, with_parents
from zoo.config.explaining import comments, explain_values
from zoo.config.folders import config_files
from zoo.config.objects import locate
from zoo.errors import ZooError
from zoo.hub import from_pretrained, list_models, models, pretrained_folder
from zoo.hub.cards import about, pictures_in
from zoo.hub.saving import model_card

PAGES = ROOT / "docs/reference/options"
ABOUT = {
    "model": "What is trained. `zoo train NAME` is `zoo train model=NAME`.",
    "nets": "Encoder and decoder, where a model has a choice.",
    "quantizer": "How vectors become numbers of a codebook, where a model has one.",
    "data": "What is trained on.",
    "relaxation": "How gradients pass through the choices. [Which one?](../../explanation/estimators.md)",
    "annealing": "The temperature as a function of the step, for relaxations that have one.",
    "callbacks": "What is done beside training. More of your own: `+callbacks.NAME._target_=mypackage.Callback`.",
    "trainer": "Lightning's Trainer. Any of its arguments can be added: `+trainer.detect_anomaly=true`.",
    "logger": "Where curves go, beside `metrics.csv`. [How to](../../how-to/track.md)",
    "experiment": "Settings of pretrained models and of papers: each chooses a model and changes some options.",
}
WRITTEN = "Written by `python -m tests.docs.reference` from `{}` and the docstrings: change those."


def page(group: str) -> str:
    """The page of a group."""
    parts = [f"# {group.capitalize()}: `{group}=`", ABOUT[group], WRITTEN.format(f"configs/{group}")]
    for name, paths in config_files(group).items():
        if not paths[0].is_relative_to(CONFIGS):
            continue  # of a plug-in
        text = paths[0].read_text(encoding="utf-8")
        parts += [f"## `{name}`", head(text)]
        if group == "experiment":
            parts.append(f"```yaml\n{body(text)}\n```")
        else:
            parts.append(table(options(group, name)))
    return "\n\n".join(part for part in parts if part) + "\n"


def main_page() -> str:
    """The page of the options that belong to no group."""
    values = yaml.safe_load((CONFIGS / "train.yaml").read_text(encoding="utf-8"))
    beside = comments(CONFIGS / "train.yaml", "")
    rows = [(key, shown(value), "", beside[key]) for key, value in values.items() if key not in ("defaults", "hydra")]
    groups = "\n".join(
        f"- [`{group}=`]({group}.md): {ABOUT[group].partition('. ')[0].rstrip('.')}." for group in GROUPS
    )
    return f"""# Options of every run

`zoo train MODEL --cfg job` shows every option of a run with its value and its meaning.

{WRITTEN.format("configs/train.yaml")}

{table(rows)}

Groups, of each of which a file is chosen by its name:

{groups}
"""


def options(group: str, name: str) -> list[tuple[str, str, str, str]]:
    """Name, value, type and meaning of every option in a file."""
    known, beside, tree = config_files(group), {}, {}
    for path in reversed(with_parents(name, known)):
        beside |= comments(path, group)
        text = path.read_text(encoding="utf-8")
        found = re.search(r"^# @package (\S+)$", text, re.MULTILINE)
        root = (found[1] if found else group).removeprefix("_global_")
        values = {key: value for key, value in (yaml.safe_load(text) or {}).items() if key not in ("defaults", "hydra")}
        if root:
            tree.setdefault(root, {}).update(values)
        else:
            tree |= values
    meanings = explain_values(tree, beside)
    if group == "model":
        meanings |= {key: text for key, text in comments(CONFIGS / "train.yaml", "").items() if key in tree}
        trainer = comments(CONFIGS / "trainer/default.yaml", "trainer")
        meanings |= {key: text for key, text in trainer.items() if key.split(".")[1] in tree.get("trainer", {})}
    return [(key, value, kind, meanings.get(key, "")) for key, value, kind in leaves(tree)]


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    """Name, value and type of every option of a part that is not a part itself."""
    hints = types(tree.get("_target_"))
    for key, value in tree.items():
        option = f"{name}.{key}" if name else key
        if isinstance(value, dict) and value:
            yield from leaves(value, option)
        elif key != "_target_":
            yield option, shown(value), hints.get(key, "")


def types(target: Any) -> dict[str, str]:
    """The types of the arguments of a class, as text."""
    try:
        cls = locate(target, "") if target else None
        hints = get_type_hints(cls.__init__) if isinstance(cls, type) else {}
    except (ZooError, NameError, TypeError):
        return {}
    return {name: type_text(hint) for name, hint in hints.items()}


def type_text(hint: Any) -> str:
    """``hint`` for people: without modules, with the values of a ``Literal``, the same in every version of Python."""
    text = _type_text(hint)
    return text if len(text) < 80 else ""


def _type_text(hint: Any) -> str:
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Literal:
        return " | ".join(map(repr, parts))
    if kind in (Union, UnionType):  # equal ones are one object, in the order of whichever came first
        return " | ".join(sorted(map(_type_text, parts), key=lambda text: (text == "None", text)))
    if hint is NoneType:
        return "None"
    if hint is Ellipsis:
        return "..."
    if kind and all(not isinstance(part, list) for part in parts):
        return f"{kind.__name__}[{', '.join(map(_type_text, parts))}]"
    return getattr(hint, "__name__", None) or re.sub(r"[\w.]+\.(\w+)", r"\1", str(hint))


def shown(value: Any) -> str:
    """``value`` as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).strip().removesuffix("...").strip()


def table(rows: list[tuple[str, str, str, str]]) -> str:
    """Rows of Markdown."""
    if not rows:
        return "No options."
    lines = ["| option | value | type | meaning |", "| --- | --- | --- | --- |"]
    for option, value, kind, meaning in rows:
        cells = (f"`{option}`", f"`{value}`", f"`{kind}`" if kind else "", markdown(meaning))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def markdown(text: str) -> str:
    """``text`` of a docstring as Markdown."""
    text = re.sub(r":\w+:`~?\.?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`").replace("*", r"\*") if "`*" not in text else text.replace("``", "`")


def head(text: str) -> str:
    """The comment at the beginning of a file, its commands as code."""
    lines = [line[2:] for line in text.splitlines() if line.startswith("# ") and not line.startswith("# @")]
    prose = [line for line in lines if not line.startswith("  ")]
    commands = [line.strip() for line in lines if line.startswith("  ")]
    models = re.search(r"^# @for (\S+)$", text, re.MULTILINE)
    served = ", ".join(f"`{name}`" for name in models[1].split(",")) if models else ""
    parts = [" ".join([*prose, *([f"For {served}."] if served else [])])]
    if commands:
        listed = ", ".join(f"`{re.split(r' {2,}', command)[0]}`" for command in commands)
        parts.append(f"Command: {listed}")
    return "\n\n".join(parts)


def body(text: str) -> str:
    """A file without the comment at its beginning."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(lines[first:])


COMMON = {
    "train/loss": ("what is minimised, of the last batch", ""),
    "lr": ("learning rate", ""),
    "tau": ("temperature of the relaxation; `tau/NAME` where a model has several", ""),
}
"""What every model logs in training."""


def unexplained(model: str, names: set[str]) -> set[str]:
    """Those names that the glossary does not explain."""
    known = about(models()[model].target)
    given = {"epoch", "step", *COMMON}
    return {name for name in names if name not in given and not name.startswith("tau/") and not known.score(name)}


def metrics_page() -> str:
    """The glossary."""
    parts = [
        "# Metrics",
        "Names begin with the stage, `train/`, `val/` or `test/`; the scores at the end of a run and on model cards "
        "are those of the test, without it. Training values are of single batches, and of *relaxed* draws where the "
        "relaxation has such; validation and test are of exact samples, whatever the relaxation.",
        "Written by `python -m tests.docs.reference` from the `card.yaml` of each model: change those.",
        "## All models",
        "| metric | meaning |\n| --- | --- |\n" + "\n".join(f"| `{n}` | {text} |" for n, (text, _) in COMMON.items()),
    ]
    for name, entry in models().items():
        known = about(entry.target)
        rows = [
            f"| `{key}` | {s.about} | {s.unit} | {s.better} | {s.good} |".replace("(s | x)", "(s \\| x)")
            for key, s in known.metrics.items()
        ]
        parts += [
            f"## `{name}`",
            "| metric | meaning | unit | better | how good is good |\n| --- | --- | --- | --- | --- |",
        ]
        parts[-1] += "".join(f"\n{row}" for row in rows)
        if known.prefixes:
            parts.append("\n".join(f"- `{prefix}...`: {text}" for prefix, text in known.prefixes.items()))
    return "\n\n".join(parts) + "\n"


def cards() -> dict[Path, str]:
    """The cards of the pretrained models."""
    found = {}
    for name in list_models(pretrained=True):
        folder = pretrained_folder(name)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        card = model_card(name, config, from_pretrained(folder), pictures_in(folder), [])
        found[folder / "README.md"] = card
    return found


def pages() -> dict[Path, str]:
    """Every page: where it belongs, and its text."""
    found = {PAGES / "train.md": main_page(), PAGES.parent / "metrics.md": metrics_page()}
    return found | {PAGES / f"{group}.md": page(group) for group in GROUPS}


if __name__ == "__main__":
    for make in (pages, cards):
        for path, text in make().items():
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path}\n")
