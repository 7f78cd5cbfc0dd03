"""Run an experiment: the gradient lab, comparisons, reproductions."""

from importlib import import_module
from pathlib import Path

from zoo.cli.arguments import command
from zoo.cli.commands import summary
from zoo.cli.options import HELP, as_started, tell
from zoo.config.resources import PACKAGE
from zoo.errors import ZooError, did_you_mean


def main(words: list[str]) -> None:
    if not words or words[0] in HELP:
        tell(overview())
        return
    name, *rest = words
    if name not in experiments():
        known = list(experiments())
        raise ZooError(f"there is no experiment {name!r}.{did_you_mean(name, known)} Experiments: {', '.join(known)}.")
    try:
        module = import_module(f"zoo.lab.{name}")
    except ModuleNotFoundError as error:
        if str(error.name).startswith("zoo"):
            raise
        raise ZooError(f"{name} needs {error.name}, a package that is not installed") from error
    command(module.experiment, text=str(module.__doc__), takes=options_of_training)(rest)


def experiments() -> dict[str, Path]:
    """The modules of ``zoo.lab`` with an experiment. None is imported."""
    files = sorted((PACKAGE / "lab").glob("*.py"))
    return {path.stem: path for path in files if "\ndef experiment(" in path.read_text(encoding="utf-8")}


def overview() -> str:
    """Every experiment with a line about it."""
    about = [f"    {name:<18} {summary(path)}" for name, path in experiments().items()]
    usage = "    zoo lab EXPERIMENT [name=value ...]        zoo lab EXPERIMENT --help tells what it understands"
    return as_started("\n".join(["Experiments that compare estimators of gradients.", "", usage, "", *about]))


def options_of_training() -> list[str]:
    """The first parts of the names of options that every run of an experiment can have."""
    from zoo.config.composition import GROUPS, KEYS

    return [*GROUPS, *KEYS]
