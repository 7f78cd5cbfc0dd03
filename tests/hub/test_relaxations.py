"""Weights and relaxations: saved with one, loaded with another, and what becomes of a temperature."""

import logging
from collections.abc import Iterator

import pytest
import torch

import zoo
from tests.conftest import run_script
from tests.models.cat_vae.test_model import make
from zoo import hub
from zoo.cli.eval import configure, evaluate
from zoo.config import to_config
from zoo.errors import ZooError
from zoo.relaxations import RELAXATIONS, RLOO, GumbelSoftmax, StraightThrough

pytestmark = pytest.mark.filterwarnings("ignore")  # of Lightning, in evaluation
NAMES = list(RELAXATIONS)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the layer says."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener = Listener()
    log = logging.getLogger("zoo.relaxations")
    log.addHandler(listener)
    yield said
    log.removeHandler(listener)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_saved_with_any_relaxation_and_loaded_with_it_or_with_another(tmp_path, name, lines):
    model = make(latents=2, relaxation=RELAXATIONS[name]()).eval()
    folder = zoo.save_pretrained(model, tmp_path / "cat_vae.test")
    again = zoo.from_pretrained(folder)
    assert to_config(again) == to_config(model) and not lines
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    other = RELAXATIONS[NAMES[NAMES.index(name) - 1]]()
    changed = zoo.from_pretrained(folder, relaxation=to_config(other))
    assert type(changed.relaxation) is type(other) and len(lines) == 1
    for key, value in other.state_dict().items():
        assert key.startswith("network") or torch.equal(value, changed.relaxation.state_dict()[key]), key
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(changed(x), model(x))


def test_a_configured_temperature_wins_over_a_loaded_one_and_a_line_says_so(tmp_path, lines):
    folder = zoo.save_pretrained(make(relaxation=GumbelSoftmax(tau=0.7)), tmp_path / "cat_vae.test")
    model = zoo.from_pretrained(folder, relaxation=GumbelSoftmax(tau=0.3))
    assert model.relaxation.tau == torch.tensor(0.3)
    assert len(lines) == 1 and "0.3" in lines[0] and "0.7" in lines[0]


def test_where_nothing_else_is_configured_an_annealed_temperature_is_loaded(tmp_path, lines):
    model = make(relaxation=GumbelSoftmax(tau=0.7))
    model.relaxation.tau = 0.4
    folder = zoo.save_pretrained(model, tmp_path / "cat_vae.test")
    assert zoo.from_pretrained(folder).relaxation.tau == torch.tensor(0.4)
    assert zoo.from_pretrained(folder, relaxation=GumbelSoftmax(tau=0.7)).relaxation.tau == torch.tensor(0.4)
    assert not lines


def test_the_weights_of_0_2_go_with_the_relaxation_of_their_configuration(lines):
    name = "pointer_net.sort10"
    state = hub.read(name).state
    assert "relaxation.tau" in state and "relaxation._extra_state" not in state
    assert zoo.from_pretrained(name).relaxation.tau == torch.tensor(1.0)
    assert zoo.from_pretrained(name, relaxation=StraightThrough()).relaxation.tau == torch.tensor(1.0)
    assert not lines
    assert zoo.from_pretrained(name, relaxation=StraightThrough(tau=0.3)).relaxation.tau == torch.tensor(0.3)
    assert type(zoo.from_pretrained(name, relaxation=RLOO()).relaxation) is RLOO
    assert len(lines) == 2 and all("StraightThrough" in line for line in lines)


@pytest.mark.parametrize(
    "option, relaxation",
    [
        ("relaxation", "rloo"),
        ("model.relaxation", {"_target_": "zoo.relaxations.RLOO", "samples": 2}),
        ("model.relaxation._target_", "zoo.relaxations.GumbelSoftmax"),
        ("model.relaxation.tau", 0.3),
    ],
)
def test_eval_with_another_relaxation(option, relaxation, lines):
    saved = hub.read("pointer_net.sort10")
    quiet = {"trainer.enable_progress_bar": False, "trainer.accelerator": "cpu", "data.test_instances": 8}
    assert evaluate(saved, quiet | {option: relaxation}) == evaluate(saved, quiet)
    assert len(lines) == 1 and "StraightThrough" in lines[0]


def test_eval_says_what_becomes_of_the_temperature():
    options = ("trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "data.test_instances=8")
    result = run_script("eval", "checkpoint=pointer_net.sort10", *options, "model.relaxation.tau=0.3")
    assert result.returncode == 0 and "StraightThrough(tau=0.3) keeps" in result.stdout, result.stdout


def test_eval_refuses_a_relaxation_without_effect():
    with pytest.raises(ZooError, match=r"model\.relaxation\.samples= would have no effect: model.objective=self_label"):
        configure(hub.read("pointer_net.tsp20"), {"model.relaxation.samples": 2})
    configure(hub.read("pointer_net.tsp20"), {"model.objective": "expectation", "model.relaxation.samples": 2})
