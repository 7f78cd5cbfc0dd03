"""Run the study of when Gumbel noise pays, and write its page from the rows.

    python scripts/study.py                                   every regime, as far as it is not done, and the page
    python scripts/study.py costs,routing jobs=4              some regimes, over four processes
    python scripts/study.py costs add=mine --config-dir DIR   with an estimator of one's own: DIR/relaxation/mine.yaml
    python scripts/study.py mine --config-dir DIR             a regime of one's own: DIR/study/mine.yaml
    python scripts/study.py costs phases=search,final,again   the winners once more, with other seeds
    python scripts/study.py jobs=0                            the page alone

A regime is a file of configs/study, what all have in common is in configs/plan.yaml. Each run is a row of
FOLDER/<regime>.csv as soon as it is done: stop at any time, the same command goes on. Runs of code that has changed
since are made again. A folder without rows begins with those that are shipped, docs/study.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt

from zoo.cli.arguments import command
from zoo.cli.options import tell

SHIPPED = Path("docs/study")


def study(
    regimes: Sequence[str] = (),
    *,
    add: Sequence[str] = (),
    only: Sequence[str] = (),
    phases: Sequence[Literal["search", "final", "cpu", "again"]] = ("search", "final", "cpu"),
    jobs: NonNegativeInt = 1,
    folder: Path = SHIPPED,
) -> None:
    """Make the runs that are missing, and write the page.

    Args:
        regimes: which of configs/study; by default all.
        add: files of configs/relaxation that take part beside those of the plan.
        only: of the estimators, those to run; by default all.
        phases: of the protocol: search, final, cpu (equal CPU time), again (other seeds).
        jobs: processes; 0 to write the page alone.
        folder: of the rows and the page.

    Raises:
        ZooError: if there is no such regime or estimator, or a file is not in order.
    """
    from zoo.lab.common import check_names
    from zoo.lab.study import page, plan, running

    known = plan.regimes()
    check_names("regimes", regimes, known)
    wanted = list(regimes) or list(known)
    for name in wanted:
        one = plan.load(name, add)  # all are checked before the first one starts
        check_names("only", only, [estimator.name for estimator in one.estimators])
    folder.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        if folder != SHIPPED and not (folder / f"{name}.csv").exists() and (SHIPPED / f"{name}.csv").exists():
            shutil.copyfile(SHIPPED / f"{name}.csv", folder / f"{name}.csv")
        if jobs:
            running.run_regime(name, folder, more=add, only=only, phases=phases, jobs=jobs)
    tell(f"The page: {page.write(folder, add)}")


main = command(study, text=str(__doc__))
