"""The binary net through the command line: trained, stopped, resumed, scored, packed."""

import shutil

import pytest
import torch

from zoo.cli.pack import pack
from zoo.config.composition import check, compose, plain
from zoo.errors import ZooError
from zoo.models.binary_net import packing
from zoo.training.runs import RunFolder
from zoo.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = (
    *("model=binary_net", "logger=csv", "epochs=2", "trainer.log_every_n_steps=2"),
    *("trainer.enable_progress_bar=false", "trainer.limit_train_batches=4"),
    *("trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
)
KINDS = {
    "mlp": ("model.network.hidden=[16,16]",),
    "bricks": ("nets=bricks", "relaxation=gumbel_softmax", "model.network.widths=[4,8,8]", "model.network.bricks=4"),
}


def run(folder, root, *options) -> RunFolder:
    words = [*SMALL, f"data.root={root}", *options, f"run={folder}"]
    config = compose(words)
    check(config, words)
    train(plain(config), folder, command=" ".join(["python scripts/train.py", *words]))
    return RunFolder(folder)


@pytest.mark.parametrize("kind", ["mlp", pytest.param("bricks", marks=pytest.mark.slow)])
def test_a_run_is_packed_and_a_stopped_one_ends_alike(kind, tmp_path, mnist_root):
    trained = run(tmp_path / "whole", mnist_root, *KINDS[kind], "checkpoint_every_n_steps=3")
    scores = trained.read_results()["metrics"]
    assert scores["test/packed_differs"] == 0 and scores["test/error"] < 0.95
    assert (trained.pictures / "weights.png").stat().st_size > 3000
    size = pack(str(trained.path), output=tmp_path / "x.packed")
    assert scores["test/packed_kilobytes"] == pytest.approx(size / 1000)
    assert packing.load(tmp_path / "x.packed")(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    parts = tmp_path / "parts"
    shutil.copytree(trained.path, parts)
    newest = max((parts / "checkpoints").glob("step-*.ckpt"))
    newest.unlink()
    (parts / "results.json").unlink()
    run(parts, mnist_root, *KINDS[kind], "checkpoint_every_n_steps=3")
    first, second = (
        torch.load(max((folder / "checkpoints").glob("step-*.ckpt")), weights_only=True)["state_dict"]
        for folder in (trained.path, parts)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_real_twin_has_no_file(tmp_path, mnist_root):
    trained = run(tmp_path / "run", mnist_root, *KINDS["mlp"], "model.network.weights=real", "epochs=1")
    assert "test/packed_differs" not in trained.read_results()["metrics"]
    with pytest.raises(ZooError, match="nothing to pack"):
        pack(str(trained.path), output=tmp_path / "x.packed")
    with pytest.raises(ZooError, match="only a binary_net can be packed"):
        pack("cat_vae.mnist", output=tmp_path / "x.packed")
    with pytest.raises(ZooError, match="would have no effect: the weights of this network are not choices"):
        run(tmp_path / "x", mnist_root, *KINDS["mlp"], "model.network.weights=real", "relaxation=reinmax")
