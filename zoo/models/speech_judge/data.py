"""Real and vocoded words to train judges of speech on, with voices that are mixed from two."""

from typing import NamedTuple

import torch
from torch import Tensor

from zoo.data import Speech, audio
from zoo.data.batches import DataModule, Place, Slices
from zoo.data.seeding import TRAIN, generator
from zoo.data.speech import SpokenDigits
from zoo.errors import ZooError

MIXTURE = 10  # a use of the seed, beside those of zoo.data.seeding
LEAST, MOST = 0.35, 0.65  # share of the first of two mixed voices
TAKES = 5  # at most, of each of the two sides of a mix
ALONE = 0.25  # share of the controls that are single takes


class Heard(NamedTuple):
    """A batch of words as a judge hears them.

    Attributes:
        mel: time-normalised log-mel spectrograms ``(batch, frames, mels)``.
        content: the digit, int64 ``(batch,)``.
        speaker: who it is, int64 ``(batch,)``; of a mix of two the first.
        hybrid: whether it is a mix of two speakers, bool ``(batch,)``.
        vocoded: whether it went through the vocoder, bool ``(batch,)``.
    """

    mel: Tensor
    content: Tensor
    speaker: Tensor
    hybrid: Tensor
    vocoded: Tensor


class HeardBatches(Slices[Heard]):
    """Batches of :class:`Heard`."""

    def __init__(self, heard: Heard, *, batch_size: int, seed: int, shuffle: bool, place: Place) -> None:
        count, device = len(heard.mel), heard.mel.device
        super().__init__(count, batch_size=batch_size, key=(seed, TRAIN), shuffle=shuffle, device=device, place=place)
        self.heard = heard

    def take(self, index: Tensor, epoch: int, batch: int) -> Heard:
        index = index[self.place.share(len(index))]
        return Heard(*(values[index] for values in self.heard))


class VocodedSpeech(DataModule):
    """Each recording as it is; vocoded, alone or as a mix of two sets of takes of its speaker; and vocoded as a mix of
    such a set with one of another speaker. A set has one to five takes, the share of one is from 0.35 to 0.65.

    A mean of takes of one word is made in one of two ways, at random: of their time-normalised log-mel spectrograms,
    which has the harmonics of all; or of envelope and of pitch apart, which has one pitch between them (a morph). The
    mixes within one speaker are the control: from them a judge learns that neither the vocoder nor the smoothness of a
    mean is what it is to hear, but the voice. All of a split is made from that split alone.

    Args:
        speech: the recordings; all speakers and all recordings of them.
        batch_size: of training, of all processes together.
        eval_batch_size: of validation and test, in each process.
        seed: of the order and the mixes.

    Raises:
        ValueError: if a batch size is less than 1, or ``speech`` leaves recordings out.
    """

    def __init__(
        self, *, speech: SpokenDigits, batch_size: int = 64, eval_batch_size: int = 300, seed: int = 0
    ) -> None:
        super().__init__()
        if batch_size < 1 or eval_batch_size < 1 or seed < 0:
            raise ValueError(f"need batch sizes >= 1 and seed >= 0, got {batch_size}, {eval_batch_size}, {seed}")
        if speech.mix is not None:
            raise ValueError("a judge is to hear all recordings: leave data.speech.mix=null")
        self.speech, self.batch_size, self.eval_batch_size, self.seed = speech, batch_size, eval_batch_size, seed
        self.splits: dict[str, Heard] = {}

    @property
    def notice(self) -> str:
        """What the card of a judge that is trained on them has to say."""
        return self.speech.notice

    def setup(self, stage: str | None = None) -> None:
        """Put the spectrograms on the training device (the CPU without a Trainer)."""
        self.speech.setup()
        wanted = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(
            stage or "", ("train", "val", "test")
        )
        for i, split in enumerate(("train", "val", "test")):
            if split in wanted and split not in self.splits:
                heard = voices(self.speech.splits[split], generator("cpu", self.seed, TRAIN, MIXTURE, i))
                self.splits[split] = Heard(*(values.to(self.device) for values in heard))

    def train_dataloader(self) -> HeardBatches:
        return self._batches("train", self.batch_size, self.in_training, shuffle=True)

    def val_dataloader(self) -> HeardBatches:
        return self._batches("val", self.eval_batch_size, Place())

    def test_dataloader(self) -> HeardBatches:
        return self._batches("test", self.eval_batch_size, Place())

    def _batches(self, split: str, batch_size: int, place: Place, *, shuffle: bool = False) -> HeardBatches:
        return HeardBatches(self.splits[split], batch_size=batch_size, seed=self.seed, shuffle=shuffle, place=place)


def voices(x: Speech, g: torch.Generator) -> Heard:
    """Real voices, vocoded ones, and vocoded mixes of two speakers, of the recordings ``x``, in this order."""
    n = len(x.mel)
    share = LEAST + (MOST - LEAST) * torch.rand(n, 1, generator=g)
    own, more, other = (takes(x, speaker, g) for speaker in (x.speaker, x.speaker, another_speaker(x, g)))
    control = torch.lerp(more, own, share)  # of as many takes as the mix, so that smoothness tells nothing
    alone = torch.rand(n, generator=g) < ALONE
    control[alone] = torch.eye(n)[alone]
    mel = [x.mel, *(vocode_mean(x, weights, g) for weights in (control, torch.lerp(other, own, share)))]
    third = torch.arange(3).repeat_interleave(n)
    return Heard(torch.cat(mel), x.content.repeat(3), x.speaker.repeat(3), third == 2, third > 0)


def another_speaker(x: Speech, g: torch.Generator) -> Tensor:
    """For each recording a speaker that has the same word and is not its own, int64 ``(n,)``."""
    there = torch.zeros(int(x.content.max()) + 1, int(x.speaker.max()) + 1)
    there[x.content, x.speaker] = 1
    allowed = there[x.content]
    allowed.scatter_(1, x.speaker[:, None], 0)
    if not allowed.any(1).all():
        raise ZooError("a judge of mixed voices needs every word from two speakers or more")
    return torch.multinomial(allowed, 1, generator=g)[:, 0]


def takes(x: Speech, speaker: Tensor, g: torch.Generator) -> Tensor:
    """For each recording one to ``TAKES`` recordings of its word by ``speaker`` ``(n,)``, itself among them if that
    is its own: their weights in a mean, ``(n, n)``."""
    n = len(speaker)
    rank = torch.rand(n, n, generator=g)
    rank.fill_diagonal_(-1)
    rank[(x.content[:, None] != x.content) | (speaker[:, None] != x.speaker)] = 2
    wanted = torch.randint(1, TAKES + 1, (n, 1), generator=g)
    order = rank.argsort(1).argsort(1)
    chosen = ((order < wanted) & (rank < 2)).float()
    return chosen / chosen.sum(1, keepdim=True)


def vocode_mean(x: Speech, weights: Tensor, g: torch.Generator) -> Tensor:
    """What is heard of weighted means of recordings, by either kind of mean: ``(n, frames, mels)``."""
    blend, envelope = (torch.einsum("ij,jtm->itm", weights, values) for values in (x.mel, audio.envelope(x.mel)))
    voiced = (weights @ x.voiced > 0.5).float()
    morph = envelope + voiced.unsqueeze(-1) * audio.excitation(weights @ x.pitch) * audio.RIPPLE
    alone = weights.amax(1) == 1
    is_morph = (torch.rand(len(weights), generator=g) < 0.5) & ~alone
    mel = torch.where(is_morph[:, None, None], morph, blend)
    return hear(audio.vocode(mel, (weights @ x.log_frames).exp().round().long().tolist()))


def hear(sounds: list[Tensor]) -> Tensor:
    """What a judge hears of ``sounds``, each ``(samples,)``: time-normalised spectrograms ``(n, frames, mels)``."""
    return torch.cat([audio.resize(audio.log_mel(audio.level(audio.trim(s))[None]), audio.FRAMES) for s in sounds])
