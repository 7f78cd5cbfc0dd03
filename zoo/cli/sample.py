"""Draw from a generative model."""

import sys
from pathlib import Path
from typing import Any

from zoo import hub
from zoo.cli import options
from zoo.config import composition
from zoo.errors import ZooError

HELP = """Draw samples from a generative model and save them as a picture.

    python scripts/sample.py checkpoint=cat_vae.mnist [n=64] [seed=0] [output=samples.png]

Pretrained models: {pretrained}
"""


@options.fail_politely
def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        print(options.usage(HELP).format(pretrained=", ".join(hub.list_models(pretrained=True)) or "none"))
        return
    given = {override.key_or_group: override.value() for override in composition.parse(arguments)}
    values: dict[str, Any] = {"checkpoint": "", "n": 64, "seed": 0, "output": "samples.png"}
    for key, value in given.items():
        if key not in values:
            raise ZooError(f"there is no option {key!r}. Options: {', '.join(values)}.")
        if isinstance(values[key], int) and (type(value) is not int or value < (key == "n")):
            raise ZooError(f"{key}={value!r} is not valid: it must be a whole number, {int(key == 'n')} or more.")
        values[key] = value
    if not values["checkpoint"]:
        raise ZooError("say which checkpoint: checkpoint=NAME or checkpoint=FOLDER")

    from zoo.data.seeding import PREDICT, seed_default_generators
    from zoo.training.plots import image_grid

    model = hub.from_pretrained(str(values["checkpoint"]))
    if not hasattr(model, "sample"):
        raise ZooError(f"{values['checkpoint']} is a {type(model).__name__}, which generates nothing to sample")
    seed_default_generators(values["seed"], PREDICT)
    path = Path(str(values["output"]))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image_grid(model.sample(values["n"]), f"Samples of {values['checkpoint']}: pixel means").savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise ZooError(f"cannot write output={path}: {error}") from error
    print(path)
