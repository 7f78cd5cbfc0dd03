"""Runs through the command line, as a user has them: trained, killed, resumed, damaged, scored, published."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import zoo
from tests.conftest import ROOT, SMALL, run_script, start_and_kill
from zoo import hub
from zoo.cli import main
from zoo.cli.publish import publish
from zoo.cli.train import main as train_command
from zoo.config.composition import check, compose, plain
from zoo.errors import ZooError
from zoo.models.cat_vae import ConvEncoder
from zoo.models.image_classifier import ImageClassifier
from zoo.relaxations import RELAXATIONS
from zoo.training import AdamW
from zoo.training.checkpointing import newest_checkpoint
from zoo.training.loggers import read_metrics
from zoo.training.runs import RunFolder
from zoo.training.train import train as train_in_process

pytestmark = pytest.mark.filterwarnings("ignore")  # the subprocess of the first test shows them all

FAST = ("model=cat_vae", *SMALL)
FEW = ("model.latents=2", "model.categories=4")  # combinations that can be enumerated


def train_here(folder: Path, data: str, *options: str) -> RunFolder:
    """The same in this process, which saves the imports."""
    overrides = [*FAST, f"run={folder}", f"data.root={data}", *options]
    config = compose(overrides)
    check(config)
    train_in_process(plain(config), folder, command=" ".join(["python scripts/train.py", *overrides]))
    return RunFolder(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory, mnist_root) -> RunFolder:
    """A complete small run."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    command = [sys.executable, str(ROOT / "scripts/train.py"), *FAST, f"run={folder}"]  # with the warnings of imports
    variables = os.environ | {"OMP_NUM_THREADS": "1", "ZOO_DATA_DIR": mnist_root}
    result = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    (folder / "printed.txt").write_text(result.stdout + result.stderr)
    return RunFolder(folder)


def test_a_run_leaves_what_it_promises(run):
    assert {path.name for path in run.pictures.iterdir()} == {
        "reconstructions.png",
        "samples.png",
        "interpolations.png",
        "code_maps.png",
        "code_usage.png",
        "curves.png",
    }
    assert run.best.is_file() and run.command.read_text().startswith("python scripts/train.py model=cat_vae")
    metrics = run.read_results()["metrics"]
    assert set(metrics) == {
        f"test/{name}"
        for name in (
            "neg_elbo",
            "reconstruction",
            "kl",
            "nll",
            "neg_elbo_shuffled",
            "active_latents",
            "perplexity",
            "information",
        )
    }
    series = read_metrics(run.metrics)
    assert [step for step, _ in series["train/neg_elbo"]] == [10, 20, 30, 40, 50, 60]
    assert {"tau", "lr", "val/neg_elbo", "test/nll"} <= set(series)


def test_the_last_lines_say_where_everything_is(run):
    printed = (run.path / "printed.txt").read_text()
    for part in (str(run.path), str(run.best), "samples.png", "nll", "(Bernoulli likelihood, in nats an image"):
        assert part in printed.split("Test scores")[1]


def test_no_warning_that_a_user_could_not_act_on(run):
    assert not re.findall(r".*(?:[Ww]arn|[Dd]eprecat).*", (run.path / "printed.txt").read_text())


def test_a_complete_run_is_not_trained_again(run, mnist_root):
    before = run.best.stat().st_mtime_ns
    result = run_script("train", *FAST, f"run={run.path}", ZOO_DATA_DIR=mnist_root)
    assert result.returncode == 0 and "is complete" in result.stdout and "Test scores" in result.stdout
    assert run.best.stat().st_mtime_ns == before


def test_other_settings_in_the_same_folder_are_refused(run, mnist_root):
    with pytest.raises(ZooError, match=r"seed was 0, now 3(.|\n)*model.latents was 30, now 20"):
        train_here(run.path, mnist_root, "model.latents=20", "seed=3")


def test_two_runs_in_one_folder_are_refused(run, mnist_root):
    with run, pytest.raises(ZooError, match="another run is using"):
        train_here(run.path, mnist_root)


QUICK = ("gumbel_softmax", "rebar")


@pytest.mark.parametrize(
    "relaxation", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RELAXATIONS]
)
def test_every_relaxation_trains(tmp_path, mnist_root, relaxation):
    options = (*FEW, "epochs=1", "trainer.limit_train_batches=60")
    run = train_here(tmp_path / "run", mnist_root, f"relaxation={relaxation}", *options)
    losses = [value for _, value in read_metrics(run.metrics)["train/neg_elbo"]]
    assert losses[-1] < 0.9 * losses[0]


def test_reweighted_wake_sleep_takes_over_at_its_share_of_training(tmp_path, mnist_root):
    run = train_here(tmp_path / "run", mnist_root, "model.rws_from=0.5", "model.rws_samples=2")
    series = read_metrics(run.metrics)
    assert [step for step, _ in series["train/kl"]] == [10, 20, 30]  # what the ELBO alone reports
    assert [step for step, _ in series["train/nll"]] == [40, 50, 60]
    assert len(series["val/nll"]) == len(series["val/neg_elbo"])


def test_exact_on_the_default_code_says_what_to_do(tmp_path, mnist_root):
    with pytest.raises(ZooError, match=r"Exact would enumerate at least 1e\+30 combinations.*such as rloo"):
        train_here(tmp_path / "run", mnist_root, "relaxation=exact")


# Stopped and resumed --------------------------------------------------------------------------------------------------

# Accumulation, running means that are learned along and a changing tau: all that a resumed run has to get right.
LONG = (
    *FAST,
    "epochs=3",
    "checkpoint_every_n_steps=4",
    "trainer.accumulate_grad_batches=2",
    "relaxation=rebar",
    "annealing=linear",
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, mnist_root) -> RunFolder:
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    result = run_script("train", *LONG, f"run={folder}", ZOO_DATA_DIR=mnist_root)
    assert result.returncode == 0, result.stdout
    return RunFolder(folder)


def same_weights(a: Path, b: Path) -> bool:
    a, b = (torch.load(path, weights_only=True) for path in (a, b))
    pairs = [(a["state_dict"][name], b["state_dict"][name]) for name in a["state_dict"]]
    moments = (checkpoint["optimizer_states"][0]["state"] for checkpoint in (a, b))
    for first, second in zip(*(state.values() for state in moments), strict=True):
        pairs += [(first[name], second[name]) for name in first]
    return a["global_step"] == b["global_step"] and all(torch.equal(x, y) for x, y in pairs)


def test_killed_runs_end_in_the_same_bits(tmp_path, mnist_root, uninterrupted):
    """Killed in the first epoch, after it, and after the last one, before the test; then finished."""
    folder = tmp_path / "run"
    for step in (8, 15, 45):
        start_and_kill(folder, *LONG, at_step=step, ZOO_DATA_DIR=mnist_root)
    # as where it was killed between writing the last one and removing the one before the two newest
    shutil.copy(newest_checkpoint(folder / "checkpoints"), folder / "checkpoints" / "step-00000040.ckpt")
    result = run_script("train", *LONG, f"run={folder}", ZOO_DATA_DIR=mnist_root)
    assert result.returncode == 0 and "resuming from" in result.stdout, result.stdout
    resumed = RunFolder(folder)
    assert same_weights(resumed.best, uninterrupted.best)
    names = sorted(path.name for path in resumed.checkpoints.glob("step-*"))
    assert names == sorted(path.name for path in uninterrupted.checkpoints.glob("step-*"))
    assert all(same_weights(resumed.checkpoints / name, uninterrupted.checkpoints / name) for name in names)
    assert resumed.read_results()["metrics"] == uninterrupted.read_results()["metrics"]
    assert read_metrics(resumed.metrics) == read_metrics(uninterrupted.metrics)


@pytest.mark.slow
def test_a_truncated_checkpoint_is_named_and_the_one_before_it_used(tmp_path, mnist_root, uninterrupted):
    folder = tmp_path / "run"
    start_and_kill(folder, *LONG, at_step=12, ZOO_DATA_DIR=mnist_root)
    # a third one where it was killed between writing the new and removing the old
    *_, older, newest = sorted((folder / "checkpoints").glob("step-*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:-1000])
    result = run_script("train", *LONG, f"run={folder}", ZOO_DATA_DIR=mnist_root)
    assert result.returncode == 0, result.stdout
    assert f"checkpoint {newest} is truncated or damaged" in result.stdout and f"resuming from {older}" in result.stdout
    assert same_weights(RunFolder(folder).best, uninterrupted.best)


def test_a_run_is_not_resumed_by_its_folder_alone(tmp_path):
    (tmp_path / "command.txt").write_text(
        "zoo train polynomial epochs=1\n# from step 9 on:\nzoo train polynomial epochs=2\n"
    )
    with pytest.raises(ZooError, match=f"give its options again: zoo train polynomial epochs=2 run={tmp_path}$"):
        train_command([f"run={tmp_path}"])


# After training -------------------------------------------------------------------------------------------------------


def test_eval_repeats_the_test_scores_of_the_run(run, tmp_path, mnist_root):
    output = tmp_path / "scores.json"
    options = (f"checkpoint={run.path}", f"output={output}", "trainer.limit_test_batches=1")
    result = run_script("eval", *options, ZOO_DATA_DIR=mnist_root)
    assert result.returncode == 0, result.stdout
    scores = json.loads(output.read_text())
    assert scores == {name.removeprefix("test/"): value for name, value in run.read_results()["metrics"].items()}


@pytest.mark.parametrize(
    "options, message",
    [
        (["checkpoint=cat_vea.mnist"], "no pretrained model 'cat_vea.mnist'"),
        (["model.latents=3"], "say which checkpoint"),
        (["checkpoint={run}", "model.iwae_sampels=3"], "Did you mean 'iwae_samples'"),
        (["checkpoint={run}", "model.iwae_samples=0"], "iwae_samples >= 1"),
        (["checkpoint={run}", "model.latents=20"], "does not fit"),
        (["checkpoint={alone}"], "does not say what it was trained on: add data="),
        (["checkpoint={run}", "data=mnits"], "Did you mean 'mnist'"),
        (
            ["checkpoint={run}", "output={run}/config.yaml/x.json", "trainer.limit_test_batches=1"],
            "cannot write output=",
        ),
    ],
)
def test_mistakes_of_eval(run, mnist_root, tmp_path, monkeypatch, options, message):
    alone = shutil.copy(run.best, tmp_path / "alone.ckpt")
    monkeypatch.setattr(sys, "argv", ["eval.py", *(option.format(run=run.path, alone=alone) for option in options)])
    monkeypatch.setenv("ZOO_DATA_DIR", mnist_root)
    with pytest.raises(SystemExit, match=message):
        main("eval")


def test_publish_makes_a_pretrained_model(run, tmp_path, mnist_root, monkeypatch):
    monkeypatch.setattr(hub.registry, "resource", lambda name: tmp_path if name == "checkpoints" else ROOT / name)
    monkeypatch.setenv("ZOO_DATA_DIR", mnist_root)
    folder = publish(run, "cat_vae.tiny", ["model.iwae_samples=3", "trainer.limit_test_batches=1"])
    assert hub.list_models(pretrained=True) == ["cat_vae.tiny"]
    config = json.loads((folder / "config.json").read_text())
    expected = run.read_results()["metrics"]["test/neg_elbo"]
    assert config["metrics"]["neg_elbo"] == pytest.approx(expected) and config["arguments"]["iwae_samples"] == 3
    assert "![Samples](samples.png)" in (folder / "README.md").read_text() and (folder / "samples.png").is_file()
    assert str(run.path) not in (folder / "README.md").read_text()
    for name in ("tiny", "vae.tiny", "cat_vae.", "cat_vae.../x"):
        with pytest.raises(ZooError, match=r"cat_vae\.TAG"):
            publish(run, name, [])
    with pytest.raises(ZooError, match="not a run folder"):
        publish(RunFolder(tmp_path), "cat_vae.x", [])


@pytest.mark.parametrize("words", ["show=nearest", "show=interpolations", "show=code_maps", "replacement=false"])
def test_sample_shows_what_is_asked_for(run, mnist_root, words, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_DATA_DIR", mnist_root)
    output = tmp_path / "picture.png"
    monkeypatch.setattr(sys, "argv", ["sample.py", f"checkpoint={run.path}", "n=4", f"output={output}", words])
    main("sample")
    assert output.stat().st_size > 1000


def test_sample_prints_distances_in_the_features_of_a_judge(run, mnist_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZOO_DATA_DIR", mnist_root)
    output = tmp_path / "picture.png"
    encoder = ConvEncoder(latents=1, categories=2, channels=2, hidden=8)
    judge = zoo.save_pretrained(ImageClassifier(encoder=encoder, optimizer=AdamW()), tmp_path / "image_classifier.new")
    words = [f"checkpoint={run.path}", f"judge={judge}", "n=4", f"output={output}"]
    monkeypatch.setattr(sys, "argv", ["sample.py", *words])
    main("sample")
    found = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("    "))
    assert found.keys() == {"samples", "independent", "real"} and float(found["real"]) < float(found["samples"])


def test_a_run_starts_from_the_weights_of_another_and_keeps_what_is_frozen(run, tmp_path, mnist_root, capsys):
    folder = tmp_path / "prior"
    other = ("model.prior=transformer", f"init={run.path}", "freeze=[encoder,decoder]", "epochs=1")
    train_here(folder, mnist_root, *other)
    assert "anew: prior_net" in capsys.readouterr().err
    before, after = zoo.from_pretrained(run.path), zoo.from_pretrained(folder)
    for part in ("encoder", "decoder"):
        for name, value in getattr(before, part).state_dict().items():
            assert torch.equal(getattr(after, part).state_dict()[name], value)
    assert not torch.equal(after.prior_logits, before.prior_logits)


def test_sample_writes_a_picture(run, tmp_path, monkeypatch):
    output = tmp_path / "samples.png"
    monkeypatch.setattr(sys, "argv", ["sample.py", f"checkpoint={run.path}", "n=9", f"output={output}"])
    main("sample")
    assert output.read_bytes().startswith(b"\x89PNG")
    sys.argv[2] = "n=none"
    with pytest.raises(SystemExit, match="n=none is not valid"):
        main("sample")


@pytest.mark.parametrize("script", ["train", "eval", "sample", "publish"])
def test_without_arguments_a_script_says_what_it_can_do(script):
    result = run_script(script)
    assert result.returncode == 0 and f"python scripts/{script}.py" in result.stdout


@pytest.mark.slow
def test_a_sweep_runs_every_job_and_refuses_a_wrong_one_first(tmp_path, mnist_root):
    fast = [option for option in FAST if option != "logger=csv"]
    options = ("-m", *fast, "epochs=1", "trainer.limit_train_batches=10", f"hydra.sweep.dir={tmp_path}")
    result = run_script("train", *options, "relaxation=reinmax,rlo", ZOO_DATA_DIR=mnist_root, WANDB_MODE="offline")
    assert result.returncode == 1 and "Did you mean 'rloo'" in result.stdout and not any(tmp_path.iterdir())
    result = run_script("train", *options, "relaxation=reinmax,softmax", ZOO_DATA_DIR=mnist_root, WANDB_MODE="offline")
    assert result.returncode == 0, result.stdout
    names = ["relaxation=reinmax", "relaxation=softmax"]
    assert sorted(path.parent.name for path in tmp_path.glob("*/results.json")) == names
    assert sorted(path.parts[-3] for path in tmp_path.glob("*/wandb/offline-run-*")) == names  # each its own
    assert (tmp_path / "comparison.csv").read_text().startswith("relaxation,best,neg_elbo") and names[
        0
    ] in result.stdout


@pytest.mark.slow
def test_wandb_works_offline_without_an_account(tmp_path, mnist_root):
    options = [option for option in FAST if option != "logger=csv"]
    environment = {"ZOO_DATA_DIR": mnist_root, "HOME": str(tmp_path), "WANDB_API_KEY": "", "WANDB_MODE": ""}
    result = run_script("train", *options, "epochs=1", f"run={tmp_path / 'run'}", **environment)
    assert result.returncode == 0 and "W&B: offline. To sync: wandb sync" in result.stdout, result.stdout
    (offline,) = (tmp_path / "run/wandb").glob("offline-run-*")
    assert f"wandb sync {offline}" in result.stdout
    assert offline.name.endswith((tmp_path / "run/wandb_id.txt").read_text())
    assert {path.name.split("_")[0] for path in offline.rglob("*.png")} == {
        "reconstructions",
        "samples",
        "interpolations",
        "code",
        "curves",
    }
