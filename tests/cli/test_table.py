"""The table of ``docs/how-to/bring_your_own.md``: everything of a user's, through every command.

One test a row, a step a column.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

import zoo
from tests.conftest import ROOT
from tests.own_parts import Counting, Kept
from zoo import hub
from zoo.cli.eval import evaluate
from zoo.cli.play import play
from zoo.cli.publish import publish
from zoo.cli.sample import sample
from zoo.config import folders
from zoo.config.composition import check, compose, plain
from zoo.errors import ZooError
from zoo.training.runs import RunFolder, follows_length
from zoo.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore")

PARTS = "tests.own_parts"
QUIET = ("logger=csv", "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=2", "epochs=2")
EVERY = "checkpoint_every_n_steps=3"
VAE = ("model=cat_vae", "data=bars", "data.count=200", "model.latents=6", "model.categories=2", "model.iwae_samples=2")
NETS = ("nets=bars",)
ROWS: dict[str, tuple[str, ...]] = {
    "net": (*VAE, *NETS),
    "relaxation": (*VAE, *NETS, "relaxation=laplace"),
    "data": (*VAE, *NETS, "data.rate=0.3"),
    "callback and logger": (
        *(*VAE, *NETS),
        f"+callbacks.count._target_={PARTS}.Counting",
        f"+logger.mine._target_={PARTS}.Kept",
    ),
    "task": (
        *("model=pointer_net", "data=open_path", "data.epoch_batches=8", "data.size=5", "data.batch_size=8"),
        *("data.val_instances=20", "data.test_instances=20"),
    ),
    "environment": (
        *(
            "model=actor_critic",
            f"data.env={PARTS}:OwnCorridor-v0",
            "model.policy.hidden=[16]",
            "model.critic.hidden=[16]",
        ),
        *("model.batch_size=16", "data.envs=8", "data.epoch_steps=160", "data.start=80", "data.replay=320"),
        *("data.eval_episodes=2", "data.test_episodes=4"),
    ),
    "model and distribution": (
        *("~model", f"+model._target_={PARTS}.Blinds", "+model.relaxation=${relaxation}", "relaxation=rloo"),
        *("data=bars", "data.count=200", "annealing=null"),
    ),
}


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(folders.VARIABLE, str(ROOT / "examples/plugin/zoo_bars/configs"))
    monkeypatch.syspath_prepend(str(ROOT / "examples/plugin"))


def run_of(folder: Path, *words: str) -> RunFolder:
    """Train in this process, as the command would."""
    composed = compose([*words, f"run={folder}"])
    check(composed, words)
    train(plain(composed), folder, command=f"zoo train {' '.join(words)}")
    return RunFolder(folder)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_through_every_command(row, tmp_path, monkeypatch):
    words = (*ROWS[row], *QUIET, EVERY)
    run = run_of(tmp_path / "run", *words)
    first = run.read_results()["metrics"]
    # resume: from the checkpoint before the last one
    checkpoints = sorted(run.checkpoints.glob("step-*.ckpt"), key=lambda path: int(path.stem[5:]))
    assert len(checkpoints) == 2
    checkpoints[-1].unlink()
    run.results.unlink()
    assert run_of(tmp_path / "run", *words).read_results()["metrics"] == first
    # eval
    scores = {f"test/{name}": value for name, value in evaluate(hub.read(run.path), {}).items()}
    assert scores == pytest.approx(first)
    # publish and load
    arch = hub.read(run.path).arch
    folder = publish(run, f"{arch}.mine", [], folder=tmp_path)
    model = zoo.from_pretrained(folder)
    evaluated = evaluate(hub.read(folder), {})
    assert {f"test/{name}": value for name, value in evaluated.items()} == pytest.approx(first)
    # export
    assert zoo.export(folder, tmp_path / "model.pt2").is_file()
    # sample, play or solve
    if row == "task":
        order, cost = model.solve(torch.rand(5, 2))
        assert sorted(order) == [0, 1, 2, 3, 4] and cost > 0
    elif row == "environment":
        assert model.action_names == ("left", "right") and model.predict([1.0, 0, 0, 0, 0])[0] in (0, 1)
        play(str(folder), output=tmp_path / "episode.gif")
        assert (tmp_path / "episode.gif").is_file()
    else:
        sample(str(folder), n=4, output=tmp_path / "samples.png")
        assert (tmp_path / "samples.png").is_file()
    if row == "callback and logger":
        assert Counting.steps and "val/neg_elbo" in Kept.names
    elif row not in ("relaxation", "data", "net"):  # of these test_plugin.py has strangers
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
        with pytest.raises(ZooError, match="refusing"):
            evaluate(hub.read(folder), {})
        assert evaluate(hub.read(folder, ["tests", "zoo_bars"]), {}) == pytest.approx(evaluated)


def test_the_table_of_the_page_is_that_of_the_test():
    page = (ROOT / "docs/how-to/bring_your_own.md").read_text(encoding="utf-8").partition("## What works")[2]
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line] for line in lines]
    assert header == ["yours", "train", "resume", "eval", "sample", "publish", "load", "export"]
    assert [row[0] for row in rows] == list(ROWS)
    assert {cell for row in rows for cell in row[1:]} == {"yes", "`model.solve`", "`zoo play`"}


def test_a_place_that_was_left_out_has_to_be_given_again(tmp_path):
    torch.save((torch.rand(40, 1, 8, 8) > 0.5).float(), tmp_path / "pictures.pt")
    words = (
        *ROWS["net"][:1],
        *NETS,
        *ROWS["net"][3:],
        f"data._target_={PARTS}.OnDisk",
        f"+data.folder={tmp_path}",
        "+data.size=8",
    )
    run = run_of(tmp_path / "run", *words, *QUIET, "epochs=1")
    folder = publish(run, "cat_vae.disk", [], folder=tmp_path)
    assert str(tmp_path) not in (folder / "config.json").read_text()
    sample(str(folder), n=4, output=tmp_path / "samples.png")  # needs no data
    with pytest.raises(ZooError, match=r"cat_vae\.disk does not say where its data are.*data\.folder=PATH"):
        evaluate(hub.read(folder), {})
    again = evaluate(hub.read(folder), {"data.folder": str(tmp_path)})
    assert again == pytest.approx({name[5:]: value for name, value in run.read_results()["metrics"].items()})
    other = zoo.save_pretrained(zoo.from_pretrained(folder), tmp_path / "cat_vae.again")
    assert json.loads((other / "config.json").read_text())["data"]["folder"] == "..."
    shutil.rmtree(tmp_path / "run")


def test_a_callback_may_say_that_it_follows_the_length():
    model = {"_target_": f"{PARTS}.Blinds", "relaxation": {"_target_": "zoo.relaxations.RLOO"}}
    callbacks = {"one": {"_target_": f"{PARTS}.Counting"}, "two": {"_target_": f"{PARTS}.Paced"}, "none": None}
    told = follows_length({"model": model, "callbacks": callbacks})
    assert told == "Blinds may follow it, and Paced acts at 0.9 of training"
