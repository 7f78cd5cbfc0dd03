"""Spoken digits: found, checked, mixed and labelled; synthesised; fetched."""

import gzip
import io
import logging
import tarfile

import pytest
import torch

from tests.speech import write_digits
from zoo.data import FSDD, Espeak, espeak, fsdd
from zoo.errors import ZooError

SPEAKERS = ["low", "high"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two voices, ten digits, 16 takes of each."""
    root = tmp_path_factory.mktemp("data")
    write_digits(root / "fsdd" / "recordings", {"low": 100.0, "high": 180.0}, takes=16)
    return root


def digits(root, **options):
    data = FSDD(root=str(root), speakers=SPEAKERS, **options)
    data.setup()
    return data


def test_splits_are_by_take(root):
    data = digits(root)
    assert {split: len(x.mel) for split, x in data.splits.items()} == {"test": 100, "val": 60, "train": 160}
    assert {r.path.stem[-2:] for r in data.recordings["test"]} == {f"_{take}" for take in range(5)}
    x = data.splits["train"]
    assert x.mel.shape == (160, 48, 64) and x.pitch.shape == x.voiced.shape == (160, 48)
    assert torch.isfinite(x.mel).all() and (x.label == -1).all()
    hertz = x.pitch[x.speaker == 0].median(), x.pitch[x.speaker == 1].median()
    assert hertz[0] < hertz[1]


@pytest.mark.parametrize("mix", [[0.7, 0.3], [1.0, 3.0]])
def test_the_mix_has_its_proportions_in_every_digit(root, mix):
    data = digits(root, mix=mix)
    expected = torch.tensor(mix) / sum(mix)
    assert torch.allclose(data.proportions(), expected, atol=0.03)
    x = data.splits["train"]
    for digit in range(10):
        share = (x.speaker[x.content == digit] == 0).float().mean()
        assert abs(share - expected[0]) < 0.1
    assert [r.path for r in digits(root, mix=mix).recordings["train"]] == [r.path for r in data.recordings["train"]]


def test_labels_are_spread_over_speakers(root):
    labels = digits(root, labelled=0.1).splits["train"].label
    assert torch.bincount(labels + 1).tolist() == [144, 8, 8]
    x = digits(root, labelled=1.0)
    assert torch.equal(x.splits["train"].label, x.splits["train"].speaker)
    assert not any(batch.extra.any() for batch in x.train_dataloader())


def test_every_batch_has_known_speakers(root):
    loader = digits(root, labelled=0.02, batch_size=40).train_dataloader()
    batches, again = list(loader), list(loader)
    for x, y in zip(batches, again):
        assert x.extra.tolist() == [False] * 40 + [True] * 5 and (x.label[x.extra] >= 0).all()
        assert torch.equal(x.log_frames, y.log_frames)
    chosen = torch.cat([x.log_frames[~x.extra] for x in batches])
    assert len(chosen.unique()) == len(loader.speech.log_frames.unique())  # the others are all there, once


def test_bad_recordings_are_named_counted_and_left_out(tmp_path, caplog):
    folder = tmp_path / "fsdd" / "recordings"
    write_digits(folder, {"low": 100.0, "high": 180.0}, takes=9)
    (folder / "3_low_2.wav").write_bytes(b"")
    (folder / "4_high_8.wav").write_bytes((folder / "4_high_7.wav").read_bytes()[:30])
    logging.getLogger("zoo").propagate = True
    with caplog.at_level(logging.WARNING, "zoo"):
        data = digits(tmp_path)
    assert "2 of 180 recordings are bad" in caplog.text
    assert "3_low_2.wav" in caplog.text and "4_high_8.wav" in caplog.text
    assert sum(len(x.mel) for x in data.splits.values()) == 178


@pytest.mark.parametrize(
    "options, message",
    [
        ({"speakers": ["low", "hihg"]}, "no recordings of 'hihg'. Did you mean 'high'"),
        ({"speakers": ["low"]}, "two different ones"),
        ({"mix": [1.0]}, "share for each of the 2"),
        ({"mix": [1.0, 0.0]}, "positive share"),
        ({"labelled": 1.5}, r"labelled in \[0, 1\]"),
        ({"batch_size": 161}, "batch_size=161 is more than the 160 recordings"),
    ],
)
def test_wrong_options_are_refused(root, options, message):
    with pytest.raises(ValueError, match=message):
        data = FSDD(root=str(root), **{"speakers": SPEAKERS, **options})
        data.setup()
        data.train_dataloader()


def archive(files):
    """A gzipped tar archive of ``files`` as the public one is laid out."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


def test_the_archive_is_checked_unpacked_and_kept(tmp_path, monkeypatch):
    files = {"fsdd-1/recordings/0_a_0.wav": b"one", "fsdd-1/recordings/0_a_1.wav": b"two", "fsdd-1/x/y.wav": b"no"}
    content = {"0_a_0.wav": b"one", "0_a_1.wav": b"two"}
    monkeypatch.setattr(fsdd.urllib.request, "urlopen", lambda url: io.BytesIO(archive(files)))
    with pytest.raises(ZooError, match="sha256 differs"):
        fsdd.fetch(tmp_path / "recordings")
    monkeypatch.setattr(fsdd, "SHA256", fsdd.digest(content))
    assert fsdd.fetch(tmp_path / "recordings") == tmp_path / "recordings"
    assert {path.name: path.read_bytes() for path in (tmp_path / "recordings").iterdir()} == content


def test_without_the_archive_it_says_where_to_put_the_files(tmp_path, monkeypatch):
    def refuse(url):
        raise OSError("no network")

    monkeypatch.setattr(fsdd.urllib.request, "urlopen", refuse)
    with pytest.raises(ZooError, match=r"no network[\s\S]*Put the 3,000 wav files[\s\S]*data=espeak"):
        fsdd.fetch(tmp_path)
    monkeypatch.setattr(fsdd.urllib.request, "urlopen", lambda url: io.BytesIO(gzip.compress(b"no tar")))
    with pytest.raises(ZooError, match="FSDD is not available"):
        fsdd.fetch(tmp_path)


def test_the_same_words_are_synthesised_to_the_bit(tmp_path):
    voices = ["en-us+Alex", "en-us+klatt2"]  # voices with breath, such as f2, now and then differ
    first, second = (espeak.synthesise(voices, tmp_path / name, takes=2) for name in "ab")
    assert first.name == second.name and len(list(first.iterdir())) == 40
    assert all((second / path.name).read_bytes() == path.read_bytes() for path in first.iterdir())
    changed = (first / "0_en-us+Alex_0.wav").stat().st_mtime_ns
    assert espeak.synthesise(voices, tmp_path / "a", takes=2) == first  # from the cache
    assert (first / "0_en-us+Alex_0.wav").stat().st_mtime_ns == changed
    takes = {(first / f"3_en-us+Alex_{take}.wav").read_bytes() for take in range(2)}
    assert len(takes) == 2


@pytest.mark.parametrize(
    "voice, message",
    [("en-us+klat2", "no variant 'klat2'.*Did you mean 'klatt2'"), ("xx-yy+f2", "no voice 'xx-yy")],
)
def test_a_voice_that_does_not_exist_is_refused(tmp_path, voice, message):
    with pytest.raises(ZooError, match=message):
        espeak.synthesise(["en-us+f2", voice], tmp_path, takes=1)
    assert not list(tmp_path.iterdir())


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(espeak.importlib.util, "find_spec", lambda name: None)
    data = Espeak(root=str(tmp_path))
    with pytest.raises(ZooError, match=r"pip install 'discrete-latent-zoo\[speech\]'"):
        data.setup()
