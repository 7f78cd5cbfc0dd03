"""Pretrained models on the Hugging Face hub. Needs the extra ``hub``.

A repository there holds what a folder of :func:`zoo.save_pretrained` holds, and is read by the same rules: checked
against its sha256, safetensors only, built of nothing but the parts of this project.
"""

import logging
import re
from pathlib import Path
from typing import Any

from zoo.errors import ZooError, cause
from zoo.hub.format import CARD, CONFIG, WEIGHTS

log = logging.getLogger(__name__)

PREFIX = "hf://"
REPOSITORY = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[A-Za-z0-9][\w.-]*))?", re.ASCII)
FILES = (CONFIG, WEIGHTS, CARD)
TIMEOUT = 10  # seconds


def is_repository(name: object) -> bool:
    """Whether ``name`` is looked up on the hub: nothing is that does not say so by ``hf://``."""
    return isinstance(name, str) and name.startswith(PREFIX)


def hint(name: object) -> str:
    """What to say to those who may have meant the repository ``name``, which needs a prefix now."""
    return f" A repository of the Hugging Face hub is {PREFIX}{name}." if REPOSITORY.fullmatch(str(name)) else ""


def download(name: str) -> Path:
    """The folder of the repository ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``: from the local cache, or
    fetched into it.

    Raises:
        ZooError: if it is neither there nor available on the hub.
    """
    found = REPOSITORY.fullmatch(name.removeprefix(PREFIX))
    if not found:
        raise ZooError(f"{name!r} is not the name of a Hugging Face repository: give {PREFIX}OWNER/NAME")
    api = package()
    try:
        folder = Path(
            api.snapshot_download(
                found["id"], revision=found["revision"], allow_patterns=list(FILES), etag_timeout=TIMEOUT
            )
        )
    except Exception as error:  # of the network, the server, the cache
        raise ZooError(f"the Hugging Face repository {name} is not available: {cause(error)}") from error
    return folder


def package() -> Any:
    """The package ``huggingface_hub``, of the extra ``hub``."""
    try:
        import huggingface_hub
        import huggingface_hub.utils
    except ImportError as error:
        raise ZooError(
            "repositories of the Hugging Face hub need a package: pip install 'discrete-latent-zoo[hub]'"
        ) from error
    return huggingface_hub
