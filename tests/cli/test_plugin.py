"""The example of a plug-in, installed in an empty folder, through every command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT, run_script, start_and_kill
from zoo.training.loggers import read_metrics
from zoo.training.runs import RunFolder

pytestmark = pytest.mark.slow
SMALL = ("logger=csv", "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=5", "checkpoint_every_n_steps=7")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """The environment of a user who has installed the plug-in."""
    folder = tmp_path_factory.mktemp("plugin")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    target = [*command, "--no-cache-dir", "--target", str(folder / "site"), str(ROOT / "examples/plugin")]
    result = subprocess.run(target, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    path = os.pathsep.join([str(ROOT), str(folder / "site")])
    return {"PYTHONPATH": path, "XDG_DATA_HOME": str(folder / "home")}


def python(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def done(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 0 and "Traceback" not in result.stdout, result.stdout
    return result.stdout


def test_it_is_listed_explained_and_checked(installed):
    assert "'bar_judge'" in python("import zoo; print(zoo.list_models())", **installed)
    assert python("import sys, zoo; zoo.list_models(); print('zoo_bars' in sys.modules)", **installed) == "False"
    for words in (["train"], ["list"]):
        result = subprocess.run(
            [sys.executable, "-m", "zoo", *words], env=os.environ | installed, capture_output=True, text=True
        )
        assert "bar_judge" in result.stdout and ("Pictures of bars" in result.stdout) == (words == ["train"])
    result = run_script("train", "model=cat_vae", "data=brs", **installed)
    assert result.returncode == 1 and "Did you mean 'bars'?" in result.stdout
    assert "Did you mean 'bar_judge'?" in run_script("train", "bar_jugde", **installed).stdout


@pytest.mark.parametrize("options", [("experiment=bars", "epochs=3"), ("model=bar_judge", "epochs=3")])
def test_through_every_command(installed, tmp_path, options):
    arch = "cat_vae" if "experiment=bars" in options else "bar_judge"
    start_and_kill(tmp_path / "run", *options, *SMALL, at_step=21, **installed)
    assert "resuming from" in done(
        run_script("train", *options, *SMALL, f"run={tmp_path / 'run'}", cwd=tmp_path, **installed)
    )
    done(run_script("train", *options, *SMALL, f"run={tmp_path / 'whole'}", cwd=tmp_path, **installed))
    run, whole = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "whole")
    assert run.read_results()["metrics"] == whole.read_results()["metrics"]  # the same to the bit, with a DataLoader
    assert read_metrics(run.metrics) == read_metrics(whole.metrics)
    first = done(run_script("eval", str(run.path), cwd=tmp_path, **installed))
    done(run_script("publish", str(run.path), f"{arch}.bars", f"folder={tmp_path}", cwd=tmp_path, **installed))
    folder = tmp_path / f"{arch}.bars"
    assert done(run_script("eval", str(folder), cwd=tmp_path, **installed)).splitlines()[-1] == first.splitlines()[-1]
    if arch == "cat_vae":
        done(run_script("sample", str(run.path), "output=a.png", cwd=tmp_path, **installed))
        assert (tmp_path / "a.png").is_file()
    stranger = installed | {"XDG_DATA_HOME": str(tmp_path / "nobody")}
    refused = run_script("eval", str(folder), cwd=tmp_path, **stranger)
    assert refused.returncode == 1 and "refusing 'zoo_bars" in refused.stdout and "Traceback" not in refused.stdout
    done(run_script("eval", str(folder), "trust=zoo_bars", cwd=tmp_path, **stranger))
    code = (
        f"import zoo; m = zoo.from_pretrained({str(folder)!r}, trust=['zoo_bars']); "
        f"zoo.export(m, {str(tmp_path / 'bars.pt2')!r}); print(zoo.push_to_hub(m, 'owner/bars', dry_run=True).keys())"
    )
    assert "model.safetensors" in python(code, **stranger)
    torch.export.load(tmp_path / "bars.pt2").module()(torch.zeros(5, 1, 8, 8))  # in a process without the plug-in


def test_its_task_trains(installed, tmp_path):
    small = ("data.epoch_batches=5", "data.val_instances=20", "data.test_instances=20", "epochs=1")
    words = ("model=pointer_net", "data=open_path", *small, *SMALL, f"run={tmp_path / 'run'}")
    assert "best_cost" in done(run_script("train", *words, cwd=tmp_path, **installed))
    assert "best_cost" in done(run_script("eval", f"checkpoint={tmp_path / 'run'}", cwd=tmp_path, **installed))


def test_the_same_files_by_a_folder_and_by_the_working_directory(tmp_path):
    """Without installing anything: the flag, the variable, and classes that lie where one works."""
    (tmp_path / "zoo_bars").symlink_to(ROOT / "examples/plugin/zoo_bars")
    home = {"XDG_DATA_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    words = ("model=bar_judge", "epochs=1", *SMALL)
    done(run_script("train", "--config-dir", "zoo_bars/configs", *words, "run=run", cwd=tmp_path, **home))
    command = (tmp_path / "run/command.txt").read_text()
    assert f"--config-dir {(tmp_path / 'zoo_bars/configs').resolve()}" in command
    done(run_script("train", *words, "run=other", cwd=tmp_path, ZOO_CONFIG_PATH="zoo_bars/configs", **home))
    done(run_script("eval", "run", cwd=tmp_path, **home))  # without the folder of configuration files
    assert not Path(tmp_path / "zoo_bars/runs").exists()
