"""What is made from files and docstrings: up to date, and complete."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.docs import reference
from zoo.cli.train import main
from zoo.config.composition import GROUPS
from zoo.hub import list_models, models, pretrained_folder
from zoo.hub.cards import about


def test_the_pages_are_up_to_date():
    pages = reference.pages()
    assert {path.stem for path in pages} == {"train", "metrics", *GROUPS}
    old = [path.name for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
    assert not old, "run python -m tests.docs.reference"


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "experiment"])
def test_every_option_has_a_meaning(group):
    rows = [row for name in reference.config_files(group) for row in reference.options(group, name)]
    assert rows and not [option for option, _, _, meaning in rows if not meaning]


def test_the_configuration_is_shown_with_meanings(capsys):
    """By ``--cfg job``, and by the help of what was chosen."""
    words = ["cat_vae", "trainer=ddp", "relaxation=gumbel_softmax", "annealing=linear"]
    main([*words, "--cfg", "job"])
    printed = capsys.readouterr().out
    values = yaml.safe_load(printed)
    assert values["model"]["latents"] == 30 and values["trainer"]["strategy"]["timeout"] == 600
    lines = [line for line in printed.splitlines() if ":" in line and not line.strip().startswith("- ")]
    bare = {line.split(":")[0].strip() for line in lines if " # " not in line}
    assert bare <= {"_target_", *GROUPS, "wandb", "strategy"}, bare
    assert "activation: silu # after each hidden layer; or relu, leaky_relu, tanh" in printed
    main(["--help", *words])
    assert capsys.readouterr().out == printed


def logged() -> dict[str, set[str]]:
    """The names of all that stored runs and pretrained models have measured, by model."""
    found: dict[str, set[str]] = {name: set() for name in models()}
    for path in (ROOT / "tests/hub/stored/runs").glob("*/scores.json"):
        found[path.parent.name] |= set(json.loads(path.read_text()))
    for name in list_models(pretrained=True):
        config = json.loads((pretrained_folder(name) / "config.json").read_text())
        found[config["arch"]] |= set(config["metrics"])
    return found


@pytest.mark.parametrize("model", models())
def test_every_score_is_in_the_glossary(model):
    assert not reference.unexplained(model, logged()[model])
    known = about(models()[model].target)
    assert known.use and known.limits and known.metrics
    assert all(score.about and score.better for score in known.metrics.values())


def measured(run: Path) -> set[str]:
    """The columns of a run's ``metrics.csv``."""
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return set(next(csv.reader(file)))
