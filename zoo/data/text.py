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
SIGNS = "%‰٪+\u2212±\u00d7÷=^*/°#&@$¢£¥\u20a0-\u20bf"  # the last are of money
UNSAID = re.compile(
    rf"(?:(?<=[\s(])|^)[-\u2010-\u2015.](?=\d)|(?<=\d)\s*[{SIGNS}<>]|[{SIGNS}]\s*(?=\d)|(?<![-=])[<>]\s*(?=\d)"
)
"""What changes a number, and is no word: without it -4 would be four, and 20% twenty."""


def words_of(text: str) -> list[str]:
    """The words of ``text`` in lower case and composed (NFC), and its numbers as digits: ``Hello, room 1,042!`` is
    hello, room, 1042, and ``3.14`` is 3, point, 1, 4.

    Raises:
        ZooError: for a number with a sign, such as ``-4``, ``20%`` and ``½``.
    """
    check_signs(text)
    text = unicodedata.normalize("NFC", text.lower()).replace("\u2019", "'")
    text = DECIMAL.sub(lambda m: f"{m[1]} point {' '.join(m[2])}", THOUSANDS.sub("", text))
    kept = (c if c == "'" or c.isdecimal() or unicodedata.category(c)[0] in "LM" else " " for c in text)
    return WORD.findall("".join(kept))


def check_signs(text: str) -> None:
    """Raise ``ZooError`` for a number with a sign that :func:`words_of` would leave out."""
    plain = unicodedata.normalize("NFKC", text)
    signs = [match[0].strip() for match in UNSAID.finditer(plain)]
    signs += [c for c in text if unicodedata.category(c) in ("No", "Nl")]
    if signs:
        raise ZooError(f"cannot say {signs[0]!r} in {text[:50]!r}: write it as a word, or leave it out")


def number(digits: str) -> list[str]:
    """What is said for a number: ``42`` is forty, two.

    Raises:
        ZooError: for several digits without the extra ``speech``, or more than fifteen.
    """
    if len(digits) == 1:
        return [DIGITS[int(digits)]]
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
    """``text`` as it is said: words in lower case with blanks between, numbers as words.

    Raises:
        ZooError: for a number that cannot be said, or has a sign.
    """
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
