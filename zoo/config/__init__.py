"""Checking and building objects from plain configuration. Importing it costs nothing beyond the standard library.

What Hydra composes is in :mod:`zoo.config.composition`.
"""

from zoo.config.objects import (
    Config,
    Configurable,
    check_config,
    from_config,
    locate,
    ours,
    public_path,
    remember,
    to_config,
    with_defaults,
)
from zoo.config.sizes import check_positive
from zoo.config.trust import Trust

__all__ = [
    "Config",
    "Configurable",
    "Trust",
    "check_config",
    "check_positive",
    "from_config",
    "locate",
    "ours",
    "public_path",
    "remember",
    "to_config",
    "with_defaults",
]
