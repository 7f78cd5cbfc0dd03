"""The selector through the command line: trained, stopped, resumed, scored, published, and asked what it selected."""

import shutil

import pytest
import torch

from tests.conftest import ROOT
from zoo import hub
from zoo.cli.eval import evaluate
from zoo.cli.publish import publish
from zoo.cli.select import select
from zoo.config.composition import check, compose, plain
from zoo.errors import ZooError
from zoo.training.runs import RunFolder
from zoo.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore")
pytest.importorskip("sklearn")

SMALL = (
    "model=selector",
    "data=table",
    "data.passes=1",
    "logger=csv",
    "epochs=2",
    "model.k=4",
    "model.predictor.hidden=[16]",
    "model.baselines=[random]",
    "trainer.log_every_n_steps=2",
    "trainer.enable_progress_bar=false",
)
MNIST = (
    *("data=mnist_grey", "model.k=10", "model.start=0.05", "model.judged=300", "epochs=1"),
    *("trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
)


def run(folder, *options) -> RunFolder:
    words = [*SMALL, *options, f"run={folder}"]
    config = compose(words)
    check(config, words)
    train(plain(config), folder, command=" ".join(["python scripts/train.py", *words]))
    return RunFolder(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> RunFolder:
    return run(tmp_path_factory.mktemp("runs") / "one", "checkpoint_every_n_steps=4")


def test_a_run_tells_its_columns(trained, tmp_path, capsys):
    scores = trained.read_results()["metrics"]
    assert scores["test/trees"] > 0.8 and {"test/network", "test/trees_random", "test/chance"} <= scores.keys()
    assert (trained.pictures / "selection.png").stat().st_size > 5000
    names = select(str(trained.path), output=tmp_path / "columns.csv")
    printed = capsys.readouterr().out
    assert len(set(names)) == 4 and all(name in printed for name in names)
    lines = (tmp_path / "columns.csv").read_text().splitlines()
    assert lines[0] == "rank,column,name,logit" and [line.split(",")[2] for line in lines[1:]] == names
    with pytest.raises(ZooError, match="selects no columns"):
        select("cat_vae.mnist", output=tmp_path / "x.csv")


def test_a_run_that_was_stopped_ends_as_one_that_was_not(trained, tmp_path):
    parts = tmp_path / "parts"
    shutil.copytree(trained.path, parts)
    newest = max((parts / "checkpoints").glob("step-*.ckpt"))
    newest.unlink()
    (parts / "results.json").unlink()
    run(parts, "checkpoint_every_n_steps=4")
    first, second = (
        torch.load(max((folder / "checkpoints").glob("step-*.ckpt")), weights_only=True)["state_dict"]
        for folder in (trained.path, parts)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_published_and_scored_on_its_own_table_alone(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(hub.registry, "resource", lambda name: tmp_path if name == "checkpoints" else ROOT / name)
    folder = publish(trained, "selector.test", [])
    assert "trees_random" in (folder / "README.md").read_text()
    scores = evaluate(hub.read(str(folder)), {})
    assert scores["trees"] == pytest.approx(trained.read_results()["metrics"]["test/trees"])
    with pytest.raises(ZooError, match="the model selects from 30 columns"):
        evaluate(hub.read(str(folder)), {"data.bundled": "wine"})


@pytest.mark.parametrize(
    "options",
    [
        ("model.target=input", "relaxation=rloo"),
        pytest.param(("experiment=selector_each", "model.k=10"), marks=pytest.mark.slow),
    ],
)
def test_pixels_and_estimators(options, tmp_path, mnist_root):
    dropped = ("model=", "data") if options[0].startswith("exp") else ("data",)
    words = [word for word in SMALL if not word.startswith(dropped)]
    words += [*MNIST, f"data.root={mnist_root}", *options, f"run={tmp_path / 'run'}"]
    config = compose(words)
    check(config, words)
    train(plain(config), tmp_path / "run", command="")
    scores = RunFolder(tmp_path / "run").read_results()["metrics"]
    assert ("test/leak_of_ink" in scores) == options[0].startswith("exp")
    assert ("test/accuracy" in scores) == (options[0] != "model.target=input")


def test_bags(tmp_path, mnist_root):
    words = ["experiment=selector_bags", *SMALL[3:5], "model.judged=200", *SMALL[-2:], "data.epoch_batches=4"]
    words += ["data.eval_batch_size=50", "data.eval_batches=2", f"data.root={mnist_root}", f"run={tmp_path / 'run'}"]
    config = compose(words)
    check(config, words)
    train(plain(config), tmp_path / "run", command="")
    scores = RunFolder(tmp_path / "run").read_results()["metrics"]
    assert "test/leak" in scores and "test/leak_of_ink" not in scores
    with pytest.raises(ZooError, match="selects other columns for each example"):
        select(str(tmp_path / "run"), output=tmp_path / "x.csv")


@pytest.mark.parametrize(
    "options, message",
    [
        (["model.k=31"], "k=31 of 30 columns"),
        (["relaxation=reinmax"], "ReinMax does not serve Subset"),
        (["data.bundled=nothing"], "data.bundled"),
    ],
)
def test_mistakes(options, message, tmp_path):
    with pytest.raises(ZooError, match=message):
        run(tmp_path / "run", *options)
    assert not (tmp_path / "run/results.json").exists()
