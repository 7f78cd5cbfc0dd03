"""The comparison of ways to have codes."""

import pytest

from zoo.config.composition import check, compose
from zoo.errors import ZooError
from zoo.lab import codebooks

pytestmark = pytest.mark.filterwarnings("ignore")

TINY = (
    "model.encoder.channels=2",
    "model.encoder.features=4",
    "model.prior_width=8",
    "data.batch_size=8",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
)


@pytest.mark.parametrize("way", codebooks.WAYS)
def test_every_way_is_an_option_of_training(way):
    for data in codebooks.DATA.values():
        words = [*codebooks.BUDGET, *data, *codebooks.WAYS[way], "epochs=1"]
        check(compose(words), words)


def test_runs_that_are_there_are_not_trained_again(tmp_path, mnist_root, monkeypatch):
    monkeypatch.setattr(codebooks, "DATA", {"mnist": ["data=mnist", f"data.root={mnist_root}", "data.binarize=none"]})
    options = {"data_sets": ["mnist"], "steps": 2, "folder": tmp_path}
    path = codebooks.experiment(*TINY, ways=["fsq"], seeds=[0], **options)
    first = (tmp_path / "mnist/fsq-0/results.json").stat().st_mtime_ns
    assert len(path.read_text().splitlines()) == 3
    codebooks.experiment(*TINY, ways=["fsq", "vq"], seeds=[0], **options)
    rows = path.read_text().splitlines()[2:]
    assert [row.split("|")[2].strip() for row in rows] == ["`fsq`", "`vq`"]
    assert (tmp_path / "mnist/fsq-0/results.json").stat().st_mtime_ns == first


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, caplog):
    def fail(folder, options):
        raise ZooError("the loss is nan")

    monkeypatch.setattr(codebooks, "trained", fail)
    path = codebooks.experiment(ways=["vq"], data_sets=["cifar10"], seeds=[0, 1], folder=tmp_path)
    assert len(path.read_text().splitlines()) == 2 and caplog.text.count("the loss is nan") == 2


def test_names_are_checked_and_several_seeds_are_a_range():
    with pytest.raises(ZooError, match="Did you mean 'fsq'"):
        codebooks.experiment(ways=["fsqq"])
    assert codebooks.spread([1.0], 2) == "1.00" and codebooks.spread([1.0, 2.0], 1) == "1.5 (1.0 to 2.0)"
