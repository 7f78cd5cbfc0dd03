"""The jobs of a sweep: in what they differ, and what their folders are called."""

import os
import re
from collections.abc import Sequence
from zlib import crc32

SWEPT = "ZOO_SWEPT"
"""The environment variable with the names of the options that differ from job to job."""
LONGEST = 100  # characters of a name


def set_swept(names: Sequence[str]) -> None:
    """Say which options differ from job to job, for this process and those that it starts."""
    os.environ[SWEPT] = ",".join(names)


def swept_in(overrides: Sequence[str]) -> dict[str, str]:
    """Those of the ``overrides`` of a job that differ from job to job."""
    names = os.environ.get(SWEPT, "").split(",")
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    return {name: value for name, _, value in pairs if name in names}


def name_job(overrides: Sequence[str], number: int) -> str:
    """The name of a job's folder: what was overridden, as ``relaxation=rloo,seed=1``.

    What can be no name of a file is replaced, and what is long cut off. As two jobs could then have the same name, a
    checksum of the whole is behind it, which is the same when the sweep is started again with more values.
    """
    text = ",".join(f"{name}={value}" for name, value in swept_in(overrides).items())
    short = re.sub(r"[^\w=,.+\-]+", "_", text)[:LONGEST]
    if not text:
        return str(number)
    return text if text == short else f"{short}-{crc32(text.encode()):08x}"
