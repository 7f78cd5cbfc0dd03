"""Synthesise words with eSpeak NG into a folder of wav files: run as a script, in a process of its own.

The synthesiser keeps a state from word to word, so the same words in the same order in a fresh process, and only
those, give the same samples. It imports nothing of this project. Standard input has a JSON object: ``folder`` and
``words``, each a name of a file, a voice, a text, and the parameters rate, pitch and range of eSpeak.
"""

import ctypes
import json
import sys
import wave
from pathlib import Path
from typing import Any

SYNCHRONOUS, UTF8 = 2, 1  # of espeak_AUDIO_OUTPUT; of espeak_Synth's flags
RATE, PITCH, RANGE = 1, 3, 4  # of espeak_PARAMETER


def main() -> None:
    import espeakng_loader

    job = json.load(sys.stdin)
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    chunks: list[bytes] = []
    receiver = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

    def receive(samples: Any, count: int, events: object) -> int:
        if count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = receiver(receive)  # kept here: the library does not own it
    sample_rate = library.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    if sample_rate <= 0:
        sys.exit("eSpeak NG cannot be initialised")
    library.espeak_SetSynthCallback(callback)
    voice = None
    for word in job["words"]:
        if word["voice"] != voice:
            voice = word["voice"]
            if library.espeak_SetVoiceByName(voice.encode()):
                sys.exit(f"eSpeak NG has no voice {voice!r}")
        for parameter, name in ((RATE, "rate"), (PITCH, "pitch"), (RANGE, "range")):
            library.espeak_SetParameter(parameter, word[name], 0)
        text = word["text"].encode()
        chunks.clear()
        if library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 1, 0, UTF8, None, None):
            sys.exit(f"eSpeak NG cannot say {word['text']!r}")
        library.espeak_Synchronize()
        with wave.open(str(Path(job["folder"]) / word["name"]), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sample_rate)
            file.writeframes(b"".join(chunks))


if __name__ == "__main__":
    main()
