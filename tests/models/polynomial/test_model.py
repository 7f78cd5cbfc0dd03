"""Polynomial programming: its exact cost, and that it trains."""

import pytest
import torch

from zoo.config import from_config, to_config
from zoo.config.composition import check, compose, plain
from zoo.models.polynomial import PolynomialProgram, Steps
from zoo.relaxations import Exact, ReinMax, Relaxation
from zoo.training import AdamW
from zoo.training.loggers import read_metrics
from zoo.training.runs import RunFolder
from zoo.training.train import train


def make(relaxation: Relaxation | None = None, **arguments) -> PolynomialProgram:
    return PolynomialProgram(relaxation=relaxation or ReinMax(), optimizer=AdamW(), **arguments)


@pytest.mark.parametrize("power", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("categories", [2, 3])
def test_exact_cost_equals_enumeration(power, categories):
    model = make(Exact(), latents=3, categories=categories, power=power)
    torch.nn.init.normal_(model.logits)
    batch = (torch.zeros(5),)
    torch.testing.assert_close(model.training_step(batch, 0)["loss"], model.exact_cost())
    separate = make(Exact(), latents=3, categories=categories, power=power, separate=True)
    separate.load_state_dict(model.state_dict())
    for one in (model, separate):
        one.training_step(batch, 0)["loss"].backward()
    torch.testing.assert_close(separate.logits.grad, model.logits.grad)


def test_settings_as_published():
    model = make()
    assert model.logits.shape == (128, 2) and model.logits.abs().max() <= 0.01 < 2 * model.logits.abs().max()
    config = plain(compose(["experiment=reinmax_polynomial", "run=unused"]))
    assert (
        config["data"] == {"_target_": "zoo.models.polynomial.Steps", "batch_size": 64, "steps": 200}
        and config["epochs"] == 40
    )
    assert to_config(from_config(config["model"]))["target"] == 0.45


@pytest.mark.parametrize("arguments", [{"latents": 0}, {"categories": 1}, {"power": 0.0}])
def test_constructor_checks_its_numbers(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        make(**arguments)


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"steps": 0}])
def test_steps_check_their_numbers(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Steps(**arguments)


def test_steps_are_as_many_as_asked_for():
    data = Steps(batch_size=7, steps=3)
    assert [len(batch[0]) for batch in data.train_dataloader()] == [7, 7, 7]
    assert [len(batch[0]) for batch in data.val_dataloader()] == [7] and len(data.train_dataloader()) == 3


@pytest.mark.filterwarnings("ignore")
def test_a_run_lowers_the_cost(tmp_path):
    overrides = ["experiment=reinmax_polynomial", "epochs=2", "model.optimizer.lr=0.05", "logger=csv"]
    config = compose([*overrides, "trainer.enable_progress_bar=false", f"run={tmp_path / 'run'}"])
    check(config)
    train(plain(config), tmp_path / "run", command="")
    run = RunFolder(tmp_path / "run")
    series = read_metrics(run.metrics)
    assert run.read_results()["steps"] == 400 and len(series["val/cost"]) == 2
    assert run.read_results()["metrics"]["test/cost"] < 0.21 < series["train/cost"][0][1]
