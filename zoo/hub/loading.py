"""Load what is saved of a model: a shipped one, a folder, a run, a checkpoint, a repository of the Hugging Face hub."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError, did_you_mean
from zoo.hub import huggingface
from zoo.hub.files import BEST, RUN_CONFIG, read_checkpoint, read_parts
from zoo.hub.format import read_config
from zoo.hub.own import foreign, own
from zoo.hub.registry import architecture, list_models, pretrained_folder

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.training import ZooModule


def from_pretrained(
    name: str | Path, *, map_location: Any = "cpu", trust: Sequence[str] = (), **changes: Any
) -> "ZooModule":
    """A model with its weights, in ``eval()``.

    Args:
        name: ``arch.tag`` of a shipped model, a folder made by :func:`save_pretrained`, a run folder of
            ``scripts/train.py`` (its best weights), a checkpoint file of one, or ``OWNER/NAME``, with ``@REVISION`` or
            without, of a Hugging Face repository that :func:`zoo.push_to_hub` made. OWNER/NAME is taken for a path if
            there is a folder OWNER, and if OWNER is ``runs`` or ``checkpoints``.
        map_location: the device.
        trust: modules or packages whose classes it may name beside those of this project, such as ``["mypackage"]``:
            their code runs.
        changes: arguments of the model to change, such as ``iwae_samples=1000``: plain data or objects.

    Raises:
        ZooError: if there is no such model, a file is missing or damaged, an argument is unknown, or the
            weights do not fit.
    """
    from zoo.config import to_config

    saved, changes = read(name, trust), to_config(changes)
    saved = replace(saved, trust=(*saved.trust, *foreign(changes)))  # what the caller names is trusted
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
        trust: modules or packages whose classes it may name beside those of this project.
    """

    origin: Path
    arch: str
    model: dict[str, Any]
    data: dict[str, Any]
    state: "dict[str, Tensor]"
    trust: Sequence[str] = ()

    def build(self, config: dict[str, Any] | None = None, map_location: Any = "cpu") -> "ZooModule":
        """The model, in ``eval()``, of ``config``, by default of its own, with the saved weights."""
        from torch import nn

        from zoo.config import Trust, from_config
        from zoo.hub.untrusted import MemoryLimit

        model: Any = None
        try:
            with MemoryLimit(sum(value.numel() for value in self.state.values())):
                model = from_config(config or self.model, where="model", trust=Trust.of(self.trust))
            if not issubclass(type(model), nn.Module):
                raise ZooError(f"{self.origin}: {type(model).__name__} is no model")
            model.load_state_dict(self.state | self.signature())
        except ZooError:
            raise
        except Exception as error:  # whatever a damaged configuration makes of a constructor
            reason = " ".join(str(error).split())[:1000]
            raise ZooError(f"{self.origin} does not fit its configuration: {reason}") from error
        return model.to(map_location).eval()

    def signature(self) -> "dict[str, Tensor]":
        """Which relaxation the weights of version 0.2 go with, where they do not say it: the configuration does."""
        from zoo.config import Trust, from_config

        written, relaxation = "relaxation._extra_state", self.model.get("relaxation")
        if written in self.state or not relaxation or not any(name.startswith("relaxation.") for name in self.state):
            return {}
        return {
            written: from_config(relaxation, where="model.relaxation", trust=Trust.of(self.trust)).get_extra_state()
        }


def read(name: str | Path, trust: Sequence[str] = ()) -> Saved:
    """What is saved under ``name``, as :func:`from_pretrained` understands it and ``trust``, checked but not built."""
    path = Path(name)
    if path.suffix == ".ckpt":
        return read_training_checkpoint(path, {}, trust)
    if (path / RUN_CONFIG).is_file():
        return read_run(path, trust)
    return read_pretrained(find_pretrained(name), trust)


def find_pretrained(name: str | Path) -> Path:
    """The folder of a pretrained model, by name or path."""
    if (Path(name) / "config.json").is_file():
        return Path(name)
    names = list_models(pretrained=True)
    if str(name) in names:
        return pretrained_folder(str(name))
    if huggingface.is_repository(name):
        return huggingface.download(str(name))
    beside = [str(path) for path in Path(name).parent.glob("*/")]
    raise ZooError(
        f"there is no pretrained model {str(name)!r}, and no run or model folder of that name."
        f"{did_you_mean(str(name), names + beside)} Give a run folder, as the end of its training names it, or one of: "
        f"{', '.join(names) or 'none'}."
    )


def read_pretrained(folder: Path, trust: Sequence[str] = ()) -> Saved:
    """Read a folder made by :func:`save_pretrained`."""
    import safetensors.torch

    trust = (*as_names(trust), *own(folder))
    config = read_config(folder, trust)
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
    model = {**config["arguments"], "_target_": config["target"]}
    data = config["data"] | ({"root": None} if "root" in config["data"] else {})  # a path of another machine
    return Saved(path, config["arch"], model, data, state, trust)


def read_run(folder: Path, trust: Sequence[str] = ()) -> Saved:
    """Read the best weights of a run."""
    import yaml

    path = folder / RUN_CONFIG
    data = read_parts(path, yaml.safe_load, "model").get("data")
    if not isinstance(data, dict):
        raise ZooError(f"{path} is damaged: it does not hold data")
    return read_training_checkpoint(folder / BEST, data, trust)


def read_training_checkpoint(path: Path, data: dict[str, Any], trust: Sequence[str] = ()) -> Saved:
    """Read a checkpoint of a run."""
    from zoo.config import Trust

    checkpoint = read_checkpoint(path)
    model = checkpoint["config"]
    trust = (*as_names(trust), *own(path.parent.parent))
    Trust.of(trust).check_config(model, f"{path}: config")
    Trust.of(trust).check_config(data, f"{path}: the data beside it")
    return Saved(path, architecture(model.get("_target_")), model, data, checkpoint["state_dict"], trust)


def as_names(trust: Sequence[str]) -> tuple[str, ...]:
    """``trust`` as a tuple; a single name may stand alone."""
    return (trust,) if isinstance(trust, str) else tuple(trust)
