"""What a configuration from elsewhere may name, and how large it may be."""

import sys
from typing import Any

import pytest

from zoo.config import Trust, from_config, locate
from zoo.errors import ZooError

MODULE = """
import subprocess
from subprocess import Popen
class Part:
    def __init__(self, size: int = 1) -> None:
        self.size = size
def function(): pass
"""


@pytest.fixture
def package(tmp_path, monkeypatch) -> str:
    """A package beside the zoo, which says when it is imported."""
    (tmp_path / "someones").mkdir()
    (tmp_path / "someones/__init__.py").write_text("")
    (tmp_path / "someones/parts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "someones"
    for name in [name for name in sys.modules if name.split(".")[0] == "someones"]:
        del sys.modules[name]


@pytest.mark.parametrize("path", ["zoo", "zoo.models.cat_vae.CatVAE", "mine.A", "mine.b.C", "their.nets.D", "one.E"])
def test_what_is_trusted(path):
    Trust.of(["mine", "their.nets", "one.E"]).check(path, "model")


@pytest.mark.parametrize("path", ["os.system", "zoology.X", "mine.A", "", "zoo_evil", "their.other.D", "None"])
def test_what_is_not(path):
    with pytest.raises(ZooError, match=r"model: refusing.*trust=PACKAGE"):
        Trust.of(["their.nets"]).check(path, "model")


@pytest.mark.parametrize("names", [["os"], ["subprocess"], ["os.path"], [""], ["a b"], [3], ["a:b"], "builtins"])
def test_names_that_cannot_be_trusted(names):
    with pytest.raises(ZooError, match=r"trust=.* is not valid"):
        Trust.of(names)


def test_one_name_may_stand_alone():
    assert Trust.of("mine") == Trust.of(["mine"])


@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "someones.parts.Part"},
        {"env": "someones:CartPole-v1"},
        {"env": "someones.parts:CartPole-v1"},
        {"data": {"list": [1, {"deep": ["fine", "someones:x"]}]}},
        {"env": "someones:"},
    ],
)
def test_nothing_is_imported_that_is_not_trusted(package, config):
    with pytest.raises(ZooError, match="refusing 'someones"):
        Trust().check_config(config, "config")
    assert "someones" not in sys.modules
    Trust.of([package]).check_config(config, "config")


@pytest.mark.parametrize("text", ["plain", "a/b:c", ":", ": x", "", "CartPole-v1", "MinAtar/Breakout-v1"])
def test_texts_that_import_nothing(text):
    Trust().check_config({"text": text, "root": "C:/data"}, "config")


def test_a_trusted_package_builds_its_own_classes_alone(package):
    with pytest.raises(ZooError, match="refusing 'someones"):
        from_config({"_target_": "someones.parts.Part"}, trust=Trust())
    assert "someones" not in sys.modules
    trust = Trust.of([package])
    assert from_config({"_target_": "someones.parts.Part", "size": 3}, trust=trust).size == 3
    with pytest.raises(ZooError, match=r"refusing 'subprocess\.Popen'"):
        locate("someones.parts.Popen", "model", trust=trust)
    with pytest.raises(ZooError, match="not a class"):
        locate("someones.parts.function", "model", trust=trust)
    with pytest.raises(ZooError, match="cannot be imported"):
        locate("someones.parts.subprocess.Popen", "model", trust=trust)
    with pytest.raises(ZooError, match="refusing"):  # trust in others opens no back rooms of the zoo
        locate("zoo.hub.files.Path", "model", trust=trust)


def doubled(times: int) -> Any:
    value: Any = ["x"]
    for _ in range(times):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    "value, message",
    [
        (doubled(40), "too large"),
        ([0] * 200_000, "too large"),
        ("x" * 200_000, "200000 characters"),
        (10**400, "1329 bits"),
        (-(2**63), "64 bits"),
        ("${oc.env:HOME}", "interpolation"),
        (b"bytes", "bytes, which is not plain data"),
        ({3: 1}, "not a name"),
    ],
)
def test_configurations_are_bounded_plain_data(value, message):
    with pytest.raises(ZooError, match=message):
        Trust().check_config({"a": {"b": value}}, "config")


def test_a_loop_is_nested_too_deeply():
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ZooError, match="too deeply"):
        Trust().check_config(loop, "config")
