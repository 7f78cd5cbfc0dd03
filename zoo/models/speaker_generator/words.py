"""What people call words and speakers."""

import math
from collections.abc import Sequence

import torch

from zoo.data.text import DECIMAL, DIGITS, LARGEST, THOUSANDS, number, words_of
from zoo.errors import ZooError, did_you_mean

NAMED = 20  # words that a message lists
SAMPLE, MEAN = "sample", "mean"
"""In place of a voice: one drawn from the learned prior, and the mean vector of that prior."""
Voice = int | str | torch.Tensor
"""A code, :data:`SAMPLE` or :data:`MEAN`, or weights ``(speakers,)`` of a blend."""


def read_words(text: str, known: Sequence[str]) -> list[int]:
    """The indices among the texts ``known`` of what ``text`` says: ``4 0 7`` or ``four zero seven``.

    A number is said as a number if those words are known, else digit by digit. Of texts of several words that are
    known as one, the longest is taken.

    Raises:
        ZooError: for a word that is not known, or none, or a number with a sign, such as -4 or 20%.
    """
    place = {word: i for i, word in enumerate(known)}
    words: list[str] = []
    written: list[str] = []  # of each of the words, what stands in the text
    for word in words_of(text):
        said = read_number(word, place) if word.isdecimal() and word not in place else [word]
        words += said
        written += [word] * len(said)
    if not words:
        raise ZooError(f"there is nothing to say in {text[:50]!r}: say what to speak, as text='{known[0]}'")
    longest = max(len(one.split()) for one in known)
    found, at = [], 0
    while at < len(words):
        for count in range(min(longest, len(words) - at), 0, -1):
            if (joined := " ".join(words[at : at + count])) in place:
                break
        else:
            listed = ", ".join(known[:NAMED]) + (f" and {len(known) - NAMED} more" if len(known) > NAMED else "")
            part = written[at]
            if part == "point" and (decimal := DECIMAL.search(THOUSANDS.sub("", text))):
                part = decimal[0]
            of = "" if part == words[at] else f" of {part}"
            raise ZooError(
                f"cannot say {words[at]!r}{of}.{did_you_mean(words[at], list(known))} The model has learned: {listed}"
            )
        found.append(place[joined])
        at += count
    return found


def read_number(digits: str, place: dict[str, int]) -> list[str]:
    """What is said for a number, of words that are known: digit by digit where zeros would be lost, as of 007."""
    singly = [word for digit in digits for word in number(digit)]
    leading = int(digits[0]) == 0 and all(word in place for word in singly)
    if 1 < len(digits) <= LARGEST and not leading and set(DIGITS) != set(place):
        words = number(digits)
        if all(word in place for word in words) or " ".join(words) in place:
            return words
    return singly


def find_voice(speaker: str, names: list[str]) -> int:
    """The code of ``speaker``, a name or a code.

    Raises:
        ZooError: if there is none.
    """
    if speaker and speaker in names:
        return names.index(speaker)
    if speaker in (codes := [str(code) for code in range(len(names))]):  # not 01, which may be somebody's name
        return codes.index(speaker)
    known = [name for name in names if name]
    if speaker in (SAMPLE, MEAN):
        raise ZooError(f"{speaker!r} is none of the speakers of a blend or a list: say it alone, or name speakers")
    raise ZooError(
        f"there is no speaker {speaker!r}.{did_you_mean(speaker, known)} Say {SAMPLE}, {MEAN}, "
        f"a code from 0 to {len(names) - 1}, or one of: {', '.join(known) or 'no names'}."
    )


def read_voices(text: str, names: list[str]) -> list[tuple[str, Voice]]:
    """Who is to speak: ``theo``, ``theo,george`` one after the other, or ``theo:0.7,george:0.3`` in one.

    Shares are divided by their sum.

    Returns:
        What each is called, and the voice.

    Raises:
        ZooError: if there is no such speaker, or the shares of a blend are none.
    """
    if text in names:  # which may have a comma or a colon
        return [read_voice(text, names)]
    parts = [part.strip() for part in text.split(",")]
    if not any(":" in part for part in parts):
        return [read_voice(part, names) for part in parts]
    shares = [0.0] * len(names)
    for part in parts:
        name, _, share = part.rpartition(":")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if not 0 <= value < math.inf:
            raise ZooError(f"{part!r} is not a share of a voice: write speaker=NAME:0.7,NAME:0.3")
        shares[find_voice(name, names)] += value
    if not 0 < sum(shares) < math.inf:
        raise ZooError(f"the shares of {text} are all 0, or too large")
    weights = torch.tensor([share / sum(shares) for share in shares])
    return [(", ".join(f"{weights[i]:.2f} {names[i] or i}" for i in weights.nonzero()[:, 0].tolist()), weights)]


def read_voice(text: str, names: list[str]) -> tuple[str, Voice]:
    """What one voice, not a blend, is called, and the voice."""
    if text in names or text not in (SAMPLE, MEAN):
        code = find_voice(text, names)
        return f"code {code}" + (f", {names[code]}" if names[code] else ""), code
    return "the mean vector" if text == MEAN else "a drawn speaker", text
