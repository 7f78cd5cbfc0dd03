"""Save a model as a folder from which it can be loaded."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from zoo import signals
from zoo.errors import ZooError, cause
from zoo.files import scratch
from zoo.hub.cards import about, as_command, metadata, scores_table
from zoo.hub.compact import compact, one_bit
from zoo.hub.format import FORMAT
from zoo.hub.private import LEFT_OUT, command_without_places, copy, without_places
from zoo.hub.registry import architecture

if TYPE_CHECKING:
    from zoo.training import ZooModule

SHOWN = (".png", ".gif", ".wav")
"""What a card shows, which is made again with the model."""


def save_pretrained(
    model: "ZooModule",
    folder: str | Path,
    *,
    metrics: dict[str, float] | None = None,
    data: dict[str, Any] | None = None,
    command: str = "",
    pictures: dict[str, Path] | None = None,
    notice: str = "",
    small: bool = False,
) -> Path:
    """Write ``model`` as a folder that :func:`from_pretrained` loads.

    Args:
        model: any model of the zoo, or of your own that was trained here. Whoever loads it has to trust the packages of
            parts that are not of this project.
        folder: made if it is missing; its name, ``arch.tag``, is the model's.
        metrics: name -> value, for the card.
        data: configuration of the data that ``metrics`` were measured on; the default is what a model that was loaded
            was trained on. Of it and of the model, places on the disks of this machine are left out.
        command: that made the weights; the same.
        pictures: caption -> picture or sound, a file that is copied into the folder.
        notice: what the card has to say of the licence of the data.
        small: store matrices in half precision, and weights of one bit as bits. What is loaded is so rounded.

    Returns:
        the folder.

    Raises:
        ZooError: if a part of the model cannot be written to a configuration or built of one, a weight is NaN, a
            picture is a link to elsewhere, or the folder cannot be written. A model that was in the folder before is
            then still there.
    """
    import safetensors.torch

    from zoo.config import Trust, ours, to_config
    from zoo.hub.own import check_storable, check_weights, foreign
    from zoo.hub.untrusted import check_numbers

    folder = Path(folder)
    if os.path.isfile(folder):  # unlike Path.is_file, whatever the name
        raise ZooError(f"{folder} is a file: give the name of a folder")
    if os.path.isdir(folder) and os.listdir(folder) and not os.path.isfile(folder / "config.json"):
        raise ZooError(f"{folder} is a folder with other things in it: give a new name")
    arguments = without_places(to_config(model))
    data = without_places(dict(getattr(model, "trained_on", {})) if data is None else data, LEFT_OUT)
    check_weights(model)
    check_numbers(model.state_dict(), type(model).__name__)
    check_storable(arguments, "model")
    outside = foreign([arguments, data])
    Trust.of(outside).check_config({"model": arguments, "data": data}, "what is saved")
    packages = sorted({name.split(".")[0] for name in outside})
    target = arguments.pop("_target_")
    arch = architecture(target)
    # clones, as safetensors refuses two names for the same memory, which weights that are tied have
    state = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
    state, bits = compact(state, one_bit(model)) if small else (state, {})
    weights = safetensors.torch.save(state)
    config = {
        "format": FORMAT,
        "arch": arch,
        **({} if ours(target) else {"target": target}),
        "arguments": arguments,
        **({"bits": bits} if bits else {}),
        "data": data,
        "metrics": metrics or {},
        "command": command_without_places(command),
        "notice": notice,
        "versions": versions(),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    try:
        with scratch(folder) as place:
            new = place / "new"
            new.mkdir()
            (new / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            (new / "model.safetensors").write_bytes(weights)
            for picture in (pictures or {}).values():
                copy(picture, new / picture.name, picture.parent)
            card = model_card(folder.name, config, model, pictures or {}, packages)
            (new / "README.md").write_text(card, encoding="utf-8")
            for other in (
                folder.iterdir() if os.path.isdir(folder) else ()
            ):  # what somebody keeps beside a model, as .git
                if other.suffix not in SHOWN and not (new / other.name).exists():
                    keep(other, new / other.name)
            with signals.deferred():  # not between the two
                if folder.exists():
                    folder.rename(place / "old")
                new.rename(folder)
    except (OSError, ValueError) as error:
        if isinstance(error, ZooError):
            raise
        raise ZooError(f"cannot write {folder}: {cause(error)}") from error
    return folder


def keep(path: Path, target: Path) -> None:
    """Copy what is not a part of a model, links as links."""
    if path.is_dir() and not path.is_symlink():
        shutil.copytree(path, target, symlinks=True)
    else:
        shutil.copy2(path, target, follow_symlinks=False)


def model_card(
    name: str, config: dict[str, Any], model: "ZooModule", pictures: dict[str, Path], packages: list[str]
) -> str:
    """The model card, with the metadata of the Hugging Face hub at its head.

    Everything in it comes from ``config``, the model, and what is known of all models of its class.

    Args:
        packages: of its parts, beside this project.
    """
    from zoo.config import public_path

    summary = next(iter((type(model).__doc__ or "").strip().splitlines()), f"A {type(model).__name__}.")
    trust = f", trust={packages})  # {', '.join(packages)} has to be installed".replace("'", '"') if packages else ")"
    words = f" trust={','.join(packages)}" if packages else ""
    parameters = sum(p.numel() for p in model.parameters())
    known = about(public_path(type(model)))
    data = str(config["data"].get("_target_", "")).rpartition(".")[2]
    lines = [
        f"# {name}",
        "",
        f"{summary} {parameters:,} parameters{f', trained on {data}' if data else ''}.",
        "",
        "```python",
        "import zoo",
        "",
        f'model = zoo.from_pretrained("{name}"{trust}',
        "```",
        "",
        *(["## Intended use", "", known.use.strip(), ""] if known.use else []),
        *(["## Limits", "", known.limits.strip(), ""] if known.limits else []),
        "## Metrics",
        "",
        *([f"Scores: {units}.", ""] if (units := getattr(model, "units", "")) else []),
        *scores_table(config["metrics"], known),
        "",
        f"Recompute them with `zoo eval {name}{words}`.",
        "",
        "## How it was made",
        "",
        indent(as_command(config["command"]), "    "),
        "",
        "With " + ", ".join(f"{package} {version}" for package, version in config["versions"].items()) + ".",
        "",
        *([config["notice"], ""] if config.get("notice") else []),
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
    head = metadata(config["arch"], config.get("notice", ""), config["data"], known.tags, list(config["metrics"]))
    return head + "\n".join(lines) + "\n"


def versions() -> dict[str, str]:
    """Versions of what produced a model."""
    import platform
    from importlib.metadata import version

    return {"python": platform.python_version(), **{p: version(p) for p in ("torch", "lightning")}}
