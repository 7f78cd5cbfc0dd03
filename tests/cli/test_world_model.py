"""The world model through the command line: trained, stopped, resumed, evaluated, exported."""

import numpy as np
import pytest
import torch

import zoo
from tests.cli.test_actor_critic import equal
from tests.cli.test_distributed import MODELS
from zoo.config.composition import check, compose, plain
from zoo.errors import ZooError
from zoo.training.checkpointing import newest_checkpoint
from zoo.training.loggers import read_metrics
from zoo.training.runs import RunFolder
from zoo.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = (
    *("model=world_model", "logger=csv", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "seed=3"),
    *("trainer.log_every_n_steps=2", "pictures_every_n_epochs=100", *MODELS["world_model"], "data.epoch_steps=64"),
)


def train_here(folder, *options: str) -> RunFolder:
    overrides = [*SMALL, *options, f"run={folder}"]
    config = compose(overrides)
    check(config)
    train(plain(config), folder, command=" ".join(["python scripts/train.py", *overrides]))
    return RunFolder(folder)


def test_a_run_is_resumed_in_the_same_bits_evaluated_and_exported(tmp_path):
    whole = train_here(tmp_path / "whole", "epochs=2")
    train_here(tmp_path / "parts", "epochs=1")
    parts = train_here(tmp_path / "parts", "epochs=2")
    a, b = (torch.load(newest_checkpoint(run.checkpoints), weights_only=True) for run in (whole, parts))
    for name in ("state_dict", "optimizer_states", "Environments", "acting", "global_step"):
        assert equal(a[name], b[name]), name
    assert whole.read_results()["metrics"] == parts.read_results()["metrics"]
    series = read_metrics(whole.metrics)
    shown = ("return", "kl", "kl_loss", "observation_loss", "reward_loss", "end_loss", "entropy", "imagined_return")
    assert {"lr", "val/return", *(f"train/{name}" for name in shown)} <= set(series)
    assert all(np.isfinite(value) for values in series.values() for _, value in values)
    agent = zoo.from_pretrained(whole.path)
    assert agent.evaluate(episodes=2)["length"] > 1
    exported = torch.export.load(zoo.export(agent, tmp_path / "agent.pt2")).module()
    for found, expected in zip(exported(*agent.example_input_array), agent(*agent.example_input_array)):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "options, message",
    [
        (["relaxation=rloo"], "RLOO cannot be used here: the latents of a world model depend on each other"),
        (["data.history=2"], "leave data.history=1"),
        (["data.start=16"], "need data.start of at least model.length"),
    ],
)
def test_what_will_not_do_is_said_before_anything_is_written(tmp_path, options, message):
    with pytest.raises((ZooError, ValueError), match=message):
        train_here(tmp_path / "run", *options)
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())
