"""Options of the trainer, on one process."""

import sys

import pytest
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from lightning import Callback
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.demos.boring_classes import BoringModel

from tests.cli.test_distributed import FAST, OPTIONS, difference
from tests.cli.test_train import train_here
from zoo import hub
from zoo.cli import main
from zoo.config import composition, from_config
from zoo.config.composition import check, compose, plain
from zoo.errors import ZooError
from zoo.training.loggers import read_metrics
from zoo.training.trainer import EVERY_STEP, build_trainer, check_precision, leave_out_empty_hooks

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory, mnist_root):
    return train_here(tmp_path_factory.mktemp("runs") / "plain", mnist_root, *OPTIONS)


def test_gradient_accumulation_is_a_larger_batch(plain_run, tmp_path, mnist_root):
    """The mean loss of two batches of 100, which are other images than one batch of 200: alike, not equal."""
    half = train_here(tmp_path / "run", mnist_root, *OPTIONS, "trainer.accumulate_grad_batches=2")
    assert half.read_results()["steps"] == 30
    accumulated, whole = (run.read_results()["metrics"]["test/neg_elbo"] for run in (half, plain_run))
    assert whole < accumulated < 320  # half as many steps, less far; nothing learned is 540


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_half_precision_comes_close(plain_run, tmp_path, mnist_root, precision):
    """On a CPU Lightning makes bfloat16 of float16."""
    clipped = ("trainer.gradient_clip_val=1000",)  # which changes nothing
    run = train_here(tmp_path / "run", mnist_root, *OPTIONS, *clipped, f"trainer.precision={precision}")
    scores = [r.read_results()["metrics"]["test/neg_elbo"] for r in (run, plain_run)]
    assert scores[0] == pytest.approx(scores[1], rel=0.02) and difference(run, plain_run) > 1e-4


def on_cpu(arch, precision):
    options = [f"model={arch}", "run=unused", f"trainer.precision={precision}", "trainer.accelerator=cpu"]
    composed = plain(compose(options))
    return build_trainer(composed["trainer"], []), from_config(composed["model"])


@pytest.mark.parametrize("arch, has_one", [("language_model", True), ("cat_vae", False)])
@pytest.mark.parametrize("precision, lacks", [("bf16-mixed", True), ("32-true", False)])
def test_a_processor_without_an_lstm_in_half_precision_says_so(monkeypatch, arch, has_one, precision, lacks):
    """As one without AVX-512 does, whatever this one has."""

    def forward(self, x):
        if lacks and torch.is_autocast_enabled("cpu"):
            raise RuntimeError("could not create a primitive descriptor for the LSTM forward propagation primitive")

    monkeypatch.setattr(torch.nn.LSTM, "forward", forward)
    trainer, model = on_cpu(arch, precision)
    before = torch.get_rng_state()
    if has_one and lacks:
        with pytest.raises(ZooError, match=r"trainer\.precision=bf16-mixed: this processor has no LSTM"):
            check_precision(trainer, model)
    else:
        check_precision(trainer, model)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_every_processor_has_an_lstm_in_full_precision(precision):
    check_precision(*on_cpu("language_model", precision))


class OnType(Callback):
    def __init__(self, called):
        self.called = called

    def on_train_batch_end(self, *_):
        self.called.append("on_train_batch_end")


class Inherited(OnType):
    def on_after_backward(self, *_):
        self.called.append("on_after_backward")


@pytest.mark.parametrize("kind", ["its class", "the class above", "the object"])
def test_hooks_that_a_callback_has_are_called_and_no_others(kind):
    called = []
    if kind == "the object":
        hooks = {name: lambda *_, name=name: called.append(name) for name in ("on_train_batch_end", "on_train_end")}
        callback = LambdaCallback(**hooks)
    else:
        callback = (OnType if kind == "its class" else Inherited)(called)
    options = plain(compose(["model=cat_vae", "run=unused", "trainer.accelerator=cpu", "trainer.max_steps=3"]))
    objects = {"logger": False, "enable_checkpointing": False}
    trainer = build_trainer(options["trainer"] | {"enable_progress_bar": False}, [callback], **objects)
    assert isinstance(callback, LambdaCallback) or all(getattr(callback, name) for name in EVERY_STEP)
    leave_out_empty_hooks(callback)
    assert sum(getattr(callback, name) is not None for name in EVERY_STEP) == 1 + (kind == "the class above")
    trainer.fit(BoringModel())
    expected = {"its class": (3, 0, 0), "the class above": (3, 3, 0), "the object": (3, 0, 1)}[kind]
    names = ("on_train_batch_end", "on_after_backward", "on_train_end")
    assert tuple(map(called.count, names)) == expected


def test_debug_is_a_few_batches(tmp_path, mnist_root):
    run = train_here(tmp_path / "run", mnist_root, *OPTIONS[1:], "trainer=debug", "trainer.limit_train_batches=3")
    assert run.read_results()["steps"] == 3


@pytest.mark.slow
def test_compiled_networks_compute_the_same(plain_run, tmp_path, mnist_root):
    few = ("epochs=1", "model.encoder.hidden=[16]", "model.decoder.hidden=[16]")
    runs = [
        train_here(tmp_path / str(compiled), mnist_root, *OPTIONS, *few, f"compile={compiled}")
        for compiled in ("true", "false")
    ]
    assert difference(*runs) < 1e-4
    first, second = (read_metrics(run.metrics)["train/loss"] for run in runs)
    assert first == [(step, pytest.approx(value, rel=1e-4)) for step, value in second]


@pytest.mark.parametrize("arch", hub.list_models())
def test_compiling_leaves_the_names_of_the_weights(arch):
    model = from_config(plain(compose([f"model={arch}", "run=unused"]))["model"])
    names = list(model.state_dict())
    model.compile_networks()
    assert list(model.state_dict()) == names
    assert any(
        child._compiled_call_impl is not None for child in model.children() if isinstance(child, torch.nn.Module)
    )


@pytest.mark.parametrize("value", ["maybe", "1"])
def test_compile_is_true_or_false(value):
    with pytest.raises(ZooError, match="must be true or false"):
        check(compose([*FAST, f"compile={value}"]))


def test_a_sweep_on_slurm_is_one_word():
    check(compose([*FAST, "hydra/launcher=slurm"]))
    with initialize_config_dir(str(composition.CONFIGS), version_base="1.3"):
        config = hydra_compose("train", ["model=cat_vae", "hydra/launcher=slurm"], return_hydra_config=True)
    assert config.hydra.launcher._target_.endswith("submitit_launcher.SlurmLauncher")
    assert config.hydra.launcher.timeout_min == 1440 and config.hydra.launcher.name == "zoo"


def test_a_launcher_without_a_sweep_is_refused(monkeypatch):
    """Hydra would train here, on the machine that jobs are sent from."""
    monkeypatch.setattr(sys, "argv", ["train.py", *FAST, "hydra/launcher=slurm"])
    with pytest.raises(SystemExit, match="add -m"):
        main("train")
