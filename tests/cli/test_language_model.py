"""The language model through the command line: trained, stopped, resumed, scored, published, and writing."""

import shutil

import pytest
import torch

from tests.conftest import ROOT
from zoo import hub
from zoo.cli.eval import evaluate
from zoo.cli.publish import publish
from zoo.cli.write import write
from zoo.config.composition import check, compose, plain
from zoo.errors import ZooError
from zoo.training.runs import RunFolder
from zoo.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = (
    "logger=csv",
    "epochs=2",
    "data.length=16",
    "data.context=16",
    "data.batch_size=4",
    "trainer.log_every_n_steps=2",
    "trainer.enable_progress_bar=false",
)
NETWORKS = {
    "recurrent": ("model=language_model", "model.network.width=8"),
    "transformer": ("model=language_model", "nets=transformer", "model.network.width=8", "model.network.heads=2"),
}


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("text") / "mine.txt"
    path.write_text("the cat sat on the mat, and the dog sat on the log.\n" * 25)
    return str(path)


def run(folder, text, *options, network="recurrent") -> RunFolder:
    words = [*SMALL, *NETWORKS[network], f"data.path={text}", *options, f"run={folder}"]
    config = compose(words)
    check(config, words)
    train(plain(config), folder, command=" ".join(["python scripts/train.py", *words]))
    return RunFolder(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, text) -> RunFolder:
    options = ("checkpoint_every_n_steps=9", "model.gates=hard")
    return run(tmp_path_factory.mktemp("runs") / "one", text, *options)


def test_a_run_leaves_what_it_promises(trained):
    scores = trained.read_results()["metrics"]
    assert {"test/nats", "test/closed", "test/ngram", "test/xz"} <= scores.keys()
    assert scores["test/nats"] < 3.3 and 0 < scores["test/closed"] < 1
    assert {path.stem for path in trained.pictures.iterdir()} == {"next", "gates", "curves"}


def test_a_run_that_was_stopped_ends_as_one_that_was_not(trained, text, tmp_path):
    parts = tmp_path / "parts"
    shutil.copytree(trained.path, parts)
    newest = max((parts / "checkpoints").glob("step-*.ckpt"))
    newest.unlink()
    (parts / "results.json").unlink()
    run(parts, text, "checkpoint_every_n_steps=9", "model.gates=hard")
    first, second = (
        torch.load(max((folder / "checkpoints").glob("step-*.ckpt")), weights_only=True)["state_dict"]
        for folder in (trained.path, parts)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("options", [{}, {"by": "greedy"}, {"by": "beam", "k": 3}, {"by": "stochastic_beam", "k": 4}])
def test_it_writes(trained, options, capsys):
    texts = write(str(trained.path), "the ", steps=10, **options)
    printed = capsys.readouterr().out
    assert len(texts) == len(set(texts)) == options.get("k", 1)
    assert all(len(text) <= 10 and f"the {text}" in printed for text in texts)
    assert ("weight" in printed) == (options.get("by") == "stochastic_beam")
    assert texts == write(str(trained.path), "the ", steps=10, **options)


def test_a_transformer_trains_on_words_and_writes(text, tmp_path):
    trained = run(tmp_path / "run", text, "data.unit=word", "data.length=8", network="transformer")
    (written,) = write(str(trained.path), "the cat", steps=5, top_k=3, temperature=0.5)
    assert written


@pytest.mark.parametrize("k", [1, 2])
def test_experts_are_reported(k, text, tmp_path):
    options = ("model.network.experts=4", f"model.network.k={k}", "model.capacity=1.25", "epochs=1")
    scores = run(tmp_path / "run", text, *options, network="transformer").read_results()["metrics"]
    assert 0 <= scores["test/least_used"] <= 0.25 <= scores["test/most_used"] <= 1 and 0 <= scores["test/dropped"] < 1
    assert scores["test/multiplications"] < scores["test/multiplications_of_all"] and scores["test/balance"] > 0.5
    assert (tmp_path / "run/pictures/experts.png").stat().st_size > 3000


def test_published_and_scored_on_its_own_text_alone(trained, text, tmp_path, monkeypatch):
    monkeypatch.setattr(hub.registry, "resource", lambda name: tmp_path if name == "checkpoints" else ROOT / name)
    folder = publish(trained, "language_model.test", [])
    assert "ngram" in (folder / "README.md").read_text()
    scores = evaluate(hub.read(str(folder)), {"data.path": text, "model.baselines": []})
    assert scores["nats"] == pytest.approx(trained.read_results()["metrics"]["test/nats"], rel=1e-5)
    assert "xz" not in scores
    other = tmp_path / "other.txt"
    other.write_text("0123456789" * 200)
    with pytest.raises(ZooError, match="the text has another"):
        evaluate(hub.read(str(folder)), {"data.path": str(other)})


@pytest.mark.parametrize(
    "options, message",
    [
        (["relaxation.tau=0.5"], "would have no effect: with model.gates=sigmoid nothing is drawn"),
        (["model.gates=soft"], "model.gates"),
        (["model.capacity=1.0"], "Recurrent has no experts"),
        (["model.gates=hard", "relaxation=disarm"], "DisARM does not serve draws that depend on earlier ones"),
        (["data.length=5000"], "fewer than a batch"),
    ],
)
def test_mistakes(options, message, text, tmp_path):
    with pytest.raises(ZooError, match=message):
        run(tmp_path / "run", text, *options)


def test_what_does_not_write(trained):
    with pytest.raises(ZooError, match="does not write"):
        write("cat_vae.mnist")
    with pytest.raises(ZooError, match="have no effect on it"):
        write(str(trained.path), "the ", by="greedy", k=3)
    with pytest.raises(ZooError, match="was not in the texts for training"):
        write(str(trained.path), "Ω")
