"""The mixture of experts through the command line."""

import shutil

import pytest
import torch

from zoo.config.composition import check, compose, plain
from zoo.errors import ZooError
from zoo.training.runs import RunFolder
from zoo.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = (
    *("model=mixture_of_experts", "data=mnist_grey", "logger=csv", "epochs=2", "trainer.log_every_n_steps=2"),
    *("trainer.enable_progress_bar=false", "trainer.limit_train_batches=4", "model.experts.hidden=8"),
    *("trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
)


def run(folder, root, *options) -> RunFolder:
    words = [*SMALL, f"data.root={root}", *options, f"run={folder}"]
    config = compose(words)
    check(config, words)
    train(plain(config), folder, command=" ".join(["python scripts/train.py", *words]))
    return RunFolder(folder)


def test_a_run_reports_and_a_stopped_one_ends_alike(tmp_path, mnist_root):
    options = ("model.capacity=1.25", "checkpoint_every_n_steps=3")
    trained = run(tmp_path / "whole", mnist_root, *options)
    scores = trained.read_results()["metrics"]
    assert 0 <= scores["test/least_used"] <= 1 / 8 <= scores["test/most_used"] <= 1
    assert 0 <= scores["test/dropped"] < 1
    assert scores["test/multiplications"] < 0.4 * scores["test/multiplications_of_all"]
    assert {"routes", "experts"} <= {path.stem for path in trained.pictures.iterdir()}
    parts = tmp_path / "parts"
    shutil.copytree(trained.path, parts)
    newest = max((parts / "checkpoints").glob("step-*.ckpt"))
    newest.unlink()
    (parts / "results.json").unlink()
    run(parts, mnist_root, *options)
    first, second = (
        torch.load(max((folder / "checkpoints").glob("step-*.ckpt")), weights_only=True)["state_dict"]
        for folder in (trained.path, parts)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "options, message",
    [
        (["model.k=9"], "k=9 of 8 experts"),
        (["model.k=2"], "ReinMax does not serve Subset.*Subset is served by softmax, "),
        (["model.routing=noisy_top_k", "relaxation=rloo"], "nothing is drawn through the layer"),
    ],
)
def test_mistakes_are_told_before_a_run_begins(options, message, tmp_path):
    with pytest.raises(ZooError, match=message):
        run(tmp_path / "run", tmp_path, *options)  # where there are no data
    assert not (tmp_path / "run").exists()
