"""Which runs are one's own, so that their configurations may name one's own classes.

Files from elsewhere build nothing but classes of this project and of packages that the caller trusts by name. A run
that one has trained oneself should need no such words: its classes were named then, in a command or a configuration
file, and their code has run. But nothing *in* a folder can say by itself that it is one's own, and neither can the
owner of its files: what is unpacked or downloaded belongs to whoever unpacks it.

So training signs. It writes the names of the classes from outside into ``classes.json`` in the run folder, with a code
(HMAC-SHA256) that only a secret key of this user can make; the key is made when it is first needed, in a file that
nobody else can read. A reader believes the names only with the right code. A stranger has no key, so no folder of a
stranger's is believed. A folder that is copied or moved stays one's own. What can be done with a signed list that
somebody got hold of is to build those very classes, which one has used oneself. On another machine, for another user,
or where there is no home, one's run is a stranger's: ``trust=PACKAGE``.

Loading with ``trust=`` signs nothing: it is remembered nowhere.
"""

import hashlib
import hmac
import json
import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.config import Trust, check_config, locate
from zoo.errors import ZooError

if TYPE_CHECKING:
    from torch.nn import Module

log = logging.getLogger(__name__)

FILE = "classes.json"
"""In a run folder, or that of a published model: the names of the classes from outside, signed."""
LARGEST = 1_000_000  # bytes


def foreign(config: Any) -> list[str]:
    """The classes, and the modules that other texts import, in ``config`` that are not of this project."""
    found: set[str] = set()
    nodes = [config]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if isinstance(path := node.get("_target_"), str) and not _allowed({"_target_": path}):
                cls = locate(path, "config")
                found |= {path, f"{cls.__module__}.{cls.__qualname__}"}  # a package may have imported it
            nodes += [value for key, value in node.items() if key not in ("_target_", "root")]
        elif isinstance(node, (list, tuple)):
            nodes += node
        elif isinstance(node, str) and not _allowed(node):
            name = node.partition(":")[0]  # else it is refused for something else
            found |= {name} if all(part.isidentifier() for part in name.split(".")) else set()
    return sorted(found)


def _allowed(config: Any) -> bool:
    try:
        Trust().check_config(config, "config")
    except ZooError:
        return False
    return True


def check_storable(config: Any, where: str) -> None:
    """Check that what ``config`` describes can be loaded again, as far as that can be known before it is trained.

    Raises:
        ZooError: naming what cannot be stored.
    """
    try:
        trust = Trust.of(foreign(config))
        trust.check_config(config, where)
        check_config(config, where=where, trust=trust)
    except ZooError as error:
        raise ZooError(f"what is trained could not be loaded again: {error}") from error


def check_weights(model: "Module") -> None:
    """Check that the state of ``model`` is tensors, which is what can be stored of it.

    Raises:
        ZooError: naming what is none.
    """
    from torch import Tensor

    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise ZooError(
                f"what is trained could not be loaded again: {name} in the state of {type(model).__name__} is a "
                f"{type(value).__name__}, and only tensors can be stored"
            )


def sign(folder: Path, config: Any) -> None:
    """Write down in ``folder`` which classes from outside ``config`` names. Nothing is written where there are none."""
    names = foreign(config)
    if not names:
        return
    try:
        code = _code(_key(make=True), names)
        (folder / FILE).write_text(json.dumps({"classes": names, "code": code}, indent=2) + "\n", encoding="utf-8")
    except (OSError, RuntimeError) as error:
        log.warning("%s will need trust=%s to be loaded (%s)", folder, names[0].split(".")[0], error)


def own(folder: Path) -> tuple[str, ...]:
    """The classes from outside that the configuration in ``folder`` may name because its run is one's own."""
    path = folder / FILE
    with suppress(OSError, RuntimeError, ValueError, RecursionError, KeyError, TypeError):
        if path.stat().st_size > LARGEST:
            return ()
        content = json.loads(path.read_text(encoding="utf-8"))
        names, code = [str(name) for name in content["classes"]], str(content["code"])
        if hmac.compare_digest(_code(_key(make=False), names).encode(), code.encode()):
            return tuple(names)
    return ()


def _code(key: bytes, names: list[str]) -> str:
    return hmac.new(key, json.dumps(sorted(names)).encode(), hashlib.sha256).hexdigest()


def _key(*, make: bool) -> bytes:
    """The secret of this user, in ``XDG_DATA_HOME``, else ``~/.local/share``.

    Raises:
        OSError: if it is not there, or cannot be made.
        RuntimeError: if there is no home.
    """
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    path = Path(base) / "discrete-latent-zoo/key"
    if make and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".key.{secrets.token_hex(8)}")
        try:
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
            with suppress(FileExistsError):  # of another process
                os.link(scratch, path)
        finally:
            with suppress(OSError):
                scratch.unlink()
    key = path.read_bytes()
    if len(key) < 32:
        raise OSError(f"{path} is damaged: remove it")
    return key
