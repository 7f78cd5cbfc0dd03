"""Texts as words, numbers as words, words as letters."""

import re
import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.errors import ZooError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LONGEST = 120  # bytes of a text that is said in one breath
LARGEST = 15  # digits of a number that is read as one
WORD = re.compile(r"\d+|[^\s\d']+(?:'[^\s\d']+)*")
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
DECIMAL = re.compile(r"(?<![\d.])(\d+)\.(\d+)(?!\d|\.\d)")


def words_of(text: str) -> list[str]:
    """The words of ``text`` in lower case and composed (NFC), and its numbers as digits: ``Hello, room 1,042!`` is
    hello, room, 1042, and ``3.14`` is 3, point, 1, 4."""
    text = unicodedata.normalize("NFC", text.lower()).replace("\u2019", "'")
    text = DECIMAL.sub(lambda m: f"{m[1]} point {' '.join(m[2])}", THOUSANDS.sub("", text))
    kept = (c if c == "'" or c.isdecimal() or unicodedata.category(c)[0] in "LM" else " " for c in text)
    return WORD.findall("".join(kept))


def number(digits: str) -> list[str]:
    """What is said for a number: ``42`` is forty, two; digit by digit where it begins with a zero, as ``007``.

    Raises:
        ZooError: for another one of several digits without the extra ``speech``, or one too long to be said.
    """
    if len(digits) == 1 or int(digits[0]) == 0:
        return [DIGITS[int(digit)] for digit in digits]
    try:
        from num2words import num2words
    except ImportError as error:
        raise ZooError(
            f"reading {digits[:20]} as a number needs num2words: pip install 'discrete-latent-zoo[speech]'; or write "
            "it as words, or with blanks between its digits"
        ) from error
    if len(digits) > LARGEST:
        raise ZooError(f"{digits[:20]}... is too long a number to say: put blanks between its digits")
    return [word for word in words_of(num2words(int(digits))) if word != "and"]


def spoken(text: str) -> str:
    """``text`` as it is said: words in lower case with blanks between, numbers as words."""
    return " ".join(part for word in words_of(text) for part in (number(word) if word.isdecimal() else [word]))


def letters(texts: Sequence[str]) -> Tensor:
    """The bytes of texts in UTF-8, 0 after the end: int64 ``(texts, longest)``.

    Raises:
        ZooError: for a text that is empty or too long.
    """
    rows = [text.encode() for text in texts]
    for text, row in zip(texts, rows):
        if not 0 < len(row) <= LONGEST:
            raise ZooError(f"a text must have 1 to {LONGEST} bytes, {text[:30]!r} has {len(row)}")
    result = torch.zeros(len(rows), max(map(len, rows), default=1), dtype=torch.int64)
    for i, row in enumerate(rows):
        result[i, : len(row)] = torch.tensor(list(row))
    return result
