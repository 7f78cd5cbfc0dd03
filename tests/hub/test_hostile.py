"""Files of strangers: each is refused with a sentence that is true, before it takes time, memory or anything else."""

import json
import os
import pickle
import resource
import shlex
import struct
import sys
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml

import zoo
from tests.models.cat_vae.test_model import make
from zoo.cli import main
from zoo.cli.publish import publish
from zoo.config import to_config
from zoo.data.audio import read_wav, write_wav
from zoo.errors import ZooError
from zoo.hub.files import read_checkpoint
from zoo.hub.private import command_without_places, is_place, without_places
from zoo.hub.pushing import stage
from zoo.training.runs import RunFolder

SECONDS, BYTES = 2, 500_000_000


@pytest.fixture(autouse=True)
def in_bounds(request):
    """Every case of this file: in two seconds of a processor and 500 MB beside what the process had."""
    if "folder" in request.fixturenames:
        request.getfixturevalue("folder")  # the making of the example does not count
    scale = 1 if sys.platform == "darwin" else 1024
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert time.process_time() - began < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * scale < BYTES


@pytest.fixture
def folder(tmp_path) -> Path:
    return zoo.save_pretrained(make(), tmp_path / "cat_vae.test", data={"_target_": "zoo.data.MNIST"})


def change(folder: Path, **entries: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def arguments(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())["arguments"]


def weights(folder: Path, **changed: torch.Tensor) -> None:
    import hashlib

    content = safetensors.torch.save(safetensors.torch.load_file(folder / "model.safetensors") | changed)
    (folder / "model.safetensors").write_bytes(content)
    change(folder, sha256=hashlib.sha256(content).hexdigest())


def checkpoint(path: Path, **changed: object) -> Path:
    model = make()
    torch.save({"config": to_config(model), "state_dict": model.state_dict()} | changed, path)
    return path


def run_folder(path: Path, config: str) -> Path:
    (path / "checkpoints").mkdir(parents=True)
    checkpoint(path / "checkpoints/best.ckpt")
    (path / "config.yaml").write_text(config)
    return path


# Code -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "run", "checkpoint"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_name_that_would_import_is_refused_by_every_reader(folder, tmp_path, monkeypatch, kind, deep):
    """Through the command line, with the module beside the user: it is not imported."""
    (tmp_path / "evilmod.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    data: dict = {"_target_": "zoo.data.Environments", "env": "evilmod:CartPole-v1"}
    if deep:
        data = {"_target_": "zoo.data.MNIST", "other": [{"deep": data}]}
    if kind == "folder":
        change(folder, data=data)
        name = folder
    elif kind == "run":
        name = run_folder(tmp_path / "run", yaml.safe_dump({"model": {}, "data": data}))
    else:
        name = checkpoint(tmp_path / "a.ckpt", config=to_config(make()) | {"data": data})
    for command in ("play", "eval", "sample"):
        monkeypatch.setattr(sys, "argv", [f"{command}.py", f"checkpoint={name}"])
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert "refusing 'evilmod:CartPole-v1', which names a module to import" in str(ended.value)
    assert "evilmod" not in sys.modules and not (tmp_path / "ran").exists()


class Evil:
    def __reduce__(self):
        return (os.system, ("touch ran",))


class Bytes:
    def __reduce__(self):
        return (bytearray, (10**12,))


@pytest.mark.parametrize("value, named", [(Evil(), "system"), (Bytes(), "bytearray"), (Path("a"), "Path")])
def test_code_is_called_code(tmp_path, monkeypatch, value, named):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZooError, match=rf"holds '.*{named}', which is not data.* Nothing of it was run") as caught:
        zoo.from_pretrained(checkpoint(tmp_path / "a.ckpt", more=value))
    assert "truncated" not in str(caught.value) and "weights_only" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


# Sizes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hidden, message",
    [
        ([10**6, 10**6], "asks for a tensor of"),
        ([1400] * 400, "more than its weights have"),
        ([1] * 50_000, "far more layers"),
        ([16, 16], r"lacks weights: encoder\."),
    ],
)
def test_layers_beyond_the_weights(folder, hidden, message):
    encoder = arguments(folder)["encoder"] | {"hidden": hidden}
    change(folder, arguments=arguments(folder) | {"encoder": encoder})
    with pytest.raises(ZooError, match=message):
        zoo.from_pretrained(folder)


def test_a_billion_blocks(tmp_path):
    from tests.hub.test_exporting import make as make_any

    folder = zoo.save_pretrained(make_any("pointer_net"), tmp_path / "pointer_net.test")
    values = arguments(folder)
    values["encoder"]["layers"] = 10**9
    change(folder, arguments=values)
    with pytest.raises(ZooError, match=r"far more layers|more than its weights have"):
        zoo.from_pretrained(folder)


def test_a_tiny_tensor_expanded(tmp_path):
    state = make().state_dict()
    state["prior_logits"] = torch.zeros(1).expand(10**6, 10**6)
    with pytest.raises(ZooError, match=r"asks for 4e.12 bytes"):
        zoo.from_pretrained(checkpoint(tmp_path / "a.ckpt", state_dict=state))


def test_lists_that_double(tmp_path):
    shared: list = [0]
    for _ in range(40):
        shared = [shared, shared]
    with pytest.raises(ZooError, match="too large"):
        zoo.from_pretrained(checkpoint(tmp_path / "a.ckpt", config=to_config(make()) | {"more": shared}))


ALIASES = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))


@pytest.mark.parametrize(
    "text, message",
    [
        (ALIASES + "data: *a39\nmodel: {}", "too large"),
        (MERGES + "data: *a39\nmodel: {}", "merges others"),
        ("[" * 100_000, "cannot be read"),
        ("a: " + "x" * 2_000_000, "more than 1000000 bytes"),
        ("model: {}\ndata: {a: !!binary aGFsbG8=}", "bytes, which is not plain data"),
        ("model: {}\ndata: {a: !!python/object/apply:os.system [true]}", "cannot be read"),
        ("model: {}\ndata: {a: 0x" + "f" * 10_000 + "}", "40000 bits"),
    ],
)
def test_yaml(tmp_path, text, message):
    with pytest.raises(ZooError, match=message):
        zoo.from_pretrained(run_folder(tmp_path / "run", text))


def zipped(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(f"a/{name}", content)
    return path


def opcodes(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


@pytest.mark.parametrize(
    "content, message",
    [
        (opcodes(b"]r\xff\xff\xff\x7f"), "not a training checkpoint"),  # a memo of 2^31 entries
        (opcodes(b"\x8e" + struct.pack("<Q", 10**12)), "damaged"),  # bytes that are not there
        (opcodes(b"\x96" + struct.pack("<Q", 10**12)), "damaged"),
        (opcodes(b"X\xff\xff\xff\x7f"), "damaged"),
        (opcodes(b"(" * 1000), "damaged"),
        (opcodes(b"]" * 3_100_000), "very large"),
        (pickle.dumps(OrderedDict(a=1)), "damaged"),  # a later protocol
    ],
)
def test_pickles(tmp_path, content, message):
    with pytest.raises(ZooError, match=message):
        read_checkpoint(zipped(tmp_path / "a.ckpt", {"data.pkl": content}))


P: Any = pickle


@pytest.mark.parametrize("key", [P.EMPTY_TUPLE + P.TUPLE1 * 200_000, P.NONE, P.EMPTY_DICT])
def test_keys_of_dicts_are_names(tmp_path, key):
    """What hashes a tuple in a tuple in a tuple ... ends the process without an exception."""
    content = P.PROTO + b"\2" + P.EMPTY_DICT + key + P.NONE + P.SETITEM + P.STOP
    with pytest.raises(ZooError, match="neither a text nor a number"):
        read_checkpoint(zipped(tmp_path / "a.ckpt", {"data.pkl": content}))


def test_a_dict_does_not_hide_what_it_holds(tmp_path):
    state = OrderedDict(torch.nn.Linear(1, 1).state_dict())
    path = checkpoint(tmp_path / "plain.ckpt", state_dict=state)
    read_checkpoint(path)
    state.items = set
    with pytest.raises(ZooError, match="changes what is not to be changed"):
        read_checkpoint(checkpoint(tmp_path / "hiding.ckpt", state_dict=state))


def test_a_run_of_a_stranger_names_no_code_when_it_is_resumed(tmp_path, monkeypatch):
    """Not even one that pretends to be of an earlier version, whose settings are its folder's."""
    touched, place = tmp_path / "touched", tmp_path / "run"
    place.mkdir()
    call = {"_target_": "subprocess.getoutput", "cmd": f"touch {touched}"}
    log = {"_target_": "zoo.training.runs.set_up_logging", "file": str(touched)}
    for part in (call, log, {"env": "evilmod:CartPole-v1"}):
        config = {"model": {"_target_": "zoo.models.CatVAE", "encoder": part}, "data": {"_target_": "zoo.data.MNIST"}}
        (place / "config.yaml").write_text(yaml.safe_dump(config))
        (place / "command.txt").write_text("zoo train model=cat_vae\n")
        monkeypatch.setattr(sys, "argv", ["train.py", "cat_vae", "logger=csv", f"run={place}"])
        with pytest.raises(SystemExit, match="refus"):
            main("train")
        assert not touched.exists() and not (place / "checkpoints").exists()


def test_archives(tmp_path):
    bomb = zipped(tmp_path / "a.ckpt", {"data.pkl": bytes(200_000_000)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 10**6
    with pytest.raises(ZooError, match="unpacks to more than its"):
        read_checkpoint(bomb)
    with pytest.raises(ZooError, match="is compressed"):
        read_checkpoint(zipped(tmp_path / "b.ckpt", {"data.pkl": os.urandom(100)}, zipfile.ZIP_DEFLATED))


def test_a_header_of_weights_beyond_reason(folder):
    import hashlib

    content = struct.pack("<Q", 90_000_000) + b" " * 90_000_000
    (folder / "model.safetensors").write_bytes(content)
    change(folder, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(ZooError, match="its header has more than"):
        zoo.from_pretrained(folder)


@pytest.mark.parametrize("rate", [1, 10**9])
def test_a_sound_with_an_impossible_rate(tmp_path, rate):
    path = tmp_path / "a.wav"
    write_wav(path, torch.linspace(-1, 1, 8000))
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", rate)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a sample rate of {rate}"):
        read_wav(path)


def test_episodes_and_instances_are_bounded(tmp_path):
    from zoo.config import from_config

    task = {"_target_": "zoo.models.pointer_net.TSP"}
    for data, message in (
        ({"_target_": "zoo.models.actor_critic.Environments", "test_episodes": 10**12}, "test_episodes in"),
        ({"_target_": "zoo.models.pointer_net.Instances", "task": task, "test_instances": 10**12}, "elements"),
        ({"_target_": "zoo.models.polynomial.Steps", "batch_size": 10**12}, "batch_size in"),
    ):
        with pytest.raises(ZooError, match=message):
            from_config(data, where="data")


def test_a_gzipped_archive_is_unpacked_no_further_than_it_may(monkeypatch):
    import gzip

    from zoo.data import fsdd

    monkeypatch.setattr(fsdd, "LARGEST", 10**6)
    with pytest.raises(ValueError, match="unpacks to more than 1000000 bytes"):
        fsdd.unpack(gzip.compress(bytes(10**7)))


# Weights --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.complex64])
@pytest.mark.parametrize("kind", ["folder", "checkpoint"])
def test_weights_of_another_kind(folder, tmp_path, kind, dtype):
    state = make().state_dict()
    name = next(iter(state))
    wrong = {name: torch.ones(state[name].shape, dtype=dtype)}
    if kind == "folder":
        weights(folder, **wrong)
    else:
        folder = checkpoint(tmp_path / "a.ckpt", state_dict=state | wrong)
    with pytest.raises(ZooError, match=rf"{name} is of {str(dtype)[6:]}, which cannot be float32"):
        zoo.from_pretrained(folder)


def test_weights_of_half_precision_are_read(folder):
    name, value = next(iter(make().state_dict().items()))
    weights(folder, **{name: value.half()})
    assert zoo.from_pretrained(folder).state_dict()[name].dtype == torch.float32


def test_weights_that_are_not_numbers(folder, tmp_path):
    model = make()
    model.prior_logits.data[0] = torch.nan
    with pytest.raises(ZooError, match=r"numbers of prior_logits are not numbers \(NaN\).*diverged"):
        zoo.save_pretrained(model, tmp_path / "cat_vae.nan")
    weights(folder, prior_logits=model.prior_logits.data)
    for name in (folder, checkpoint(tmp_path / "a.ckpt", state_dict=model.state_dict())):
        with pytest.raises(ZooError, match=r"numbers of prior_logits are not numbers \(NaN\).*diverged"):
            zoo.from_pretrained(name)


def test_names_of_weights(tmp_path):
    for state in ({3: torch.ones(1)}, {"a": [1, 2]}):
        with pytest.raises(ZooError, match="not a tensor with a name"):
            zoo.from_pretrained(checkpoint(tmp_path / "a.ckpt", state_dict=state))


# What is published ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["picture.png", "README.md", "model.safetensors"])
def test_links_to_elsewhere_are_not_published(folder, tmp_path, what):
    secret, staged = tmp_path / "secret", tmp_path / "staged"
    staged.mkdir()
    secret.write_bytes((folder / what).read_bytes() if (folder / what).exists() else b"private")
    (folder / what).unlink(missing_ok=True)
    (folder / what).symlink_to(secret)
    with pytest.raises(ZooError, match=r"is a link to .*secret"):
        stage(folder, staged)
    with pytest.raises(ZooError, match=r"is a link to .*secret"):
        zoo.save_pretrained(make(), tmp_path / "cat_vae.new", pictures={"A": folder / what})


def test_places_on_this_machine_are_not_published(tmp_path):
    data = {
        "_target_": "zoo.data.MNIST",
        "root": "/home/me/data",
        "parts": [{"root": "here"}, {"file": "~/mine.csv"}, "C:\\mine", "/", "kept/as it is"],
    }
    command = "python /home/me/scripts/train.py model=cat_vae data.root='/home/me/my data' run=runs/mine"
    folder = zoo.save_pretrained(make(), tmp_path / "cat_vae.test", data=data, command=command)
    text = (folder / "config.json").read_text() + (folder / "README.md").read_text()
    assert "/home/me" not in text and "mine.csv" not in text and "C:" not in text
    assert "train.py model=cat_vae data.root=... run=runs/mine" in text
    saved = json.loads((folder / "config.json").read_text())["data"]
    assert saved["parts"] == [{"root": None}, {"file": "..."}, "...", "/", "kept/as it is"]


def test_more_places_of_this_machine():
    for value in (
        *("~/x", "~alice/runs", "~", "../../home/alice", "file:///home/alice/x", "/home/alice:/home/bob", "D:/mine"),
        *("[/home/alice/a,b]", "{path:/home/alice}", "{root: ../x}", "'/home/alice/d'", "$HOME/x", r"\\host\share"),
    ):
        assert is_place(value) and without_places([value, {value: 1}], "...") == ["...", {"...": 1}], value
        assert command_without_places(f"zoo train a.b={shlex.quote(value)}") == "zoo train a.b=..."
    for words in ("--config-dir /home/alice/conf", "--config-dir=conf", "'hydra.searchpath=[/home/alice]'"):
        assert command_without_places(f"zoo train {words} a=1") == "zoo train a=1"
    for value in ("hf://OWNER/NAME", "a/b", "runs/mine", "1:2", "/", "a ~ b", "0.5", "x=1", "[1,2]", "mypkg:Name-v0"):
        assert not is_place(value), value


def test_a_linked_folder_of_pictures_is_not_published(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/passport.png").write_bytes(b"mine")
    path = run_folder(tmp_path / "run", yaml.safe_dump({"model": to_config(make()), "data": {}}))
    (path / "pictures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ZooError, match=r"is a link to .*outside of the run"):
        publish(RunFolder(path), "cat_vae.x", [], folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_beside_a_model_is_kept_and_other_folders_are_not_taken(tmp_path):
    folder = zoo.save_pretrained(make(), tmp_path / "cat_vae.mine")
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text("ref")
    (folder / "notes.txt").write_text("notes")
    (folder / "old.png").write_bytes(b"of the model before")
    zoo.save_pretrained(make(), folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {".git", "notes.txt", "README.md", "config.json", "model.safetensors"}
    assert (folder / ".git/HEAD").read_text() == "ref"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("text")
    (tmp_path / ".thesis.2023001").mkdir()
    with pytest.raises(ZooError, match="other things in it"):
        zoo.save_pretrained(make(), tmp_path / "thesis")
    assert (tmp_path / "thesis/chapter.tex").is_file() and (tmp_path / ".thesis.2023001").is_dir()


# Places ---------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", ["Übung", "a b", "a=b", "a,b", "a(b", "[a]", "日本", "'a'", "a%b#c"])
def test_names_of_folders_work_as_they_are(folder, tmp_path, monkeypatch, name):
    place = tmp_path / f"{name}.x"
    folder.rename(place)
    assert zoo.from_pretrained(place).latents == 3
    assert zoo.save_pretrained(make(), tmp_path / name / f"cat_vae.{name}").is_dir()
    monkeypatch.setattr(sys, "argv", ["sample.py", f"checkpoint={place}", "n=1", f"output={place}/new/out.png"])
    main("sample")
    assert (place / "new/out.png").is_file()


@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 3000, "a\0b", "x" * 300 + ".ckpt"])
def test_names_that_no_file_has(name, tmp_path):
    with pytest.raises(ZooError):
        zoo.from_pretrained(name)
    with pytest.raises(ZooError, match="cannot write"):
        zoo.save_pretrained(make(), f"{tmp_path}/{name}")


@pytest.mark.parametrize("piece", ["config.json", "model.safetensors"])
def test_missing_pieces_and_folders_in_their_place(folder, piece):
    (folder / piece).unlink()
    with pytest.raises(ZooError, match=f"neither {piece}|has no {piece}"):
        zoo.from_pretrained(folder)
    (folder / piece).mkdir()
    with pytest.raises(ZooError, match=f"neither {piece}|{piece} cannot be read"):
        zoo.from_pretrained(folder)


def test_folders_in_place_of_files_and_files_in_place_of_folders(tmp_path):
    (tmp_path / "a.ckpt").mkdir()
    with pytest.raises(ZooError, match=r"cannot be read: .*directory"):
        zoo.from_pretrained(tmp_path / "a.ckpt")
    (tmp_path / "cat_vae.file").write_text("mine")
    with pytest.raises(ZooError, match="is a file"):
        zoo.save_pretrained(make(), tmp_path / "cat_vae.file")
    assert (tmp_path / "cat_vae.file").read_text() == "mine"
    (tmp_path / "out.pt2").mkdir()
    with pytest.raises(ZooError, match="cannot write"):
        zoo.export(make(), tmp_path / "out.pt2")
    run = run_folder(tmp_path / "run", "model: {}\ndata: {}\n")
    (run / "checkpoints/best.ckpt").unlink()
    with pytest.raises(ZooError, match=r"there is no checkpoint .*best\.ckpt"):
        zoo.from_pretrained(run)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_what_may_not_be_read_or_written(folder, tmp_path):
    (folder / "model.safetensors").chmod(0)
    with pytest.raises(ZooError, match="cannot be read"):
        zoo.from_pretrained(folder)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ZooError, match="cannot write"):
            zoo.save_pretrained(make(), tmp_path / "cat_vae.new")
    finally:
        tmp_path.chmod(0o700)
