"""List the models: what can be trained, and what is pretrained.

    zoo list                      all of them
    zoo list 'cat_vae*'           those whose name matches a pattern
    zoo list pretrained=true      the names of pretrained models alone

Nothing of a model is imported for it.
"""

import json
from fnmatch import fnmatch

from zoo import hub
from zoo.cli.arguments import command
from zoo.cli.options import as_started, tell
from zoo.errors import ZooError, did_you_mean


def show(pattern: str = "*", *, pretrained: bool = False) -> None:
    """Print names.

    Args:
        pattern: of the names, as in a shell.
        pretrained: pretrained models alone, a name a line.

    Raises:
        ZooError: if nothing matches.
    """
    weights = hub.list_models(pattern, pretrained=True)
    models = {} if pretrained else {name: e.about for name, e in hub.models().items() if fnmatch(name, pattern)}
    if not weights and not models:
        known = [*hub.models(), *hub.list_models(pretrained=True)]
        raise ZooError(f"no model matches {pattern!r}.{did_you_mean(pattern, known)} Known: {', '.join(known)}.")
    if pretrained:
        tell("\n".join(weights))
        return
    parts = []
    if models:
        parts.append([as_started("To train, as python scripts/train.py NAME"), *rows(models)])
    if weights:
        scores = {name: score(name) for name in weights}
        parts.append([as_started("Pretrained, as python scripts/eval.py NAME"), *rows(scores)])
    tell("\n\n".join("\n".join(part) for part in parts))


def rows(about: dict[str, str]) -> list[str]:
    """A line for each name."""
    width = max(map(len, about))
    return [f"    {name:<{width}}  {text}".rstrip() for name, text in about.items()]


def score(name: str) -> str:
    """The first of the test scores of a pretrained model."""
    metrics = json.loads((hub.pretrained_folder(name) / "config.json").read_text(encoding="utf-8"))["metrics"]
    return next((f"{metric} {value:.4g}" for metric, value in metrics.items()), "")


main = command(show, text=str(__doc__))
