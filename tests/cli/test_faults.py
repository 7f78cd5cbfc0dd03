"""What happens to long runs on one machine: a loss that is not a number, a full disk, W&B out of reach, two runs in one
folder."""

import re
import resource
import subprocess
import sys
import time

import pytest

from tests.cli.test_distributed import FAST, environment, newest_step
from tests.conftest import ROOT, run_file, run_script
from tests.processes import start_script
from zoo.cli.options import fail_politely
from zoo.hub.files import read_checkpoint
from zoo.training.checkpointing import newest_checkpoint
from zoo.training.loggers import read_metrics
from zoo.training.runs import RunFolder

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


def test_a_loss_that_is_no_number_stops_the_run_with_step_batch_and_last_good_checkpoint(tmp_path, mnist_root):
    options = (*FAST, "model.optimizer.lr=1e20", "checkpoint_every_n_steps=1", f"run={tmp_path / 'run'}")
    result = run_script("train", *options, ZOO_DATA_DIR=mnist_root)
    assert result.returncode == 1 and "Traceback" not in result.stdout, result.stdout
    (message,) = [line for line in result.stdout.splitlines() if line.startswith("error: ")]
    assert re.match(r"error: the loss is not finite, but (nan|inf), at step 2 \(epoch 0, batch 1\)\. The last", message)
    (last,) = (tmp_path / "run/checkpoints").iterdir()
    assert f"checkpoint is {tmp_path}/run/checkpoints/step-00000001.ckpt. Try " in message and last.stem in message
    assert all(value.isfinite().all() for value in read_checkpoint(last)["state_dict"].values())


WITH_WANDB = (*FAST, "logger=wandb", "epochs=1", "trainer.limit_train_batches=10")


def trained_on(result: subprocess.CompletedProcess, run: RunFolder) -> bool:
    return result.returncode == 0 and run.read_results()["steps"] == 10 and "train/loss" in read_metrics(run.metrics)


@pytest.mark.slow
def test_wandb_out_of_reach_does_not_stop_training(tmp_path, mnist_root):
    """A key, and a server that nobody answers for: offline after a while."""
    run = RunFolder(tmp_path / "run")
    nobody = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_MODE": "online"}
    result = run_script("train", *WITH_WANDB, f"run={run.path}", ZOO_DATA_DIR=mnist_root, **nobody)
    assert trained_on(result, run) and "Traceback" not in result.stdout, result.stdout
    for line in ("W&B: not online", "W&B: offline. To sync: wandb sync"):
        assert line in result.stdout, result.stdout
    assert len(list((run.path / "wandb").glob("offline-run-*"))) == 1


@pytest.mark.slow
def test_a_folder_that_wandb_cannot_write_does_not_stop_training(tmp_path, mnist_root):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    (run.path / "wandb").write_text("in the way")  # permissions would not stop root
    result = run_script("train", *WITH_WANDB, f"run={run.path}", ZOO_DATA_DIR=mnist_root)
    assert trained_on(result, run) and "Traceback" not in result.stdout, result.stdout
    assert f"W&B: cannot write to {run.path}/wandb" in result.stdout and "this run goes on without it" in result.stdout


def test_a_second_process_is_refused_and_a_dead_one_does_not_lock(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import time; from zoo.training.runs import RunFolder; run = RunFolder({str(tmp_path / 'run')!r}); "
        "run.__enter__(); print('in', flush=True); time.sleep(100)"
    )
    with start_script(script, [], tmp_path, {}) as (_, output):
        while output.read_text() != "in\n":
            time.sleep(0.01)
        assert "another run is using" in run_file(script).stdout.splitlines()[-1]
    with RunFolder(tmp_path / "run"):
        pass
