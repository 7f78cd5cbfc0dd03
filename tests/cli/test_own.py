"""What users bring from outside: by ``_target_``, by a folder of configuration files, by name in a notebook."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

import zoo
from tests.conftest import ROOT
from tests.own_parts import Counting, Kept, Net, Plain
from zoo import hub
from zoo.cli.commands import take_folders
from zoo.cli.eval import evaluate
from zoo.cli.publish import publish
from zoo.cli.train import main as train_command
from zoo.config import composition, folders, from_config, to_config
from zoo.config.composition import check, compose, plain
from zoo.config.folders import REGISTERED
from zoo.config.jobs import SWEPT, name_job
from zoo.errors import ZooError
from zoo.hub.own import FILE
from zoo.relaxations import RELAXATIONS
from zoo.training.runs import RunFolder
from zoo.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore")

PLUGIN = ROOT / "examples/plugin"
CONFIGS = PLUGIN / "zoo_bars/configs"
QUIET = ("logger=csv", "trainer.enable_progress_bar=false")
FEW = (*QUIET, "epochs=2", "data.count=200", "trainer.log_every_n_steps=2")
BY_TARGET = (
    "model=cat_vae",
    "model.latents=6",
    "model.categories=2",
    "model.iwae_samples=2",
    "data._target_=zoo_bars.Bars",
    "+data.count=200",
    "model.encoder._target_=zoo_bars.BarsEncoder",
    "+model.encoder.size=8",
    "model.decoder._target_=zoo_bars.BarsDecoder",
    "+model.decoder.size=8",
    "relaxation._target_=zoo_bars.Laplace",
    *QUIET,
    "epochs=2",
)


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    """A user with a home of his own, and with the classes of the example where he works."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(folders.VARIABLE, raising=False)
    monkeypatch.syspath_prepend(str(PLUGIN))


def another_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))


def run_of(folder: Path, *words: str) -> RunFolder:
    """Train in this process, as the command would."""
    composed = compose([*words, f"run={folder}"])
    check(composed, words)
    train(plain(composed), folder, command=f"zoo train {' '.join(words)}")
    return RunFolder(folder)


# By _target_ --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of ``cat_vae`` with data, networks and a relaxation from outside, and the home of its user."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "home"))
        patch.syspath_prepend(str(PLUGIN))
        return run_of(folder / "run", *BY_TARGET), folder / "home"


def test_what_is_trained_is_stored_and_built_again(trained, monkeypatch):
    run, home = trained
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    model = zoo.from_pretrained(run.path)
    assert type(model.encoder).__name__ == "BarsEncoder" and model.sample(3).shape == (3, 1, 8, 8)
    assert to_config(model)["encoder"] == {
        "_target_": "zoo_bars.BarsEncoder",
        "latents": 6,
        "categories": 2,
        "size": 8,
    }
    scores = {f"test/{name}": value for name, value in evaluate(hub.read(run.path), {}).items()}
    assert scores == pytest.approx(run.read_results()["metrics"])


def test_a_run_is_ones_own_wherever_it_lies_and_nobody_elses(trained, monkeypatch, tmp_path):
    run, home = trained
    moved = run.path.rename(tmp_path / "moved")
    try:
        monkeypatch.setenv("XDG_DATA_HOME", str(home))
        assert zoo.from_pretrained(moved) and zoo.from_pretrained(moved / "checkpoints/best.ckpt")
        another_user(monkeypatch, tmp_path)
        with pytest.raises(ZooError, match=r"refusing 'zoo_bars\.[\w.]+'.*trust=PACKAGE"):
            zoo.from_pretrained(moved)
        assert zoo.from_pretrained(moved, trust=["zoo_bars"]) and zoo.from_pretrained(moved, trust="zoo_bars")
        with pytest.raises(ZooError, match="refusing"):  # it was not remembered
            zoo.from_pretrained(moved)
        assert not (tmp_path / "elsewhere").exists()
    finally:
        moved.rename(run.path)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"classes": ["zoo_bars"], "code": ""}', '{"classes": 3}', "[" * 9999]
)
def test_a_list_of_classes_that_somebody_else_wrote_is_not_believed(trained, monkeypatch, tmp_path, content):
    run, home = trained
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    signed = (run.path / FILE).read_text()
    try:
        (run.path / FILE).write_text(content)
        with pytest.raises(ZooError, match="refusing"):
            zoo.from_pretrained(run.path)
        more = json.loads(signed)
        more["classes"].append("zoo_evil")
        (run.path / FILE).write_text(json.dumps(more))
        with pytest.raises(ZooError, match="refusing"):
            zoo.from_pretrained(run.path)
    finally:
        (run.path / FILE).write_text(signed)


def test_what_is_published_is_ones_own_and_for_others_trusted_by_name(trained, monkeypatch, tmp_path):
    run, home = trained
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    folder = publish(run, "cat_vae.bars", [], folder=tmp_path)
    assert folder == tmp_path / "cat_vae.bars" and zoo.from_pretrained(folder)
    assert 'trust=["zoo_bars"]' in (folder / "README.md").read_text()
    files = zoo.push_to_hub(folder, "owner/bars", dry_run=True)
    assert {"config.json", "model.safetensors"} <= set(files) and FILE not in files
    assert zoo.push_to_hub(zoo.from_pretrained(run.path), "owner/bars", dry_run=True).keys() <= files.keys()
    assert zoo.export(folder, tmp_path / "bars.pt2").is_file()
    another_user(monkeypatch, tmp_path)
    with pytest.raises(ZooError, match="refusing"):
        zoo.from_pretrained(folder)
    assert zoo.from_pretrained(folder, trust=["zoo_bars"])


def test_the_new_class_keeps_what_it_understands(trained):
    model = plain(compose([*BY_TARGET, "run=x"]))["model"]
    assert set(model["encoder"]) == {"_target_", "latents", "categories", "size"}  # not hidden, activation, init
    with pytest.raises(ZooError, match="no option 'hiden'"):
        check(compose([*BY_TARGET, "+model.encoder.hiden=3"]))


@pytest.mark.parametrize(
    "words, message",
    [
        (["model.encoder._target_=nowhere.Encoder"], "cannot be imported.*Is nowhere installed"),
        (["model.encoder._target_=zoo_bars.Encoder"], "zoo_bars.Encoder.*cannot be imported"),
        (["data=zoo_bars.Bars"], r"write data\._target_="),
        (["model.encoder._target_=tests.own_parts.make_encoder"], "could not be loaded again.*not a class"),
        (["model.encoder._target_=tests.own_parts.Stateful"], "could not be loaded again.*list"),
        (["model.encoder._target_=tests.own_parts.Broken"], r"model\.encoder: RuntimeError: broken \(.*own_parts"),
        (["data._target_=tests.own_parts.NoTest"], "NoTest has no test_dataloader"),
        (["data._target_=tests.own_parts.Counting"], "data: Counting is not a LightningDataModule"),
        (["+model.encoder.size=9"], r"first batch.*RuntimeError: mat1 and mat2 .*zoo_bars"),
    ],
)
def test_what_cannot_be_trained_or_stored_is_said_before_a_folder_is_claimed(tmp_path, words, message):
    folder = tmp_path / "run"
    with pytest.raises(ZooError, match=message):
        run_of(folder, *without(words[0]), *words)
    assert not folder.exists()


def without(word: str) -> list[str]:
    """:data:`BY_TARGET`, without what ``word`` says something else of."""
    names = {word.split("=")[0]} | ({"+data.count"} if "Counting" in word else set())
    return [other for other in BY_TARGET if other.split("=")[0] not in names]


# By a folder of configuration files ---------------------------------------------------------------------------------


def test_a_folder_of_ones_own_is_in_every_list(monkeypatch):
    with pytest.raises(ZooError, match="no data=bars"):
        compose(["model=cat_vae", "data=bars"])
    assert take_folders(["train", "--config-dir", str(CONFIGS), "x=1"]) == ["train", "x=1"]
    assert composition.choices("data")["bars"].startswith("Pictures of bars")
    assert "bar_judge" in zoo.list_models() and hub.models()["bar_judge"].target == "zoo_bars.BarJudge"
    check(compose(["experiment=bars"]))
    with pytest.raises(ZooError, match="Did you mean 'bars'"):
        compose(["model=cat_vae", "data=brs"])
    with pytest.raises(ZooError, match="Did you mean 'count'"):
        compose(["model=cat_vae", "data=bars", "data.cuont=3"])


def test_the_search_path_is_of_one_command():
    words = ["experiment=bars", f"hydra.searchpath=[{CONFIGS}]"]
    check(compose(words), words)
    assert "bars" not in composition.choices("data")
    for wrong in ("hydra.searchpath=3", "hydra.searchpath=[/nowhere/at/all]"):
        with pytest.raises(ZooError, match=r"hydra\.searchpath"):
            compose(["model=cat_vae", wrong])


@pytest.mark.parametrize("words", [["--config-dir"], ["--config-dir", "/nowhere"], ["--config-dir=/nowhere"]])
def test_a_folder_that_is_not_there_is_an_error(words, monkeypatch):
    with pytest.raises(ZooError, match="--config-dir"):
        take_folders(words)
    monkeypatch.setenv(folders.VARIABLE, "/nowhere")
    with pytest.raises(ZooError, match="ZOO_CONFIG_PATH=/nowhere: there is no folder"):
        composition.choices("data")


def test_two_files_of_one_name_are_refused_where_they_are_chosen(tmp_path, monkeypatch):
    odd = tmp_path / "with blank, comma=and 'quote'"
    (odd / "relaxation").mkdir(parents=True)
    (odd / "relaxation/rloo.yaml").write_text("# Mine.\n_target_: zoo_bars.Laplace\ntau: 1.0\n")
    (odd / "relaxation/odd.yaml").write_text("# Mine.\n_target_: zoo_bars.Laplace\ntau: 1.0\n")
    monkeypatch.setenv(folders.VARIABLE, str(odd))
    check(compose(["model=cat_vae", "relaxation=odd"]))
    with pytest.raises(ZooError, match=r"relaxation=rloo is not clear.*Rename one"):
        compose(["model=cat_vae", "relaxation=rloo"])


def test_a_whole_model_without_a_base_class_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv(folders.VARIABLE, str(CONFIGS))
    run = run_of(tmp_path / "run", "model=bar_judge", *FEW)
    assert set(run.read_results()["metrics"]) == {"test/loss", "test/accuracy"}
    model = zoo.from_pretrained(run.path)
    assert type(model).__name__ == "BarJudge" and not model.training
    large, folder = (
        publish(run, f"bar_judge.{tag}", [], folder=tmp_path, small=tag == "one") for tag in ("all", "one")
    )
    assert (folder / "model.safetensors").stat().st_size < (large / "model.safetensors").stat().st_size
    assert json.loads((folder / "config.json").read_text())["target"] == "zoo_bars.BarJudge"
    monkeypatch.delenv(folders.VARIABLE)  # its configuration file is not needed any more
    assert zoo.from_pretrained(folder) and zoo.export(folder, tmp_path / "a.pt2").is_file()
    assert evaluate(hub.read(folder), {})["accuracy"] == run.read_results()["metrics"]["test/accuracy"]
    another_user(monkeypatch, tmp_path)
    with pytest.raises(ZooError, match=r"target: refusing 'zoo_bars.BarJudge'"):
        zoo.from_pretrained(folder)
    assert zoo.from_pretrained(folder, trust=["zoo_bars"])


@pytest.mark.slow
def test_a_task_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv(folders.VARIABLE, str(CONFIGS))
    small = ("data.epoch_batches=4", "data.val_instances=20", "data.test_instances=20", "data.size=5", "epochs=1")
    run = run_of(tmp_path / "run", "model=pointer_net", "data=open_path", *small, *QUIET)
    model = zoo.from_pretrained(run.path)
    assert type(model.task).__name__ == "OpenPath"
    assert evaluate(hub.read(run.path), {}).keys() == {name[5:] for name in run.read_results()["metrics"]}


def test_callbacks_and_loggers_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv(folders.VARIABLE, str(CONFIGS))
    more = ["+callbacks.count._target_=tests.own_parts.Counting", "+logger.mine._target_=tests.own_parts.Kept"]
    run_of(tmp_path / "run", "model=bar_judge", *FEW, *more, "callbacks=early_stopping", "trainer.max_epochs=30",
           "callbacks.early_stopping.monitor=val/loss", "callbacks.early_stopping.min_delta=1.0e9")  # fmt: skip
    assert Counting.steps == 4 * 4 and "val/loss" in Kept.names  # the first epoch, and 3 that were not better


# In a notebook ------------------------------------------------------------------------------------------------------


def test_objects_that_remember():
    net = Net(3, outputs=(2, 2))
    config = {"_target_": "tests.own_parts.Net", "inputs": 3, "outputs": [2, 2], "flat": True}
    assert to_config(net) == config and to_config(from_config(config)) == config

    class Derived(Net):
        def __init__(self) -> None:
            super().__init__(3, (1,))

    with pytest.raises(ZooError, match=r"decorate its class with @zoo\.remember"):
        to_config(Derived())


@pytest.fixture
def registered():
    before = dict(REGISTERED)
    yield
    for key in set(REGISTERED) - set(before):
        REGISTERED.pop(key)
        RELAXATIONS.pop(key.split("/")[1], None)


def test_training_from_python_with_objects(tmp_path, registered, monkeypatch):
    from zoo_bars import Bars

    zoo.register("relaxation/plain_softmax", tau=0.7)(Plain)
    zoo.register("relaxation/plain_softmax", tau=0.7)(Plain)  # a cell that is run again
    assert composition.choices("relaxation")["plain_softmax"] == "A softmax, registered."
    assert RELAXATIONS["plain_softmax"] is Plain
    zoo.register("data/own_bars", count=200)(Bars)
    model, scores = zoo.train(
        "cat_vae",
        *QUIET,
        run=tmp_path / "run",
        data=Bars(count=200),
        relaxation="plain_softmax",
        encoder=Net(64, (6, 2)),
        decoder=Net(12, (1, 8, 8)),
        latents=6,
        categories=2,
        iwae_samples=2,
        epochs=1,
        trainer={"log_every_n_steps": 2},
        optimizer={"lr": 1e-3},
    )
    assert scores["neg_elbo"] > 0 and isinstance(model.encoder, Net) and model.relaxation.arguments["tau"] == 0.7
    config = RunFolder(tmp_path / "run").read_config()
    assert config["data"]["count"] == 200 and config["model"]["optimizer"]["lr"] == 1e-3
    again, _ = zoo.train(model, *QUIET, data="own_bars", epochs=1, run=tmp_path / "again")
    assert to_config(again) == to_config(model)
    with pytest.raises(ZooError, match="Did you mean 'plain_softmax'"):
        zoo.train("cat_vae", relaxation="plane_softmax")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("cat_vea",), "Did you mean 'cat_vae'"),
        (("cat_vae", "relaxaton=rloo"), "Did you mean 'relaxation'"),
    ],
)
def test_training_from_python_has_the_checks_of_the_command(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError, match=message):
        zoo.train(*arguments)
    for options, expected in (
        ({"latnts": 3}, "Did you mean 'latents'"),
        ({"latents": "lots"}, "valid integer"),
        ({"latents": object()}, "cannot be written"),
        ({"data": 3}, "give a name, an object or a dict"),
        ({"encoder": torch.nn.Linear(1, 1)}, "cannot be written"),
    ):
        with pytest.raises(ZooError, match=expected):
            zoo.train("cat_vae", **options)
    assert not list(tmp_path.iterdir())


def test_names_that_cannot_be_registered(registered):
    for place in ("nonsense/x", "relaxation", "relaxation/", "relaxation/a b"):
        with pytest.raises(ZooError, match="write group/name"):
            zoo.register(place)
    with pytest.raises(ZooError, match=r"taken, by .*rloo\.yaml"):
        zoo.register("relaxation/rloo")(Plain)
    with pytest.raises(ZooError, match="no argument 'tua'"):
        zoo.register("relaxation/plain_softmax", tua=3)(Plain)
    assert "plain_softmax" not in RELAXATIONS


# Several jobs -------------------------------------------------------------------------------------------------------


def test_a_sweep_ends_with_a_table_and_names_what_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["-m", "model=polynomial", *QUIET, "epochs=1", "data.steps=5", "relaxation=exact,rloo,reinmax"]
    with pytest.raises(ZooError, match=r"1 of 3 jobs failed:\n  - relaxation=exact: Exact would enumerate"):
        train_command([*words, "hydra.sweep.dir=sweep"])
    names = {path.name for path in Path("sweep").iterdir() if path.is_dir()}
    assert names == {".jobs", "relaxation=rloo", "relaxation=reinmax"}  # the other one did not begin
    lines = Path("sweep/comparison.csv").read_text().splitlines()
    assert lines[0] == "relaxation,best,cost,steps,seconds,folder,error" and len(lines) == 4
    assert lines[3].startswith('exact,,,,,,"Exact would') and float(lines[1].split(",")[1]) <= float(
        lines[2].split(",")[1]
    )
    train_command([*words[:-1], "relaxation=rloo,reinmax", "hydra.sweep.dir=sweep"])  # which are complete
    printed = capsys.readouterr().out
    assert "relaxation" in printed and "sweep/comparison.csv" in printed and "exact" not in printed


def test_no_two_jobs_have_the_same_folder(monkeypatch):
    monkeypatch.setenv(SWEPT, "data.env,seed")
    long = "x" * 200
    jobs = [["seed=1", "epochs=3"], ["data.env=a/b"], ["data.env=a:b"], [f"data.env={long}1"], [f"data.env={long}2"]]
    names = [name_job(job, number) for number, job in enumerate(jobs)]
    assert (
        names[0] == "seed=1" and len(set(names)) == 5 and all(re.fullmatch(r"[\w=.\-]{1,120}", name) for name in names)
    )
    assert name_job(jobs[1], 7) == names[1] and name_job(["epochs=3"], 7) == "7"


def test_runs_from_python_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(composition.STAMP, "")
    monkeypatch.setattr(composition, "now", lambda: "now")
    for _ in range(2):
        zoo.train("polynomial", *QUIET, epochs=1, data={"steps": 5})
    assert sorted(path.name for path in tmp_path.glob("runs/polynomial/*")) == ["now", "now_2"]
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(ZooError, match="Did you mean 'offline'"):
        zoo.train("polynomial", epochs=1, data={"steps": 5}, logger="wandb")
    assert len(list(tmp_path.glob("runs/polynomial/*"))) == 2  # what does not begin leaves nothing


def test_a_model_without_a_name_needs_a_run_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["~model", "+model._target_=zoo.models.polynomial.PolynomialProgram", "+model.relaxation=${relaxation}"]
    words += ["+model.optimizer._target_=zoo.training.AdamW", "relaxation=rloo", "data=steps", "epochs=1"]
    with pytest.raises(ZooError, match="run=FOLDER"):
        train_command(words)


def test_several_values_need_the_flag(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError, match="relaxation= has several values: add -m"):
        train_command(["model=polynomial", "relaxation=rloo,reinmax"])


# The directory of the data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["a.PNG", "class/a.jpg", "a.wav"])
@pytest.mark.parametrize("words", [["model=cat_vae"], ["model=speaker_generator", "data=fsdd"]])
def test_a_folder_of_ones_own_pictures_is_not_taken_for_a_directory_of_data_sets(tmp_path, where, words):
    (tmp_path / "mine" / where).parent.mkdir(parents=True)
    (tmp_path / "mine" / where).write_bytes(b"")
    with pytest.raises(ZooError, match=r"holds something else, such as .*data=image_folder"):
        run_of(tmp_path / "run", *words, f"data.root={tmp_path / 'mine'}", *QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_no_module_is_imported_from_the_working_directory_unless_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "own_module_here.py").write_text("class Thing:\n    def __init__(self, a: int = 1): pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    before = list(sys.path)
    with pytest.raises(ZooError, match="cannot be imported"):
        from_config({"_target_": "not_there.Thing"})
    assert sys.path == before
    assert from_config({"_target_": "own_module_here.Thing"})
