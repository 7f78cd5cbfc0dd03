"""Save a model as a folder from which it can be loaded."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from zoo.errors import ZooError
from zoo.hub.format import FORMAT
from zoo.hub.registry import architecture

if TYPE_CHECKING:
    from zoo.training import ZooModule


def save_pretrained(
    model: "ZooModule",
    folder: str | Path,
    *,
    metrics: dict[str, float] | None = None,
    data: dict[str, Any] | None = None,
    command: str = "",
    pictures: dict[str, Path] | None = None,
    notice: str = "",
    trust: Sequence[str] = (),
) -> Path:
    """Write ``model`` as a folder that :func:`from_pretrained` loads.

    Args:
        model: any model of the zoo whose parts are all from the zoo, or from what is in ``trust``.
        folder: made if it is missing; its name, ``arch.tag``, is the model's.
        metrics: name -> value, for the card.
        data: configuration of the data that ``metrics`` were measured on.
        command: that made the weights.
        pictures: caption -> picture or sound, a file that is copied into the folder.
        notice: what the card has to say of the licence of the data.
        trust: modules or packages of its parts that are not of this project: whoever loads it has to trust them, too.

    Returns:
        the folder.

    Raises:
        ZooError: if a part of the model is from outside the zoo, so that it could not be loaded, or the folder
            cannot be written. A model that was in the folder before is then still there.
    """
    import shutil
    import tempfile

    import safetensors.torch

    from zoo.config import Trust, check_config, to_config

    folder = Path(folder)
    arguments = to_config(model)
    check_config(arguments, where="model", trust=Trust.of(trust))
    arch = architecture(arguments.pop("_target_"))
    weights = safetensors.torch.save({name: value.contiguous().cpu() for name, value in model.state_dict().items()})
    config = {
        "format": FORMAT,
        "arch": arch,
        "arguments": arguments,
        "data": data or {},
        "metrics": metrics or {},
        "command": command,
        "notice": notice,
        "versions": versions(),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            new = Path(scratch) / "new"
            new.mkdir()
            (new / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            (new / "model.safetensors").write_bytes(weights)
            for picture in (pictures or {}).values():
                shutil.copyfile(picture, new / picture.name)
            (new / "README.md").write_text(model_card(folder.name, config, model, pictures or {}), encoding="utf-8")
            if folder.exists():
                folder.rename(Path(scratch) / "old")
            new.rename(folder)
    except OSError as error:
        raise ZooError(f"cannot write {folder}: {error}") from error
    return folder


def model_card(name: str, config: dict[str, Any], model: "ZooModule", pictures: dict[str, Path]) -> str:
    """The model card: everything in it comes from ``config`` and the model itself."""
    summary = (type(model).__doc__ or "").strip().splitlines()[0]
    parameters = sum(p.numel() for p in model.parameters())
    lines = [
        f"# {name}",
        "",
        f"{summary} {parameters:,} parameters.",
        "",
        "```python",
        "import zoo",
        "",
        f'model = zoo.from_pretrained("{name}")',
        "```",
        "",
        "## Metrics",
        "",
        "| metric | value |",
        "| --- | --- |",
        *(f"| {metric} | {value:.4g} |" for metric, value in config["metrics"].items()),
        "",
        f"Recompute them with `python scripts/eval.py checkpoint={name}`.",
        "",
        "## How it was made",
        "",
        f"    {config['command']}",
        "",
        "With " + ", ".join(f"{package} {version}" for package, version in config["versions"].items()) + ".",
        "",
        *([config["notice"], ""] if config["notice"] else []),
        *(
            f"{'' if file.suffix == '.wav' else '!'}[{caption}]({quote(file.name)})\n"
            for caption, file in pictures.items()
        ),
        "## Arguments",
        "",
        "```json",
        json.dumps({"arguments": config["arguments"], "data": config["data"]}, indent=2),
        "```",
    ]
    return "\n".join(lines) + "\n"


def versions() -> dict[str, str]:
    """Versions of what produced a model."""
    import platform
    from importlib.metadata import version

    return {"python": platform.python_version(), **{p: version(p) for p in ("torch", "lightning")}}
