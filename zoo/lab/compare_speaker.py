"""The example that explains the subject: a mix of 70% one speaker and 30% another, without labels; and six speakers.

    python scripts/compare_speaker.py [folder] [--example mix] [--relaxations reinmax softmax] [--seeds 5]
    python scripts/compare_speaker.py --example six --relaxations reinmax

Trains the speaker generator with each relaxation and seed, and has the judge listen to 400 words of each: with a
speaker drawn from the learned prior, and with the mean vector of the prior in place of a draw. Writes ``speaker.md``,
and of the first seed the spectrograms and sounds, to the folder, ``runs/compare_speaker/<example>`` by default. Runs
that are there already are not trained again.

``mix`` is george and yweweler of FSDD, 70 to 30, by the relaxation alone, without a guide: about 20 CPU-seconds a run.
``six`` is all of FSDD by the default settings: about 140 CPU-seconds a run.

The columns: accuracy of the code after matching, normalised mutual information, total variation of the learned prior
from the true shares (medians over seeds, with all values); in how many seeds the accuracy is at least 0.97 and the
prior within 0.05, which takes every code; then of the voices that the judge hears (medians): the share of george, the
share that agrees with the code, the share heard as a mix of two, and the entropy of the judgement in nats.
"""

import argparse
import logging
import shlex
import shutil
import statistics
from pathlib import Path

from zoo.config.composition import check, compose, plain
from zoo.training.runs import RunFolder, sounds
from zoo.training.train import train

SIX = ["model=speaker_generator", "data=fsdd"]
EXAMPLES = {
    "mix": [*SIX, "model.balance=20", "model.guide=0", "data.speakers=[george,yweweler]", "data.mix=[0.7,0.3]"],
    "six": SIX,
}
QUIET = ["logger=csv", "trainer.enable_progress_bar=false", "pictures_every_n_epochs=1000"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--example", choices=EXAMPLES, default="mix")
    parser.add_argument("--relaxations", nargs="+", default=["reinmax", "softmax"])
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    root = chosen.folder or Path("runs/compare_speaker") / chosen.example
    lines = [
        "| `relaxation=` | speaker at generation | accuracy | NMI | prior off by | found | george | agrees with code "
        "| heard as a mix | entropy |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for relaxation in chosen.relaxations:
        runs = [run(root, chosen.example, relaxation, seed) for seed in range(chosen.seeds)]
        lines += rows(relaxation, [one.read_results()["metrics"] for one in runs])
        (root / "speaker.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        spoken = sounds(runs[0].sounds).values()
        for path in (runs[0].pictures / "voices.png", *spoken):
            shutil.copyfile(path, root / f"{relaxation}_{path.name}")
    logging.getLogger("zoo").info("\n%s", root / "speaker.md")


def run(root: Path, example: str, relaxation: str, seed: int) -> RunFolder:
    folder = root / relaxation / str(seed)
    overrides = [*EXAMPLES[example], *QUIET, f"relaxation={relaxation}", f"seed={seed}"]
    config = compose([*overrides, f"run={folder}"])
    check(config)
    train(plain(config), folder, command=shlex.join(["python", "scripts/train.py", *overrides]))
    return RunFolder(folder)


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
