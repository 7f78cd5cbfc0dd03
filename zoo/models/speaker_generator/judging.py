"""What a judge of speech, a model of its own, says of generated words."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from zoo.data import audio
from zoo.data.speech import SpokenWords
from zoo.hub import from_pretrained, list_models
from zoo.models.speaker_generator.metrics import total_variation

if TYPE_CHECKING:
    from zoo.models.speaker_generator.model import SpeakerGenerator

log = logging.getLogger(__name__)

SEED = 0  # of what is judged


class Judgement(Protocol):
    """What a judge says of ``n`` sounds; see :class:`zoo.models.speech_judge.model.Judgement`."""

    @property
    def digit(self) -> Tensor: ...

    @property
    def speaker(self) -> Tensor: ...

    @property
    def hybrid(self) -> Tensor: ...

    def entropy(self) -> Tensor: ...


class Judge(Protocol):
    """A model that hears whose voice says which digit, such as :class:`zoo.models.speech_judge.SpeechJudge`."""

    speakers: list[str]

    def listen(self, sounds: Sequence[Tensor]) -> Judgement: ...


def judged_scores(model: "SpeakerGenerator", judge: Judge, data: SpokenWords, n: int) -> dict[str, Tensor]:
    """What ``judge`` says of ``n`` words with drawn speakers; of as many with the mean vector in place of a draw
    (``mean_``); and of the test recordings after the same vocoder (``real_``).

    - ``digit_accuracy``: share of words that are heard as what they are.
    - ``code_match``: share whose voice is heard as the speaker that the code is matched with; of the mean vector, the
      code that would have been drawn.
    - ``voices_tv``: total variation of the voices heard from the true mixture.
    - ``first_voice``: share of voices heard as the first of the speakers.
    - ``hybrid_rate``: share of voices heard as a mix of two.
    - ``entropy``: of the judgement of the speaker, in nats; of real recordings in ``real_entropy``.
    """
    content = torch.arange(n, device=model.device) % model.contents
    code = model.sample_speaker(content, seed=SEED)
    index = torch.tensor([judge.speakers.index(name) for name in data.names], device=model.device)
    speaker = index[model.matching[code]]
    truth = torch.zeros(len(judge.speakers), device=model.device)
    truth[index] = data.proportions().to(model.device)
    x = data.splits["test"]
    heard = {
        "": (judge.listen(model.speak(content, code, seed=SEED)), content, speaker),
        "mean_": (judge.listen(model.speak(content, model.log_prior(content).exp(), seed=SEED)), content, speaker),
        "real_": (
            judge.listen(audio.vocode(x.mel, x.log_frames.exp().round().long().tolist())),
            x.content,
            index[x.speaker],
        ),
    }
    scores: dict[str, Tensor] = {}
    for kind, (judgement, digit, who) in heard.items():
        voice = judgement.speaker.argmax(-1)
        shares = torch.bincount(voice, minlength=len(truth)) / len(voice)
        scores |= {
            f"{kind}digit_accuracy": (judgement.digit == digit).float().mean(),
            f"{kind}code_match": (voice == who).float().mean(),
            f"{kind}voices_tv": total_variation(shares, truth),
            f"{kind}first_voice": shares[index[0]],
            f"{kind}hybrid_rate": (judgement.hybrid > 0.5).float().mean(),
            f"{kind}entropy": judgement.entropy().mean(),
        }
    return scores


def find_judge(data: SpokenWords, device: torch.device) -> Judge | None:
    """The judge that knows the speakers of ``data``, if there is one."""
    if not data.judged or not data.judge or data.judge not in list_models(pretrained=True):
        log.info("no judge hears what is generated")
        return None
    judge: Any = from_pretrained(data.judge, map_location=device)
    if not set(data.names) <= set(judge.speakers):
        log.info("%s does not know all of %s: generated speech is not judged", data.judge, ", ".join(data.names))
        return None
    return judge
