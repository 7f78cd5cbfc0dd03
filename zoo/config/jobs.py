"""The jobs of a sweep: in what they differ, and what their folders are called."""

import os
import re
from collections.abc import Sequence

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
    """The name of a job's folder: what was overridden, as ``relaxation=rloo,seed=1``."""
    text = ",".join(f"{name}={value}" for name, value in swept_in(overrides).items())
    text = re.sub(r"[^\w=,.+\-]+", "_", text)
    return text if 0 < len(text) <= LONGEST else f"{text[:LONGEST]}-{number}".lstrip("-")
