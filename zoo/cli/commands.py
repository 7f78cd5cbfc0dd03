"""The command ``zoo``: which commands there are, and the way to each. It imports only the one that is asked for."""

import sys
from importlib import import_module
from pathlib import Path

from zoo.cli.options import COMMANDS, HELP, as_started, fail_politely, tell
from zoo.config.folders import add_config_folder
from zoo.errors import ZooError, did_you_mean

CONFIG_DIR = ("--config-dir", "-cd", "--config_dir")


@fail_politely
def main(*door: str) -> None:
    """The command line. A script that is the door to one command, or one experiment, hands in its name.

    Raises:
        SystemExit: with status 1, and one message, for what the user can put right.
    """
    words = take_folders([*door, *sys.argv[1:]])
    if not words or words[0] in (*HELP, "help"):
        tell(overview())
    elif words[0] == "--version":
        print(sys.modules["zoo"].__version__)
    elif words[0] not in COMMANDS:
        raise ZooError(
            f"there is no command {words[0]!r}.{did_you_mean(words[0], list(COMMANDS))} "
            f"Commands: {', '.join(COMMANDS)}."
        )
    else:
        import_module(f"zoo.cli.{words[0]}").main(words[1:])


def take_folders(words: list[str]) -> list[str]:
    """``words`` without the flags ``--config-dir FOLDER``, whose folders of configuration files are added.

    Raises:
        ZooError: if a folder is not named, or does not exist.
    """
    rest, left = [], iter(words)
    for word in left:
        flag, equals, folder = word.partition("=")
        if flag not in CONFIG_DIR:
            rest.append(word)
            continue
        folder = folder if equals else next(left, "")
        if not folder or folder.startswith("-"):
            raise ZooError(f"{flag} needs a folder of configuration files: {flag} FOLDER")
        add_config_folder(folder)
    return rest


def overview() -> str:
    """Every command with a line about it."""
    about = [f"    {name:<10} {summary(Path(__file__).parent / f'{name}.py')}" for name in COMMANDS]
    return "\n".join(
        [
            "Neural networks that make discrete choices.",
            "",
            as_started("    zoo COMMAND [name=value ...]        zoo COMMAND --help tells what it understands"),
            "",
            *about,
        ]
    )


def summary(path: Path) -> str:
    """The first line of the docstring that a module begins with; it is neither imported nor parsed, which takes longer
    than all else that a list needs."""
    with path.open(encoding="utf-8") as file:
        return file.readline().strip().strip('"').removesuffix(".")
