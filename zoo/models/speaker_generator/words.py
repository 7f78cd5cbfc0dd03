"""What people call words and speakers."""

from zoo.errors import ZooError, did_you_mean

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def read_digits(text: str) -> list[int]:
    """``4 0 7``, ``407`` or ``four zero seven``.

    Raises:
        ZooError: for anything else, or nothing.
    """
    digits: list[int] = []
    for word in text.lower().replace(",", " ").split():
        if word in WORDS:
            digits.append(WORDS.index(word))
        elif word.isascii() and word.isdecimal():
            digits += [int(digit) for digit in word]
        else:
            raise ZooError(f"cannot say {word!r}: the text must be digits, such as text='4 0 7' or 'four zero seven'")
    if not digits:
        raise ZooError("say what to speak: text='4 0 7'")
    return digits


def find_voice(speaker: str, names: list[str]) -> int:
    """The code of ``speaker``, a name or a code.

    Raises:
        ZooError: if there is none.
    """
    if speaker in names:
        return names.index(speaker)
    if speaker.isdecimal() and int(speaker) < len(names):
        return int(speaker)
    known = [name for name in names if name]
    raise ZooError(
        f"there is no speaker {speaker!r}.{did_you_mean(speaker, known)} Say sample, mean, "
        f"a code from 0 to {len(names) - 1}, or one of: {', '.join(known) or 'no names'}."
    )
