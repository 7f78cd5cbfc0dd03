"""Speak digits, and save them as a wav file.

    python scripts/speak.py checkpoint=speaker_generator.fsdd text="4 0 7"                 a drawn speaker
    python scripts/speak.py checkpoint=speaker_generator.fsdd text="4 0 7" speaker=theo    one of the speakers
    python scripts/speak.py checkpoint=runs/mine text="four zero seven" speaker=2          one of the codes

Griffin-Lim makes sound of what the model says.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt

from zoo import hub
from zoo.cli.arguments import command
from zoo.cli.options import pretrained, written
from zoo.errors import ZooError

log = logging.getLogger(__name__)


def speak(
    checkpoint: str,
    text: str,
    *,
    speaker: str = "sample",
    seed: NonNegativeInt = 0,
    output: Path = Path("speech.wav"),
    trust: Sequence[str] = (),
) -> None:
    """Write digits, spoken by one speaker, to a file, and say who it is and how long it took.

    Args:
        checkpoint: a speaker generator: a pretrained model, its folder or a run folder.
        text: digits, as "4 0 7", 407 or "four zero seven".
        speaker: sample, a name, a code, or mean for the mean vector in place of a choice.
        seed: of the draws.
        output: the wav file.
        trust: packages whose classes it may name beside those of this project, such as mypkg: their code runs.

    Raises:
        ZooError: if the model does not speak, the text is no digits, or there is no such speaker.
    """
    from zoo.models.speaker_generator.words import WORDS, find_voice, read_digits

    digits = read_digits(text)

    import torch

    from zoo.data.audio import SAMPLE_RATE, write_wav
    from zoo.data.seeding import PREDICT, seed_default_generators
    from zoo.models.speaker_generator import SpeakerGenerator
    from zoo.models.speaker_generator.pictures import in_a_row
    from zoo.training.runs import set_up_logging

    set_up_logging(None)
    model = hub.from_pretrained(checkpoint, trust=trust)
    if not isinstance(model, SpeakerGenerator):
        raise ZooError(f"{checkpoint} is a {type(model).__name__}, which does not speak")
    content = torch.tensor(digits)
    model.speak(content[:1])  # what the first call alone costs is not the speed of the model
    seed_default_generators(seed, PREDICT)
    names = model.speaker_names
    if speaker == "mean":
        chosen: Any = model.log_prior(content).exp()
        about = "the mean vector"
    else:
        code = int(model.sample_speaker(content[:1])) if speaker == "sample" else find_voice(speaker, names)
        chosen = torch.full_like(content, code)
        about = f"code {code}" + (f", {names[code]}" if names[code] else "")
    began = time.perf_counter()
    sounds = model.speak(content, chosen)
    took = time.perf_counter() - began
    sound = in_a_row(sounds)
    with written(output) as path:
        write_wav(path, sound)
    seconds = sum(len(one) for one in sounds) / SAMPLE_RATE
    log.info("%s: %s", about, " ".join(WORDS[digit] for digit in digits))
    log.info("%.2f s of speech in %.3f s: %.0f times real time", seconds, took, seconds / took)
    log.info("%s", output)


main = command(speak, text=str(__doc__), notes=lambda: pretrained("speaker_generator.*"))
