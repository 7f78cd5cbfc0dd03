"""Files that are read without trusting them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.config.trust import nodes
from zoo.errors import ZooError, cause

CONTENTS = ("config", "state_dict")
"""What every checkpoint of this project has, beside what the Trainer needs to go on."""
SMALL = 1_000_000  # bytes of a file with a configuration or scores
RUN_CONFIG, BEST = "config.yaml", "checkpoints/best.ckpt"
"""In the folder of a run: what was asked for, and the best weights."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a training checkpoint, on the CPU, read without running any code in it.

    Raises:
        ZooError: if the file is missing, truncated, altered or no checkpoint of this project, or holds code.
    """
    from zoo.hub import unpickling

    path = Path(path)
    if not path.exists():
        raise ZooError(f"there is no checkpoint {path}")
    try:
        checkpoint = unpickling.read(path)
    except (OSError, unpickling.Refused) as error:
        reason = f"cannot be read: {cause(error)}" if isinstance(error, OSError) else error
        raise ZooError(f"checkpoint {path} {reason}") from error
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(k), dict) for k in CONTENTS):
        raise ZooError(f"{path} is not a training checkpoint of this project")
    return checkpoint


def read_parts(path: Path, parse: Callable[[str], Any], *parts: str) -> dict[str, Any]:
    """The contents of a small file that holds a dict with the dicts ``parts``.

    Raises:
        ZooError: if it cannot be read, or holds something else, or far more than it seems to.
    """
    import yaml

    try:
        if path.stat().st_size > SMALL:
            raise ZooError(f"{path} is too large: it has more than {SMALL} bytes")
        value = parse(path.read_text(encoding="utf-8"))
    except ZooError:
        raise
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ZooError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from error
    for _ in nodes(value, str(path)):  # shared parts may double
        pass
    if not isinstance(value, dict) or not all(isinstance(value.get(part), dict) for part in parts):
        raise ZooError(f"{path} is damaged: it does not hold {', '.join(parts)}")
    return value


def parse_yaml(text: str) -> Any:
    """Plain data in YAML. Merging, ``<<``, is not done: it can double what it merges, over and over."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        def flatten_mapping(self, node: Any) -> None:
            if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
                raise ZooError("a configuration merges others by <<, which none of this project does")

    return yaml.load(text, Loader)
