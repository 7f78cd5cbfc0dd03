"""Pretrained models: saved, listed, loaded, and every kind of damage."""

import hashlib
import json
import math
import re
import subprocess
import sys

import pytest
import safetensors.torch
import torch
import yaml

import zoo
from tests.models.binary_net.test_model import make as binary_net
from tests.models.cat_vae.test_model import make
from zoo import hub
from zoo.config import to_config
from zoo.errors import ZooError
from zoo.hub.cards import pictures_in
from zoo.hub.saving import model_card

PRETRAINED = zoo.list_models(pretrained=True)


@pytest.fixture
def folder(tmp_path):
    return zoo.save_pretrained(
        make(prior="learned"),
        tmp_path / "cat_vae.test",
        metrics={"nll": 88.123},
        data={"_target_": "zoo.data.MNIST"},
        command="python scripts/train.py model=cat_vae",
    )


def change(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_round_trip(tmp_path):
    model = make(prior="learned")
    torch.nn.init.normal_(model.prior_logits)
    model.relaxation.tau.fill_(0.3)
    folder = zoo.save_pretrained(model, tmp_path / "cat_vae.test")
    again = zoo.from_pretrained(folder)
    assert not again.training and to_config(again) == to_config(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_checkpoint_in_the_folder_of_its_run_knows_the_data(tmp_path):
    model, data = make(), {"_target_": "zoo.data.MNIST"}
    path = tmp_path / "run/checkpoints/step-3.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"config": to_config(model), "state_dict": model.state_dict()}, path)
    assert zoo.from_pretrained(path).trained_on == {}
    for text, known in (("a: 1", {}), ("- [", {}), (yaml.safe_dump({"model": {}, "data": data}), data)):
        (tmp_path / "run/config.yaml").write_text(text)
        assert zoo.from_pretrained(path).trained_on == known
    alone = path.rename(tmp_path / "alone.ckpt")
    assert zoo.from_pretrained(alone).trained_on == {}


def test_little_room(tmp_path):
    """Matrices of half the size, a bit for a weight of which the sign counts, and nothing else rounded."""
    model, large = make(), tmp_path / "cat_vae.large"
    zoo.save_pretrained(model, large)
    again = zoo.from_pretrained(zoo.save_pretrained(model, tmp_path / "cat_vae.small", small=True))
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (large, tmp_path / "cat_vae.small")]
    assert sizes[1] < 0.6 * sizes[0] and all(value.dtype != torch.float16 for value in again.state_dict().values())
    for name, value in hub.rounded(model).items():
        assert torch.equal(value, again.state_dict()[name]), name
    with torch.no_grad():
        model.prior_logits.fill_(1e6)
    with pytest.raises(ZooError, match="prior_logits has numbers that are too large for half precision"):
        zoo.save_pretrained(model, tmp_path / "cat_vae.small", small=True)

    signs = binary_net().eval()
    folder = zoo.save_pretrained(signs, tmp_path / "binary_net.small", small=True)
    again, x = zoo.from_pretrained(folder), torch.rand(5, *signs.shape)
    weights = safetensors.torch.load_file(folder / "model.safetensors")["network.weights.0"]
    assert weights.dtype == torch.uint8 and len(weights) == math.ceil(signs.network.weights[0].numel() / 8)
    assert set(again.network.weights[0].unique().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(again(x), signs(x))
    for bits in ([], {"network.weights.0": [3]}, {"network.weights.0": -1}, {"nothing": [3]}):
        change(folder, bits=bits)
        with pytest.raises(ZooError, match=r"does not hold the bits|does not fit its configuration"):
            zoo.from_pretrained(folder)


def test_arguments_can_be_changed(folder):
    assert zoo.from_pretrained(folder, iwae_samples=7).iwae_samples == 7
    with pytest.raises(ZooError, match="Did you mean 'iwae_samples'"):
        zoo.from_pretrained(folder, iwae_sampels=7)


def test_card_and_config_tell_everything(folder):
    card = (folder / "README.md").read_text()
    for part in (
        "# cat_vae.test",
        "| nll | 88.12 |",
        "    zoo train model=cat_vae",
        "`zoo eval cat_vae.test`",
        "nats; lower is better",
        "## Limits",
    ):
        assert part in card
    config = json.loads((folder / "config.json").read_text())
    assert config["arch"] == "cat_vae" and config["arguments"]["relaxation"]["_target_"] == "zoo.relaxations.ReinMax"
    names = {"format", "arch", "arguments", "data", "metrics", "command", "notice", "versions", "sha256"}
    assert set(config) == names


def test_saving_again_replaces(folder):
    zoo.save_pretrained(make(latents=2), folder)
    assert zoo.from_pretrained(folder).latents == 2
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_model_with_foreign_parts_is_not_saved_and_the_old_one_stays(folder):
    class Foreign(type(make().encoder)):
        pass

    model = make(encoder=Foreign(latents=3, categories=4, hidden=[16]))
    with pytest.raises(ZooError, match="Foreign"):
        zoo.save_pretrained(model, folder)
    assert zoo.from_pretrained(folder).latents == 3


def test_wrong_name():
    with pytest.raises(ZooError, match=r"no pretrained model 'cat_vea\.mnist'"):
        zoo.from_pretrained("cat_vea.mnist")


@pytest.mark.parametrize("name", ["../cat_vae.mnist", "/etc", "", "."])
def test_names_do_not_leave_the_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError, match="no pretrained model"):
        zoo.from_pretrained(name)


def test_flipped_bit_in_the_weights(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ZooError, match="sha256"):
        zoo.from_pretrained(folder)


@pytest.mark.parametrize("damage", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit(folder, damage):
    state = safetensors.torch.load_file(folder / "model.safetensors")
    if damage == "missing":
        del state["prior_logits"]
    elif damage == "extra":
        state["surprise"] = torch.zeros(1)
    else:
        state["prior_logits"] = torch.zeros(1)
    content = safetensors.torch.save(state)
    (folder / "model.safetensors").write_bytes(content)
    change(folder, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(ZooError, match="surprise" if damage == "extra" else "prior_logits"):
        zoo.from_pretrained(folder)


def test_no_safetensors_inside(folder):
    (folder / "model.safetensors").write_bytes(b"not weights")
    change(folder, sha256=hashlib.sha256(b"not weights").hexdigest())
    with pytest.raises(ZooError, match="not a safetensors file"):
        zoo.from_pretrained(folder)


def test_missing_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ZooError, match=r"has no model\.safetensors"):
        zoo.from_pretrained(folder)


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"arch": "cat_vea"}, "unknown arch 'cat_vea'"),
        ({"format": 99}, "format 99"),
        ({"arguments": []}, "does not hold arguments"),
        ({"arguments": {"latents": 3}}, "lacks encoder"),
    ],
)
def test_damaged_configuration(folder, entries, message):
    change(folder, **entries)
    with pytest.raises(ZooError, match=message):
        zoo.from_pretrained(folder)


def test_configuration_that_would_run_code(folder):
    arguments = json.loads((folder / "config.json").read_text())["arguments"]
    change(folder, arguments=arguments | {"encoder": {"_target_": "os.system", "command": "true"}})
    with pytest.raises(ZooError, match="refusing"):
        zoo.from_pretrained(folder)


def test_configuration_that_is_no_json(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ZooError, match="cannot be read"):
        zoo.from_pretrained(folder)


def test_listing():
    assert zoo.list_models() == hub.list_models()
    assert zoo.list_models("*.mnist", pretrained=True) == [name for name in PRETRAINED if name.endswith(".mnist")]
    assert zoo.list_models("nothing*") == []


def test_listing_imports_nothing_heavy():
    """What takes seconds to import; the time itself is measured by scripts/bench/listing.py."""
    code = (
        "import sys, zoo; zoo.list_models(pretrained=True); "
        "print([m for m in ('torch', 'lightning', 'torchvision', 'hydra', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("name", PRETRAINED)
def test_shipped_models_load_and_have_a_card(name):
    model = zoo.from_pretrained(name)
    folder = hub.pretrained_folder(name)
    config = json.loads((folder / "config.json").read_text())
    assert config["metrics"] and config["command"] and config["data"].get("root") is None
    card = (folder / "README.md").read_text()
    assert card == model_card(name, config, model, pictures_in(folder), [])  # made by python -m tests.docs.reference
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == ("cc-by-sa-4.0" if "CC BY-SA" in config.get("notice", "") else "mit")
    assert head["metrics"] == list(config["metrics"]) and {config["arch"], "discrete-latent"} < set(head["tags"])
    assert "## Intended use" in card and "## Limits" in card and "python scripts" not in card.split("## Arguments")[0]
    assert not re.search(r"^\| \w+ \| \S+ \|  \|$", card, re.MULTILINE)  # every score has a meaning
    assert all(f"({picture.name})" in card for picture in folder.glob("*.png"))
    assert sum(p.numel() for p in model.parameters()) > 0
