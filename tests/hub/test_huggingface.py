"""The Hugging Face hub, without a network: what would be sent, and what is read from its cache."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import zoo
from tests.conftest import ROOT
from tests.models.cat_vae.test_model import make
from zoo.cli import main
from zoo.errors import ZooError
from zoo.hub import huggingface
from zoo.hub.pushing import stage

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path) -> Path:
    return zoo.save_pretrained(make(), tmp_path / "cat_vae.test", data={"_target_": "zoo.data.MNIST"})


@pytest.fixture
def repository(tmp_path, folder, monkeypatch) -> Path:
    """The folder of owner/name in a cache of the hub, as its own client lays it out; the client is offline."""
    import huggingface_hub.constants as constants

    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = cache / "models--owner--name" / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (cache / "models--owner--name/refs").mkdir()
    (cache / "models--owner--name/refs/main").write_text(REVISION)
    stage(folder, snapshot)
    return snapshot


def test_what_would_be_sent(folder):
    sizes = zoo.push_to_hub(folder, "owner/name", dry_run=True)
    assert set(sizes) == {"config.json", "model.safetensors", "README.md"}
    assert sizes["model.safetensors"] == (folder / "model.safetensors").stat().st_size


def test_the_card_has_what_the_hub_reads(folder, tmp_path):
    (tmp_path / "staged").mkdir()
    stage(folder, tmp_path / "staged")
    card = (tmp_path / "staged/README.md").read_text()
    assert card.startswith("---\nlicense: mit\n") and "# cat_vae.test" in card


def test_what_a_card_shows_and_the_licence_of_the_data_go_with_it(tmp_path):
    stage("speaker_generator.mix", tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-sa-4.0\n")
    linked = re.findall(r"\]\(([^)]+\.(?:png|wav))\)", card)
    assert len(linked) > 4 and all((tmp_path / name).is_file() for name in linked)


@pytest.mark.parametrize("name", ["hf://owner/name", "hf://owner/name@main", f"hf://owner/name@{REVISION}"])
def test_a_repository_is_loaded_by_its_name(folder, repository, name):
    again, model = zoo.from_pretrained(name), zoo.from_pretrained(folder)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


def test_the_rules_of_pretrained_folders_hold_there_too(repository):
    weights, config = repository / "model.safetensors", repository / "config.json"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ZooError, match="sha256"):
        zoo.from_pretrained("hf://owner/name")
    weights.write_bytes(good)
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"data": {"_target_": "zoo.data.Environments", "env": "os:X-v0"}}))
    with pytest.raises(ZooError, match="refusing 'os:X-v0', which names a module"):
        zoo.from_pretrained("hf://owner/name")
    values["arguments"]["encoder"] = {"_target_": "os.system", "command": "true"}
    config.write_text(json.dumps(values))
    with pytest.raises(ZooError, match="refusing"):
        zoo.from_pretrained("hf://owner/name")


@pytest.mark.parametrize("name", ["hf://owner/other", "hf://owner/name@nothing"])
def test_what_is_not_in_the_cache_cannot_be_had_offline(repository, name):
    with pytest.raises(ZooError, match=r"the Hugging Face repository hf://.* is not available"):
        zoo.from_pretrained(name)


@pytest.mark.parametrize(
    "name", ["../name", "owner/..", "owner/../x", "/etc/passwd", "owner/name/x", "a b/c", "o/n@.."]
)
def test_names_that_are_no_repositories(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError, match="no pretrained model"):
        zoo.from_pretrained(name)
    with pytest.raises(ZooError, match="give hf://OWNER/NAME"):
        zoo.from_pretrained(f"hf://{name}")
    with pytest.raises(ZooError, match="give OWNER/NAME"):
        zoo.push_to_hub("cat_vae.mnist", name, dry_run=True)


@pytest.mark.parametrize("name", ["runs/mine", "checkpoints/mine", "here/mine", "mine"])
@pytest.mark.parametrize("script", ["eval", "play", "sample", "solve", "speak"])
def test_a_missing_run_folder_is_not_asked_for_on_the_hub(script, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here/mime").mkdir(parents=True)
    (tmp_path / "points.csv").write_text("0,0\n1,0\n0,1\n")
    monkeypatch.setattr(huggingface, "download", lambda name: pytest.fail(f"asked for {name}"))
    options = {"solve": ["points=points.csv"], "speak": ["text=4", "speaker=sample"]}.get(script, [])
    monkeypatch.setattr(sys, "argv", [f"{script}.py", f"checkpoint={name}", *options])
    with pytest.raises(SystemExit) as ended:
        main(script)
    message = str(ended.value)
    assert f"no pretrained model '{name}', and no run or model folder of that name. " in message
    assert ("Did you mean 'here/mime'?" in message) == (name == "here/mine") and "Give a run folder" in message


def test_the_hub_is_asked_by_the_prefix_alone(repository, tmp_path, monkeypatch):
    """A mistyped path asks nobody on the network; the old form is refused, with the new one in the message."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError, match=r"A repository of the Hugging Face hub is hf://owner/name\.$"):
        zoo.from_pretrained("owner/name")
    assert zoo.export("hf://owner/name", tmp_path / "a.pt2").is_file()


def test_without_the_package_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ZooError, match=r"pip install 'discrete-latent-zoo\[hub\]'"):
        zoo.push_to_hub(folder, "owner/name")
    with pytest.raises(ZooError, match=r"repositories of .*pip install"):
        zoo.from_pretrained("hf://owner/name")


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_is_one_error(folder):
    code = f"import zoo; zoo.push_to_hub({str(folder)!r}, 'owner/name', token='hf_none')"
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT)}  # nobody is there
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    assert "ZooError: cannot upload" in result.stderr.splitlines()[-1]
