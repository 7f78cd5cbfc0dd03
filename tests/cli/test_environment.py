"""Machines as they are: without a network, a home, a terminal, memory to share or a place for temporary files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from zoo.training.runs import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="arranges Linux")]

QUICK = (
    "model=polynomial",
    "data.steps=20",
    "epochs=2",
    "model.optimizer.lr=0.05",
    "logger=csv",
    "trainer.log_every_n_steps=5",
)


def command(*words: str, flags: tuple[str, ...] = (), inside: tuple[str, ...] = (), cwd: Path, **environment: str):
    """``zoo WORDS`` as a user starts it. ``inside`` is a command that starts it; "" takes a variable away."""
    variables = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    kept = {name: value for name, value in (os.environ | variables).items() if variables.get(name) != ""}
    return subprocess.run(
        [*inside, sys.executable, *flags, "-m", "zoo", *words],
        cwd=cwd,
        env=kept,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


def starting(*words: str) -> tuple[str, ...]:
    """``words``, a command that starts another one; the test is skipped where there is no right to it."""
    if shutil.which(words[0]) is None or subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip(f"cannot do {' '.join(words)} here")
    return words


def with_mount(script: str) -> tuple[str, ...]:
    """A command that starts another one where ``script`` was run, with mounts of its own."""
    return starting("unshare", "-m", "sh", "-ec", f'{script}\nexec "$@"', "sh")


def offline() -> tuple[str, ...]:
    return starting("unshare", "-n")


def read_only(folder: Path) -> tuple[str, ...]:
    return with_mount(f"mount --bind '{folder}' '{folder}'; mount -o remount,ro,bind '{folder}'")


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> RunFolder:
    """A run where nothing is the matter."""
    place = tmp_path_factory.mktemp("runs")
    result = command("train", *QUICK, "run=run", cwd=place)
    assert result.returncode == 0, result.stdout
    return RunFolder(place / "run")


PLACES = {
    "offline": lambda: {"inside": offline()},
    "one core": lambda: {"inside": starting("taskset", "-c", "0"), "OMP_NUM_THREADS": ""},
    "little shared memory": lambda: {"inside": with_mount("mount -t tmpfs -o size=64k none /dev/shm")},
    "no home": lambda: {"HOME": "/proc/nobody", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": ""},
    "narrow terminal": lambda: {"COLUMNS": "20", "LINES": "5"},
    "no locale": lambda: {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": ""},
    "without assertions": lambda: {"flags": ("-O",)},
    "no temporary folder": lambda: {"TMPDIR": "/proc/nothing"},
    "interactive matplotlib": lambda: {"MPLBACKEND": "TkAgg"},
    "all at once": lambda: {
        **{"HOME": "/proc/nobody", "COLUMNS": "20", "LC_ALL": "C", "TMPDIR": "/proc/nothing"},
        **{"MPLBACKEND": "QtAgg", "flags": ("-O",), "inside": ("taskset", "-c", "0")},
    },
}


@pytest.mark.parametrize("place", PLACES)
def test_a_run_ends_in_the_same_bits(usual, tmp_path, place):
    result = command("train", *QUICK, "run=läuft", cwd=tmp_path, **PLACES[place]())
    run = RunFolder(tmp_path / "läuft")
    assert result.returncode == 0 and "Traceback" not in result.stdout and "arning" not in result.stdout, result.stdout
    assert "Run folder  läuft" in result.stdout and run.read_results()["metrics"] == usual.read_results()["metrics"]
    assert (run.pictures / "curves.png").read_bytes() == (usual.pictures / "curves.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["läuft"]


def test_offline_a_pretrained_model_is_used_and_data_that_are_missing_are_one_error(tmp_path):
    assert command("sample", "cat_vae.mnist", "n=4", cwd=tmp_path, inside=offline()).returncode == 0
    result = command("eval", "cat_vae.mnist", cwd=tmp_path, inside=offline(), ZOO_DATA_DIR=str(tmp_path / "data"))
    assert result.returncode == 1 and "Traceback" not in result.stdout, result.stdout
    assert "error: MNIST is not available. Tried:" in result.stdout


def test_a_complete_run_in_a_read_only_place_is_read(usual, tmp_path):
    place = shutil.copytree(usual.path, tmp_path / "run")
    inside = read_only(place)
    result = command("eval", "checkpoint=run", "output=scores.json", cwd=tmp_path, inside=inside)
    assert result.returncode == 0 and (tmp_path / "scores.json").is_file(), result.stdout
    result = command("train", *QUICK, "run=run", cwd=tmp_path, inside=inside)
    (message,) = [line for line in result.stdout.splitlines() if line.startswith("error: ")]
    assert "run as a run folder: read-only file system" in message.lower() and "Traceback" not in result.stdout


def test_a_wheel_in_a_read_only_installation_does_everything(tmp_path, mnist_root):
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, site, "zip")
    there = {"cwd": work, "inside": read_only(site), "PYTHONPATH": str(site), "ZOO_DATA_DIR": mnist_root}
    for done in (
        ("train", *QUICK, "run=run"),
        ("eval", "checkpoint=run"),
        ("list",),
        ("sample", "cat_vae.mnist", "n=4"),
        ("publish", "run=run", "name=polynomial.mine", "folder=mine"),
        ("eval", "checkpoint=mine/polynomial.mine"),
    ):
        result = command(*done, **there)
        assert result.returncode == 0 and "Traceback" not in result.stdout, result.stdout
    result = command("publish", "run=run", "name=polynomial.mine", **there)
    assert result.returncode == 1 and "ead-only" in result.stdout and "Traceback" not in result.stdout, result.stdout
