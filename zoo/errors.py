"""The one error a user of this project has to know, and what errors say."""

import errno
import re
import sysconfig
import traceback
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a full disk, a quota and a limit of the size of files are reported as."""

PACKAGE = Path(__file__).parent


class ZooError(ValueError):
    """Something the user can put right: a wrong option, a damaged file, data that are not available.

    The message says what to do. The command line prints it without a traceback.
    """


def did_you_mean(name: str, valid: list[str], *, before: str = "") -> str:
    """``" Did you mean 'tau'?"`` for a near miss of one of ``valid``, or of two or three that it is the beginning of,
    with ``before`` put before each; else an empty string."""
    from difflib import get_close_matches

    begin = [one for one in valid if name and one.startswith(name)]  # what is cut short, before what is similar
    near = begin if 0 < len(begin) < 4 else get_close_matches(name, begin or valid, n=1, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(before + one) for one in near)}?" if near else ""


def cause(error: BaseException) -> str:
    """What went wrong, in one short line: of the system's errors the file and the reason, in its words."""
    if isinstance(error, OSError) and error.errno in FULL:
        return "the disk is full"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    text = printable(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


def printable(text: str) -> str:
    """``text`` without what a terminal would obey: colours are left out, other control characters escaped."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def one_line(error: BaseException) -> str:
    """``error`` for a message without a traceback, with the line of the user's own code that it came from, if any."""
    text = " ".join(str(error).split())[:500]
    files = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    ours = [path.is_relative_to(PACKAGE) for path, _ in files]
    if ours and ours[-1] and isinstance(error, (TypeError, ValueError)):
        return text  # it is written for people
    library = sysconfig.get_path("stdlib")
    theirs = [
        f" ({path}, line {line})"
        for (path, line), own in zip(files, ours)
        if not own and path.is_file() and not path.is_relative_to(library) and "site-packages" not in path.parts
    ]
    return f"{type(error).__name__}: {text}{theirs[-1] if theirs else ''}"
