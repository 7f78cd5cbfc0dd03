"""The one registry of models: it asks the files. A model is a room in ``zoo/models`` and a file in ``configs/model``,
or a class of another package and such a file in a folder of the user's or a plug-in (:mod:`zoo.config.folders`).

Listing reads those files as text and imports nothing. ``# @weights none`` in the head of one says that the model is a
problem to train on, of which no weights are shipped.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from zoo.config.folders import REGISTERED, config_files
from zoo.config.moved import present
from zoo.config.objects import ours
from zoo.config.resources import resource
from zoo.errors import ZooError, did_you_mean

TARGET = re.compile(
    r"^(?:model:.*\n(?: *#.*\n)*(?P<indent> +)(?:\S.*\n(?:(?: .*)?\n)*?(?P=indent))?)?_target_: (?P<target>\S+)",
    re.MULTILINE,
)
"""The class of a model, in a file for the whole configuration or for that of the model alone."""
WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Where the words of ``MyVAENet`` meet."""
ABOUT = re.compile(r"^# ([^@].*)$", re.MULTILINE)
WEIGHTLESS = re.compile(r"^# @weights none$", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """A model: the path of its class, whether weights of it are shipped, and a line about it."""

    target: str
    weights: bool
    about: str = ""


def models() -> dict[str, Entry]:
    """Every model by its name on the command line and in ``arch.tag``."""
    paths = [found[0] for _, found in sorted(config_files("model").items())]
    found = dict(_read(tuple((path, path.stat().st_mtime_ns) for path in paths)))
    for key, registered in REGISTERED.items():
        if key.startswith("model/"):
            found[key.removeprefix("model/")] = Entry(registered.node["model"]["_target_"], True, registered.about)
    return found


@cache
def _read(files: tuple[tuple[Path, int], ...]) -> dict[str, Entry]:
    found = {}
    for path, _ in files:
        text = path.read_text(encoding="utf-8", errors="replace")
        if target := TARGET.search(text):
            about = ABOUT.search(text)
            found[path.stem] = Entry(target["target"], not WEIGHTLESS.search(text), about[1] if about else "")
    return found


def find(arch: str) -> Entry:
    """The model with the name ``arch``.

    Raises:
        ZooError: if there is none, with near names.
    """
    if arch not in models():
        raise ZooError(f"unknown arch {arch!r}.{did_you_mean(arch, list(models()))} Known: {', '.join(models())}.")
    return models()[arch]


def architecture(target: object) -> str:
    """The name of the model with the class path ``target``; of ``MyVAE`` from outside else ``my_vae``.

    Raises:
        ZooError: if it is a class of this project, and no model.
    """
    for arch, entry in models().items():
        if entry.target == present(target):
            return arch
    if isinstance(target, str) and not ours(target) and target.rpartition(".")[2].isidentifier():
        return WORDS.sub("_", target.rpartition(".")[2]).lower()
    raise ZooError(f"{target} is not an architecture of the zoo; known: {', '.join(models())}")


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Names of architectures, or of pretrained models as ``arch.tag``, that match a shell pattern."""
    if pretrained:
        names = [path.parent.name for path in resource("checkpoints").glob("*/config.json")]
    else:
        names = [name for name, entry in models().items() if entry.weights]
    return sorted(name for name in names if fnmatch(name, pattern))


def pretrained_folder(name: str) -> Path:
    """Where the shipped model ``name`` is, or would be."""
    return resource("checkpoints") / name
