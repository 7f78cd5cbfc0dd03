"""The Markdown of this project, for the tests of it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))]
)
GUIDES = [path for path in PAGES if path.parent.name != "options"]
"""Without the pages that are written by a program."""
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
MARK = re.compile(r"<!-- cannot run here: (.+) -->\n\Z")
LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^()]*\))?)\)")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: with the folder, such as ``docs/index.md``.
        line: that it begins at.
        language: as the fence says.
        text: what is in it.
        mark: why it cannot run; empty where it can.
    """

    page: str
    line: int
    language: str
    text: str
    mark: str


def name(path: Path) -> str:
    """A page as one says it: from the root of the project."""
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of code of a page, in order."""
    text = path.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        mark = MARK.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 2
        yield Block(name(path), line, match[2], match[3], mark[1] if mark else "")


def prose(path: Path) -> str:
    """The text of a page without its blocks of code."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def links(path: Path) -> list[str]:
    """Where the links and pictures of a page lead to, within this project."""
    found = LINK.findall(re.sub(r"`[^`\n]*`", "", prose(path)))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(path: Path) -> set[str]:
    """The anchors of the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
