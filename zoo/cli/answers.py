"""Run the small decisive experiment of each of the thread's 24 claims, and print the table of verdicts.

    python scripts/answers.py                    all of them: under five CPU-minutes
    python scripts/answers.py 5,16,23            some
    python scripts/answers.py folder=docs/study  and keep them for the page of the study

Each line names the scale of its experiment. A verdict that differs from that of the page says so.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import PositiveInt

from zoo.cli.arguments import command
from zoo.cli.options import tell
from zoo.cli.study import SHIPPED


def answers(claims: Sequence[PositiveInt] = (), *, seeds: PositiveInt = 30, folder: Path | None = None) -> None:
    """Print a verdict for each claim, and what it rests on.

    Args:
        claims: their numbers; by default all.
        seeds: fresh ones where training is compared, at least two.
        folder: where to keep them for the page.

    Raises:
        ZooError: if there is no such claim.
    """
    from zoo.errors import ZooError
    from zoo.lab.common import one_thread
    from zoo.lab.study import answers as thread

    wanted = list(claims) or sorted(thread.CLAIMS)
    if unknown := [number for number in wanted if number not in thread.CLAIMS]:
        raise ZooError(f"there is no claim {unknown[0]}: they are 1 to {len(thread.CLAIMS)}")
    if seeds < 2:
        raise ZooError("seeds= must be at least 2, to tell a difference from chance")
    before, made = thread.read(SHIPPED), []
    with one_thread():
        for number in wanted:
            found = thread.answer(number, seeds)
            made.append(found)
            page = before.get(number)
            other = f"   (the page says: {page.verdict})" if page and page.verdict != found.verdict else ""
            tell(f"{number:>2}  {found.claim}\n    {found.verdict.upper()}{other}: {found.evidence}.")
            tell(f"    [{found.scale}; {found.seconds:.1f} s]")
    total = sum(one.seconds for one in made)
    counts = {v: sum(one.verdict == v for one in made) for v in thread.VERDICTS}
    tell(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + f"; {total:.0f} CPU-seconds.")
    if folder:
        thread.write(folder, made)


main = command(answers, text=str(__doc__))
