"""Speech, held on the training device as log-mel spectrograms.

:class:`SpokenWords` does everything but find recordings: :mod:`zoo.data.speech_folder` does, of one's own; and
:class:`SpokenDigits`, of files ``<digit>_<speaker>_<take>.wav``, which :mod:`zoo.data.fsdd` and :mod:`zoo.data.espeak`
get.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.data import audio, sources
from zoo.data.batches import DataModule, Place, Slices
from zoo.data.recordings import Recording, word
from zoo.data.seeding import TRAIN, generator
from zoo.data.text import DIGITS, letters
from zoo.errors import ZooError, did_you_mean

log = logging.getLogger(__name__)

TEST_TAKES = range(5)  # the official split of FSDD
VALIDATION_TAKES = range(5, 8)
SILENCE = (audio.FLOOR - audio.CENTRE) / audio.SPREAD  # of a log-mel spectrogram
STEP = 4  # spectrograms have a number of frames that is divisible by this
NAMED = 5  # bad recordings on the screen
UNKNOWN = -1
MIX, LABEL, EXTRA = 8, 9, 11  # uses of the seed, beside those of zoo.data.seeding


class Speech(NamedTuple):
    """A batch of spoken words.

    Attributes:
        mel: log-mel spectrograms, time-normalised, ``(batch, frames, mels)``; see :func:`zoo.data.audio.log_mel`.
        pitch: in [-1, 1], ``(batch, frames)``; see :func:`zoo.data.audio.pitch_to_unit`.
        voiced: whether there is one, in [0, 1], ``(batch, frames)``.
        log_frames: logarithm of the number of frames before normalisation, ``(batch,)``.
        content: what is said, its index among all that is, int64 ``(batch,)``.
        label: the speaker where training is told, else -1, int64 ``(batch,)``.
        speaker: who it is, for scores only, int64 ``(batch,)``; -1 where nobody knows.
        extra: whether it is shown once more for the sake of its label, so that it must not count in shares of
            speakers, bool ``(batch,)``.
        frames: log-mel spectrograms at their own pace, silence after the end, ``(batch, most frames, mels)``.
        letters: what is said, as of :func:`zoo.data.text.letters`, int64 ``(batch, letters)``.
    """

    mel: Tensor
    pitch: Tensor
    voiced: Tensor
    log_frames: Tensor
    content: Tensor
    label: Tensor
    speaker: Tensor
    extra: Tensor
    frames: Tensor
    letters: Tensor

    def lengths(self) -> Tensor:
        """How many of ``frames`` there are, int64 ``(batch,)``."""
        return self.log_frames.exp().round().long()

    def at(self, index: Tensor) -> "Speech":
        """The words at ``index``, int64 ``(n,)``."""
        return Speech(*(values[index] for values in self))


class SpeechBatches(Slices[Speech]):
    """Batches of :class:`Speech`.

    Each training batch has an eighth more of recordings whose speaker is known, where only some are: else a batch would
    rarely have one.
    """

    def __init__(self, speech: Speech, *, batch_size: int, key: tuple[int, ...], shuffle: bool, place: Place) -> None:
        count = len(speech.mel)
        super().__init__(count, batch_size=batch_size, key=key, shuffle=shuffle, device=speech.mel.device, place=place)
        self.speech = speech
        self.known = (speech.label != UNKNOWN).nonzero()[:, 0]
        self.extra = -(-batch_size // 8) if shuffle and 0 < len(self.known) < count else 0

    def take(self, index: Tensor, epoch: int, batch: int) -> Speech:
        index = index[self.place.share(len(index))]
        again = index[:0]
        if self.extra:
            g = generator(self.device, *self.key, EXTRA, epoch, batch)
            more = self.known[torch.randint(len(self.known), (self.extra,), generator=g, device=self.device)]
            again = more[self.place.share(self.extra)]
        x = self.speech.at(torch.cat([index, again]))
        longest = int(x.lengths().max()) if len(x.mel) else STEP
        return x._replace(
            extra=torch.arange(len(x.mel), device=self.device) >= len(index),
            frames=x.frames[:, : -(-longest // STEP) * STEP],
        )


class SpokenWords(DataModule):
    """Words by several speakers.

    Args:
        speakers: whom to use; their order is that of the labels. null for all of ``everyone``. Or how many there are,
            where nobody has told who is who.
        mix: the share of each of ``speakers``, in any unit: recordings are left out, in all three splits, until the
            shares are so. null for all recordings.
        labelled: share of the training recordings whose speaker is known, in [0, 1]; spread evenly over speakers.
        root: directory of the data; the default is the environment's ``ZOO_DATA_DIR``, else ``data``.
        batch_size: training recordings in a step, over all devices together.
        eval_batch_size: the same for validation and test.
        seed: of the order, and of which recordings are left out and labelled.

    Attributes:
        names: of the speakers, as far as they are known.
        words: all that is said, in the order of ``content``.
        splits: the recordings by split, once they are set up.
        recordings: their files.

    Raises:
        ValueError: if a number is out of range or ``speakers`` and ``mix`` do not go together.
    """

    everyone: tuple[str, ...] = ()
    """The speakers there are, or the usual ones."""
    judge: str = ""
    """The pretrained judge that knows these speakers and words; empty for none."""
    judged: int = 0
    """Words of a generator that the judge hears in its test."""
    notice: str
    """What the card of a model that is trained on them has to say."""
    longest: float = 3.0
    """Seconds of a recording, without the silence about it."""

    def __init__(
        self,
        *,
        speakers: Sequence[str | int] | int | None = None,
        mix: list[float] | None = None,
        labelled: float = 0.0,
        root: str | None = None,
        batch_size: int = 64,
        eval_batch_size: int = 300,
        seed: int = 0,
    ) -> None:
        super().__init__()
        speakers = self.everyone if speakers is None else speakers
        self.speakers = speakers if isinstance(speakers, int) else [str(name) for name in speakers]
        self.names = [] if isinstance(self.speakers, int) else list(self.speakers)
        count = self.speakers if isinstance(self.speakers, int) else len(set(self.names))
        if count < max(2, len(self.names)):
            raise ValueError(f"speakers must be two different ones or more, got {speakers}")
        if mix is not None and (isinstance(speakers, int) or len(mix) != count or not min(mix) > 0):
            raise ValueError(f"mix must have a positive share for each of the {count} speakers by name, got {mix}")
        if not 0 <= labelled <= 1 or batch_size < 1 or eval_batch_size < 1 or seed < 0:
            raise ValueError(
                "need labelled in [0, 1], batch_size >= 1, eval_batch_size >= 1 and seed >= 0, got "
                f"{labelled}, {batch_size}, {eval_batch_size}, {seed}"
            )
        self.mix, self.labelled, self.root = mix, labelled, root
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.words: list[str] = []
        self.splits: dict[str, Speech] = {}
        self.recordings: dict[str, list[Recording]] = {}

    def find(self) -> list[Recording]:
        """The recordings of all splits; called once, before anything is read."""
        raise NotImplementedError

    def read(self, path: Path) -> tuple[Tensor, int]:
        """The sound in a file, ``(samples,)``, and its rate; ``ValueError`` says what is wrong with it."""
        return audio.read_wav(path)

    def setup(self, stage: str | None = None) -> None:
        """Put the spectrograms on the training device (the CPU without a Trainer)."""
        if self.splits:
            return
        speech, kept = analyse(self.find(), self)
        for split in ("test", "val", "train"):
            index = [i for i, recording in enumerate(kept) if recording.split == split]
            if index and not (index := self._mixed([kept[i] for i in index], index)):
                raise ZooError(f"data.mix={self.mix} leaves no recordings for {split}: add some, or leave it out")
            if not index:
                raise ZooError(
                    f"there are no recordings for {split}: they are too few, or, of spoken digits, none is such a take"
                )
            part = speech.at(torch.tensor(index))
            if split == "train":
                part = part._replace(label=self._labels(part.speaker))
            part = part._replace(frames=part.frames[:, : -(-int(part.lengths().max()) // STEP) * STEP].contiguous())
            self.splits[split] = Speech(*(values.to(self.device) for values in part))
            self.recordings[split] = [kept[i] for i in index]

    @property
    def known(self) -> bool:
        """Whether it is known of the recordings who speaks."""
        return bool((self.splits["test"].speaker >= 0).any())

    def proportions(self) -> Tensor:
        """The share of each speaker in the training data, ``(speakers,)``."""
        speaker = self.splits["train"].speaker.cpu()
        counts = torch.bincount(speaker[speaker >= 0], minlength=len(self.names))
        return counts / counts.sum().clamp(min=1)

    def _mixed(self, recordings: list[Recording], index: list[int]) -> list[int]:
        """Those of ``index`` that make up the mix, of each speaker the same share of each word."""
        if self.mix is None:
            return index
        counts = [sum(r.speaker == speaker for r in recordings) for speaker in self.names]
        most = min(count / share for count, share in zip(counts, self.mix))  # recordings for a share of 1
        chosen = []
        for place, (share, speaker, count) in enumerate(zip(self.mix, self.names, counts)):
            for content, text in enumerate(self.words):
                own = [i for i, r in zip(index, recordings) if r.speaker == speaker and r.text == text]
                # Of seven takes, 3 / 7 is three; of three it is now one and now two.
                g = generator("cpu", self.seed, TRAIN, MIX, place, content)
                wanted = share * most / max(count, 1) * len(own) + torch.rand((), generator=g).item()
                order = torch.randperm(len(own), generator=g).tolist()
                chosen += [own[i] for i in sorted(order[: int(wanted)])]
        return chosen

    def _labels(self, speaker: Tensor) -> Tensor:
        """``speaker`` where it is known, else -1."""
        known = round(self.labelled * len(speaker))
        order = torch.randperm(len(speaker), generator=generator("cpu", self.seed, TRAIN, LABEL))
        order = order[speaker[order] >= 0]
        turn = torch.zeros(len(speaker), dtype=torch.int64)  # how many of the speaker come before
        for k in range(len(self.names)):
            own = order[speaker[order] == k]
            turn[own] = torch.arange(len(own))
        labels = torch.full_like(speaker, UNKNOWN)
        chosen = order[turn[order].argsort(stable=True)][:known]  # one of each, then another one of each
        labels[chosen] = speaker[chosen]
        return labels

    def train_dataloader(self) -> SpeechBatches:
        if self.batch_size > len(self.splits["train"].mel):
            count = len(self.splits["train"].mel)
            raise ZooError(
                f"data.batch_size={self.batch_size} is more than the {count} recordings to train on: make it smaller"
            )
        return self._batches("train", self.batch_size, self.in_training, shuffle=True)

    def val_dataloader(self) -> SpeechBatches:
        return self._batches("val", self.eval_batch_size, self.in_evaluation)

    def test_dataloader(self) -> SpeechBatches:
        return self._batches("test", self.eval_batch_size, self.in_evaluation)

    def _batches(self, split: str, batch_size: int, place: Place, *, shuffle: bool = False) -> SpeechBatches:
        speech = self.splits[split]
        return SpeechBatches(speech, batch_size=batch_size, key=(self.seed, TRAIN), shuffle=shuffle, place=place)


class SpokenDigits(SpokenWords):
    """Spoken digits: takes 0 to 4 for the test, 5 to 7 for validation, the others to train on.

    Arguments: see :class:`SpokenWords`; ``speakers`` are names. ``judged`` is how many words of a generator the judge
    of these recordings hears in its test, 0 for none: what it says is a score, and never trains or selects anything.
    """

    kept: str
    """The folder in the directory of the data."""

    def __init__(
        self,
        *,
        speakers: list[str] | None = None,
        mix: list[float] | None = None,
        labelled: float = 0.0,
        root: str | None = None,
        batch_size: int = 64,
        eval_batch_size: int = 300,
        judged: int = 400,
        seed: int = 0,
    ) -> None:
        super().__init__(
            speakers=speakers,
            mix=mix,
            labelled=labelled,
            root=root,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
        )
        sources.check_root(root, self.kept, f"data={type(self).__name__.lower()}")
        if judged < 0:
            raise ValueError(f"judged must not be negative, got {judged}")
        self.words, self.judged = list(DIGITS), judged

    def folder(self) -> Path:
        """The folder of the recordings, filled if need be."""
        raise NotImplementedError

    def find(self) -> list[Recording]:
        return find_recordings(self.folder(), self.names)


def find_recordings(folder: Path, speakers: list[str]) -> list[Recording]:
    """The recordings of ``speakers`` in ``folder``, by digit, speaker and take.

    Raises:
        ZooError: if one of ``speakers`` has none.
    """
    found = []
    for path in folder.glob("*.wav"):
        digit, _, rest = path.stem.partition("_")
        speaker, _, take = rest.rpartition("_")
        if digit in set("0123456789") and speaker and take.isdecimal():
            found.append((int(digit), speaker, int(take), path))
    check_speakers(speakers, {speaker for _, speaker, _, _ in found}, str(folder))
    splits = dict.fromkeys(TEST_TAKES, "test") | dict.fromkeys(VALIDATION_TAKES, "val")
    return [
        Recording(path, DIGITS[digit], speaker, splits.get(take, "train"))
        for digit, speaker, take, path in sorted(found)
        if speaker in speakers
    ]


def check_speakers(wanted: Sequence[str], there: set[str], where: str) -> None:
    """Raise ``ZooError`` if there are no recordings of one of the speakers ``wanted``."""
    for speaker in wanted:
        if speaker not in there:
            raise ZooError(
                f"{where} has no recordings of {speaker!r}.{did_you_mean(speaker, sorted(there))} "
                f"Speakers there: {', '.join(sorted(there)) or 'none'}."
            )


def analyse(recordings: list[Recording], data: SpokenWords) -> tuple[Speech, list[Recording]]:
    """The spectrograms of ``recordings``, without labels; those that are bad are named, counted and left out.

    Raises:
        ZooError: if none is good.
    """
    rows, kept, bad = [], [], []
    for recording in recordings:
        try:
            if recording.fault:
                raise ValueError(recording.fault)
            sound = word(*data.read(recording.path), longest=data.longest)
        except (ValueError, OSError) as error:
            if isinstance(error, ZooError):
                raise
            bad.append(f"{shown(recording.path, data.root)}: {error}")
            continue
        hertz, voiced = audio.pitch(sound)
        mel = audio.log_mel(sound[None])[0]
        values = torch.cat([mel, audio.pitch_to_unit(hertz)[:, None], voiced[:, None]], 1)
        rows.append((audio.resize(values[None], audio.FRAMES)[0], mel))
        kept.append(recording)
    if bad:
        log.warning("%d of %d recordings are bad and left out:", len(bad), len(recordings))
        for i, line in enumerate(bad):
            log.log(logging.WARNING if i < NAMED else logging.DEBUG, "    %s", line)
        if len(bad) > NAMED:
            log.warning("    and %d more, which train.log of a run names", len(bad) - NAMED)
    if not kept:
        raise ZooError(f"none of {len(recordings)} recordings can be used")
    values = torch.stack([row for row, _ in rows])
    content = torch.tensor([data.words.index(recording.text) for recording in kept])
    known = {name: i for i, name in enumerate(data.names)}
    speaker = torch.tensor([known.get(recording.speaker, UNKNOWN) for recording in kept])
    lengths = torch.tensor([len(mel) for _, mel in rows])
    frames = torch.full((len(rows), -(-int(lengths.max()) // STEP) * STEP, audio.MELS), SILENCE)
    for row, (_, mel) in zip(frames, rows):
        row[: len(mel)] = mel
    speech = Speech(
        mel=values[..., : audio.MELS].contiguous(),
        pitch=values[..., audio.MELS].contiguous(),
        voiced=values[..., audio.MELS + 1].contiguous(),
        log_frames=lengths.float().log(),
        content=content,
        label=torch.full_like(speaker, UNKNOWN),
        speaker=speaker,
        extra=torch.zeros_like(speaker, dtype=torch.bool),
        frames=frames,
        letters=letters(data.words)[content],
    )
    return speech, kept


def shown(path: Path, root: str | None) -> str:
    """``path``, relative to ``root`` or to the folder of that table if it is in there."""
    place = Path(root or ".").expanduser()
    place = place if place.is_dir() else place.parent
    return str(path.relative_to(place) if path.is_relative_to(place) else path)


def load(recording: Recording, read: Callable[[Path], tuple[Tensor, int]] = audio.read_wav) -> Tensor:
    """What is said in a file at 8 kHz, trimmed and at one level, ``(samples,)``."""
    return word(*read(recording.path), longest=audio.LONGEST)
