"""Spoken digits, held on the training device as time-normalised log-mel spectrograms.

Recordings are files ``<digit>_<speaker>_<take>.wav``. :class:`SpokenDigits` does everything but get them:
:mod:`zoo.data.fsdd` and :mod:`zoo.data.espeak` do.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.data import audio, sources
from zoo.data.batches import DataModule, Place, Slices
from zoo.data.seeding import TRAIN, generator
from zoo.errors import ZooError, did_you_mean

log = logging.getLogger(__name__)

TEST_TAKES = range(5)  # the official split of FSDD
VALIDATION_TAKES = range(5, 8)
SHORTEST, LONGEST = 0.08, 3.0  # seconds of a word
NAMED = 5  # recordings that a warning names
UNKNOWN = -1
MIX, LABEL, EXTRA = 8, 9, 11  # uses of the seed, beside those of zoo.data.seeding


class Speech(NamedTuple):
    """A batch of spoken words.

    Attributes:
        mel: log-mel spectrograms, time-normalised, ``(batch, frames, mels)``; see :func:`zoo.data.audio.log_mel`.
        pitch: in [-1, 1], ``(batch, frames)``; see :func:`zoo.data.audio.pitch_to_unit`.
        voiced: whether there is one, in [0, 1], ``(batch, frames)``.
        log_frames: logarithm of the number of frames before normalisation, ``(batch,)``.
        content: the digit, int64 ``(batch,)``.
        label: the speaker where it is known, else -1, int64 ``(batch,)``.
        speaker: who it is, for scores only, int64 ``(batch,)``.
        extra: whether it is shown once more for the sake of its label, so that it must not count in shares of
            speakers, bool ``(batch,)``.
    """

    mel: Tensor
    pitch: Tensor
    voiced: Tensor
    log_frames: Tensor
    content: Tensor
    label: Tensor
    speaker: Tensor
    extra: Tensor


@dataclass(frozen=True)
class Recording:
    """A file of a spoken digit."""

    path: Path
    digit: int
    speaker: str
    take: int


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
        return Speech(*(values[torch.cat([index, again])] for values in self.speech))._replace(
            extra=torch.arange(len(index) + len(again), device=self.device) >= len(index)
        )


class SpokenDigits(DataModule):
    """Spoken digits of several speakers: takes 0 to 4 for the test, 5 to 7 for validation, the others to train on.

    Args:
        speakers: whom to use; their order is that of the labels. null for all of ``everyone``.
        mix: the share of each of ``speakers``, in any unit: recordings are left out, in all three splits, until the
            shares are so. null for all recordings.
        labelled: share of the training recordings whose speaker is known, in [0, 1]; spread evenly over speakers.
        root: directory of the data; the default is the environment's ``ZOO_DATA_DIR``, else ``data``.
        batch_size: training recordings in a step, over all devices together.
        eval_batch_size: the same for validation and test.
        seed: of the order, and of which recordings are left out and labelled.

    Raises:
        ValueError: if a number is out of range or ``speakers`` and ``mix`` do not go together.
    """

    everyone: tuple[str, ...]
    """The speakers there are, or the usual ones."""
    judge: str
    """The pretrained judge that knows these speakers."""
    kept: str
    """The folder in the directory of the data."""
    notice: str
    """What the card of a model that is trained on them has to say."""

    def __init__(
        self,
        *,
        speakers: list[str] | None = None,
        mix: list[float] | None = None,
        labelled: float = 0.0,
        root: str | None = None,
        batch_size: int = 64,
        eval_batch_size: int = 300,
        seed: int = 0,
    ) -> None:
        super().__init__()
        speakers = list(self.everyone) if speakers is None else speakers
        if len(speakers) < 2 or len(set(speakers)) < len(speakers):
            raise ValueError(f"speakers must be two different ones or more, got {speakers}")
        if mix is not None and (len(mix) != len(speakers) or not min(mix) > 0):
            raise ValueError(f"mix must have a positive share for each of the {len(speakers)} speakers, got {mix}")
        if not 0 <= labelled <= 1 or batch_size < 1 or eval_batch_size < 1 or seed < 0:
            raise ValueError(
                "need labelled in [0, 1], batch_size >= 1, eval_batch_size >= 1 and seed >= 0, got "
                f"{labelled}, {batch_size}, {eval_batch_size}, {seed}"
            )
        sources.check_root(root, self.kept, f"data={type(self).__name__.lower()}")
        self.speakers, self.mix, self.labelled, self.root = speakers, mix, labelled, root
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.splits: dict[str, Speech] = {}
        self.recordings: dict[str, list[Recording]] = {}

    def folder(self) -> Path:
        """The folder of the recordings, filled if need be."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        """Put the spectrograms on the training device (the CPU without a Trainer)."""
        if self.splits:
            return
        found = find_recordings(self.folder(), self.speakers)
        speech, kept = analyse(found, self.speakers)
        for split, takes in (("test", TEST_TAKES), ("val", VALIDATION_TAKES), ("train", None)):
            held_out = {*TEST_TAKES, *VALIDATION_TAKES}
            index = [i for i, r in enumerate(kept) if (r.take in takes if takes else r.take not in held_out)]
            index = self._mixed([kept[i] for i in index], index)
            if not index:
                raise ZooError(f"there are no recordings for {split}: none has a take of that split")
            part = Speech(*(values[torch.tensor(index)] for values in speech))
            if split == "train":
                part = part._replace(label=self._labels(part.speaker))
            self.splits[split] = Speech(*(values.to(self.device) for values in part))
            self.recordings[split] = [kept[i] for i in index]

    def proportions(self) -> Tensor:
        """The share of each speaker in the training data, ``(speakers,)``."""
        counts = torch.bincount(self.splits["train"].speaker.cpu(), minlength=len(self.speakers))
        return counts / counts.sum()

    def _mixed(self, recordings: list[Recording], index: list[int]) -> list[int]:
        """Those of ``index`` that make up the mix, the same share of each digit."""
        if self.mix is None:
            return index
        chosen = []
        for share, speaker in zip(self.mix, self.speakers):
            for digit in range(10):
                own = [i for i, r in zip(index, recordings) if r.speaker == speaker and r.digit == digit]
                # Of seven takes, 3 / 7 is three; of three it is now one and now two.
                g = generator("cpu", self.seed, TRAIN, MIX, self.speakers.index(speaker), digit)
                wanted = share / max(self.mix) * len(own) + torch.rand((), generator=g).item()
                order = torch.randperm(len(own), generator=g).tolist()
                chosen += [own[i] for i in sorted(order[: int(wanted)])]
        return chosen

    def _labels(self, speaker: Tensor) -> Tensor:
        """``speaker`` where it is known, else -1."""
        known = round(self.labelled * len(speaker))
        order = torch.randperm(len(speaker), generator=generator("cpu", self.seed, TRAIN, LABEL))
        turn = torch.zeros(len(speaker), dtype=torch.int64)  # how many of the speaker come before
        for k in range(len(self.speakers)):
            own = order[speaker[order] == k]
            turn[own] = torch.arange(len(own))
        labels = torch.full_like(speaker, UNKNOWN)
        chosen = order[turn[order].argsort(stable=True)][:known]  # one of each, then another one of each
        labels[chosen] = speaker[chosen]
        return labels

    def train_dataloader(self) -> SpeechBatches:
        if self.batch_size > len(self.splits["train"].mel):
            raise ZooError(
                f"data.batch_size={self.batch_size} is more than the {len(self.splits['train'].mel)} there are"
            )
        return self._batches("train", self.batch_size, self.in_training, shuffle=True)

    def val_dataloader(self) -> SpeechBatches:
        return self._batches("val", self.eval_batch_size, self.in_evaluation)

    def test_dataloader(self) -> SpeechBatches:
        return self._batches("test", self.eval_batch_size, self.in_evaluation)

    def _batches(self, split: str, batch_size: int, place: Place, *, shuffle: bool = False) -> SpeechBatches:
        speech = self.splits[split]
        return SpeechBatches(speech, batch_size=batch_size, key=(self.seed, TRAIN), shuffle=shuffle, place=place)


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
            found.append(Recording(path, int(digit), speaker, int(take)))
    there = sorted({recording.speaker for recording in found})
    for speaker in speakers:
        if speaker not in there:
            raise ZooError(
                f"{folder} has no recordings of {speaker!r}.{did_you_mean(speaker, there)} "
                f"Speakers there: {', '.join(there) or 'none'}."
            )
    chosen = [recording for recording in found if recording.speaker in speakers]
    return sorted(chosen, key=lambda r: (r.digit, r.speaker, r.take))


def analyse(recordings: list[Recording], speakers: list[str]) -> tuple[Speech, list[Recording]]:
    """The spectrograms of ``recordings``, without labels; those that are bad are named, counted and left out.

    Raises:
        ZooError: if none is good.
    """
    rows, kept, bad = [], [], []
    for recording in recordings:
        try:
            sound = load(recording.path)
        except (ValueError, OSError) as error:
            bad.append(f"{recording.path.name}: {error}")
            continue
        hertz, voiced = audio.pitch(sound)
        mel = audio.log_mel(sound[None])[0]
        values = torch.cat([mel, audio.pitch_to_unit(hertz)[:, None], voiced[:, None]], 1)
        rows.append((audio.resize(values[None], audio.FRAMES)[0], len(mel)))
        kept.append(recording)
    if bad:
        log.warning("%d of %d recordings are bad and left out:", len(bad), len(recordings))
        for line in bad[:NAMED]:
            log.warning("    %s", line)
        if len(bad) > NAMED:
            log.warning("    and %d more", len(bad) - NAMED)
    if not kept:
        raise ZooError(f"none of {len(recordings)} recordings can be used")
    values = torch.stack([row for row, _ in rows])
    speaker = torch.tensor([speakers.index(recording.speaker) for recording in kept])
    speech = Speech(
        mel=values[..., : audio.MELS].contiguous(),
        pitch=values[..., audio.MELS].contiguous(),
        voiced=values[..., audio.MELS + 1].contiguous(),
        log_frames=torch.tensor([n for _, n in rows]).float().log(),
        content=torch.tensor([recording.digit for recording in kept]),
        label=torch.full_like(speaker, UNKNOWN),
        speaker=speaker,
        extra=torch.zeros_like(speaker, dtype=torch.bool),
    )
    return speech, kept


def load(path: Path) -> Tensor:
    """The word in a file at 8 kHz, trimmed and at one level, ``(samples,)``.

    Raises:
        ValueError: if there is none, or none of a credible length.
        OSError: if the file cannot be read.
    """
    sound = audio.level(audio.trim(audio.resample(*audio.read_wav(path))))
    if not SHORTEST <= len(sound) / audio.SAMPLE_RATE <= LONGEST:
        raise ValueError(f"{len(sound) / audio.SAMPLE_RATE:.2f} seconds, not {SHORTEST} to {LONGEST}")
    return sound
