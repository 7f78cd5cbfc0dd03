"""What happens to long runs on one machine: a full disk, W&B out of reach, two runs in one folder."""

import os
import resource
import subprocess
import sys
import time

import pytest

from tests.cli.test_distributed import FAST, environment, newest_step
from tests.cli.test_train import train_here
from tests.conftest import ROOT
from zoo.checkpointing import newest_checkpoint
from zoo.cli.options import fail_politely
from zoo.loggers import WandbSettings, read_metrics
from zoo.runs import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux")
def test_a_full_disk_leaves_the_checkpoints_and_one_error(tmp_path, mnist_root):
    """The system lets no file grow beyond 1 MB once there is a checkpoint: what a disk or quota that fills up does."""
    run = RunFolder(tmp_path / "run")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts/train.py"), *FAST, f"run={run.path}"],
        env=environment(mnist_root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.time() + 200
    while newest_step(run.path) < 4:
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.01)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    printed = process.communicate(timeout=200)[0]
    assert process.returncode == 1 and "Traceback" not in printed, printed
    (message,) = [line for line in printed.splitlines() if "error" in line.lower()]
    assert message.startswith(f"error: cannot write {run.checkpoints}/") and "saved before is untouched" in message
    names = sorted(path.name for path in run.checkpoints.iterdir())
    assert all(name.startswith(("step-", "best")) for name in names) and 1 <= len(names) <= 3
    assert newest_checkpoint(run.checkpoints) == run.checkpoints / [n for n in names if n.startswith("step-")][-1]


def test_a_full_disk_elsewhere_is_one_error_too():
    @fail_politely
    def write():
        raise OSError(28, "No space left on device", "metrics.csv")

    with pytest.raises(SystemExit, match=r"error: the disk is full: .*metrics\.csv"):
        write()

    @fail_politely
    def read():
        raise FileNotFoundError("something of ours is missing")  # a bug keeps its traceback

    with pytest.raises(FileNotFoundError):
        read()


def test_wandb_out_of_reach(tmp_path, monkeypatch, caplog):
    """A key, and nobody who answers: offline after a while."""
    import wandb

    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr("zoo.loggers.ONLINE_TIMEOUT", 2)
    logger = WandbSettings(project="test").logger(tmp_path, {})
    assert logger.experiment.settings.mode == "offline" and "not online" in caplog.text
    wandb.finish()


def test_a_folder_that_wandb_cannot_write_does_not_stop_training(tmp_path, mnist_root, caplog):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/wandb").write_text("in the way")
    few = ("epochs=1", "trainer.limit_train_batches=10", "logger=wandb")
    run = train_here(tmp_path / "run", mnist_root, *few)
    assert run.read_results()["steps"] == 10 and read_metrics(run.metrics)
    assert "this run goes on without it" in run.log.read_text()


def test_a_second_process_is_refused_and_a_dead_one_does_not_lock(tmp_path):
    code = f"import time; from zoo.runs import RunFolder; run = RunFolder({str(tmp_path)!r}); run.__enter__(); "
    code += "print('in', flush=True); time.sleep(100)"
    command = [sys.executable, "-c", code]
    where = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=where, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "in\n"
        second = subprocess.run(command, env=where, capture_output=True, text=True)
        assert "another run is using" in second.stderr.splitlines()[-1]
        first.kill()
    with RunFolder(tmp_path):
        pass
