"""Upload pretrained models to the Hugging Face hub. Needs the extra ``hub``."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.config import to_config
from zoo.errors import ZooError, cause
from zoo.files import temporary
from zoo.hub.cards import HEAD, metadata
from zoo.hub.format import CARD, CONFIG, WEIGHTS, read_config
from zoo.hub.huggingface import REPOSITORY, is_repository, package
from zoo.hub.loading import find_pretrained, read_pretrained
from zoo.hub.own import foreign
from zoo.hub.private import copy
from zoo.hub.saving import save_pretrained

if TYPE_CHECKING:
    from lightning import LightningModule

log = logging.getLogger(__name__)


def push_to_hub(
    name: "str | Path | LightningModule",
    repository: str,
    *,
    private: bool = False,
    dry_run: bool = False,
    token: str | None = None,
    trust: Sequence[str] = (),
) -> dict[str, int]:
    """Upload a pretrained model to the Hugging Face hub, from where ``zoo.from_pretrained`` loads it as ``hf://OWNER/NAME``.

    Args:
        name: ``arch.tag``, a folder of :func:`zoo.save_pretrained`, or a model. It is loaded first: what cannot be
            loaded is not uploaded.
        repository: ``OWNER/NAME``; made if it is missing.
        private: make it a private one.
        dry_run: do all but talk to the hub.
        token: the default is that of ``hf auth login``.
        trust: as :func:`zoo.from_pretrained` takes it.

    Returns:
        The files and their sizes in bytes.

    Raises:
        ZooError: if the model cannot be loaded, ``repository`` is not a valid name, or the hub refuses or cannot be
            reached.
    """
    api = package()
    if "@" in repository or not REPOSITORY.fullmatch(repository):
        raise ZooError(f"{repository!r} is not the name of a Hugging Face repository: give OWNER/NAME")
    if not isinstance(name, (str, Path)):
        with temporary("saved") as place:
            folder = save_pretrained(name, place / repository.split("/")[1])
            trust = (*trust, *foreign([to_config(name), dict(getattr(name, "trained_on", {}))]))
            return push_to_hub(folder, repository, private=private, dry_run=dry_run, token=token, trust=trust)
    with temporary("pushed") as place:
        stage(name, place, trust)
        try:
            api.utils.validate_repo_id(repository)
            operations = [
                api.CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=path) for path in sorted(place.iterdir())
            ]
            if not dry_run:
                client = api.HfApi(token=token)
                client.create_repo(repository, private=private, exist_ok=True)
                commit = client.create_commit(repository, operations, commit_message=f"Upload {Path(name).name}")
                log.info("%s", commit.commit_url)
        except Exception as error:
            raise ZooError(f"cannot upload {name} to {repository}: {cause(error)}") from error
        return {operation.path_in_repo: operation.upload_info.size for operation in operations}


def stage(name: str | Path, folder: Path, trust: Sequence[str] = ()) -> None:
    """Write to ``folder`` what a repository holds: the model's files, and its card with the hub's metadata."""
    source = find_pretrained(name)
    saved = read_pretrained(source, trust)
    saved.build()
    card = source / CARD
    try:
        shown = [path for path in source.iterdir() if path.suffix in (".png", ".gif", ".wav")]
        for path in (source / CONFIG, source / WEIGHTS, *shown):
            # the cache of the hub is made of links, and has nothing but what came from there
            copy(path, folder / path.name, path.resolve().parent if is_repository(name) else source)
        if card.exists():
            copy(card, folder / CARD, card.resolve().parent if is_repository(name) else source)
            text = (folder / CARD).read_text(encoding="utf-8")
        else:
            text = f"# {name}\n"
    except (OSError, UnicodeDecodeError) as error:
        raise ZooError(f"{source} cannot be read: {cause(error)}") from error
    if not text.startswith(HEAD):  # a card of an earlier version
        notice = str(read_config(source, saved.trust).get("notice") or "")
        text = metadata(saved.arch, notice, saved.data) + text
    (folder / CARD).write_text(text, encoding="utf-8")
