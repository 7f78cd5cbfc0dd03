"""A judge of spoken digits: which digit, whose voice, and whether the voice is a mix of two.

It is trained on real recordings only, apart from the generators that it scores, and its judgement is never a training
signal for them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric

from zoo.data.audio import FRAMES, MELS
from zoo.data.seeding import PREDICT, generator
from zoo.models.speech_judge.data import Heard, hear
from zoo.training import AdamW, ZooModule

MASKED_FRAMES, MASKED_MELS = 10, 8  # at most, in training
NOISE = 0.1
FALSE_ALARM = 2.0  # what a false alarm costs, where a mix that is not heard costs 1


class Judgement(NamedTuple):
    """What a judge says of sounds.

    Attributes:
        digit: the most probable one, int64 ``(n,)``.
        speaker: probabilities of the speakers it knows, ``(n, speakers)``.
        hybrid: probability that the voice is a mix of two, ``(n,)``.
    """

    digit: Tensor
    speaker: Tensor
    hybrid: Tensor

    def entropy(self) -> Tensor:
        """Of the judgement of the speaker, in nats, ``(n,)``."""
        return torch.special.entr(self.speaker).sum(-1)


class SpeechJudge(ZooModule):
    """Classifier of digits, speakers and mixed voices.

    Args:
        classifier: spectrograms ``(batch, frames, mels)`` to logits ``(batch, 10 + speakers + 1)``.
        optimizer: with its learning-rate schedule.
        speakers: their names, in the order of labels.

    Raises:
        ValueError: if there are fewer than two speakers.
    """

    def __init__(self, *, classifier: nn.Module, optimizer: AdamW, speakers: list[str]) -> None:
        super().__init__()
        if len(speakers) < 2:
            raise ValueError(f"a judge must know two speakers or more, got {speakers}")
        self.classifier, self.optimizer, self.speakers = classifier, optimizer, list(speakers)
        self.monitor = "val/loss"
        names = ("digit_accuracy", "speaker_accuracy", "entropy", "false_alarms")
        self.scores: Any = nn.ModuleDict({f"{kind}{name}": MeanMetric() for kind in ("", "vocoded_") for name in names})
        self.scores["hybrid_recall"] = MeanMetric()

    def terms(self, x: Heard, mel: Tensor) -> tuple[dict[str, Tensor], Judgement]:
        """The cross-entropies, each ``(batch,)``, and the judgement. Whose voice a mix is, is not asked."""
        digits, speakers, hybrid = self.logits(mel)
        values = {
            "digit": F.cross_entropy(digits, x.content, reduction="none"),
            "speaker": F.cross_entropy(speakers, x.speaker, reduction="none") * ~x.hybrid,
            "hybrid": F.binary_cross_entropy_with_logits(
                hybrid, x.hybrid.to(hybrid), reduction="none", weight=torch.where(x.hybrid, 1.0, FALSE_ALARM)
            ),
        }
        return values, Judgement(digits.argmax(-1), speakers.softmax(-1), hybrid.sigmoid())

    def logits(self, mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of digits ``(batch, 10)``, speakers ``(batch, speakers)`` and mixed voices ``(batch,)``."""
        digits, speakers, hybrid = self.classifier(mel).split([10, len(self.speakers), 1], -1)
        return digits, speakers, hybrid[:, 0]

    def training_step(self, batch: Heard, batch_idx: int) -> dict[str, Tensor]:
        values, _ = self.terms(batch, disturb(batch.mel))
        values = {name: value.mean() for name, value in values.items()}
        return {"loss": torch.stack(list(values.values())).sum(), **values}

    def validation_step(self, batch: Heard, batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(batch)

    def test_step(self, batch: Heard, batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(batch)

    def _evaluate(self, x: Heard) -> dict[str, Tensor]:
        values, judgement = self.terms(x, x.mel)
        right = {
            "digit_accuracy": judgement.digit == x.content,
            "speaker_accuracy": judgement.speaker.argmax(-1) == x.speaker,
            "entropy": judgement.entropy(),
            "false_alarms": judgement.hybrid > 0.5,
        }
        for kind, chosen in (("", ~x.vocoded), ("vocoded_", x.vocoded & ~x.hybrid)):
            for name, value in right.items():
                self.scores[kind + name].update(value.float(), chosen.float())
        self.scores["hybrid_recall"].update((judgement.hybrid > 0.5).float(), x.hybrid.float())
        values = {name: value.mean() for name, value in values.items()}
        return {"loss": torch.stack(list(values.values())).sum(), **values}

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        for name, metric in self.scores.items():
            self.log(f"{stage}/{name}", metric.compute(), sync_dist=True)
            metric.reset()

    @property
    def example_input_array(self) -> Tensor:
        """Two spectrograms of noise: what :func:`zoo.export` traces ``forward`` with."""
        return torch.randn(2, FRAMES, MELS, generator=generator(self.device, 0, PREDICT), device=self.device)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`logits`."""
        return self.logits(mel)

    @torch.no_grad()
    def listen(self, sounds: Sequence[Any]) -> Judgement:
        """Judge ``sounds`` at 8 kHz, each ``(samples,)``, a tensor or a NumPy array, of any level and length."""
        heard = hear([torch.as_tensor(sound).float() for sound in sounds])
        digits, speakers, hybrid = self.logits(heard.to(self.device))
        return Judgement(digits.argmax(-1), speakers.softmax(-1), hybrid.sigmoid())

    def names(self, judgement: Judgement) -> list[str]:
        """Whose voices they most probably are, of a :meth:`listen` to ``n`` sounds, ``n`` names."""
        return [self.speakers[i] for i in judgement.speaker.argmax(-1).tolist()]


def disturb(mel: Tensor) -> Tensor:
    """``mel`` with noise, and with a stretch of time and a band replaced by the mean, anew for each example.

    As SpecAugment (Park et al. 2019, arXiv 1904.08779, section 2), without the warping.
    """
    batch, frames, mels = mel.shape
    mask = torch.zeros(batch, frames, mels, dtype=torch.bool, device=mel.device)
    for size, most, shape in ((frames, MASKED_FRAMES, (batch, -1, 1)), (mels, MASKED_MELS, (batch, 1, -1))):
        start, length = torch.rand(2, batch, 1, device=mel.device) * torch.tensor(
            [[[size]], [[most]]], device=mel.device
        )
        place = torch.arange(size, device=mel.device)
        mask |= ((place >= start) & (place < start + length)).view(shape)
    return (mel + NOISE * torch.randn_like(mel)).masked_fill(mask, 0.0)
