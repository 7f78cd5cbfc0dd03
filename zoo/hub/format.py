"""What a folder of a pretrained model holds, and its checked configuration."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.config.trust import Trust
from zoo.errors import ZooError
from zoo.hub.registry import find

FORMAT = 1


def read_config(folder: Path, trust: Sequence[str] = ()) -> dict[str, Any]:
    """The checked contents of ``config.json``, which may name classes of the packages in ``trust``.

    ``target`` is the class of a model from outside this project; of all others the file says ``arch`` alone.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ZooError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict) or not all(isinstance(config.get(key), dict) for key in ("arguments", "data")):
        raise ZooError(f"{path} is no configuration of a pretrained model")
    if config.get("format") != FORMAT:
        raise ZooError(f"{path} has format {config.get('format')!r}; this version of the zoo reads format {FORMAT}")
    try:
        config["target"] = config.get("target") or find(str(config.get("arch"))).target
        Trust.of(trust).check(str(config["target"]), "target")
    except ZooError as error:
        raise ZooError(f"{path}: {error}") from error
    if not isinstance(config["target"], str) or not str(config.get("arch")).isidentifier():
        raise ZooError(f"{path} is no configuration of a pretrained model")
    for part in ("arguments", "data"):
        Trust.of(trust).check_config(config[part], f"{path}: {part}")
    return config
