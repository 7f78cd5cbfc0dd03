"""Pretrained models on the Hugging Face hub. Needs the extra ``hub``.

A repository there holds what a folder of :func:`zoo.save_pretrained` holds, and is read by the same rules: checked
against its sha256, safetensors only, built of nothing but the parts of this project.
"""

import logging
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from zoo import hub
from zoo.errors import ZooError

log = logging.getLogger(__name__)

REPOSITORY = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w.-]+))?", re.ASCII)
FILES = ("config.json", "model.safetensors", "README.md")
LICENSES = {"CC BY-SA 4.0": "cc-by-sa-4.0"}
"""What the notice of a model may say of its licence -> the hub's name of it; without that it is the project's own."""
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
        api = _import()
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
            f"{_one_line(error)}"
        ) from error
    environment = str(hub.read_config(folder)["data"].get("env"))
    if ":" in environment:  # Gymnasium would import it
        raise ZooError(f"{name}: refusing the environment {environment!r}, which names a module to import")
    return folder


def push_to_hub(
    name: str | Path, repository: str, *, private: bool = False, dry_run: bool = False, token: str | None = None
) -> dict[str, int]:
    """Upload a pretrained model to the Hugging Face hub, from where ``zoo.from_pretrained(repository)`` loads it.

    Args:
        name: ``arch.tag`` or a folder of :func:`zoo.save_pretrained`. It is loaded first: what cannot be loaded is
            not uploaded.
        repository: ``OWNER/NAME``; made if it is missing.
        private: make it a private one.
        dry_run: do all but talk to the hub.
        token: the default is that of ``hf auth login``.

    Returns:
        The files and their sizes in bytes.

    Raises:
        ZooError: if the model cannot be loaded, ``repository`` is no valid name, or the hub refuses or cannot be
            reached.
    """
    api = _import()
    if "@" in repository or not REPOSITORY.fullmatch(repository):
        raise ZooError(f"{repository!r} is no name of a Hugging Face repository: give OWNER/NAME")
    with tempfile.TemporaryDirectory() as scratch:
        stage(name, Path(scratch))
        try:
            api.utils.validate_repo_id(repository)
            operations = [
                api.CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=path)
                for path in sorted(Path(scratch).iterdir())
            ]
            if not dry_run:
                client = api.HfApi(token=token)
                client.create_repo(repository, private=private, exist_ok=True)
                commit = client.create_commit(repository, operations, commit_message=f"Upload {Path(name).name}")
                log.info("%s", commit.commit_url)
        except Exception as error:
            raise ZooError(f"cannot upload {name} to {repository}: {_one_line(error)}") from error
        return {operation.path_in_repo: operation.upload_info.size for operation in operations}


def stage(name: str | Path, folder: Path) -> None:
    """Write to ``folder`` what a repository holds: the model's files, and its card with the hub's metadata."""
    source = hub.find_pretrained(name)
    saved = hub.read_pretrained(source)
    saved.build()
    shown = [path for path in source.iterdir() if path.suffix in (".png", ".gif", ".wav")]
    for path in (source / "config.json", source / "model.safetensors", *shown):
        shutil.copyfile(path, folder / path.name)
    card = (source / "README.md").read_text(encoding="utf-8") if (source / "README.md").is_file() else f"# {name}\n"
    tags = "\n".join(f"- {tag}" for tag in ("pytorch-lightning", "discrete-latent", saved.arch))
    notice = str(hub.read_config(source).get("notice"))
    license = next((name for words, name in LICENSES.items() if words in notice), "mit")
    header = f"---\nlicense: {license}\nlibrary_name: discrete-latent-zoo\ntags:\n{tags}\n---\n\n"
    (folder / "README.md").write_text(header + card, encoding="utf-8")


def _import() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.utils
    except ImportError as error:
        raise ZooError(
            "repositories of the Hugging Face hub need a package: pip install 'discrete-latent-zoo[hub]'"
        ) from error
    return huggingface_hub


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
