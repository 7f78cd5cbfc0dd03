"""One's own recordings: found, read in any format, split by hash; and each kind of bad one, named and left out."""

import contextlib
import hashlib
import json
import logging
import math
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.speech import digit
from zoo.config import from_config
from zoo.data import FSDD, SpeechFolder, audio
from zoo.data.recordings import CHUNKS, Recording, check_whole, find, named, read_sound, word
from zoo.data.speech_folder import as_said
from zoo.data.text import letters, number, spoken, words_of
from zoo.errors import ZooError
from zoo.training.runs import set_up_logging

soundfile = pytest.importorskip("soundfile")
RATE = audio.SAMPLE_RATE
WORD = digit(3, 140.0, 0)


def noise(seconds: float, level: float) -> torch.Tensor:
    return level * torch.randn(int(seconds * RATE))


def write(path: Path, sound: torch.Tensor, rate: int = RATE, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound.numpy(), rate, **options)
    return path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def rated(path: Path, rate: int) -> None:
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", rate)
    path.write_bytes(content)


RUMBLE = audio.level(torch.randn(4000, generator=torch.Generator().manual_seed(0)).cumsum(0))
BAD = {  # what is written, what is then done to the file, and what is said of it
    "truncated.wav": (0.5 * WORD, cut, "truncated"),
    "truncated.flac": (0.5 * WORD, cut, "no sound file|truncated"),
    "truncated.ogg": (0.5 * WORD, cut, "truncated"),
    "slow.wav": (0.5 * WORD, lambda path: rated(path, 1), "a sample rate of 1,"),
    "fast.wav": (0.5 * WORD, lambda path: rated(path, 10**9), "a sample rate of 1000000000"),
    "silent.wav": (torch.zeros(4000), None, "silence"),
    "noise.wav": (noise(0.5, 0.1), None, "noise alone"),
    "clipped.wav": ((20 * WORD).clamp(-0.9, 0.9), None, "clipped"),
    "short.wav": (torch.tensor([0.1, -0.1]), None, "seconds, not"),
    "empty.wav": (WORD, lambda path: path.write_bytes(b""), "an empty file"),
    "text.mp3": (WORD, lambda path: path.write_bytes(b"this is no sound" * 9), "no sound file"),
    "nothing.wav": (torch.zeros(0), None, "it holds no sound"),
    "nan.wav": (torch.full((4000,), math.nan), None, "not numbers"),
    "truncated.aiff": (0.5 * WORD, cut, "truncated"),
    "truncated.au": (0.5 * WORD, cut, "truncated"),
    "truncated.w64": (0.5 * WORD, cut, "truncated"),
    "truncated.caf": (0.5 * WORD, cut, "truncated"),
    "offset.wav": (torch.full((4000,), 0.4), None, "silence"),
    "rumble.wav": (RUMBLE, None, "noise alone"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_recording_is_refused(tmp_path, name):
    sound, damage, message = BAD[name]
    options = {"subtype": "FLOAT"} if name == "nan.wav" else {}
    path = tmp_path / name
    if name.endswith(".mp3"):
        path.touch()
    else:
        write(path, sound, **options)
    if damage:
        damage(path)
    with pytest.raises(ValueError, match=message):
        word(*read_sound(path))


WHOLE = [
    ("a.wav", {}),
    ("a.wav", {"format": "WAVEX"}),
    ("a.wav", {"format": "RF64"}),
    ("a.wav", {"endian": "BIG"}),
    ("a.wav", {"subtype": "IMA_ADPCM"}),
    ("a.aiff", {}),
    ("a.aiff", {"subtype": "FLOAT"}),
    ("a.au", {}),
    ("a.au", {"endian": "LITTLE"}),
    ("a.w64", {}),
    ("a.caf", {}),
    ("a.flac", {}),
    ("a.ogg", {}),
]


@pytest.mark.parametrize("name, options", WHOLE, ids=str)
def test_a_file_is_read_if_it_is_whole_and_no_part_of_it_is(tmp_path, name, options):
    path = write(tmp_path / name, 0.5 * WORD, **options)
    content = path.read_bytes()
    assert len(read_sound(path)[0]) >= len(WORD)
    for share in (0.999, 0.6, 0.1):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match=r"truncated|no sound file|it holds no sound"):
            read_sound(path)


@pytest.mark.parametrize("name, at", [("a.wav", 40), ("a.au", 8)])
def test_a_stream_that_did_not_know_its_length_is_read(tmp_path, name, at):
    path = write(tmp_path / name, 0.5 * WORD)
    content = bytearray(path.read_bytes())
    content[at : at + 4] = b"\xff" * 4
    path.write_bytes(content)
    assert len(read_sound(path)[0]) == len(WORD)


@given(st.sampled_from([*sorted(CHUNKS), b".snd", b"OggS"]), st.binary(max_size=200))
def test_no_header_ends_a_run(tmp_path_factory, magic, content):
    path = tmp_path_factory.getbasetemp() / "header.wav"
    path.write_bytes(magic + content)
    with contextlib.suppress(ValueError):
        check_whole(path, path.stat().st_size)


ANY = st.floats(width=32) | st.sampled_from([0.0, 1.0, -1.0, 1e38, -3e38, 1e-45, math.inf, math.nan])


@given(st.lists(ANY, max_size=20), st.integers(1, 300), st.sampled_from([RATE, 44100]))
def test_no_samples_end_a_run(values, each, rate):
    with contextlib.suppress(ValueError):
        sound = word(torch.tensor(values).repeat_interleave(each), rate)
        assert sound.isfinite().all() and sound.square().mean().sqrt().item() == pytest.approx(audio.RMS, rel=1e-3)


@pytest.mark.parametrize("scale", [3e37, 1e20, 1e-20, 1e-38])
def test_a_word_of_any_level_is_the_same_word(tmp_path, scale):
    sound = WORD / WORD.abs().max()
    read = read_sound(write(tmp_path / "a.wav", torch.stack([scale * sound] * 2, 1), subtype="FLOAT"))
    torch.testing.assert_close(word(*read), word(sound, RATE), rtol=1e-3, atol=1e-4)


def test_one_clipped_channel_is_enough(tmp_path):
    sound = WORD / WORD.abs().max()
    dither = torch.randint(-1, 2, WORD.shape) / 32768
    for other in (0 * sound, dither, 0 * sound + 0.5):
        assert len(read_sound(write(tmp_path / "a.wav", torch.stack([0.5 * sound, other], 1)))[0]) == len(WORD)
    with pytest.raises(ValueError, match="clipped"):
        read_sound(write(tmp_path / "b.wav", torch.stack([0.5 * sound, (8 * sound).clamp(-0.9, 0.9)], 1)))


@pytest.mark.parametrize(
    "name, options",
    [
        ("a.wav", {"subtype": "PCM_24"}),
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.flac", {}),
        ("a.ogg", {}),
        ("a.mp3", {}),
        ("stereo.wav", {}),
    ],
)
def test_formats_are_read_and_resampled(tmp_path, name, options):
    rate = 16000
    time = torch.arange(rate) / rate
    tone = torch.sin(2 * math.pi * 200 * time) + 0.5 * torch.sin(2 * math.pi * 400 * time)
    sound = 0.3 * tone * torch.sin(math.pi * time)
    read, found = read_sound(
        write(tmp_path / name, torch.stack([sound, sound], 1) if "stereo" in name else sound, rate, **options)
    )
    heard = word(read, found)
    hertz, voiced = audio.pitch(heard)
    assert found == rate and abs(len(heard) - RATE) < 0.15 * RATE and voiced.mean() > 0.8
    assert hertz[voiced > 0].median().item() == pytest.approx(200, rel=0.02)


@pytest.mark.parametrize("kind", ["offset", "room", "click", "all"])
def test_what_is_about_a_word_does_not_become_a_part_of_it(kind):
    """An offset, steady noise of a room at 25 dB below, a click 100 ms before: the word is found to within 60 ms."""
    before, after = torch.zeros(RATE // 2), torch.zeros(RATE // 2)
    if kind in ("click", "all"):
        before[-RATE // 10] = 1.0
    sound = torch.cat([before, WORD, after])
    if kind in ("room", "all"):
        sound = sound + noise(len(sound) / RATE, 0.006)[: len(sound)]
    if kind in ("offset", "all"):
        sound = sound + 0.3
    heard = word(sound, RATE)
    assert abs(len(heard) - len(audio.trim(WORD))) < 0.06 * RATE and abs(heard.mean()) < 1e-3


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("milliseconds", [3, 5, 8, 10])
def test_a_click_is_no_part_of_a_word(milliseconds, after):
    for seed in range(8):
        g = torch.Generator().manual_seed(seed)
        click = 1.8 * torch.rand(RATE * milliseconds // 1000, generator=g) - 0.9
        parts = [torch.zeros(2000 + 7 * seed), click, torch.zeros(RATE // 5), 0.5 * WORD, torch.zeros(RATE // 5)]
        heard = word(torch.cat(parts[::-1] if after else parts), RATE)
        assert len(heard) <= len(WORD) + 5 * audio.HOP


def test_a_short_sound_near_a_word_or_at_the_end_of_a_recording_is_a_part_of_it():
    """The t of "eight" comes after a stop; what touches the end may be cut off."""
    for pause, rest in ((RATE // 10, RATE // 5), (RATE // 5, 0)):
        burst = 0.5 * torch.randn(160, generator=torch.Generator().manual_seed(0))
        sound = torch.cat([torch.zeros(RATE // 5), WORD, torch.zeros(pause), burst, torch.zeros(rest)])
        assert len(audio.trim(sound)) > len(WORD) + pause


def consonant(seed: int, lowest: float, highest: float, loudness: float = 0.05) -> torch.Tensor:
    """A fifth of a second of steady noise between two frequencies, in Hz: about what an s is."""
    size = RATE // 5
    spectrum = torch.fft.rfft(torch.randn(size, generator=torch.Generator().manual_seed(seed)))
    hertz = torch.fft.rfftfreq(size, 1 / RATE)
    sound = torch.fft.irfft(spectrum * ((hertz >= lowest) & (hertz <= highest)), size)
    return sound * (loudness / sound.square().mean().sqrt())


def voiced(loudness: float, highest: int = 10) -> torch.Tensor:
    """A fifth of a second of harmonics of 140 Hz: a vowel, or with few of them about an n."""
    time = torch.arange(RATE // 5) / RATE
    sound = sum(torch.sin(2 * math.pi * 140 * k * time) / k for k in range(1, highest + 1))
    return sound * (loudness / sound.square().mean().sqrt())


@pytest.mark.parametrize("loudness", [0.06, 0.2])
@pytest.mark.parametrize("ends", ["six", "nine"])
def test_a_word_between_two_steady_consonants_is_kept_whole(ends, loudness):
    """Cut close, each end is as steady as a room is, but they are not one noise, or they have a voice."""
    if ends == "six":
        first, last = consonant(0, 100, 900), consonant(1, 100, 2500)
    else:
        first = last = voiced(0.05, highest=3)
    sound = torch.cat([first, voiced(loudness), last])
    assert len(audio.trim(sound)) > 0.95 * len(sound)


def test_noise_of_a_room_is_cut_off():
    rooms = [torch.cat([consonant(2 * i, 100, 2500, 0.01), voiced(0.2), consonant(2 * i + 1, 100, 2500, 0.01)])
             for i in range(20)]  # fmt: skip
    assert sum(len(audio.trim(room)) < 0.6 * len(room) for room in rooms) >= 18


@pytest.mark.parametrize("highest", [1500, 4000])
def test_noise_without_a_word_is_left_out(highest):
    def passes(first: int) -> bool:
        try:
            word(torch.cat([consonant(seed, 60, highest) for seed in range(first, first + 5)]), RATE)
        except ValueError as error:
            return "noise alone" not in str(error)
        return True

    assert not any(passes(5 * i) for i in range(20))


@pytest.mark.parametrize("colour", ["white", "pink", "brown", "wind", "below 250 Hz"])
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.2, 0.5, 1.0]))
@settings(max_examples=15, derandomize=True)
def test_noise_of_any_colour_is_no_voice(colour, seed, seconds):
    size = int(seconds * RATE)
    spectrum = torch.fft.rfft(torch.randn(size, generator=torch.Generator().manual_seed(seed)))
    hertz = torch.fft.rfftfreq(size, 1 / RATE).clamp(min=1.0)
    shapes = {"white": hertz**0, "pink": hertz**-0.5, "brown": 1 / hertz, "wind": 1 / (1 + (hertz / 200) ** 2)}
    sound = torch.fft.irfft(spectrum * shapes.get(colour, (hertz < 250).float()), size)
    with pytest.raises(ValueError, match=r"noise alone|seconds, not"):  # the latter if some of it is trimmed as a room
        word(0.5 * sound / sound.abs().max(), RATE)


def test_voices_repeat_themselves():
    for number_ in range(10):
        for hertz in (80.0, 140.0, 250.0):
            assert audio.periodicity(digit(number_, hertz, 0)) > 0.3
    assert audio.whiten(noise(1.0, 0.1).cumsum(0)).std() < 0.15
    assert audio.share_above(digit(0, 140.0, 0), 300.0) + audio.share_above(digit(0, 140.0, 0), 0.0) > 1.0


def test_texts_and_speakers_are_in_the_names():
    def read(path):
        recording = named(Path(path), Path(path).parent.name)
        return recording.text, recording.speaker

    assert read("anna/hello_world_3.wav") == ("hello world", "anna") and read("ben/yes.flac") == ("yes", "ben")
    assert read("01/7_01_49.wav") == ("7", "01") and read("01/7_01_49.wav")[0] == "7"  # as AudioMNIST has them
    assert named(Path("ben/__.wav"), "ben").fault
    assert as_said(named(Path("ben/20240102030405060708.wav"), "ben")).fault  # no number to say, nor the end of a run


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_table_says_path_text_and_speaker(tmp_path, suffix):
    rows = [
        {"path": "x/a.wav", "text": "Good  morning", "speaker": "anna"},
        {"path": "b.wav", "text": "yes", "speaker": ""},
        {"path": "", "text": "no", "speaker": "ben"},
        {"path": "c.wav", "text": "", "speaker": "ben"},
        {"path": "./x/../x/a.wav", "text": "good night", "speaker": "anna"},
    ]
    path = tmp_path / f"table{suffix}"
    if suffix == ".csv":
        lines = ["path,text,speaker", *(",".join(row.values()) for row in rows)]
    else:
        lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    first, second, *bad = find(path)
    assert first == Recording(tmp_path / "x/a.wav", "good morning", "anna") and second.speaker == ""
    assert [recording.fault for recording in bad] == [
        "row 3 lacks path",
        "row 4 lacks text",
        "row 5 has the file of row 1 again",
    ]
    path.write_text("nothing,of,this\n1,2,3" if suffix == ".csv" else "{")
    with pytest.raises(ZooError, match="is damaged"):
        find(path)


def test_numbers_are_read_as_numbers():
    pytest.importorskip("num2words")
    assert number("42") == ["forty", "two"] and number("7") == ["seven"]
    assert spoken("Room 42: it's OPEN!") == "room forty two it's open"
    assert words_of("one, TWO-three") == ["one", "two", "three"]
    assert as_said(Recording(Path("x.wav"), "20%", "ben")).fault.startswith("cannot say '%' in '20%'")
    assert spoken("agent 07") == "agent seven" and spoken("AT&T") == "at t"
    assert letters(["ab", "é"]).tolist() == [[97, 98], [195, 169]]
    for text in ("", "x" * 121):
        with pytest.raises(ZooError, match="1 to 120 bytes"):
            letters([text])


def test_texts_of_any_script_and_numbers_of_any_form_become_words():
    assert words_of("caf\u0065\u0301") == words_of("caf\u00e9") == ["caf\u00e9"]  # as macOS names its files, and others
    assert words_of("हिन्दी कि, की") == ["हिन्दी", "कि", "की"]
    assert words_of("'Yes', it\u2019s o'clock") == ["yes", "it's", "o'clock"]
    assert words_of("1,000 or 12,345,678") == ["1000", "or", "12345678"]
    assert words_of("4,0,7 1,00") == ["4", "0", "7", "1", "00"]
    assert words_of("3.14. 10. 1.2.3") == ["3", "point", "1", "4", "10", "1", "2", "3"]


def folder(root: Path, speakers: dict[str, float], takes: int = 8) -> Path:
    for name, hertz in speakers.items():
        for number_, text in ((1, "yes"), (2, "no")):
            for take in range(takes):
                write(root / name / f"{text}_{take}.flac", 0.5 * digit(number_, hertz, take))
    return root


def test_a_folder_is_split_by_hash_and_its_bad_files_are_counted(tmp_path, caplog):
    root = folder(tmp_path / "mine", {"anna": 190.0, "ben": 110.0})
    (root / "ben" / "no_99.wav").write_bytes(b"RIFF")
    (root / "anna" / "notes.txt").write_text("not a sound")
    logging.getLogger("zoo").propagate = True
    with caplog.at_level(logging.WARNING, "zoo"):
        data = SpeechFolder(root=str(root), speakers=2, name="my voices", licence="CC0")
        data.setup()
    assert "1 of 33 recordings are bad" in caplog.text and "no_99.wav" in caplog.text
    assert data.names == ["anna", "ben"] and data.words == ["no", "yes"] and data.known
    assert sum(len(x.mel) for x in data.splits.values()) == 32 and min(len(x.mel) for x in data.splits.values()) > 0
    x = data.splits["train"]
    assert x.letters[x.content == 1].tolist() == [[121, 101, 115]] * int((x.content == 1).sum())
    assert (x.frames[0, x.lengths()[0] :] == x.frames.min()).all() and x.frames.shape[1] % 4 == 0
    assert "my voices" in data.notice and "CC0" in data.notice and "anna" not in data.notice
    before = {r.path.name + r.speaker: split for split, rs in data.recordings.items() for r in rs}
    folder(root, {"anna": 190.0}, takes=12)
    again = SpeechFolder(root=str(root), speakers=["ben", "anna"])
    again.setup()
    after = {r.path.name + r.speaker: split for split, rs in again.recordings.items() for r in rs}
    assert again.names == ["ben", "anna"] and before.items() <= after.items()
    unknown = SpeechFolder(root=str(root / "ben"), speakers=3, words=["yes"])
    unknown.setup()
    assert not unknown.known and unknown.names == [] and unknown.words == ["yes"]


@pytest.mark.parametrize("mix", [[0.5, 0.5], [0.7, 0.3], [0.2, 0.8]])
def test_the_mix_is_of_recordings_however_many_each_speaker_has(tmp_path, mix):
    root = folder(folder(tmp_path / "mine", {"anna": 190.0}, takes=60), {"ben": 110.0}, takes=15)
    data = SpeechFolder(root=str(root), speakers=["anna", "ben"], mix=mix, test=0.3, val=0.3)
    data.setup()
    assert data.proportions().tolist() == pytest.approx(mix, abs=0.1)
    x = data.splits["train"]
    for speaker in (0, 1):  # of each word as many
        assert torch.bincount(x.content[x.speaker == speaker], minlength=2).diff().abs() <= 12


def test_all_bad_recordings_are_named_with_their_folders(tmp_path, capsys):
    root = folder(tmp_path / "mine", {"anna": 190.0, "ben": 110.0})
    for i in range(20, 29):
        (root / "ben" / f"no_{i}.wav").write_bytes(b"RIFF")
    for name in ("anna/yes_20.m4a", "anna/yes_21.WMA"):
        (root / name).write_bytes(b"sound of another kind")
    set_up_logging(tmp_path / "train.log")
    try:
        SpeechFolder(root=str(root), speakers=2).setup()
    finally:
        set_up_logging(None)
    printed, kept = capsys.readouterr().err, (tmp_path / "train.log").read_text()
    assert "11 of 43 recordings are bad" in printed and "and 6 more, which train.log of a run names" in printed
    assert "anna/yes_20.m4a: .m4a is not read" in printed and "ben/no_28.wav" not in printed
    assert all(
        f"{path.relative_to(root)}: " in kept for path in root.rglob("*") if path.suffix != ".flac" and path.is_file()
    )


def splits(root: Path, count: int) -> dict[str, str]:
    return {str(recording.path): recording.split for recording in SpeechFolder(root=str(root), speakers=count).find()}


def test_recordings_of_one_name_are_spread_over_the_splits(tmp_path):
    rows = [f"{i:03}/audio.wav,yes,{speaker}" for i in range(60) for speaker in ("anna", "ben")[i % 2 :][:1]]
    (tmp_path / "table.csv").write_text("\n".join(["path,text,speaker", *rows]))
    there = list(splits(tmp_path / "table.csv", 2).values())
    assert {split: there.count(split) > 1 for split in ("train", "val", "test")} == dict.fromkeys(set(there), True)
    assert there.count("train") > 30


def test_the_split_of_folders_and_plain_tables_is_what_it_was(tmp_path):
    names = [f"{speaker}/yes_{take}.wav" for speaker in ("anna", "ben") for take in range(40)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rows = [f"{name},yes,{name.partition('/')[0]}" for name in names]
    (tmp_path / "a.csv").write_text("\n".join(["path,text,speaker", *rows]))
    plain = [f"{name.partition('/')[2]},yes,anna" for name in names[:40]]
    (tmp_path / "anna" / "b.csv").write_text("\n".join(["path,text,speaker", *plain, "x.wav,no,ben"]))

    def of_hash(name):
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
        return "test" if place < 0.1 else "val" if place < 0.2 else "train"

    expected = {str(tmp_path / name): of_hash(name) for name in names}
    assert splits(tmp_path, 2) == splits(tmp_path / "a.csv", 2) == expected
    assert {p: s for p, s in splits(tmp_path / "anna" / "b.csv", 2).items() if "yes" in p}.items() <= expected.items()


def test_a_small_set_borrows_from_training(tmp_path):
    """As the guide has it: where no hash says test or validation, one recording is taken until a hash does."""
    for take in range(4):
        write(tmp_path / "anna" / f"yes_{take}.wav", WORD)
        write(tmp_path / "ben" / f"yes_{take}.wav", WORD)
    few = splits(tmp_path, 2)
    for take in range(4, 60):
        (tmp_path / "anna" / f"yes_{take}.wav").touch()
    many = splits(tmp_path, 2)
    assert set(few.values()) == {"train", "val", "test"}
    assert all(many[path] in (split, "train") for path, split in few.items())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"root": None}, "say where the recordings are"),
        ({"root": "nowhere"}, "neither a folder nor a table"),
        ({"speakers": ["anna", "bne"]}, "no recordings of 'bne'. Did you mean 'ben'"),
        ({"speakers": ["bne", "anan"]}, "no recordings of 'bne'.* Speakers there: anna, ben"),
        ({"speakers": 1}, "two different ones"),
        ({"mix": [0.5, 0.5]}, "by name"),
        ({"test": 0.0}, "test > 0"),
        ({"words": ["maybe"]}, r"nobody says 'maybe' of data\.words\. What is said: "),
        ({"words": ["yes", "nope"]}, r"nobody says 'nope' of data\.words\. What is said: no, yes"),
        ({"speakers": 3, "labelled": 1.0}, "needs the names of all speakers, and .* has 2 of data.speakers=3"),
    ],
)
def test_wrong_options_are_refused(tmp_path_factory, options, message):
    root = tmp_path_factory.getbasetemp() / "options"
    if not root.exists():
        folder(root, {"anna": 190.0, "ben": 110.0}, takes=2)
    config = {"_target_": "zoo.data.SpeechFolder", "root": str(root)} | options
    with pytest.raises(ValueError, match=message):
        from_config(config, where="data").setup()
    if isinstance(config.get("speakers"), list):  # asked for first, for the model's words
        with pytest.raises(ZooError, match=message):
            SpeechFolder.vocabulary(config)


def test_numbers_are_names_too_and_words_said_once_are_named(tmp_path, caplog):
    folder(tmp_path, {"01": 190.0, "10": 110.0}, takes=3)
    write(tmp_path / "01" / "yes2.flac", WORD)
    logging.getLogger("zoo").propagate = True
    config = {"_target_": "zoo.data.SpeechFolder", "root": str(tmp_path), "speakers": ["01", 10]}
    data = from_config(config, where="data")
    with caplog.at_level(logging.WARNING, "zoo"):
        data.setup()
    assert data.names == ["01", "10"] and data.words == SpeechFolder.vocabulary(config) == ["no", "yes", "yes two"]
    assert "nobody says these twice, 1 of 3 texts: 'yes two'." in caplog.text


def test_a_mix_that_leaves_nothing_says_so(tmp_path):
    root = folder(folder(tmp_path, {"anna": 190.0}, takes=8), {"ben": 110.0}, takes=8)
    with pytest.raises(ZooError, match=r"data\.mix=\[1\.0, 1e-05\] leaves no recordings for"):
        SpeechFolder(root=str(root), speakers=["anna", "ben"], mix=[1.0, 1e-5], words=["yes"], test=0.01).setup()


def test_recordings_that_are_not_those_of_fsdd_are_not_called_so(tmp_path, caplog):
    place = tmp_path / "fsdd" / "recordings"
    place.mkdir(parents=True)
    audio.write_wav(place / "0_me_0.wav", WORD)
    data = FSDD(root=str(tmp_path), speakers=["me", "you"])
    logging.getLogger("zoo").propagate = True
    with caplog.at_level(logging.WARNING, "zoo"):
        assert data.folder() == place
    assert "sha256 differs" in caplog.text and "Free Spoken Digit Dataset" not in data.notice
    assert "Free Spoken Digit Dataset" in FSDD(root=str(tmp_path / "other")).notice


def test_without_the_extra_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "soxr", None)
    with pytest.raises(ZooError, match=r"pip install 'discrete-latent-zoo\[speech\]'"):
        read_sound(write(tmp_path / "a.wav", WORD))
