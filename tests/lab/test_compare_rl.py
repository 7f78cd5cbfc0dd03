"""The scripts around the actor-critic: what they measure with."""

import csv
import importlib.util
import json
import sys

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from zoo.data.environments.copies import Copy
from zoo.lab import compare_rl, factored
from zoo.models.actor_critic import spaces

pytestmark = pytest.mark.filterwarnings("ignore")


def load(path: str):
    """A script as a module, with its neighbours importable, as when it is started."""
    file = ROOT / "scripts" / path
    name = file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(file.parent))
    return module


def test_neighbours_count_where_both_are_right():
    assert spaces("Neighbours/8x6-v0").actions == (6,) * 8 and spaces("Neighbours/3x3-v0").observation == (9,)
    copy = Copy("Neighbours/3x3-v0")
    wanted = copy.reset(0).reshape(3, 3).argmax(1)
    for change, expected in ((np.array([0, 0, 0]), 1.0), (np.array([0, 0, 1]), 0.5), (np.array([0, 1, 0]), 0.0)):
        observation, reward, terminated, truncated = copy.step((wanted + change) % 3)
        assert reward == expected and not terminated and not truncated
        wanted = observation.reshape(3, 3).argmax(1)
    assert set(factored.EPOCHS) == set(factored.SIZES)


def test_the_table_of_the_comparison_is_of_all_complete_runs(tmp_path):
    names = ("entropy", "q", "type_gap", "gradient_bias", "gradient_cosine")
    for relaxation, returns in (("softmax", (100, 480, 500, 490)), ("exact", (10, 20, 30, 40)), ("rloo", None)):
        folder = tmp_path / "CartPole-v1" / "silu" / relaxation / "0"
        folder.mkdir(parents=True)
        if returns is None:  # not complete
            continue
        (folder / "results.json").write_text("{}")
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            for step, value in zip((10, 20, 30, 40), returns):
                writer.writerows([[step, "train/env_steps", 100 * step], [step, "val/return", value]])
                writer.writerows([step, f"train/{name}", step / 10] for name in names)
    header, _, first, second = compare_rl.rows(tmp_path)
    assert header.count("|") == first.count("|")
    assert first.startswith("| CartPole-v1 | silu | `exact` | - | 0 of 1 | 30 | 30 |")
    assert second.startswith("| CartPole-v1 | silu | `softmax` | 2,000 | 1 of 1 | 490 ")
    assert second.endswith("| 3.50 | 1.0000 | 3.50 | 3.50 |")
    assert compare_rl.differences(tmp_path)[2:] == ["| `softmax` | 460 |  |  |  |"]
    header, _, *lines = compare_rl.summary(tmp_path)
    assert header.startswith("| `relaxation=` | CartPole-v1, silu |") and header.count("|") == lines[0].count("|")
    assert [line.split("|")[1:4] for line in lines] == [[" `exact` ", " 30 ", "  "], [" `softmax` ", " 490 ", "  "]]


def test_an_interval_is_around_its_mean():
    assert compare_rl.with_interval(torch.tensor([5.0]), 1) == "5.0"
    assert compare_rl.with_interval(torch.tensor([0.0, 0.0, 0.0, 0.0, 100.0]), 0) == "20 (0 to 60)"


def test_a_learner_is_judged_by_its_first_success(tmp_path):
    learning = load("bench/learning.py")
    runs = {
        "actor_critic": {
            100: {"points": [(2500, 1.0, 100.0), (5000, 2.0, 480.0), (7500, 3.0, 500.0)]},
            101: {"points": [(2500, 1.0, 9.0), (5000, 2.0, 9.0)]},
        },
        "ppo": {100: {"points": [(2500, 1.0, 480.0)], "steps": 30_000}, 101: {"points": [(2500, 3.0, 500.0)]}},
        "dqn": {100: {"points": [(2500, 1.0, 9.0)], "steps": 30_000, "stop": True}},
    }
    for agent, seeds in runs.items():
        (tmp_path / "CartPole-v1" / agent).mkdir(parents=True)
        for seed, run in seeds.items():
            (tmp_path / "CartPole-v1" / agent / f"{seed}.json").write_text(json.dumps(run))
    found = learning.read(tmp_path)
    lines = learning.table(found)
    learning.picture(found, tmp_path / "learning.png")
    assert learning.together(found)[2].startswith("| actor_critic | 1 |") and (tmp_path / "learning.png").is_file()
    assert "| dqn | 100 to 100 | 30,000 | 30,000 |" in lines[4]
    assert lines[2] == (
        "| CartPole-v1, 475 | actor_critic | 100 to 101 | 5,000 100,000 | 52,500 | 21.00 (2.00 to 40.00) | 1 of 2 "
        "| 500 9 | 2.0 | 2 |"
    )
    assert lines[3].startswith("| CartPole-v1, 475 | ppo | 100 to 101 | 2,500 2,500 | 2,500 |  | 2 of 2 | 480 500 |")
    judge = learning.Judge(stop=True)
    assert not judge.due(2499) and judge.due(2500)
    judge.evaluate(2500, lambda seen: seen.observation[:, :1].long() * 0)
    assert judge.points[0][2] < 20 and not judge.done and not judge.due(2600)


def test_runs_with_other_settings_do_not_share_a_folder(tmp_path):
    learning = load("bench/learning.py")
    assert learning.settings_of("CartPole-v1", "dqn", None, False, ["a=1"])["options"] == []
    assert learning.settings_of("CartPole-v1", "dqn", None, False, [])["steps"] == 50_000
    same = learning.settings_of("CartPole-v1", "actor_critic", None, False, ["b=2", "a=1"])
    path = tmp_path / "CartPole-v1" / "actor_critic" / "100.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"points": [], **same}))
    learning.check_there(tmp_path, "CartPole-v1", "actor_critic", same)
    learning.check_there(tmp_path, "CartPole-v1", "ppo", same)
    for other in ((30_000, False, ["a=1", "b=2"]), (None, True, ["a=1", "b=2"]), (None, False, ["a=1"])):
        with pytest.raises(SystemExit, match="is a run with other"):
            settings = learning.settings_of("CartPole-v1", "actor_critic", *other)
            learning.check_there(tmp_path, "CartPole-v1", "actor_critic", settings)
