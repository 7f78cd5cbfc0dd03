"""Several processes, by the launchers that users have: they agree with one process, and none is left waiting."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.cli.test_train import same_weights, train_here
from tests.conftest import ROOT, SMALL, run_script
from tests.docs.reference import unexplained
from tests.processes import free_port, of_torchrun
from tests.speech import write_digits
from zoo import hub
from zoo.config.composition import check, compose
from zoo.errors import ZooError
from zoo.training.distributed import is_of_process_group
from zoo.training.loggers import read_metrics
from zoo.training.runs import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

OPTIONS = ("checkpoint_every_n_steps=4", "annealing=linear", "trainer.accelerator=cpu")
FAST = ("model=cat_vae", *SMALL, *OPTIONS)
TWO = ("trainer=ddp", "trainer.devices=2", "trainer.strategy.timeout=10")
WARNING = re.compile(r".*(?:[Ww]arn|[Dd]eprecat|recommended|Traceback).*")


@pytest.fixture(scope="module")
def single(tmp_path_factory, mnist_root) -> RunFolder:
    """The run in one process."""
    return train_here(tmp_path_factory.mktemp("runs") / "one", mnist_root, *OPTIONS)


@pytest.fixture(scope="module")
def two(tmp_path_factory, mnist_root) -> RunFolder:
    """The run in two processes."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    result = run_script("train", *FAST, *TWO, f"run={folder}", ZOO_DATA_DIR=mnist_root)
    assert result.returncode == 0, result.stdout
    (folder / "stdout.txt").write_text(result.stdout)
    return RunFolder(folder)


def difference(a: RunFolder, b: RunFolder) -> float:
    """The largest difference between two weights, of the size of these."""
    first, second = (torch.load(run.best, weights_only=True)["state_dict"] for run in (a, b))
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


def agree(a: RunFolder, b: RunFolder) -> None:
    """Both ended within rounding of each other: weights of order 1 after 60 steps of 0.0015, scores of order 100."""
    assert difference(a, b) < 1e-5
    scores, others = (run.read_results()["metrics"] for run in (a, b))
    shuffled = "test/neg_elbo_shuffled"  # codes change places within the share of a process, which is another
    assert scores.pop(shuffled) == pytest.approx(others.pop(shuffled), rel=1e-2)
    assert scores == pytest.approx(others, rel=1e-4)
    series = read_metrics(a.metrics), read_metrics(b.metrics)
    assert series[0].keys() == series[1].keys()
    for name in ("train/loss", "val/neg_elbo", "tau"):
        assert series[0][name] == [(step, pytest.approx(value, rel=1e-4)) for step, value in series[1][name]]


def test_two_processes_agree_with_one(single, two):
    agree(single, two)
    assert two.read_results()["steps"] == 60


def test_another_seed_does_not_agree(single, tmp_path, mnist_root):
    """So the test above can fail."""
    other = train_here(tmp_path / "run", mnist_root, *OPTIONS, "seed=1")
    assert difference(single, other) > 1e-2


def test_two_machines_of_two_processes_agree_with_one(single, tmp_path, mnist_root):
    """torchrun as it is started on each of two machines; here they are one, and meet at a port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2"]
    command += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    options = (*FAST, "trainer=multi_node", "trainer.num_nodes=2", "trainer.devices=2", f"run={tmp_path / 'run'}")
    machines = [
        subprocess.Popen(
            [*command, f"--node-rank={rank}", str(ROOT / "scripts/train.py"), *options],
            env=environment(mnist_root),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    # If one fails the other waits for it at the end, for five minutes.
    deadline = time.time() + 300
    while (ended := [machine.poll() for machine in machines]) != [0, 0] and not any(ended) and time.time() < deadline:
        time.sleep(0.1)
    for machine in machines:
        machine.terminate()
    printed = [machine.communicate()[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], "\n".join(printed)
    assert "Test scores" in printed[0] and not printed[1]
    agree(single, RunFolder(tmp_path / "run"))


def test_torchrun_and_srun_ask_for_the_run_folder(mnist_root):
    for variables in ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2"}, {"SLURM_NTASKS": "2"}):
        result = run_script("train", *FAST, "trainer=multi_node", ZOO_DATA_DIR=mnist_root, **variables)
        assert result.returncode == 1 and "say which run folder they share, run=FOLDER" in result.stdout


def test_a_batch_that_cannot_be_split_evenly_is_refused(tmp_path, mnist_root):
    with pytest.raises(ZooError, match=r"batch_size=100 cannot be split evenly among 3 processes"):
        train_here(tmp_path / "run", mnist_root, *OPTIONS, *TWO, "trainer.devices=3")


@pytest.mark.parametrize("options", [["trainer.strategy.timeout=0"], ["trainer.strategy.timeout=soon"]])
def test_mistakes(options, tmp_path, mnist_root):
    with pytest.raises(ZooError, match="timeout"):
        check(compose([*FAST, *TWO, *options]))
        train_here(tmp_path / "run", mnist_root, *TWO, *options)


# What goes wrong ------------------------------------------------------------------------------------------------------


def environment(data: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "ZOO_DATA_DIR": data}


@contextmanager
def started(folder: Path, data: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """A run of two processes in ``folder``, and the second one's id, some steps after it was started or resumed."""
    before = newest_step(folder)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts/train.py"), *FAST, *TWO, f"run={folder}"],
        cwd=ROOT,
        env=environment(data),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.time() + 200
        while newest_step(folder) <= before:
            assert process.poll() is None, process.communicate()[0]
            assert time.time() < deadline
            time.sleep(0.01)
        (second,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        yield process, second
    finally:
        for pid in (process.pid, second):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


def newest_step(folder: Path) -> int:
    return max((int(path.stem[5:]) for path in (folder / "checkpoints").glob("step-*.ckpt")), default=-1)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(pid: int) -> bool:
    """Whether the process is gone within a few seconds."""
    deadline = time.time() + 20
    while alive(pid) and time.time() < deadline:
        time.sleep(0.05)
    return not alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the second process in /proc")
def test_whatever_ends_processes_the_run_ends_in_the_same_bits(two, tmp_path, mnist_root):
    """The second one hangs; the first one hangs; one is killed; SIGTERM; all are killed: each in the middle of an
    epoch. Then the run is finished."""
    folder = tmp_path / "run"
    with started(folder, mnist_root) as (process, second):
        os.kill(second, signal.SIGSTOP)
        printed = process.communicate(timeout=100)[0]
        assert process.returncode == 1 and "process 0 of 2 lost the others" in printed, printed
        assert ends(second)
    with started(folder, mnist_root) as (process, second):
        process.send_signal(signal.SIGSTOP)
        printed = process.communicate(timeout=100)[0]  # until both have ended
        assert process.returncode == -signal.SIGKILL and "process 1 of 2 lost the others" in printed, printed
    with started(folder, mnist_root) as (process, second):
        os.kill(second, signal.SIGKILL)
        printed = process.communicate(timeout=100)[0]
        assert process.returncode == 1 and "process 0 of 2 lost the others" in printed, printed
    with started(folder, mnist_root) as (process, second):
        began = time.monotonic()
        os.kill(second, signal.SIGTERM)  # whichever gets it
        printed = process.communicate(timeout=100)[0]
        assert time.monotonic() - began < 5
        step = newest_step(folder)
        assert (
            process.returncode == 143 and f"stopped by SIGTERM; saved {folder}/checkpoints/step-{step:08d}" in printed
        )
        assert ends(second)
    with started(folder, mnist_root) as (process, second):
        os.killpg(process.pid, signal.SIGKILL)
        assert ends(process.pid) and ends(second)
    assert newest_step(folder) < 60
    result = run_script("train", *FAST, *TWO, f"run={folder}", ZOO_DATA_DIR=mnist_root)
    assert result.returncode == 0 and "resuming from" in result.stdout, result.stdout
    resumed = RunFolder(folder)
    assert same_weights(resumed.best, two.best)
    assert resumed.read_results()["metrics"] == two.read_results()["metrics"]
    assert read_metrics(resumed.metrics) == read_metrics(two.metrics)


class Machines:
    """Two network namespaces of this machine, joined by a link: all that a process sees of the network is the other."""

    link = "zoo"

    def __init__(self) -> None:
        self.names = [f"zoo-{os.getpid()}-{number}" for number in range(2)]
        self.addresses = [f"10.213.7.{number + 1}" for number in range(2)]

    def __enter__(self) -> "Machines":
        try:
            for name in self.names:
                ip("netns", "add", name)
            ip("-n", self.names[0], "link", "add", self.link, "type", "veth", "peer", self.link, "netns", self.names[1])
            for name, address in zip(self.names, self.addresses):
                ip("-n", name, "addr", "add", f"{address}/24", "dev", self.link)
                ip("-n", name, "link", "set", "lo", "up")
            self.up()
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            pytest.skip(f"no network namespaces here: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def up(self) -> None:
        for name in self.names:
            ip("-n", name, "link", "set", self.link, "up")

    def cut(self) -> None:
        ip("-n", self.names[1], "link", "set", self.link, "down")

    def train(self, folder: Path, data: str, port: int) -> list[subprocess.Popen]:
        """A run of a process on each, as torchrun starts it."""
        together = ("trainer=multi_node", "trainer.num_nodes=2", "trainer.devices=1", "trainer.strategy.timeout=10")
        processes = []
        for rank, name in enumerate(self.names):
            variables = of_torchrun(0, 1, port) | {"RANK": rank, "GROUP_RANK": rank, "WORLD_SIZE": 2}
            variables |= {"MASTER_ADDR": self.addresses[0], "GLOO_SOCKET_IFNAME": self.link}
            command = ["ip", "netns", "exec", name, sys.executable, str(ROOT / "scripts/train.py")]
            processes.append(
                subprocess.Popen(
                    [*command, *FAST, *together, f"run={folder}"],
                    cwd=ROOT,
                    env=environment(data) | {key: str(value) for key, value in variables.items()},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        return processes


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.mark.skipif(sys.platform != "linux", reason="needs network namespaces")
def test_a_link_that_is_cut_ends_both_machines_and_the_run_ends_in_the_same_bits(two, tmp_path, mnist_root):
    folder, port = tmp_path / "run", free_port()
    with Machines() as machines:
        processes = machines.train(folder, mnist_root, port)
        try:
            deadline = time.time() + 200
            while newest_step(folder) < 4:
                assert not any(process.poll() for process in processes) and time.time() < deadline
                time.sleep(0.01)
            machines.cut()
            for rank, process in enumerate(processes):
                printed = process.communicate(timeout=60)[0]
                assert process.returncode == 1 and f"process {rank} of 2 lost the others" in printed, printed
                assert "Traceback" not in printed
            assert newest_step(folder) < 60
            machines.up()
            processes = machines.train(folder, mnist_root, port + 1)
            printed = [process.communicate(timeout=200)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
    assert [process.returncode for process in processes] == [0, 0] and "resuming from" in printed[0], printed
    assert same_weights(RunFolder(folder).best, two.best)
    assert RunFolder(folder).read_results()["metrics"] == two.read_results()["metrics"]


@pytest.mark.parametrize(
    "message, lost",
    [
        ("[gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:51434: Connection reset by peer", True),
        ("Application timeout caused pair closure", True),
        ("Timed out waiting 10000ms for recv operation to complete", True),
        ("Connection closed by peer [127.0.0.1]:1", True),
        ("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)", False),
    ],
)
def test_what_gloo_says_when_a_process_is_lost(message, lost):
    """Which of these it says is a matter of moments."""
    assert is_of_process_group(RuntimeError(message)) == lost


# Every model ----------------------------------------------------------------------------------------------------------

BRIEF = (
    "logger=csv",
    "epochs=1",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=2",
    "pictures_every_n_epochs=1",
)
FEW = ("trainer.limit_train_batches=4", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1")
MODELS = {
    "actor_critic": (
        "model.policy.hidden=[16]",
        "model.critic.hidden=[16]",
        "data.epoch_steps=400",
        "data.start=80",
        "data.envs=8",
        "data.eval_episodes=2",
        "data.test_episodes=2",
    ),
    "pointer_net": (
        "model.encoder.width=16",
        "model.encoder.heads=2",
        "model.decoder.heads=2",
        "model.starts=4",
        "model.optimizer.warmup_steps=0",
        "data.size=12",  # of 8, two starts may find the same tour, and rounding says which of the two is shorter
        "data.epoch_batches=10",
        "data.val_instances=20",
        "data.test_instances=20",
    ),
    "world_model": (
        *("model.latents=2", "model.categories=3", "model.memory=8", "model.hidden=8", "model.length=4"),
        *("model.horizon=3", "model.starts=8", "model.batch_size=4", "data.envs=8", "data.epoch_steps=160"),
        *("data.start=64", "data.eval_episodes=2", "data.test_episodes=2"),
    ),
    "speaker_generator": (
        *(*FEW, "data=fsdd", "data.speakers=[low,high]", "data.mix=null"),
        *("data.batch_size=20", "data.judged=20", "data.eval_batch_size=20"),  # a batch has not every digit
    ),
    "speech_judge": (*FEW, "data.speech.speakers=[low,high]"),
    "selector": (*FEW, "data=table", "model.k=4", "model.baselines=[random]"),
    "language_model": (*FEW, "data.path=README.md", "data.length=32", "model.network.width=16"),
    "tokenizer": (*FEW, "data=mnist_grey"),
    "binary_net": (*FEW, "model.network.hidden=[16]"),
    "mixture_of_experts": (*FEW, "data=mnist_grey"),
}
"""Options that make a model's run short, where a few batches of each kind do not."""
EQUAL = ("pointer_net",)
"""Models that, like cat_vae, end within rounding of a single process: all that is random belongs to an example."""


@pytest.fixture(scope="module")
def data(tmp_path_factory, mnist_root) -> str:
    """A data directory with MNIST and few recordings of two voices."""
    root = tmp_path_factory.mktemp("data")
    os.symlink(Path(mnist_root) / "MNIST", root / "MNIST")
    write_digits(root / "fsdd/recordings", {"low": 110.0, "high": 210.0}, takes=11)
    return str(root)


@pytest.mark.parametrize("arch", hub.models())
def test_one_process_and_two_train_every_model_without_a_warning(arch, tmp_path, data):
    """Trained, validated, tested, drawn and heard, with the same pictures and sounds at the end."""
    printed, left = [], []
    for name, processes in (("one", ()), ("two", (*TWO, "trainer.strategy.timeout=60"))):
        run = RunFolder(tmp_path / name)
        small = SMALL[:1] + SMALL[-1:] if arch == "cat_vae" else ()
        options = (f"model={arch}", *BRIEF, *MODELS.get(arch, FEW), *small, *processes, f"run={run.path}")
        result = run_script("train", *options, ZOO_DATA_DIR=data)
        assert result.returncode == 0, result.stdout
        printed.append(result.stdout)
        left.append(sorted(str(path.relative_to(run.path)) for path in run.path.glob("[ps]*s/*")))
        series = read_metrics(run.metrics)
        assert {name.split("/")[0] for name in series} >= {"train", "val", "test"}
        assert not unexplained(arch, set(series))
    assert left[0] == left[1] and "pictures/curves.png" in left[0]
    if arch in EQUAL:
        assert difference(RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")) < 1e-5
    for text in printed:
        assert "Test scores" in text and not WARNING.findall(text)
