"""The example that explains the subject: a mix of 70% one speaker and 30% another, without labels; and six speakers.

    python scripts/compare_speaker.py
    python scripts/compare_speaker.py example=six relaxations=reinmax

Trains the speaker generator with each relaxation and seed, and has the judge listen to 400 words of each: with a
speaker drawn from the learned prior, and with the mean vector of the prior in place of a draw. Writes ``speaker.md``,
and of the first seed the spectrograms and sounds, to the folder, ``runs/compare_speaker/<example>`` by default. Runs
that are there already are not trained again.

``mix`` is george and yweweler of FSDD, 70 to 30, by the relaxation alone, without a guide: 20 to 85 CPU-seconds a run,
by processor. ``six`` is all of FSDD by the default settings: 140 to 330 CPU-seconds a run, and with ``rloo`` 730.

The columns: accuracy of the code after matching, normalised mutual information, total variation of the learned prior
from the true shares (medians over seeds, with all values); in how many seeds the accuracy is at least 0.97 and the
prior within 0.05, which takes every code; then of the voices that the judge hears (medians): the share of george, the
share that agrees with the code, the share heard as a mix of two, and the entropy of the judgement in nats.
"""

import logging
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt

from zoo.config.composition import choices
from zoo.lab.common import check_names, trained
from zoo.training.runs import RunFolder, sounds

SIX = ["model=speaker_generator", "data=fsdd"]
EXAMPLES = {
    "mix": [*SIX, "model.guide=0", "data.speakers=[george,yweweler]", "data.mix=[0.7,0.3]"],
    "six": SIX,
}


def experiment(
    *overrides: str,
    example: Literal["mix", "six"] = "mix",
    relaxations: Sequence[str] = ("reinmax", "softmax"),
    seeds: PositiveInt = 5,
    folder: Path | None = None,
) -> Path:
    """Train what is not trained yet, and write the table, pictures and sounds.

    Args:
        example: mix or six.
        relaxations: which of configs/relaxation.
        seeds: runs of each.
        folder: of the runs and the results; by default runs/compare_speaker/<example>.
        overrides: options of scripts/train.py for every run, such as epochs=1.

    Returns:
        the file of the table.
    """
    check_names("relaxations", relaxations, choices("relaxation"))
    root = folder or Path("runs/compare_speaker") / example
    path = root / "speaker.md"
    lines = [
        "| `relaxation=` | speaker at generation | accuracy | NMI | prior off by | found | george | agrees with code "
        "| heard as a mix | entropy |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for relaxation in relaxations:
        runs = [run(root, example, relaxation, seed, *overrides) for seed in range(seeds)]
        lines += rows(relaxation, [one.read_results()["metrics"] for one in runs])
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        spoken = sounds(runs[0].sounds).values()
        for made in (runs[0].pictures / "voices.png", *spoken):
            shutil.copyfile(made, root / f"{relaxation}_{made.name}")
    logging.getLogger("zoo").info("\n%s", path)
    return path


def run(root: Path, example: str, relaxation: str, seed: int, *overrides: str) -> RunFolder:
    options = [*EXAMPLES[example], "pictures_every_n_epochs=1000", f"relaxation={relaxation}", f"seed={seed}"]
    return trained(root / relaxation / str(seed), [*options, *overrides])


def rows(relaxation: str, scores: list[dict[str, float]]) -> list[str]:
    """The two lines of the table: with a drawn speaker, and with the mean vector."""

    def of(name: str) -> list[float]:
        return [one[f"test/{name}"] for one in scores]

    def median(name: str, *, every: bool = False) -> str:
        values = ", ".join(f"{value:.2f}" for value in of(name))
        return f"{statistics.median(of(name)):.2f}" + (f" ({values})" if every else "")

    found = sum(a >= 0.97 and off <= 0.05 for a, off in zip(of("accuracy"), of("prior_tv")))
    learned = " | ".join(median(name, every=True) for name in ("accuracy", "nmi", "prior_tv"))
    lines = []
    for kind, about in (("", "drawn from the prior"), ("mean_", "mean vector")):
        heard = " | ".join(median(kind + name) for name in ("first_voice", "code_match", "hybrid_rate", "entropy"))
        left = f"{learned} | {found} of {len(scores)}" if not kind else " | ".join([""] * 4)
        lines.append(f"| `{relaxation}` | {about} | {left} | {heard} |")
    return lines
