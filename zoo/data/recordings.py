"""Recordings of any kind, and what can be wrong with them.

Files are read by libsndfile and resampled by soxr, with the extra ``speech``; both stay unimported until then.
"""

import csv
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor

from zoo.data import audio
from zoo.errors import ZooError, cause

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64")
OTHERS = (".m4a", ".mp4", ".aac", ".wma", ".amr", ".3gp", ".webm", ".mka", ".ape", ".wv")  # libsndfile reads none
MOST = 12_000_000  # samples of a file, over all channels: a minute of stereo at 96 kHz
LARGEST = 200_000_000  # bytes of a file
TABLE = 50_000_000  # bytes of a table of recordings
CLIPPED = 0.01  # share of samples that are cut off, from which a recording counts as clipped
SHORTEST, LONGEST = 0.08, 3.0  # seconds of a word
FLAT = 2.0  # ratio of loudnesses within which a sound that goes on alike holds no word
PERIODIC = 0.21  # of a voice: noise of any smooth spectrum has 0.17 to 0.2, the hoarsest voice of FSDD 0.23
BASS, TREBLE = 300.0, 0.01  # Hz, and the share of the power above: a rumble has less, the lowest voice of FSDD 0.08
FAINT = 0.01  # share of the peak of the loudest channel; a channel below is noise, of which a few bits may look clipped
STILL = 5e-5  # how far samples go about their middle, as a share of the peak, in silence with an offset
QUIETEST, LOUDEST = 1e-6, 1e6  # peaks between which samples are taken as they are


@dataclass(frozen=True)
class Recording:
    """A file of something said.

    Attributes:
        path: of the file.
        text: what is said.
        speaker: who says it; empty if it is not known.
        split: train, val or test.
        fault: why it cannot be used, as far as that is known before it is read; empty if it can.
    """

    path: Path
    text: str
    speaker: str
    split: str = "train"
    fault: str = ""


# Reading --------------------------------------------------------------------------------------------------------------


def libraries() -> tuple[Any, Any]:
    """The modules ``soundfile`` and ``soxr``.

    Raises:
        ZooError: without the extra ``speech``.
    """
    try:
        import soundfile
        import soxr
    except (ImportError, OSError) as error:  # the latter where libsndfile itself is missing
        raise ZooError(
            f"recordings of other kinds than 16-bit wav at 8 kHz need soundfile and soxr ({error}): "
            "pip install 'discrete-latent-zoo[speech]' (or, in a checkout, pip install -e '.[speech]')"
        ) from error
    return soundfile, soxr


def write_sound(path: Path, sound: Tensor) -> None:
    """``sound`` ``(samples,)`` at 8 kHz as a file of any format that soundfile writes, by the ending of ``path``.

    Raises:
        ValueError: if soundfile cannot write it.
        ZooError: if it is not installed.
    """
    soundfile, _ = libraries()
    try:
        soundfile.write(path, (sound / sound.abs().max().clamp(min=1.0)).numpy(), audio.SAMPLE_RATE)
    except RuntimeError as error:  # the library's own
        raise ValueError(str(error)) from error


def read_sound(path: Path) -> tuple[Tensor, int]:
    """A sound file of any kind that libsndfile knows: float32 ``(samples,)``, the mean of its channels, and its rate.

    Raises:
        ValueError: if it is damaged, truncated, too large, empty or silent, or has a rate of no sound. An MP3 does not
            say how long it is meant to be, so that a truncated one is taken as it is.
        OSError: if it cannot be read.
        ZooError: without the extra ``speech``.
    """
    soundfile, _ = libraries()
    size = path.stat().st_size
    if not 0 < size <= LARGEST:
        raise ValueError("an empty file" if not size else f"{size} bytes, {LARGEST} are the most")
    check_whole(path, size)
    try:
        with soundfile.SoundFile(path) as file:
            rate, frames, count = file.samplerate, file.frames, file.channels
            if not audio.LOWEST_RATE <= rate <= audio.HIGHEST_RATE:
                raise ValueError(f"a sample rate of {rate}, not {audio.LOWEST_RATE} to {audio.HIGHEST_RATE}")
            if frames > min(audio.LONGEST * rate, MOST // count):
                raise ValueError(f"{frames / rate:.0f} seconds of {count} channels, more than are read")
            samples = file.read(frames, dtype="float32", always_2d=True)
    except (RuntimeError, TypeError) as error:  # the library's own, and that of a file that it takes for raw
        raise ValueError(f"no sound file: {' '.join(str(error).split())[-200:]}") from error
    if len(samples) < frames:
        raise ValueError(f"its header says {frames} samples, and it has {len(samples)}: truncated")
    if not frames:
        raise ValueError("it holds no sound")
    channels = torch.from_numpy(samples).T
    for channel in channels:  # before the mean, which hides it
        if channel.abs().max() > FAINT * channels.abs().max() and not still(channel):
            check_clipped(channel)
    sound = torch.from_numpy(samples.mean(1, dtype="float64").astype("float32"))  # a sum of two may be beyond float32
    check_samples(sound)
    return sound, rate


class Chunks(NamedTuple):
    """How a format divides its files: from the byte ``first`` on chunks that begin with a name and a size.

    The size is a number as of :mod:`struct`, and counts the name and itself where ``counted``; a chunk begins at a
    multiple of ``align`` bytes. That of the name ``sound`` holds the samples.
    """

    first: int
    name: int
    size: str
    sound: bytes = b"data"
    align: int = 2
    counted: bool = False


CHUNKS = {  # by the first four bytes of a file
    b"RIFF": Chunks(12, 4, "<I"),
    b"RF64": Chunks(12, 4, "<I"),
    b"RIFX": Chunks(12, 4, ">I"),
    b"FORM": Chunks(12, 4, ">I", b"SSND"),
    b"caff": Chunks(8, 4, ">q", align=1),
    b"riff": Chunks(40, 16, "<q", align=8, counted=True),  # W64
}


def check_whole(path: Path, size: int) -> None:
    """Raise ``ValueError`` for a file of ``size`` bytes that says itself that it goes on beyond its end.

    libsndfile reads what is there of most formats, and says nothing.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        if magic in CHUNKS:
            check_chunks(file, size, CHUNKS[magic])
        elif magic in (b".snd", b"dns."):
            header = file.read(8)
            if len(header) == 8:
                start, length = struct.unpack(">II" if magic == b".snd" else "<II", header)
                check_length(start, length, size)
        elif magic == b"OggS":
            file.seek(max(0, size - 70_000))  # a page has 65,307 bytes at most
            tail = file.read()
            last = tail.rfind(b"OggS")
            if last < 0 or len(tail) < last + 6 or not tail[last + 5] & 4:
                raise ValueError("its last page does not end the stream: truncated")


def check_chunks(file: IO[bytes], size: int, layout: Chunks) -> None:
    """Raise ``ValueError`` if the sound of a ``file`` of ``size`` bytes in chunks goes on beyond its end."""
    head, long = layout.name + struct.calcsize(layout.size), 0
    at = layout.first
    while at < size:
        file.seek(at)
        if len(chunk := file.read(head)) < head:
            return
        name, length = chunk[:4], struct.unpack(layout.size, chunk[layout.name :])[0] - head * layout.counted
        if name == layout.sound:
            return check_length(at + head, long if long and length == 0xFFFFFFFF else length, size)
        if name == b"ds64":  # of RF64: the sizes of the whole and of the sound, in 64 bits
            long = int.from_bytes(file.read(16)[8:], "little")
        at += head + max(0, length)
        at += -at % layout.align


def check_length(start: int, length: int, size: int) -> None:
    """Raise ``ValueError`` if ``length`` bytes from ``start`` on go beyond the end of a file of ``size`` bytes."""
    unknown = 0xFFFFFF00 <= length < 2**32  # of a stream, when its header was written
    if length > size - start and not unknown:
        raise ValueError(f"its header says {length} bytes of sound, and it has {max(0, size - start)}: truncated")


def resample(sound: Tensor, rate: int) -> Tensor:
    """``sound`` ``(samples,)`` of another rate at 8 kHz, by soxr.

    Raises:
        ZooError: without the extra ``speech``.
    """
    if rate == audio.SAMPLE_RATE:
        return sound
    _, soxr = libraries()
    return torch.from_numpy(soxr.resample(sound.numpy(), rate, audio.SAMPLE_RATE)).float()


def word(sound: Tensor, rate: int, *, longest: float = LONGEST) -> Tensor:
    """What is said in ``sound`` ``(samples,)``, at 8 kHz, trimmed and at one level, ``(samples,)``.

    Raises:
        ValueError: if nothing is, if it is clipped, or shorter or longer than a word.
    """
    check_samples(sound)
    peak = sound.abs().max()
    if not QUIETEST < peak < LOUDEST:  # else squares of samples would be beyond float32
        sound = sound / peak
    sound = audio.trim(resample(sound, rate))
    if not SHORTEST <= len(sound) / audio.SAMPLE_RATE <= longest:
        raise ValueError(f"{len(sound) / audio.SAMPLE_RATE:.2f} seconds, not {SHORTEST} to {longest}")
    sound = audio.level(sound)
    frames = sound[: len(sound) // 256 * 256].view(-1, 256).square().mean(-1)  # 32 ms
    low, high = (frames.kthvalue(max(1, round(q * len(frames)))).values for q in (0.1, 0.9))
    flat = high < FLAT * low and audio.alike(sound)
    if flat or audio.periodicity(sound) < PERIODIC or audio.share_above(sound, BASS) < TREBLE:
        raise ValueError("no voice in it, noise alone")
    if not audio.pitch(sound)[1].any():
        raise ValueError("no voice in it, noise alone")
    return sound


def check_samples(sound: Tensor) -> None:
    """Raise ``ValueError`` if ``sound`` ``(samples,)`` is silent or clipped, or not finite."""
    if not len(sound):
        raise ValueError("it holds no sound")
    if not sound.isfinite().all():
        raise ValueError("samples that are not numbers")
    if still(sound):
        raise ValueError("silence")
    check_clipped(sound)


def still(sound: Tensor) -> bool:
    """Whether ``sound`` ``(samples,)`` is silence, be it with an offset."""
    return bool(sound.max() / 2 - sound.min() / 2 <= STILL * sound.abs().max())


def check_clipped(sound: Tensor) -> None:
    """Raise ``ValueError`` if ``sound`` ``(samples,)`` is cut off at its peak."""
    cut = (sound.abs() > 0.999 * sound.abs().max()).float()
    share = (cut[2:] * cut[1:-1] * cut[:-2]).sum().item() / len(sound)
    if share > CLIPPED:
        raise ValueError(f"clipped: {share:.0%} of its samples are cut off")


# Finding --------------------------------------------------------------------------------------------------------------


def find(root: Path) -> list[Recording]:
    """The recordings in a folder, or in a table with the columns path, text and, if it is known, speaker.

    A folder has one folder for each speaker. A file is named after what is said in it, with ``_`` between words; the
    name of the speaker and the number of the take may follow: ``hello_world_3.wav``, or ``7_01_49.wav`` in the folder
    ``01`` of AudioMNIST. Files beside the folders are of speakers that are not known. Sound files of other formats than
    are read have a fault, as has a file that a table lists again.

    Raises:
        ZooError: if there is nothing of the kind.
    """
    if root.is_file() and root.suffix.lower() in (".csv", ".jsonl"):
        found = [recording for recording in table(root)]
    elif root.is_dir():
        paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES + OTHERS and path.is_file())
        found = [named(path, "" if path.parent == root else path.parent.name) for path in paths]
    else:
        raise ZooError(
            f"data.root={root} is neither a folder nor a table: give a folder with a folder for each speaker, "
            "or a file .csv or .jsonl with path, text and speaker"
        )
    if not found:
        raise ZooError(f"there are no recordings in {root}: files of these kinds are looked for: {', '.join(SUFFIXES)}")
    return found


def named(path: Path, speaker: str) -> Recording:
    """The recording in ``path``, whose name says the text."""
    if path.suffix.lower() in OTHERS:
        return Recording(path, "", speaker, fault=f"{path.suffix} is not read: make it a .flac or a .wav")
    words = path.stem.split("_")
    if len(words) > 1 and words[-1].isdecimal():
        words.pop()
    if len(words) > 1 and words[-1] == speaker:
        words.pop()
    text = " ".join(word for word in words if word).lower()
    return Recording(path, text, speaker, fault="" if text else "its name does not say what is said")


def table(path: Path) -> Iterator[Recording]:
    """The recordings that a CSV or a JSONL file lists; relative paths are relative to its folder.

    Raises:
        ZooError: if it cannot be read.
    """
    try:
        if path.stat().st_size > TABLE:
            raise ZooError(f"{path} has more than {TABLE} bytes")
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, ZooError):
            raise
        raise ZooError(f"{path} cannot be read: {cause(error)}") from error
    try:
        rows = list(csv_rows(content) if path.suffix.lower() == ".csv" else json_rows(content))
    except (csv.Error, ValueError, RecursionError) as error:
        raise ZooError(f"{path} is damaged: {str(error)[:200]}") from error
    first: dict[str, int] = {}  # row of each path
    for number, row in enumerate(rows, 1):
        values = [row.get(name) if isinstance(row, dict) else None for name in ("path", "text", "speaker")]
        where, text, speaker = ("" if value is None else str(value).strip() for value in values)
        fault = "" if where and text else f"row {number} lacks {'text' if where else 'path'}"
        if "\0" in where:
            where, fault = "", f"row {number} has no path"
        if not fault and (before := first.setdefault(os.path.normpath(path.parent / where), number)) < number:
            fault = f"row {number} has the file of row {before} again"
        yield Recording(path.parent / where[:1000], " ".join(text.lower().split())[:1000], speaker[:200], fault=fault)


def csv_rows(content: str) -> Iterator[dict[str, Any]]:
    reader = csv.DictReader(content.splitlines())
    if not {"path", "text"} <= set(reader.fieldnames or ()):
        raise ValueError(f"its first line must name the columns path and text, and has {reader.fieldnames}")
    yield from reader


def json_rows(content: str) -> Iterator[Any]:
    for line in content.splitlines():
        if line.strip():
            yield json.loads(line)


def in_split(recording: Recording, place: float, test: float, val: float) -> Recording:
    """``recording`` in the split that its ``place`` in [0, 1) says."""
    return replace(recording, split="test" if place < test else "val" if place < test + val else "train")
