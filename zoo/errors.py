"""The one error a user of this project has to know."""


class ZooError(ValueError):
    """Something the user can put right: a wrong option, a damaged file, data that cannot be had.

    The message says what to do. The command line prints it without a traceback.
    """

    status = 1
    """With which the command line exits."""


def did_you_mean(name: str, valid: list[str]) -> str:
    """``" Did you mean 'tau'?"`` for a near miss of one of ``valid``, else an empty string."""
    from difflib import get_close_matches

    near = get_close_matches(name, valid, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
