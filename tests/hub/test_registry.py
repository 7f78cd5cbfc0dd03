"""The one registry: what the files say there is."""

import pytest

import zoo
from tests.conftest import ROOT
from zoo.config import Trust, folders, locate
from zoo.errors import ZooError
from zoo.hub import registry


def test_every_model_is_a_file_and_a_class_that_is_there():
    models = registry.models()
    assert set(models) == {path.stem for path in (ROOT / "configs/model").glob("*.yaml")}
    for name, entry in models.items():
        assert locate(entry.target, name, trust=Trust()).__module__ == f"zoo.models.{name}.model"
        assert registry.architecture(entry.target) == name


def test_what_has_no_weights_is_not_listed():
    assert zoo.list_models() == sorted(name for name, entry in registry.models().items() if entry.weights)
    assert set(registry.models()) - set(zoo.list_models()) == {"polynomial"}


def test_a_new_model_is_a_new_file(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.yaml").write_text("""# @package _global_
# Mine.
defaults:
  - override /data: mnist
model:
  encoder:
    _target_: mine.Encoder
  _target_: mine.Model # a comment
""")
    before = registry.models()
    monkeypatch.setenv(folders.VARIABLE, str(tmp_path))
    assert registry.models() == before | {"mine": registry.Entry("mine.Model", True, "Mine.")}
    assert "mine" in zoo.list_models()


def test_an_unknown_name_gets_near_ones():
    with pytest.raises(ZooError, match=r"unknown arch 'cat_vea'\. Did you mean 'cat_vae'\?"):
        registry.find("cat_vea")
    with pytest.raises(ZooError, match="is not an architecture"):
        registry.architecture("zoo.config.Configurable")


def test_a_name_of_an_earlier_version_is_known():
    assert registry.architecture("zoo.models.CatVAE") == "cat_vae"
