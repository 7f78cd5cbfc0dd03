"""Pretrained models: list, load and save them.

A pretrained model is a folder with ``config.json`` (architecture, arguments, metrics, the command that made it,
versions, sha256 of the weights), ``model.safetensors``, and a model card ``README.md`` generated from the two.
This module imports nothing heavy until a model is loaded or saved.
"""

import hashlib
import json
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from zoo.errors import ZooError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.models import ZooModule

PACKAGE = Path(__file__).parent
ARCHITECTURES = {
    "actor_critic": "zoo.models.ActorCritic",
    "cat_vae": "zoo.models.CatVAE",
    "pointer_net": "zoo.models.PointerNet",
    "speaker_generator": "zoo.models.SpeakerGenerator",
    "speech_judge": "zoo.models.SpeechJudge",
}
"""Every architecture: the name in ``arch.tag`` and on the command line -> its class."""
FORMAT = 1


def resource(name: str) -> Path:
    """The folder ``configs`` or ``checkpoints``: inside an installed package, beside it in a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Names of architectures, or of pretrained models as ``arch.tag``, that match a shell pattern."""
    if not pretrained:
        names = list(ARCHITECTURES)
    else:
        names = [path.parent.name for path in resource("checkpoints").glob("*/config.json")]
    return sorted(name for name in names if fnmatch(name, pattern))


def from_pretrained(name: str | Path, *, map_location: Any = "cpu", **changes: Any) -> "ZooModule":
    """A model with its weights, in ``eval()``.

    Args:
        name: ``arch.tag`` of a shipped model, a folder made by :func:`save_pretrained`, a run folder of
            ``scripts/train.py`` (its best weights), a checkpoint file of one, or ``OWNER/NAME``, with ``@REVISION`` or
            without, of a Hugging Face repository that :func:`zoo.push_to_hub` made. OWNER/NAME is taken for a path if
            there is a folder OWNER, and if OWNER is ``runs`` or ``checkpoints``.
        map_location: the device.
        changes: arguments of the model to change, such as ``iwae_samples=1000``.

    Raises:
        ZooError: if there is no such model, a file is missing or damaged, an argument is unknown, or the
            weights do not fit.
    """
    saved = read(name)
    return saved.build(saved.model | changes, map_location)


@dataclass(frozen=True)
class Saved:
    """A saved model before it is built.

    Attributes:
        origin: the file of the weights, for error messages.
        arch: its architecture.
        model: its configuration, for :func:`zoo.config.from_config`.
        data: the configuration of the data it was trained on.
        state: its weights.
    """

    origin: Path
    arch: str
    model: dict[str, Any]
    data: dict[str, Any]
    state: "dict[str, Tensor]"

    def build(self, config: dict[str, Any] | None = None, map_location: Any = "cpu") -> "ZooModule":
        """The model, in ``eval()``, of ``config``, by default of its own, with the saved weights."""
        from zoo.config import from_config
        from zoo.untrusted import MemoryLimit

        try:
            with MemoryLimit(sum(value.numel() for value in self.state.values())):
                model = from_config(config or self.model, where="model", only_zoo=True)
            model.load_state_dict(self.state)
        except ZooError:
            raise
        except Exception as error:  # whatever a damaged configuration makes of a constructor
            reason = " ".join(str(error).split())[:1000]
            raise ZooError(f"{self.origin} does not fit its configuration: {reason}") from error
        return model.to(map_location).eval()


def read(name: str | Path) -> Saved:
    """What is saved under ``name``, as :func:`from_pretrained` understands it, checked but not built."""
    path = Path(name)
    if path.suffix == ".ckpt":
        return read_training_checkpoint(path, {})
    if (path / "config.yaml").is_file():
        from zoo.runs import RunFolder

        run = RunFolder(path)
        data = run.read_config().get("data")
        if not isinstance(data, dict):
            raise ZooError(f"{run.config} is damaged: it does not hold data")
        return read_training_checkpoint(run.best, data)
    return read_pretrained(find_pretrained(name))


def find_pretrained(name: str | Path) -> Path:
    """The folder of a pretrained model, by name or path."""
    if (Path(name) / "config.json").is_file():
        return Path(name)
    names = list_models(pretrained=True)
    if str(name) in names:
        return resource("checkpoints") / str(name)
    from zoo import huggingface

    if huggingface.is_repository(name):
        return huggingface.download(str(name))
    beside = [str(path) for path in Path(name).parent.glob("*/")]
    raise ZooError(
        f"there is no pretrained model {str(name)!r}, and no run or model folder of that name."
        f"{did_you_mean(str(name), names + beside)} Give a run folder, as the end of its training names it, or one of: "
        f"{', '.join(names) or 'none'}."
    )


def read_pretrained(folder: Path) -> Saved:
    """Read a folder made by :func:`save_pretrained`."""
    import safetensors.torch

    config = read_config(folder)
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ZooError(f"{folder} has no model.safetensors")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ZooError(f"{path} cannot be read: {error}") from error
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != config.get("sha256"):
        raise ZooError(f"{path} is damaged or not the file that config.json describes: its sha256 is {checksum}")
    try:
        state = safetensors.torch.load(content)
    except Exception as error:  # the library has its own error class
        raise ZooError(f"{path} is no safetensors file: {error}") from error
    model = {**config["arguments"], "_target_": ARCHITECTURES[config["arch"]]}
    data = config["data"] | ({"root": None} if "root" in config["data"] else {})  # a path of another machine
    return Saved(path, config["arch"], model, data, state)


def read_config(folder: Path) -> dict[str, Any]:
    """The checked contents of ``config.json``."""
    from zoo.untrusted import check_plain

    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ZooError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict) or not all(isinstance(config.get(key), dict) for key in ("arguments", "data")):
        raise ZooError(f"{path} is no configuration of a pretrained model")
    if config.get("format") != FORMAT:
        raise ZooError(f"{path} has format {config.get('format')!r}; this version of the zoo reads format {FORMAT}")
    if str(config.get("arch")) not in ARCHITECTURES:
        raise ZooError(f"{path}: unknown arch {config.get('arch')!r}; known: {', '.join(ARCHITECTURES)}")
    for part in ("arguments", "data"):
        check_plain(config[part], f"{path}: {part}")
    return config


def read_training_checkpoint(path: Path, data: dict[str, Any]) -> Saved:
    """Read a checkpoint of a run."""
    from zoo.models import read_checkpoint
    from zoo.untrusted import check_plain

    checkpoint = read_checkpoint(path)
    model = checkpoint["config"]
    check_plain(model, f"{path}: config")
    check_plain(data, f"{path}: the data beside it")
    return Saved(path, architecture(model.get("_target_")), model, data, checkpoint["state_dict"])


def architecture(target: Any) -> str:
    """The name of the architecture with the class path ``target``."""
    for arch, path in ARCHITECTURES.items():
        if path == target:
            return arch
    raise ZooError(f"{target} is no architecture of the zoo; known: {', '.join(ARCHITECTURES)}")


def save_pretrained(
    model: "ZooModule",
    folder: str | Path,
    *,
    metrics: dict[str, float] | None = None,
    data: dict[str, Any] | None = None,
    command: str = "",
    pictures: dict[str, Path] | None = None,
    notice: str = "",
) -> Path:
    """Write ``model`` as a folder that :func:`from_pretrained` loads.

    Args:
        model: any model of the zoo whose parts are all from the zoo.
        folder: made if it is missing; its name, ``arch.tag``, is the model's.
        metrics: name -> value, for the card.
        data: configuration of the data that ``metrics`` were measured on.
        command: that made the weights.
        pictures: caption -> picture or sound, a file that is copied into the folder.
        notice: what the card has to say of the licence of the data.

    Returns:
        the folder.

    Raises:
        ZooError: if a part of the model is from outside the zoo, so that it could not be loaded, or the folder
            cannot be written. A model that was in the folder before is then still there.
    """
    import shutil
    import tempfile

    import safetensors.torch

    from zoo.config import check_config, to_config

    folder = Path(folder)
    arguments = to_config(model)
    check_config(arguments, where="model", only_zoo=True)
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
