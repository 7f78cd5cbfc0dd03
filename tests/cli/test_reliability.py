"""What docs/explanation/reproducibility.md promises of runs, through the command line."""

import functools
import importlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.cli.test_train import same_weights
from tests.conftest import ROOT
from zoo import files, signals
from zoo.cli import main
from zoo.cli.options import written
from zoo.config import composition
from zoo.data import sources
from zoo.errors import ZooError
from zoo.hub.cards import as_command
from zoo.hub.files import read_checkpoint
from zoo.training import api
from zoo.training.checkpointing import newest_checkpoint
from zoo.training.loggers import read_metrics
from zoo.training.runs import RunFolder
from zoo.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore")

QUICK = (
    "model=polynomial",
    "data.steps=20",
    "epochs=3",
    "logger=csv",
    "checkpoint_every_n_steps=7",
    "model.optimizer.lr=0.05",
)
FIRST = (*QUICK, "run=first/place")


@pytest.fixture
def zoo(tmp_path, monkeypatch, capsys):
    """The command line in this process: what it prints and its exit status."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts/train.py"), *words])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
            if isinstance(ended.code, str):
                print(ended.code)
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> RunFolder:
    """A complete run of ``FIRST``, to be copied."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    config = composition.compose([*FIRST, f"run={run.path}"])
    train(composition.plain(config), run.path, command=" ".join(["python scripts/train.py", *QUICK]))
    return run


@pytest.fixture
def run(trained, tmp_path) -> RunFolder:
    """A complete run, which was trained elsewhere."""
    return RunFolder(shutil.copytree(trained.path, tmp_path / "first/place"))


def ends_alike(a: RunFolder, b: RunFolder) -> bool:
    assert same_weights(a.best, b.best) and same_weights(*(newest_checkpoint(run.checkpoints) for run in (a, b)))
    assert a.read_results()["metrics"] == b.read_results()["metrics"]
    assert a.read_results()["best"] == b.read_results()["best"]
    series = [{n: p for n, p in read_metrics(run.metrics).items() if not n.startswith("test/")} for run in (a, b)]
    return series[0] == series[1]


# A run folder is a folder ---------------------------------------------------------------------------------------------


def unfinished(run: RunFolder) -> Path:
    """As if the run had been stopped in its last epoch; its checkpoint."""
    run.results.unlink()
    older, newest = sorted(run.checkpoints.glob("step-*"))
    newest.unlink()
    return older


def test_a_run_goes_on_elsewhere_with_its_best_weights(zoo, run, tmp_path):
    run = RunFolder(run.path.rename(tmp_path / "ä b=c,(d"))
    checkpoint = read_checkpoint(older := unfinished(run))
    (key,) = checkpoint["callbacks"]
    checkpoint["callbacks"][key]["best_model_score"] = torch.tensor(0.0)  # what follows will not be better
    torch.save(checkpoint, older)
    content = run.best.read_bytes()
    status, printed = zoo("train", *QUICK, f"run='{run.path}'")
    assert status == 0 and "resuming from" in printed, printed
    assert run.best.read_bytes() == content and run.read_results()["best"] == 0
    assert read_checkpoint(newest_checkpoint(run.checkpoints))["callbacks"][key]["best_model_score"] == 0


def test_so_does_one_that_an_earlier_version_wrote_with_paths(zoo, run):
    checkpoint = read_checkpoint(older := unfinished(run))
    (key,) = checkpoint["callbacks"]
    path, score = "/elsewhere/checkpoints/best.ckpt", torch.tensor(0.0)
    checkpoint["callbacks"][key] |= {
        **{"best_model_path": path, "kth_best_model_path": path, "best_model_score": score, "kth_value": score},
        **{"dirpath": "/elsewhere/checkpoints", "best_k_models": {path: score}, "current_score": score},
    }
    torch.save(checkpoint, older)
    assert zoo("train", *FIRST)[0] == 0
    assert run.read_results()["best"] == 0


def test_one_that_was_stopped_in_its_test_goes_on_elsewhere_too(zoo, run, trained):
    run.results.unlink()
    status, printed = zoo("train", *FIRST)
    assert status == 0 and "Test scores" in printed and ends_alike(run, trained), printed


def test_nothing_in_it_is_absolute(trained):
    for path in trained.path.rglob("*"):
        if path.is_file() and path.name != "train.log":  # what was printed
            assert str(trained.path).encode() not in path.read_bytes(), path


def test_best_weights_that_are_gone_are_not_replaced_by_worse_ones(zoo, run):
    unfinished(run)
    run.best.unlink()
    status, printed = zoo("train", *FIRST)
    assert status == 1 and "best.ckpt, the weights with the best score" in printed and "Traceback" not in printed


# Checkpoints ----------------------------------------------------------------------------------------------------------


def test_two_damaged_checkpoints_stop_the_run_and_leave_the_best(zoo, run):
    run.results.unlink()
    for path in run.checkpoints.glob("step-*"):
        path.write_bytes(path.read_bytes()[:-1000])
    before = {path: path.read_bytes() for path in run.path.rglob("*.ckpt")}
    status, printed = zoo("train", *FIRST)
    assert status == 1 and "can be read" in printed and "another folder with run=" in printed, printed
    assert before == {path: path.read_bytes() for path in run.path.rglob("*.ckpt")}


def test_what_killed_writers_leave_is_swept_up(zoo, tmp_path):
    run = RunFolder(tmp_path / "first/place")
    run.checkpoints.mkdir(parents=True)
    litter = [run.checkpoints / ".step-00000007.ckpt.12345.zoo-part", run.path / ".results.json.999.zoo-part"]
    kept = [run.path / ".mine.txt", run.path / "notes.1"]
    for path in (*litter, *kept):
        path.write_text("half")
    assert zoo("train", *FIRST)[0] == 0
    assert not any(path.exists() for path in litter) and all(path.exists() for path in kept)


# The record is what was run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option, message",
    [
        ("trainer.precision=bf16-mixed", "trainer.precision was '32-true', now 'bf16-mixed'"),
        ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches was 1, now 2"),
        ("trainer.gradient_clip_val=1.0", "trainer.gradient_clip_val was None, now 1.0"),
        ("trainer.limit_train_batches=5", "trainer.limit_train_batches was None, now 5"),
        ("trainer.limit_val_batches=1", "trainer.limit_val_batches was None, now 1"),
        ("trainer.check_val_every_n_epoch=2", "trainer.check_val_every_n_epoch was 1, now 2"),
        ("+trainer.deterministic=true", "trainer.deterministic was None, now True"),
        ("seed=1", "seed was 0, now 1"),
        ("epochs=2", "epochs was 3, now 2: it has been trained further"),
    ],
)
def test_options_that_change_numbers_are_refused(zoo, run, option, message):
    before = run.config.read_text(), run.command.read_text()
    status, printed = zoo("train", *FIRST, option)
    assert status == 1 and message in printed and "another folder with run=" in printed, printed
    assert before == (run.config.read_text(), run.command.read_text())


def test_more_epochs_are_recorded_with_their_step(zoo, run, tmp_path):
    """And end in the same bits as if all had been asked for at once."""
    assert zoo("train", *FIRST, "epochs=5")[0] == 0
    first, mark, second = run.command.read_text().splitlines()
    assert "epochs=3" in first and mark == "# from step 60 on:" and "epochs=5" in second
    assert run.read_config()["epochs"] == 5 and run.commands(60) == first and run.commands(61).endswith(second)
    assert zoo("train", *QUICK, "epochs=5", "run=at_once")[0] == 0
    assert ends_alike(run, RunFolder(tmp_path / "at_once"))


@pytest.mark.parametrize(
    "option, why",
    [
        ("model.optimizer.decay_from=0.5", "the learning rate decays towards the end (model.optimizer.decay_from)"),
        ("annealing=linear", "tau reaches its end with training (annealing.steps)"),
    ],
)
def test_more_epochs_are_refused_where_a_schedule_follows_them(zoo, option, why):
    relaxation = "relaxation=gumbel_softmax"
    assert zoo("train", *FIRST, relaxation, option, "data.steps=2")[0] == 0
    status, printed = zoo("train", *FIRST, relaxation, option, "data.steps=2", "epochs=5")
    assert status == 1 and f"epochs was 3, now 5: {why}" in printed, printed


def test_a_published_card_has_the_commands_that_made_the_weights(zoo, run, tmp_path, monkeypatch):
    places = {"checkpoints": tmp_path / "checkpoints"}
    monkeypatch.setattr("zoo.hub.registry.resource", lambda name: places.get(name, ROOT / name))
    assert zoo("train", *FIRST, "epochs=4")[0] == 0
    status, printed = zoo("publish", "first/place", "polynomial.mine")
    assert status == 0, printed
    card = (tmp_path / "checkpoints/polynomial.mine/README.md").read_text()
    made = card.split("## How it was made")[1].split("With python")[0]
    assert [line[4:] for line in made.splitlines() if line.strip()] == as_command(run.command.read_text()).splitlines()
    assert "# from step 60 on:" in made


# Names and locks ------------------------------------------------------------------------------------------------------


def test_jobs_of_the_same_second_have_folders_of_their_own(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(composition, "now", lambda: "2026-01-01_00-00-00")
    begun = []

    def train(config, folder, *, command):
        begun.append(Path(folder).relative_to("runs"))
        return 0.0

    monkeypatch.setattr("zoo.training.train.train", train)
    monkeypatch.setattr("zoo.cli.sweeps.scores_of", lambda run: {})
    for words in ([], [], ["-m", "seed=0,1"], ["-m", "seed=2"], ["--cfg", "job"]):
        assert zoo("train", *QUICK, *words)[0] == 0
    first, second = "2026-01-01_00-00-00", "2026-01-01_00-00-00_2"
    single, swept = Path("polynomial"), Path("sweep")
    assert begun == [
        single / first,
        single / second,
        swept / first / "seed=0",
        swept / first / "seed=1",
        swept / second / "0",
    ]
    assert len(list(tmp_path.glob("runs/*/*"))) == 4  # to look is not to begin


@pytest.mark.parametrize("error", [OSError(95, "Operation not supported"), OSError(37, "No locks available")])
def test_without_locks_a_run_goes_on_with_a_warning(zoo, monkeypatch, error):
    def flock(*_):
        raise error

    monkeypatch.setattr("fcntl.flock", flock)
    status, printed = zoo("train", *FIRST)
    assert status == 0 and "is on a file system without locks" in printed and "another run" not in printed, printed


# Output ---------------------------------------------------------------------------------------------------------------


def test_piped_output_is_a_line_for_each_validation(zoo):
    status, printed = zoo("train", *FIRST)
    assert status == 0 and "\r" not in printed and "\x1b" not in printed
    lines = [line for line in printed.splitlines() if "val/cost" in line]
    assert [re.match(r"epoch (\d), step (\d+): val/cost 0\.\d+, \S+ steps/s$", line).groups() for line in lines] == [
        ("1", "20"),
        ("2", "40"),
        ("3", "60"),
    ]


@pytest.mark.parametrize(
    "name", ["metrics.csv", "train.log", "config.yaml", "results.json", ".lock", "checkpoints/best.ckpt", "pictures"]
)
def test_a_folder_where_a_file_belongs_is_named(zoo, tmp_path, name):
    place = tmp_path / "first/place" / name
    place.mkdir(parents=True)
    if name == "pictures":
        place.rmdir()
        place.write_text("a file where a folder belongs")
    status, printed = zoo("train", *FIRST)
    (message,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert status == 1 and "Traceback" not in printed and len(message) < 300, printed
    assert place.name in message or ".lock" in name
    assert re.search("folder|directory|[Ff]ile exists", message), message


def test_an_unknown_mode_of_wandb_is_named(zoo, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "ofline")
    status, printed = zoo("train", *FIRST, "logger=wandb")
    (message,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert status == 1 and "WANDB_MODE=ofline is not valid. Did you mean 'offline'?" in message


def test_no_message_moves_the_cursor(zoo):
    status, printed = zoo("train", *QUICK, "run='a\x1b[31mb\x07'", "seed=-1")
    assert status == 1 and "\x1b" not in printed and "\x07" not in printed


@pytest.mark.slow
def test_parts_of_a_resumed_run_are_named_in_order(zoo, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    options = (*FIRST, "logger=wandb")
    assert zoo("train", *options)[0] == 0
    run = RunFolder(tmp_path / "first/place")
    (part,) = run.path.glob("wandb/offline-run-*")
    earlier = part.with_name("offline-run-20200101_000000-" + part.name.rpartition("-")[2])
    part.rename(earlier)
    part.with_name("offline-run-20190101_000000-ofanother").mkdir()
    run.results.unlink()
    status, printed = zoo("train", *options)
    parts = re.search(r"wandb sync (.*)", printed)[1].split()
    assert status == 0 and len(parts) == 2 and Path(parts[0]).name == earlier.name and Path(parts[1]).is_dir()


# Signals in every phase -----------------------------------------------------------------------------------------------

SIGNALS = [
    (signal.SIGTERM, 143, "stopped by SIGTERM"),
    pytest.param(signal.SIGINT, 130, "stopped by Ctrl-C", marks=pytest.mark.slow),
]


def signalled(function, number: int, *, at: int = 0):
    """``function``, in whose call number ``at`` the process gets the signal ``number``."""
    calls = itertools.count()

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        if next(calls) == at:
            os.kill(os.getpid(), number)
        return function(*args, **kwargs)

    return wrapped


def located(where: str):
    """The module or class that has the function with the dotted name ``where``, and its name there."""
    owner, _, name = where.rpartition(".")
    module, _, cls = owner.rpartition(".")
    return (getattr(importlib.import_module(module), cls) if cls[0].isupper() else importlib.import_module(owner)), name


@pytest.mark.parametrize("number, status, said", SIGNALS)
@pytest.mark.parametrize(
    "where, at, saved",
    [
        ("zoo.models.polynomial.Steps.setup", 0, None),  # which prepares the data
        ("zoo.models.polynomial.PolynomialProgram.training_step", 30, "saved first/place/checkpoints/step-00000031"),
        ("zoo.models.polynomial.PolynomialProgram.training_step", 39, "saved first/place/checkpoints/step-00000040"),
        ("zoo.models.polynomial.PolynomialProgram.validation_step", 1, "saved first/place/checkpoints/step-00000040"),
        ("zoo.models.polynomial.PolynomialProgram.pictures", 1, "saved first/place/checkpoints/step-00000040"),
        ("zoo.training.checkpointing.BestCheckpoint.on_validation_end", 1, "saved first/place/checkpoints/step-000000"),
        ("zoo.models.polynomial.PolynomialProgram.test_step", 0, "first/place/checkpoints/step-00000060.ckpt is kept"),
        ("zoo.training.callbacks.save_curves", 0, "first/place/checkpoints/step-00000060.ckpt is kept"),
    ],
)
def test_a_signal_in_any_phase_of_a_run(zoo, trained, tmp_path, monkeypatch, number, status, said, where, at, saved):
    """It saves, says so, and the same command ends in the same bits: a validation is repeated, and tests are too."""
    options = (*FIRST, "pictures_every_n_epochs=1")
    owner, name = located(where)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, signalled(getattr(owner, name), number, at=at))
        ended, printed = zoo("train", *options)
    assert ended == status and "Traceback" not in printed, printed
    (line,) = [line for line in printed.splitlines() if said in line]
    assert saved is None or (saved in line and "The same command with run=first/place resumes the run." in line)
    run = RunFolder(tmp_path / "first/place")
    assert not [path for path in run.path.rglob(".*") if path.name != ".lock"] and not run.results.exists()
    ended, printed = zoo("train", *options)
    assert ended == 0 and ends_alike(run, trained), printed
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("number, status, said", SIGNALS)
@pytest.mark.parametrize(
    "command, where",
    [
        ("eval polynomial", "zoo.models.polynomial.PolynomialProgram.test_step"),
        ("sample cat_vae.mnist n=2", "zoo.models.cat_vae.CatVAE.sample"),
        ("play actor_critic.cartpole", "zoo.models.agents.Player.__call__"),
        ("solve pointer_net.tsp20 points=points.csv", "zoo.models.pointer_net.PointerNet.greedy"),
        ("speak speaker_generator.fsdd 407", "zoo.models.speaker_generator.SpeakerGenerator.speak"),
        ("publish first/place polynomial.mine", "zoo.models.polynomial.PolynomialProgram.test_step"),
    ],
)
def test_a_signal_ends_every_command(zoo, run, tmp_path, monkeypatch, number, status, said, command, where):
    (tmp_path / "points.csv").write_text("0,0\n1,0\n1,1\n0,1\n")
    places = {"checkpoints": tmp_path / "checkpoints"} if "publish" in command else {}
    monkeypatch.setattr("zoo.hub.registry.resource", lambda name: places.get(name, ROOT / name))
    owner, name = located(where)
    monkeypatch.setattr(owner, name, signalled(getattr(owner, name), number))
    before = set(tmp_path.rglob("*"))
    ended, printed = zoo(*command.replace("polynomial", "first/place", "eval" in command).split())
    assert (ended, printed.strip()) == (status, said), printed
    assert set(tmp_path.rglob("*")) - before <= {tmp_path / "checkpoints"}


def test_what_a_command_writes_is_whole_or_as_before(tmp_path):
    output = tmp_path / "new/scores.json"
    with written(output) as path:
        path.write_text("first")
    with pytest.raises(KeyError), written(output) as path:
        path.write_text("half")
        raise KeyError
    assert output.read_text() == "first" and list(tmp_path.rglob("*.json")) == [output]
    with pytest.raises(ZooError, match=r"cannot write output=.*: no such format"), written(output) as path:
        raise ValueError("no such format")
    with written(Path(os.devnull)) as path:
        path.write_text("a device stays one")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("number, status, said", SIGNALS)
def test_what_does_not_come_to_an_end_is_ended(tmp_path, number, status, said):
    """A call of a library that takes long, in which Python handles no signal."""
    code = "import sys; from zoo.cli import options; import numpy; a = numpy.ones((9_000, 9_000), numpy.float32)\n"
    code += "@options.fail_politely\ndef main():\n    print('in', flush=True)\n    numpy.linalg.eigvals(a)\nmain()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "in\n"
    time.sleep(0.5)
    process.send_signal(number)
    began = time.monotonic()
    _, printed = process.communicate(timeout=60)
    assert process.returncode == status and printed.startswith(said) and time.monotonic() - began < 5, printed


@pytest.mark.slow
@pytest.mark.parametrize("number, status, said", SIGNALS)
@pytest.mark.parametrize("phase", ["resuming", "epoch 1"])
def test_a_signal_ends_training_and_test_within_seconds(tmp_path, mnist_root, number, status, said, phase):
    """From outside: in training, and in the test, one batch of which takes minutes."""
    options = (
        "cat_vae",
        "nets=mlp",
        "logger=csv",
        "epochs=1",
        "trainer.limit_val_batches=2",
        "model.iwae_samples=50000",
    )
    options += ("trainer.limit_train_batches=600" if phase == "resuming" else "trainer.limit_train_batches=5",)
    words = ["train", *options, "checkpoint_every_n_steps=3", f"run={tmp_path / 'run'}"]
    for wanted in dict.fromkeys(["run folder" if phase == "resuming" else phase, phase]):
        process = subprocess.Popen(
            [sys.executable, "-m", "zoo", *words],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ZOO_DATA_DIR": mnist_root},
            stderr=subprocess.PIPE,
            text=True,
        )
        while wanted not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(6)
        process.send_signal(number)
        began = time.monotonic()
        printed = process.communicate(timeout=60)[1]
        assert process.returncode == status and time.monotonic() - began < 5, printed
        assert said in printed and "step-" in printed and "Traceback" not in printed


@pytest.mark.parametrize("number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_in_a_notebook_is_raised_to_it(tmp_path, monkeypatch, number, error):
    """And no thread ends the process, however long it goes on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zoo.signals.GRACE", 0.2)
    owner, name = located("zoo.models.polynomial.PolynomialProgram.training_step")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, signalled(getattr(owner, name), number, at=30))
        with pytest.raises(error) as raised:
            api.train("polynomial", *QUICK[1:], run="first/place")
        time.sleep(0.6)
    assert number == signal.SIGTERM or "saved first/place/checkpoints/step-00000031" in str(raised.value)
    assert number == signal.SIGINT or raised.value.code == 143
    assert signal.getsignal(number) == (signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
    model, _ = api.train("polynomial", *QUICK[1:], run="first/place")
    assert not model.training


def test_a_second_ctrl_c_in_a_notebook_does_not_wait(monkeypatch):
    with pytest.raises(signals.Stopped), signals.handled():
        signals.defer()
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.told() == signal.SIGINT  # and is waiting
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        pytest.fail("it waited")


@pytest.mark.parametrize("options", [["+trainer.max_steps=1"], ["trainer.limit_val_batches=0"]])
def test_a_run_without_a_validation_says_so(zoo, options):
    for _ in range(2):  # the second time resumed
        status, printed = zoo("train", *FIRST, *(option.lstrip("+") for option in options))
        (message,) = [line for line in printed.splitlines() if line.startswith("error: ")]
        assert status == 1 and "there was no validation that gave val/cost" in message, printed
        assert "Traceback" not in printed


# Paths and clocks -----------------------------------------------------------------------------------------------------

MARKS = ["ä ö", "a=b", "a,b", "a(b", "a)b", "a[b", "a]b", "a{b", "a:b", "it's", 'a"b', "a\\b", "a#b", "~a", "*", "a b "]
ODD = "".join(MARKS).replace("~", "")


@pytest.mark.parametrize("place", [*MARKS, ODD, "'quoted'"])
def test_places_are_taken_as_they_are(place):
    for given in (f"runs/{place}", f"/data/{place}/x"):
        config = composition.compose(["model=cat_vae", f"run={given}", f"data.root={given}"])
        assert (config.run, config.data.root) == (given, given)
        (parsed,) = composition.parse([composition.for_hydra([f"data.root={given}"])[0]])
        assert parsed.value() == given and not parsed.is_sweep_override()


def test_a_run_in_an_odd_place(zoo, trained, tmp_path):
    """Trained, resumed, complete, scored, published: with the words that the shell passes."""
    run = RunFolder(tmp_path / ODD)
    words = ("train", *QUICK, f"run={ODD}")
    with pytest.MonkeyPatch.context() as patch:
        owner, name = located("zoo.models.polynomial.PolynomialProgram.training_step")
        patch.setattr(owner, name, signalled(getattr(owner, name), signal.SIGTERM, at=30))
        assert zoo(*words)[0] == 143
    status, printed = zoo(*words)
    assert status == 0 and "resuming from" in printed and ends_alike(run, trained), printed
    status, printed = zoo("eval", f"checkpoint={ODD}", f"output={ODD}/{ODD}.json")
    assert status == 0 and (run.path / f"{ODD}.json").is_file(), printed
    status, printed = zoo("publish", f"run={ODD}", "name=polynomial.mine", f"folder={ODD}/new")
    assert status == 0 and (run.path / "new/polynomial.mine/config.json").is_file(), printed


@pytest.mark.parametrize("place", ["/proc/new", "x" * 300, "first/place/results.json/below"])
@pytest.mark.parametrize(
    "words",
    [
        ["train", *QUICK, "run={}"],
        ["eval", "checkpoint=first/place", "output={}/a.json"],
        ["sample", "checkpoint=cat_vae.mnist", "n=1", "output={}/a.png"],
        ["publish", "run=first/place", "name=polynomial.mine", "folder={}"],
    ],
)
def test_a_place_that_cannot_be_written_is_one_error(zoo, run, place, words):
    status, printed = zoo(*(word.format(place) for word in words))
    (message,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert status == 1 and "Traceback" not in printed and len(message) < 800, printed
    assert re.search("[Nn]o such file|too long|[Nn]ot a directory|ermission|not permitted", message), message


@pytest.mark.parametrize("clock", [0.0, 4e9])
def test_a_clock_that_is_wrong_changes_nothing(zoo, run, trained, monkeypatch, clock):
    """It is 1970 or 2096 while a run is resumed; its files are of another time, too."""
    unfinished(run)
    for number, path in enumerate(run.path.rglob("*")):
        os.utime(path, (clock + number, 4e9 - clock + number))
    monkeypatch.setattr("time.time", lambda: clock)
    status, printed = zoo("train", *FIRST)
    assert status == 0 and ends_alike(run, trained), printed


# What killed processes leave ------------------------------------------------------------------------------------------


def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def killed_in(block, *arguments) -> None:
    """Kill a process within ``with block(*arguments) as place``, in which it has written something."""
    if not (pid := os.fork()):
        with block(*arguments) as place:
            (place / "half" if place.is_dir() else place).write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("block", [files.atomic, files.scratch])
def test_what_was_begun_by_a_killed_process_is_removed_by_the_next(tmp_path, block):
    """Beside a place of any name, and not what another process is writing."""
    place = tmp_path / "model.[pt2]"
    kept = [tmp_path / ".model.[pt2].mine", tmp_path / ".other.1", tmp_path / f".model.[pt2].{dead()}0x"]
    for path in kept:
        path.write_text("mine")
    killed_in(block, place)
    assert len(list(tmp_path.iterdir())) == 4
    with block(place) as own:
        assert not (own.is_dir() and any(own.iterdir()))
        if not (pid := os.fork()):
            with block(place) as other:
                (other / "a" if other.is_dir() else other).write_text("other")
            os._exit(0 if own.exists() else 1)
        assert os.waitpid(pid, 0)[1] == 0
        (own / "a" if own.is_dir() else own).write_text("own")
    assert sorted(tmp_path.iterdir()) == sorted([*kept, *([place] if block == files.atomic else [])])


def test_a_published_model_outlives_a_kill_between_old_and_new(tmp_path):
    place = tmp_path / "polynomial.mine"
    place.mkdir()
    (place / "config.json").write_text("old")
    if not (pid := os.fork()):
        with files.scratch(place) as own:
            place.rename(own / "old")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not place.exists()
    with files.scratch(place):
        assert (place / "config.json").read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]


def test_recordings_are_kept_whole_or_not_at_all(tmp_path, monkeypatch):
    """Some of them would be taken for all."""
    place = tmp_path / "fsdd/recordings"
    recordings = {f"{digit}_theo_0.wav": b"RIFF" for digit in range(10)}
    if not (pid := os.fork()):
        written = itertools.count()
        write = Path.write_bytes
        monkeypatch.setattr(Path, "write_bytes", lambda path, content: write(path, content) if next(written) < 5 else
                            os.kill(os.getpid(), signal.SIGKILL))  # fmt: skip
        sources.keep(recordings, place)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not place.exists() and len(list(place.parent.iterdir())) == 1
    sources.keep(recordings, place)
    assert {path.name for path in place.iterdir()} == set(recordings) and list(place.parent.iterdir()) == [place]


@pytest.mark.slow
def test_what_wandb_leaves_in_a_killed_process_is_removed_by_the_next(tmp_path):
    code = "import os; from zoo.training.loggers import import_wandb; import_wandb(); {}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    for last, left in (("os.kill(os.getpid(), 9)", 1), ("os.kill(os.getpid(), 9)", 1), ("pass", 0)):
        subprocess.run([sys.executable, "-c", code.format(last)], env=environment)
        assert len(list(tmp_path.iterdir())) == left


@pytest.mark.slow
def test_five_kills_at_random_moments(tmp_path, mnist_root):
    """Of every model, in every phase; ``python -m tests.soak`` does 200."""
    words = ["kills=5", "seed=1", f"folder={tmp_path}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ZOO_DATA_DIR": mnist_root}
    result = subprocess.run(
        [sys.executable, "-m", "tests.soak", *words], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0 and "5 kills of" in result.stdout, result.stdout + result.stderr
