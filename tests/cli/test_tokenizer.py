"""Tokenizers on a folder of pictures of one's own: trained, killed, resumed, scored, sampled, published."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import zoo
from tests.cli.test_distributed import difference
from tests.cli.test_train import same_weights
from tests.conftest import run_script
from tests.data.test_pictures import contents, gallery, paint, spoil
from tests.processes import train_in_processes
from zoo.cli import main
from zoo.config import composition
from zoo.config.composition import check, compose, plain
from zoo.errors import ZooError
from zoo.relaxations import FSQ
from zoo.training.api import as_words
from zoo.training.checkpointing import newest_checkpoint
from zoo.training.runs import RunFolder
from zoo.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = (
    "model=tokenizer",
    "data=image_folder",
    "data.size=16",
    "data.batch_size=16",
    "model.encoder.channels=4",
    "model.encoder.features=8",
    "model.prior_width=8",
    "model.prior_layers=1",
    "logger=csv",
    "epochs=2",
    "trainer.log_every_n_steps=2",
    "trainer.enable_progress_bar=false",
    "checkpoint_every_n_steps=2",
)
CODES = ("model.quantizer.codes=8", "model.quantizer.width=3")


def train_here(folder: Path, *options: str) -> RunFolder:
    config = compose([*SMALL, f"run={folder}", *options])
    check(config)
    train(plain(config), folder, command="")
    return RunFolder(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return gallery(tmp_path_factory.mktemp("pictures") / "mine", 90)


@pytest.mark.parametrize(
    "options",
    [
        CODES,
        (*CODES, "quantizer=residual"),
        ("quantizer=fsq", "model.quantizer.levels=[3,3]"),
        ("quantizer=lfq", "model.quantizer.bits=3"),
        ("quantizer=bsq", "model.quantizer.bits=3"),
        (*CODES, "quantizer=dvae", "relaxation=gumbel_softmax", "annealing=exponential", "annealing.end=0.1"),
        (*CODES, "quantizer=dvae", "relaxation=rloo", "model.quantizer.commitment_codes=1.0"),
    ],
    ids=["vq", "residual", "fsq", "lfq", "bsq", "gumbel", "rloo"],
)
def test_every_kind_of_code_trains(tmp_path, pictures, options):
    run = train_here(tmp_path / "run", *options, f"data.root={pictures}", "epochs=1")
    metrics = run.read_results()["metrics"]
    assert set(metrics) == {"test/mse", "test/reconstruction", "test/rate", "test/utilisation", "test/perplexity"}
    assert 0 < metrics["test/utilisation"] <= 1 and metrics["test/mse"] > 0
    assert {path.name for path in run.pictures.iterdir()} >= {"reconstructions.png", "codes.png", "samples.png"}


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path, pictures):
    """Moving averages, revived vectors and the first batch among what it goes on with."""
    options = (*CODES, "model.quantizer.decay=0.8", "model.quantizer.revive=0.5", f"data.root={pictures}")
    whole = train_here(tmp_path / "whole", *options)
    stopped = RunFolder(shutil.copytree(whole.path, tmp_path / "stopped"))
    newest_checkpoint(stopped.checkpoints).unlink()  # what is left is from the middle of the last epoch
    stopped.results.unlink()
    train_here(stopped.path, *options)
    assert same_weights(newest_checkpoint(stopped.checkpoints), newest_checkpoint(whole.checkpoints))
    assert stopped.read_results()["metrics"] == whole.read_results()["metrics"]


@pytest.mark.slow
def test_two_processes_end_as_one(tmp_path, pictures):
    options = [*SMALL, *CODES, "model.quantizer.decay=0.8", "model.quantizer.revive=0.5", f"data.root={pictures}"]
    (one,) = train_in_processes(1, [(tmp_path / "one", options)])
    (two,) = train_in_processes(2, [(tmp_path / "two", options)])
    assert one.read_results()["steps"] == two.read_results()["steps"] > 4
    assert difference(one, two) < 1e-3
    (other,) = train_in_processes(1, [(tmp_path / "other", [*options, "seed=1"])])
    assert difference(one, other) > 1e-2


@pytest.mark.slow
def test_300_pictures_of_ones_own_from_the_command_line(tmp_path, monkeypatch):
    """Trained, scored, sampled and published as the documentation says; some of them are broken."""
    mine = gallery(tmp_path / "mine", 300)
    bad = spoil(mine)
    before = contents(mine)
    run = tmp_path / "run"
    words = [*SMALL, *CODES, f"data.root={mine}", "data.size=32", f"run={run}"]
    result = run_script("train", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    assert f"left out {len(bad)} of {300 + len(bad)} pictures" in result.stdout
    scores = tmp_path / "scores.json"
    assert run_script("eval", f"checkpoint={run}", f"output={scores}", cwd=tmp_path).returncode == 0
    metrics = RunFolder(run).read_results()["metrics"]
    assert json.loads(scores.read_text()) == {k.removeprefix("test/"): pytest.approx(v) for k, v in metrics.items()}
    result = run_script("sample", f"checkpoint={run}", "n=4", f"output={tmp_path / 's.png'}", cwd=tmp_path)
    assert result.returncode == 0 and (tmp_path / "s.png").stat().st_size > 1000, result.stdout
    result = run_script("publish", f"run={run}", "name=tokenizer.mine", f"folder={tmp_path / 'c'}", cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    model = zoo.from_pretrained(tmp_path / "c/tokenizer.mine")
    x = torch.rand(2, 3, 32, 32)
    assert model.decode(model.encode(x)).shape == x.shape
    card = (tmp_path / "c/tokenizer.mine/README.md").read_text()
    assert str(tmp_path) not in card and "| mse |" in card
    assert contents(mine) == before


@pytest.mark.parametrize(
    "held, message",
    [
        ([], "holds no pictures"),
        (["bad.png", "worse.png", "broken.png"], "not one of its 3 pictures can be read"),
        (["notes.txt"], "1 other files, such as notes.txt"),
        (["a.png"], "holds 1 picture that can be read: at least three are needed"),
    ],
)
def test_what_cannot_be_trained_on_leaves_nothing(tmp_path, held, message):
    (tmp_path / "mine").mkdir()
    for name in held:
        path = tmp_path / "mine" / name
        _ = paint(path) if name == "a.png" else path.write_text("x")
    with pytest.raises(ZooError, match=message):
        train_here(tmp_path / "run", f"data.root={tmp_path / 'mine'}")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_it_has_to_be_said_where_the_pictures_are(tmp_path):
    with pytest.raises(ZooError, match=r"data\.root=FOLDER"):
        train_here(tmp_path / "run")


def test_shapes_flow_from_the_data_to_the_networks(pictures):
    def shape(*words: str) -> list[int]:
        return plain(compose([*words, "run=unused"]))["model"]["encoder"]["shape"]

    assert shape("model=tokenizer") == [3, 32, 32]
    assert shape("model=tokenizer", "data=mnist") == [1, 28, 28]
    assert shape("model=tokenizer", "data=image_folder", "data.size=48", "data.channels=1") == [1, 48, 48]
    assert shape("model=cat_vae", "data=image_folder") == [3, 64, 64]
    assert shape("model=cat_vae", "nets=conv", "data=celeba", "data.size=32") == [3, 32, 32]
    assert shape("model=cat_vae", "data=omniglot", "data.size=32") == [1, 32, 32]
    assert shape("model=cat_vae", "data._target_=lightning.LightningDataModule") == [1, 28, 28]


def test_the_categorical_vae_trains_on_a_folder(tmp_path, pictures):
    options = ("model=cat_vae", "nets=conv", "data=image_folder", "data.size=16", "data.batch_size=16", "epochs=1")
    options += ("model.iwae_samples=2", "logger=csv", "trainer.enable_progress_bar=false", f"data.root={pictures}")
    config = compose([*options, f"run={tmp_path / 'run'}"])
    check(config)
    train(plain(config), tmp_path / "run", command="")
    assert RunFolder(tmp_path / "run").read_results()["metrics"]["test/nll"] > 0


@pytest.mark.parametrize(
    "words, message",
    [
        (["quantizer=codebok"], "Did you mean 'codebook'"),
        (["quantizer=fsq", "relaxation=reinmax"], r"relaxation= would have no effect: FSQ has fixed codes"),
        (["quantizer=fsq", "annealing=linear"], "would have no effect"),
        (["annealing=linear"], "VQ has no temperature"),
        (["model.quantizer.codez=3"], "Did you mean 'codes'"),
        (["relaxation.gradient=bent"], "'copied' or 'rotated'"),
    ],
)
def test_mistakes(words, message):
    words = ["model=tokenizer", *words]
    with pytest.raises(ZooError, match=message):
        check(compose(words), words)


def test_a_quantiser_belongs_to_the_tokenizer():
    words = ["model=cat_vae", "quantizer=fsq"]
    with pytest.raises(ZooError, match="is for tokenizer, not for cat_vae"):
        check(compose(words), words)


def test_every_file_of_the_group_passes():
    for name in composition.choices("quantizer"):
        check(compose(["model=tokenizer", f"quantizer={name}"]))


def test_what_is_scored_on_other_data_says_what_does_not_fit(tmp_path, pictures, monkeypatch):
    run = train_here(tmp_path / "run", *CODES, f"data.root={pictures}", "epochs=1")
    arguments = ["eval.py", f"checkpoint={run.path}", "data.size=32"]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit, match=r"images of 3x16x16 \(channels, height, width\), and got 3x32x32"):
        main("eval")


def test_a_quantiser_can_be_an_object():
    """From Python, as a name and as an object."""
    words = ["model=tokenizer", *as_words("quantizer", FSQ(levels=[3, 3])), *as_words("epochs", 3)]
    config = plain(compose([*words, "run=unused"]))
    assert config["model"]["quantizer"] == {"_target_": "zoo.relaxations.FSQ", "levels": [3, 3]}
    assert config["epochs"] == 3
    assert list(as_words("quantizer", "fsq")) == ["quantizer=fsq"]
    check(compose(words), words)
