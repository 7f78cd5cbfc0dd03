"""Runs of the models of text, tables and images that are killed within an epoch, and end in the same bits."""

import pytest

from tests.cli.test_train import same_weights
from tests.conftest import start_and_kill
from zoo.config.composition import check, compose, plain
from zoo.training.runs import RunFolder
from zoo.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

COMMON = (
    *("logger=csv", "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=2", "epochs=3"),
    "checkpoint_every_n_steps=7",
)
IMAGES = ("trainer.limit_train_batches=40", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1")
RUNS = {
    "language_model": (
        *("model.gates=hard", "model.network.width=8", "data.path={text}", "data.length=16", "data.context=16"),
        *("data.batch_size=2", "model.baselines=[]"),
    ),
    "selector": (
        "data=table",
        "model.k=4",
        "model.predictor.hidden=[16]",
        "model.baselines=[]",
        "data.batch_size=8",
        "model.judged=100",
    ),
    "mixture_of_experts": ("data=mnist_grey", "model.experts.hidden=8", "model.capacity=1.25", *IMAGES),
    "binary_net": ("relaxation=straight_through", "model.network.hidden=[16,16]", *IMAGES),
}


def finished(folder, words) -> RunFolder:
    config = compose([*words, f"run={folder}"])
    check(config, words)
    train(plain(config), folder, command=" ".join(words))
    return RunFolder(folder)


@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_ends_in_the_same_bits(name, tmp_path, mnist_root, monkeypatch):
    monkeypatch.setenv("ZOO_DATA_DIR", mnist_root)
    text = tmp_path / "mine.txt"
    text.write_text("the cat sat on the mat, and the dog sat on the log.\n" * 60)
    words = [f"model={name}", *COMMON, *(option.format(text=text) for option in RUNS[name])]
    whole = finished(tmp_path / "whole", words)
    start_and_kill(tmp_path / "parts", *words, at_step=7)
    parts = RunFolder(tmp_path / "parts")
    assert not parts.results.exists()  # it was killed before its end
    assert same_weights(finished(parts.path, words).best, whole.best)
    last = max(path.name for path in whole.checkpoints.glob("step-*"))
    assert same_weights(parts.checkpoints / last, whole.checkpoints / last)
    assert parts.read_results()["metrics"] == whole.read_results()["metrics"]
