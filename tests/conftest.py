"""What the tests share."""

import gc
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.processes import start_script
from zoo.data import sources

# Test processes side by side (pytest-xdist) share the cores: more threads than cores are slower than one each.
torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))))

settings.register_profile("zoo", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("zoo")


ROOT = Path(__file__).parent.parent


def pytest_collection_finish():
    """What was imported is there to stay: without it to look at, collecting garbage, which pictures do, is quick."""
    gc.freeze()


@pytest.fixture(autouse=True)
def fixed_seed():
    """Every test starts from the same generator state: a statistical test that passes once always passes."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def ctrl_c():
    """A suite that is started in the background inherits that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_environment():
    """What a command tells the processes that it starts, such as folders of configuration files, ends with its test."""
    before = dict(os.environ)
    yield
    for name in {name for name in (*before, *os.environ) if name.startswith("ZOO_")}:
        os.environ.pop(name, None)
    os.environ.update({name: value for name, value in before.items() if name.startswith("ZOO_")})


@pytest.fixture(scope="session")
def mnist_root() -> str:
    """A data directory that holds MNIST, fetched once where it is missing."""
    root = sources.data_root(None)
    sources.load("MNIST", str(root))
    return str(root.absolute())


def run_script(name: str, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    """Run ``scripts/<name>.py`` as a user would; output and errors in ``stdout``."""
    return run_file(ROOT / "scripts" / f"{name}.py", *arguments, cwd=cwd, **environment)


def run_file(file: Path, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    """The same of any ``file``."""
    with start_script(file, arguments, cwd or ROOT, environment) as (process, output):
        process.join(300)
        assert process.exitcode is not None, f"not at its end after 300 s: {output.read_text()}"
        return subprocess.CompletedProcess([file, *arguments], process.exitcode, output.read_text())


def start_and_kill(folder: Path, *options: str, at_step: int, **environment: str) -> None:
    """Start a run in ``folder`` and ``kill -9`` it once it has written a checkpoint of ``at_step`` or later."""
    options = (*options, f"run={folder}")
    with start_script(ROOT / "scripts/train.py", options, ROOT, environment) as (process, output):
        deadline = time.time() + 120
        while not any(int(path.stem[5:]) >= at_step for path in (folder / "checkpoints").glob("step-*.ckpt")):
            assert process.is_alive() and time.time() < deadline, output.read_text()
            time.sleep(0.01)


SMALL_AGENT = (  # an actor-critic of a few seconds
    "model.policy.hidden=[16]",
    "model.critic.hidden=[16]",
    "model.batch_size=16",
    "model.updates=2",
    "data.envs=8",
    "data.epoch_steps=160",
    "data.start=80",
    "data.replay=320",
)
SMALL = (  # a run of a few seconds
    "nets=mlp",
    "logger=csv",
    "epochs=2",
    "trainer.limit_train_batches=30",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=1",
    "trainer.log_every_n_steps=10",
    "trainer.enable_progress_bar=false",
    "model.iwae_samples=2",
)
