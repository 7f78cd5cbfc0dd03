"""The published results: every run of them is one that can be started, and the tables are written."""

import json
from pathlib import Path

import pytest

from zoo.config.composition import check, compose
from zoo.errors import ZooError
from zoo.lab import reproduce
from zoo.lab.common import QUIET
from zoo.training.runs import RunFolder


@pytest.fixture
def started(monkeypatch):
    """The configurations of the runs that were asked for, none of them trained."""
    configs = []

    def trained(folder: Path, overrides: list[str]) -> RunFolder:
        config = compose([*overrides, *QUIET, f"run={folder}"])
        check(config)
        configs.append(config)
        folder.mkdir(parents=True)
        lines = ["0,val/cost,0.25", "1,val/cost,0.24", "300,train/neg_elbo,300", "600,train/neg_elbo,100.5"]
        (folder / "metrics.csv").write_text("\n".join(lines))
        (folder / "results.json").write_text(
            json.dumps({"steps": 600, "best": 0.24, "metrics": {"test/neg_elbo": 101.5}})
        )
        return RunFolder(folder)

    monkeypatch.setattr(reproduce, "trained", trained)
    return configs


def test_polynomial(tmp_path, started):
    reproduce.experiment("polynomial", runs=tmp_path / "runs", out=tmp_path / "out")
    assert len(started) == 21 and {config.model.power for config in started} == {1.5, 2.0, 3.0}
    assert {(c.data.batch_size, c.data.steps, c.epochs, c.model.optimizer.lr) for c in started} == {(64, 200, 40, 1e-3)}
    text = (tmp_path / "out/polynomial.md").read_text()
    assert "`python scripts/reproduce.py polynomial seeds=1`: 128" in text and "the end of 600 steps" in text
    assert all(f"| {name} |" in text for name in reproduce.POLYNOMIAL) and "| 375.0 |" in text
    assert (tmp_path / "out/polynomial.png").is_file()


@pytest.mark.parametrize("values, text", [([100.5], "100.50"), ([1.0, 2.0, 3.0], "2.00 ± 2.48")])  # 4.303 / 3**0.5
def test_mean_and_interval(values, text):
    assert reproduce.with_interval(values) == text
    assert reproduce.with_interval(values, "+") == f"+{text}"


def test_mnist_vae(tmp_path, started):
    reproduce.experiment("mnist_vae", epochs=2, seeds=2, runs=tmp_path / "runs", out=tmp_path / "out")
    assert [(c.model.categories, c.model.latents) for c in started] == 2 * ([(8, 4)] * 5 + [(8, 16)] * 5)
    assert [c.seed for c in started] == [0] * 10 + [1] * 10
    for config in started:
        assert config.data.binarize == "none" and config.data.train_on == "most" and config.data.batch_size == 100
        assert config.model.encoder.activation == "relu" and config.model.decoder.init == "pytorch"
    found = {(c.relaxation._target_.rpartition(".")[2], c.model.latents): c for c in started}
    assert {key: (c.model.optimizer.lr, c.relaxation.tau) for key, c in found.items()} == {  # Table 8 of the paper
        ("STGumbelSoftmax", 4): (3e-4, 0.5),
        ("STGumbelSoftmax", 16): (5e-4, 0.5),
        ("GumbelRao", 4): (5e-4, 0.5),
        ("GumbelRao", 16): (7e-4, 0.7),
        ("GappedST", 4): (5e-4, 1.0),
        ("GappedST", 16): (7e-4, 0.5),
        ("StraightThrough", 4): (1e-3, 1.3),
        ("StraightThrough", 16): (1e-3, 1.5),
        ("ReinMax", 4): (5e-4, 1.3),
        ("ReinMax", 16): (7e-4, 1.5),
    }
    assert found["GumbelRao", 4].relaxation.samples == 100 and found["GappedST", 16].relaxation.gap == 1.0
    text = (tmp_path / "out/mnist_vae_2_epochs.md").read_text()
    assert "| 8 x 4 | ST | 100.50 ± 0.00 | 101.50 ± 0.00 | +0.00 ± 0.00 | +0.00 ± 0.00 | 0.001 | 1.3 |" in text
    assert "| 8 x 16 | ReinMax | 100.50 ± 0.00 | 101.50 ± 0.00 |  |  | 0.0007 | 1.5 |" in text
    assert "`python scripts/reproduce.py mnist_vae epochs=2 seeds=2`:" in text


def test_some_methods_with_other_settings(tmp_path, started):
    folders = {"runs": tmp_path / "runs", "out": tmp_path / "out"}
    text = reproduce.experiment("polynomial", "data.steps=5", epochs=3, methods=["ST", "ReinMax"], **folders)
    assert len(started) == 6 and {(config.data.steps, config.epochs) for config in started} == {(5, 3)}
    assert "`python scripts/reproduce.py polynomial epochs=3 seeds=1 methods=ST,ReinMax data.steps=5`" in text
    with pytest.raises(ZooError, match=r"no 'STG' for methods=. Did you mean 'ST"):
        reproduce.experiment("polynomial", methods=["STG"], **folders)
