"""Pretrained models on the Hugging Face hub. Needs the extra ``hub``.

A repository there holds what a folder of :func:`zoo.save_pretrained` holds, and is read by the same rules: checked
against its sha256, safetensors only, built of nothing but the parts of this project.
"""

import logging
import re
from pathlib import Path
from typing import Any

from zoo.errors import ZooError

log = logging.getLogger(__name__)

REPOSITORY = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w.-]+))?", re.ASCII)
FILES = ("config.json", "model.safetensors", "README.md")
TIMEOUT = 10  # seconds


def is_repository(name: object) -> bool:
    """Whether ``name`` is ``OWNER/NAME`` or ``OWNER/NAME@REVISION``, and not a path in a folder of this machine.

    ``runs`` and ``checkpoints`` are always folders: a mistyped run is not asked for on the network.
    """
    if not isinstance(name, str) or not REPOSITORY.fullmatch(name):
        return False
    owner = name.split("/")[0]
    return owner not in ("runs", "checkpoints") and not Path(owner).is_dir()


def download(name: str) -> Path:
    """The folder of the repository ``OWNER/NAME`` or ``OWNER/NAME@REVISION``: from the local cache, or fetched into it.

    Raises:
        ZooError: if it is neither there nor can be had.
    """
    try:
        api = package()
    except ZooError as error:
        raise ZooError(f"there is no folder {name!r} here, and {error}") from error
    found = REPOSITORY.fullmatch(name)
    assert found, name
    try:
        folder = Path(
            api.snapshot_download(
                found["id"], revision=found["revision"], allow_patterns=list(FILES), etag_timeout=TIMEOUT
            )
        )
    except Exception as error:  # of the network, the server, the cache
        raise ZooError(
            f"there is no folder {name!r} here, and the Hugging Face repository of that name cannot be had: "
            f"{one_line(error)}"
        ) from error
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


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
