"""What a folder of a pretrained model holds, and its checked configuration."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.config.trust import Trust
from zoo.errors import ZooError
from zoo.hub.files import read_parts
from zoo.hub.registry import find

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FORMAT = 1


def read_config(folder: Path, trust: Sequence[str] = ()) -> dict[str, Any]:
    """The checked contents of ``config.json``, which may name classes of the packages in ``trust``.

    ``target`` is the class of a model from outside this project; of all others the file says ``arch`` alone.
    """
    path = folder / CONFIG
    config = read_parts(path, json.loads, "arguments", "data")
    if config.get("format") != FORMAT:
        raise ZooError(f"{path} has format {config.get('format')!r}; this version of the zoo reads format {FORMAT}")
    try:
        config["target"] = config.get("target") or find(str(config.get("arch"))).target
        Trust.of(trust).check(str(config["target"]), "target")
    except ZooError as error:
        raise ZooError(f"{path}: {error}") from error
    if not isinstance(config["target"], str) or not str(config.get("arch")).isidentifier():
        raise ZooError(f"{path} is not a configuration of a pretrained model")
    for part in ("arguments", "data"):
        Trust.of(trust).check_config(config[part], f"{path}: {part}")
    return config
