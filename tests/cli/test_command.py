"""The command ``zoo``, started as users start it: each command's help, a mistake, a run that is trained."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, SMALL, run_file, run_script
from zoo import hub
from zoo.cli.options import COMMANDS
from zoo.training.runs import RunFolder


def zoo(*words: str, **environment: str) -> subprocess.CompletedProcess:
    """``python -m zoo``; output and errors in ``stdout``."""
    return run_file(ROOT / "zoo/__main__.py", *words, **environment)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A file ``zoo`` as an installer makes it."""
    path = tmp_path_factory.mktemp("bin") / "zoo"
    path.write_text("import sys\nfrom zoo.cli import main\nsys.exit(main())\n")
    return path


def test_without_a_command_all_are_listed():
    for words in ([], ["--help"], ["-h"]):
        result = zoo(*words)
        assert result.returncode == 0
        listed = re.findall(r"^    (\w+) +(\w.*)$", result.stdout.partition("understands\n")[2], re.MULTILINE)
        assert tuple(name for name, _ in listed) == COMMANDS and all(about for _, about in listed)


def test_every_command_is_a_module():
    files = {path.stem for path in (ROOT / "zoo/cli").glob("*.py") if "\nmain = " in path.read_text()}
    assert files | {"train", "lab"} == set(COMMANDS)


BAD = {
    "train": (["cat_vae", "relaxatoin=rloo"], "no option 'relaxatoin'. Did you mean 'relaxation'"),
    "eval": (["cat_vae.mnist", "outptu=x.json"], "no option 'outptu'. Did you mean 'output'"),
    "sample": (["cat_vae.mnist", "sede=1"], "no option 'sede'. Did you mean 'seed'"),
    "play": (["actor_critic.cartpole", "episode=2"], "no option 'episode'. Did you mean 'episodes'"),
    "solve": (["pointer_net.tsp20", "ponts=x"], "no option 'ponts'. Did you mean 'points'"),
    "speak": (["speaker_generator.fsdd", "txet=4"], "no option 'txet'. Did you mean 'text'"),
    "select": (["selector.mnist", "outptu=x.csv"], "no option 'outptu'. Did you mean 'output'"),
    "write": (["language_model.shakespeare", "promtp=x"], "no option 'promtp'. Did you mean 'prompt'"),
    "pack": (["binary_net.mnist", "outptu=x"], "no option 'outptu'. Did you mean 'output'"),
    "list": (["cat_vea"], "no model matches 'cat_vea'. Did you mean 'cat_vae'"),
    "publish": (["runs/mine", "cat_vae.mine", "modle.latents=3"], "no option 'modle.latents'. Did you mean 'model'"),
    "lab": (["gradeints"], "no experiment 'gradeints'. Did you mean 'gradients'"),
    "study": (["foldr=x"], "no option 'foldr'. Did you mean 'folder'"),
    "answers": (["sedes=3"], "no option 'sedes'. Did you mean 'seeds'"),
    "demo": (["prot=8000"], "no option 'prot'. Did you mean 'port'"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_explains_itself_and_refuses_what_it_does_not_know(command):
    result = zoo(command, "--help")
    assert result.returncode == 0 and result.stdout.count("\n") > 4
    assert f"python -m zoo {command}" in result.stdout and "python scripts" not in result.stdout
    words, message = BAD[command]
    result = zoo(command, *words)
    assert result.returncode == 1 and message in result.stdout
    assert result.stdout.startswith("error: ") and result.stdout.count("\n") == 1


def test_an_unknown_command():
    result = zoo("trian", "cat_vae")
    assert result.returncode == 1
    assert result.stdout.startswith("error: there is no command 'trian'. Did you mean 'train'? Commands: train, ")


def test_commands_are_told_as_the_program_was_started(installed):
    def start(file: Path, *words: str) -> str:
        return run_file(file, *words).stdout

    module = ROOT / "zoo/__main__.py"
    assert "    zoo train model=cat_vae" in start(installed, "train", "--help")
    assert "    python -m zoo train model=cat_vae" in start(module, "train", "--help")
    assert "    python scripts/train.py model=cat_vae" in start(ROOT / "scripts/train.py", "--help")
    assert "    zoo lab optima size=20" in start(installed, "lab", "optima", "--help")
    assert "    python scripts/optima.py size=20" in start(ROOT / "scripts/optima.py", "--help")


def test_list():
    everything = zoo("list").stdout
    for name in (*hub.models(), *hub.list_models(pretrained=True)):
        assert re.search(rf"^    {re.escape(name)} +\S", everything, re.MULTILINE)
    assert zoo("list", "pretrained=true", "pattern=cat*").stdout.split() == hub.list_models("cat*", pretrained=True)
    assert "pointer_net" not in zoo("list", "cat*").stdout


@pytest.mark.parametrize("words", [[], ["list"], ["lab"], ["list", "--help"]])
def test_what_only_lists_is_quick(words):
    """It imports none of the large packages: 40 ms of processor time, of which 20 are Python's own."""
    code = f"""
import resource, sys
sys.argv = ['zoo', *{words}]
from zoo.cli import main
main()
loaded = [name for name in ('torch', 'lightning', 'hydra', 'omegaconf', 'numpy', 'pydantic') if name in sys.modules]
assert not loaded, loaded
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime)
"""
    seconds = []
    for _ in range(3):
        result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        seconds.append(float(result.stdout.split()[-1]))
    assert min(seconds) < 0.3


@pytest.mark.parametrize("words", [["sample", "--help"], ["speak"], ["eval", "-h"], ["play"], ["publish"]])
def test_help_of_the_small_commands_does_without_torch(words):
    code = (
        f"import sys; sys.argv = ['zoo', *{words}]; from zoo.cli import main; main(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, check=True, timeout=60)


def test_the_reader_of_a_pipe_may_leave():
    command = f"{sys.executable} -m zoo train --help | head -1"
    result = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout.count("\n") == 1 and not result.stderr


# Trained by ``zoo`` ---------------------------------------------------------------------------------------------------

TINY = (*SMALL, "epochs=1")


@pytest.fixture(scope="module")
def run(tmp_path_factory, mnist_root, installed) -> RunFolder:
    """A small run of ``zoo train cat_vae``."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    result = run_file(installed, "train", "cat_vae", *TINY, f"run={folder}", ZOO_DATA_DIR=mnist_root)
    assert result.returncode == 0 and "Test scores" in result.stdout, result.stdout
    return RunFolder(folder)


@pytest.mark.slow
def test_zoo_train_is_scripts_train(run, tmp_path, mnist_root):
    assert run.command.read_text().startswith("zoo train model=cat_vae ")
    result = run_script("train", "model=cat_vae", *TINY, f"run={tmp_path / 'run'}", ZOO_DATA_DIR=mnist_root)
    assert result.returncode == 0, result.stdout
    other = RunFolder(tmp_path / "run")
    assert other.command.read_text().startswith("python scripts/train.py model=cat_vae ")
    assert other.read_results()["metrics"] == run.read_results()["metrics"]


def test_the_same_again_resumes(run, mnist_root):
    result = zoo("train", "model=cat_vae", *TINY, f"run={run.path}", ZOO_DATA_DIR=mnist_root)
    assert result.returncode == 0 and "is complete" in result.stdout


def test_a_checkpoint_is_the_first_word(run, tmp_path, mnist_root):
    output = tmp_path / "scores.json"
    options = (f"output={output}", "trainer.limit_test_batches=1", "trainer.enable_progress_bar=false")
    result = zoo("eval", str(run.path), *options, ZOO_DATA_DIR=mnist_root)
    assert result.returncode == 0, result.stdout
    expected = {name.removeprefix("test/"): value for name, value in run.read_results()["metrics"].items()}
    assert json.loads(output.read_text()) == expected
    result = zoo("sample", str(run.path), "n=4", f"output={tmp_path / 'samples.png'}")
    assert result.returncode == 0 and (tmp_path / "samples.png").is_file(), result.stdout


@pytest.mark.slow
def test_processes_that_a_strategy_starts_are_started_by_the_same_command(run, installed, tmp_path, mnist_root):
    two = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.strategy.timeout=60")
    for start in ((str(installed),), ("-m", "zoo")):
        folder = tmp_path / start[-1].replace("/", "-")
        command = [sys.executable, *start, "train", "cat_vae", *TINY, *two, f"run={folder}"]
        variables = os.environ | {"OMP_NUM_THREADS": "1", "ZOO_DATA_DIR": mnist_root}
        result = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        metrics = RunFolder(folder).read_results()["metrics"]
        assert metrics == pytest.approx(run.read_results()["metrics"], rel=1e-3)


def test_a_sweep_with_a_bare_model(tmp_path, mnist_root):
    options = (*TINY, "trainer.limit_train_batches=5", f"hydra.sweep.dir={tmp_path}", "relaxation=reinmax,softmax")
    result = zoo("train", "cat_vae", "-m", *options, ZOO_DATA_DIR=mnist_root)
    assert result.returncode == 0, result.stdout
    assert sorted(path.parent.name for path in tmp_path.glob("*/results.json")) == [
        "relaxation=reinmax",
        "relaxation=softmax",
    ]
