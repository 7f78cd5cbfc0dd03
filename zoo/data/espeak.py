"""Spoken digits synthesised on the spot by eSpeak NG, several of whose voices are the speakers.

eSpeak NG comes with the package ``espeakng-loader``, an optional extra: it is GPL-3, is not part of this project, and
runs in a process of its own.
"""

import hashlib
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from zoo.data import audio
from zoo.data.recordings import resample
from zoo.data.seeding import TRAIN, generator
from zoo.data.sources import data_root
from zoo.data.speech import SpokenDigits
from zoo.data.text import DIGITS
from zoo.errors import ZooError, did_you_mean
from zoo.files import scratch

log = logging.getLogger(__name__)

TAKES = 50
VARIATION = {"rate": (130, 220), "pitch": (40, 60), "range": (30, 70)}  # of the takes; eSpeak's own are 175, 50, 50
TIMEOUT = 600  # seconds


class Espeak(SpokenDigits):
    """Synthesised digits: 50 takes of each by each voice, which differ in rate, pitch and intonation.

    Needs the extra ``speech``. The recordings are kept in ``<root>/espeak-<hash>``, so that all runs have the same:
    some voices, f2 among them, are not always the same to the bit when they are synthesised again. Arguments: see
    :class:`zoo.data.speech.SpokenDigits`; ``speakers`` are voices of eSpeak NG, such as ``en-us+f2``, a language and a
    variant.
    """

    everyone = ("en-us+f2", "en-us+klatt2", "en-us+Alex", "en-gb-x-rp+steph")
    judge = "speech_judge.espeak"
    kept = "espeak"
    notice = "Trained on speech synthesised by eSpeak NG 1.52, which is GPL-3; no part of it is in here."

    def folder(self) -> Path:
        return synthesise(self.names, data_root(self.root))


def synthesise(voices: list[str], root: Path, takes: int = TAKES) -> Path:
    """A folder under ``root`` with ``takes`` recordings of each digit by each of ``voices``, at 8 kHz, made if missing.

    Raises:
        ZooError: without the extra ``speech``, for a voice that does not exist, or if the folder cannot be written.
    """
    for voice in voices:
        if not re.fullmatch(r"[\w-]+(\+[\w-]+)?", voice):  # it becomes a part of the names of files
            raise ZooError(
                f"{voice[:100]!r} is not the name of a voice: give a language and a variant, such as en-us+f2"
            )
    words = plan(voices, takes)
    name = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:12]
    folder = root / f"espeak-{name}"
    if folder.is_dir():
        return folder
    check_voices(voices)
    log.info("synthesising %d words with eSpeak NG", len(words))
    try:
        with scratch(folder) as place:
            spoken, new = place / "spoken", place / "new"
            spoken.mkdir()
            new.mkdir()
            run_worker({"folder": str(spoken), "words": words})
            for word in words:
                audio.write_wav(new / word["name"], resample(*audio.read_wav(spoken / word["name"])))
            os.rename(new, folder)
    except (OSError, ValueError) as error:
        if isinstance(error, ZooError):
            raise
        if not folder.is_dir():  # else another process was faster
            raise ZooError(f"cannot synthesise into {folder}: {error}. Choose a directory by data.root=.") from error
    return folder


def plan(voices: list[str], takes: int) -> list[dict[str, Any]]:
    """What the worker is to say: for each word its file, voice, text, rate (words a minute), pitch and range."""
    words = []
    for voice in voices:
        g = generator("cpu", 0, TRAIN, *voice.encode())
        for digit, text in enumerate(DIGITS):
            for take in range(takes):
                word: dict[str, Any] = {"name": f"{digit}_{voice}_{take}.wav", "voice": voice, "text": text}
                for parameter, (low, high) in VARIATION.items():
                    word[parameter] = int(torch.randint(low, high + 1, (), generator=g))
                words.append(word)
    return words


def check_voices(voices: list[str]) -> None:
    """Raise ``ZooError`` for a variant that eSpeak NG lacks: it would say nothing and take its default one."""
    if importlib.util.find_spec("espeakng_loader") is None:
        raise ZooError(
            "synthesised speech needs eSpeak NG: pip install 'discrete-latent-zoo[speech]' (or, in a checkout, "
            "pip install -e '.[speech]'); or take data=fsdd"
        )
    import espeakng_loader

    variants = sorted(path.name for path in (Path(espeakng_loader.get_data_path()) / "voices" / "!v").iterdir())
    for voice in voices:
        _, plus, variant = voice.partition("+")
        if plus and variant not in variants:
            raise ZooError(
                f"eSpeak NG has no variant {variant!r} for the voice {voice!r}.{did_you_mean(variant, variants)} "
                f"Variants: {', '.join(variants)}."
            )


def run_worker(job: dict[str, object]) -> None:
    """Run ``espeak_worker.py`` in a fresh process.

    Raises:
        ZooError: if it fails.
    """
    worker = Path(__file__).with_name("espeak_worker.py")
    try:
        result = subprocess.run(
            [sys.executable, str(worker)], input=json.dumps(job), capture_output=True, text=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise ZooError(f"eSpeak NG has not finished after {TIMEOUT} seconds") from error
    if result.returncode:
        reason = (result.stderr or result.stdout).strip().splitlines()[-1:] or [f"exit status {result.returncode}"]
        raise ZooError(f"synthesis failed: {reason[0]}")
