"""Data modules whose data is made up on the spot: to time training steps, which take as long whatever is learned."""

import torch

from zoo.data import CIFAR10, FSDD, MNIST, Speech, Text, audio
from zoo.models.speech_judge import VocodedSpeech
from zoo.models.speech_judge.data import Heard

WORDS = 1280


def noise_images(data: MNIST | CIFAR10) -> None:
    if data.splits:
        return
    g = torch.Generator().manual_seed(0)
    for split, count in (("train", 50_000), ("val", 10_000), ("test", 10_000)):
        images = torch.randint(0, 256, (count, *data.shape_of({})), dtype=torch.uint8, generator=g)
        data.splits[split] = images.to(data.device), torch.randint(10, (count,), generator=g).to(data.device)


class Images(MNIST):
    """Noise in the shape of MNIST."""

    def setup(self, stage: str | None = None) -> None:
        noise_images(self)

    def prepare_data(self) -> None:
        """There is nothing to fetch."""


class ColourImages(CIFAR10):
    """Noise in the shape of CIFAR-10."""

    def setup(self, stage: str | None = None) -> None:
        noise_images(self)

    def prepare_data(self) -> None:
        """There is nothing to fetch."""


class Letters(Text):
    """Noise in the shape of Shakespeare."""

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        g = torch.Generator().manual_seed(0)
        for split, count in (("train", 1_000_000), ("val", 20_000), ("test", 20_000)):
            self.splits[split] = [torch.randint(self.vocabulary.size, (count,), generator=g).to(self.device)]

    def prepare_data(self) -> None:
        """There is nothing to fetch."""


class Words(FSDD):
    """Noise in the shape of spoken digits, of any speakers."""

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        speech = noise_words(WORDS, len(self.speakers))
        self.splits = dict.fromkeys(("train", "val", "test"), Speech(*(values.to(self.device) for values in speech)))


class HeardWords(VocodedSpeech):
    """Noise in the shape of what a judge hears."""

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        speech = noise_words(WORDS, len(self.speech.speakers))
        kind = torch.arange(WORDS) % 3
        heard = Heard(speech.mel, speech.content, speech.speaker, kind == 2, kind > 0)
        self.splits = dict.fromkeys(("train", "val", "test"), Heard(*(values.to(self.device) for values in heard)))


def noise_words(count: int, speakers: int) -> Speech:
    g = torch.Generator().manual_seed(0)
    speaker = torch.randint(speakers, (count,), generator=g)
    return Speech(
        mel=torch.randn(count, audio.FRAMES, audio.MELS, generator=g),
        pitch=2 * torch.rand(count, audio.FRAMES, generator=g) - 1,
        voiced=torch.rand(count, audio.FRAMES, generator=g).round(),
        log_frames=(20 + 60 * torch.rand(count, generator=g)).log(),
        content=torch.randint(10, (count,), generator=g),
        label=torch.full_like(speaker, -1),
        speaker=speaker,
        extra=torch.zeros(count, dtype=torch.bool),
        frames=torch.randn(count, 80, audio.MELS, generator=g),
        letters=torch.randint(97, 123, (count, 5), generator=g),
    )
