"""Print the columns that a trained selector has selected, and write them to a file.

    zoo select checkpoint=runs/mine
    zoo select checkpoint=runs/mine output=columns.csv

Of a selector that makes one selection for all examples, the most important column first.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from zoo import hub
from zoo.cli.arguments import command
from zoo.cli.options import pretrained, tell, written
from zoo.errors import ZooError

ARCHS = ("selector",)


def select(checkpoint: str, *, output: Path = Path("columns.csv"), trust: Sequence[str] = ()) -> list[str]:
    """Print and write the selected columns.

    Args:
        checkpoint: a selector: a pretrained model, its folder, a run folder or a checkpoint file of one.
        output: the CSV file, with the rank, number, name and logit of each column.
        trust: packages whose classes it may name beside those of this project, such as mypkg: their code runs.

    Returns:
        the names of the columns.

    Raises:
        ZooError: if the model selects nothing, or for each example anew, or ``output`` cannot be written.
    """
    from zoo.models.selector import Selector

    model = hub.read(checkpoint, trust, ARCHS).build()
    if not isinstance(model, Selector):
        raise ZooError(f"{checkpoint} is a {type(model).__name__}, which selects no columns: only a selector does")
    columns = model.selected()
    names = [model.names[i] if model.names else f"column {i}" for i in columns]
    logits = model.logits(model.example_input_array).tolist()
    rows = [[rank, i, name, f"{logits[i]:.4f}"] for rank, (i, name) in enumerate(zip(columns, names), 1)]
    with written(output) as path, path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["rank", "column", "name", "logit"], *rows])
    tell("\n".join([*(f"{rank:>4}  {name}" for rank, _, name, _ in rows), str(output)]))
    return names


main = command(select, text=str(__doc__), notes=lambda: pretrained(*ARCHS))
