"""What the pages about files of one's own take for given: pictures, recordings and a table."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.speech import digit
from zoo.data import audio

PITCHES = {"anna": 220.0, "ben": 110.0}


def pictures(folder: str) -> None:
    """80 pictures of noise in colour, in two folders."""
    rng = np.random.default_rng(0)
    for i in range(80):
        path = Path(folder, "ab"[i % 2], f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path)


def recordings(folder: str) -> None:
    """Two words, twelve times each, by two speakers."""
    for name, pitch in PITCHES.items():
        Path(folder, name).mkdir(parents=True)
        for number, word in enumerate(("hello", "good_morning")):
            for take in range(12):
                audio.write_wav(Path(folder, name, f"{word}_{take}.wav"), digit(number, pitch, take))


def table(path: str) -> None:
    """200 rows of six columns, the first two of which decide on the last."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 5))
    rows = [[*(f"{value:.3f}" for value in row), "ill" if row[0] + row[1] > 0 else "well"] for row in x]
    lines = [["age", "weight", "height", "pulse", "noise", "outcome"], *rows]
    Path(path).write_text("\n".join(map(",".join, lines)) + "\n", encoding="utf-8")
