"""Load what is saved of a model: a shipped one, a folder, a run, a checkpoint, a repository of the Hugging Face hub."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError, cause, did_you_mean
from zoo.hub import huggingface
from zoo.hub.compact import expanded
from zoo.hub.files import BEST, RUN_CONFIG, parse_yaml, read_checkpoint, read_parts
from zoo.hub.format import CONFIG, WEIGHTS, read_config
from zoo.hub.own import foreign, own
from zoo.hub.private import LEFT_OUT, without_places
from zoo.hub.registry import architecture, list_models, models, pretrained_folder

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.config import Trust
    from zoo.training import ZooModule

log = logging.getLogger(__name__)

HEADER = 10_000_000  # bytes, of the names and shapes of some 100,000 tensors


def from_pretrained(
    name: str | Path, *, map_location: Any = "cpu", trust: Sequence[str] = (), **changes: Any
) -> "ZooModule":
    """A model with its weights, in ``eval()``.

    Args:
        name: ``arch.tag`` of a shipped model, a folder made by :func:`save_pretrained`, a run folder of
            ``scripts/train.py`` (its best weights), a checkpoint file of one, or ``hf://OWNER/NAME``, with
            ``@REVISION`` or without, of a Hugging Face repository that :func:`zoo.push_to_hub` made.
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

    def build(
        self, config: dict[str, Any] | None = None, map_location: Any = "cpu", *, described: str = "its configuration"
    ) -> "ZooModule":
        """The model, in ``eval()``, of ``config``, by default of its own, with the saved weights.

        Raises:
            ZooError: if the weights do not fit it, which is then called as ``described``.
        """
        import torch

        from zoo.config import Trust
        from zoo.hub.untrusted import Budget, check_fit

        config, trust = config or self.model, Trust.of(self.trust)
        try:
            try:
                with Budget(self.state), torch.device("meta"):
                    skeleton = self._made(config, trust)
            except ZooError as error:
                # a constructor from outside may compute with what it makes, which the meta device cannot
                if not trust.packages or error.__cause__ is None or isinstance(error.__cause__, ZooError):
                    raise
            else:
                check_fit(self.state, skeleton, f"{self.origin} does not fit {described}")
            with Budget(self.state):
                model = self._made(config, trust)
            model.load_state_dict(self.state | self.signature())
        except ZooError:
            raise
        except Exception as error:  # whatever a damaged configuration makes of a constructor
            reason = " ".join(str(error).split())[:1000]
            raise ZooError(f"{self.origin} does not fit {described}: {reason}") from error
        if hasattr(type(model), "trained_on"):
            model.trained_on = self.data
        return model.to(map_location).eval()

    def _made(self, config: dict[str, Any], trust: "Trust") -> "ZooModule":
        from torch import nn

        from zoo.config import from_config

        model: Any = from_config(config, where="model", trust=trust)
        if not issubclass(type(model), nn.Module):
            raise ZooError(f"{self.origin}: {type(model).__name__} is not a model")
        return model

    def signature(self) -> "dict[str, Tensor]":
        """Which relaxation the weights of version 0.2 go with, where they do not say it: the configuration does."""
        from zoo.config import Trust, from_config

        written, relaxation = "relaxation._extra_state", self.model.get("relaxation")
        if written in self.state or not relaxation or not any(name.startswith("relaxation.") for name in self.state):
            return {}
        return {
            written: from_config(relaxation, where="model.relaxation", trust=Trust.of(self.trust)).get_extra_state()
        }


def read(name: str | Path, trust: Sequence[str] = (), archs: Sequence[str] = ()) -> Saved:
    """What is saved under ``name``, as :func:`from_pretrained` understands it and ``trust``, checked but not built.

    Where nothing is, the shipped models of the architectures ``archs`` are proposed, by default of all.
    """
    if huggingface.is_repository(name):
        return read_pretrained(find_pretrained(name), trust)
    path = Path(name := os.path.expanduser(name))
    try:
        if path.suffix == ".ckpt":
            return read_training_checkpoint(path, data_beside(path), trust)
        if (path / RUN_CONFIG).is_file():
            return read_run(path, trust)
        return read_pretrained(find_pretrained(name, archs), trust)
    except OSError as error:  # of a name that is too long, or a folder that may not be looked into
        raise ZooError(f"{str(name)[:300]} cannot be read: {error.strerror}") from error


def start_from(model: Any, name: str) -> None:
    """Give ``model`` the weights of what is saved under ``name`` where they fit: by their names, and by their shapes.

    A convolution of images with another number of channels gets the mean over the channels, as much as they were
    together. What fits is counted in the log, and what starts anew is named.

    Raises:
        ZooError: if there is nothing of that name, or nothing fits.
    """
    import torch
    from torch import nn

    saved, own_state = read(name).state, model.state_dict()
    fitting, anew = {}, []
    for key, now in own_state.items():
        if key.startswith("relaxation.") or not now.is_floating_point():
            continue
        before = saved.get(key)
        module = model.get_submodule(key.rpartition(".")[0]) if "." in key else None
        if before is not None and before.shape == now.shape:
            fitting[key] = before
        elif (
            before is not None
            and isinstance(module, nn.Conv2d)
            and before.dim() == 4
            and before.shape[:1] + before.shape[2:] == now.shape[:1] + now.shape[2:]
        ):
            fitting[key] = before.mean(1, keepdim=True).expand(now.shape) * (before.shape[1] / now.shape[1])
        else:
            anew.append(key)
    if not fitting:
        raise ZooError(f"init={name}: none of its weights fits this model, by name and shape")
    with torch.no_grad():
        model.load_state_dict(own_state | fitting)
    count = sum(value.numel() for value in fitting.values())
    log.info(
        "init=%s: %d weights in %d tensors%s", name, count, len(fitting), f"; anew: {', '.join(anew)}" * bool(anew)
    )


def find_pretrained(name: str | Path, archs: Sequence[str] = ()) -> Path:
    """The folder of a pretrained model, by name or path."""
    if huggingface.is_repository(name):
        return huggingface.download(str(name))
    if (Path(name) / CONFIG).is_file():
        return Path(name)
    names = list_models(pretrained=True)
    if str(name) in names:
        return pretrained_folder(str(name))
    if Path(name).is_dir():
        raise ZooError(
            f"there is no pretrained model in {str(name)!r}, and no run: it has neither {CONFIG} nor {RUN_CONFIG}"
        )
    if str(name) in models():
        there = list_models(f"{name}.*", pretrained=True)
        known = f"give one of {', '.join(there)}, or" if there else f"none of {name} is pretrained:"
        raise ZooError(
            f"{str(name)!r} is a kind of model: {known} train one, zoo train {name} run=FOLDER, and give FOLDER"
        )
    beside = [str(path) for path in Path(name).parent.glob("*/")]
    names = [known for known in names if not archs or known.split(".")[0] in archs]
    raise ZooError(
        f"there is no pretrained model {str(name)!r}, and no run or model folder of that name."
        f"{did_you_mean(str(name), names + beside)} Give a run folder, as the end of its training names "
        f"it{', or one of: ' if names else ''}{', '.join(names)}.{huggingface.hint(name)}"
    )


def read_pretrained(folder: Path, trust: Sequence[str] = ()) -> Saved:
    """Read a folder made by :func:`save_pretrained`."""
    import safetensors.torch

    from zoo.hub.untrusted import check_numbers

    trust = (*as_names(trust), *own(folder))
    config = read_config(folder, trust)
    path = folder / WEIGHTS
    if not path.exists():
        raise ZooError(f"{folder} has no {WEIGHTS}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ZooError(f"{path} cannot be read: {cause(error)}") from error
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != config.get("sha256"):
        raise ZooError(f"{path} is damaged or not the file that config.json describes: its sha256 is {checksum}")
    if int.from_bytes(content[:8], "little") > HEADER:
        raise ZooError(f"{path} is not a safetensors file of a model: its header has more than {HEADER} bytes")
    try:
        state = safetensors.torch.load(content)
    except Exception as error:  # the library has its own error class
        raise ZooError(f"{path} is not a safetensors file: {error}") from error
    state = expanded(state, config.get("bits", {}), str(folder))
    check_numbers(state, str(path))
    model = {**config["arguments"], "_target_": config["target"]}
    return Saved(path, config["arch"], model, without_places(config["data"], LEFT_OUT), state, trust)


def read_run(folder: Path, trust: Sequence[str] = ()) -> Saved:
    """Read the best weights of a run."""
    path = folder / RUN_CONFIG
    data = read_parts(path, parse_yaml, "model").get("data")
    if not isinstance(data, dict):
        raise ZooError(f"{path} is damaged: it does not hold data")
    return read_training_checkpoint(folder / BEST, data, trust)


def data_beside(checkpoint: Path) -> dict[str, Any]:
    """The configuration of the data of the run in whose folder a checkpoint lies; empty where it lies elsewhere."""
    try:
        data = read_parts(checkpoint.parent.parent / RUN_CONFIG, parse_yaml, "model").get("data")
    except ZooError:  # there is no such file, or it is of something else: the checkpoint is enough for a model
        return {}
    return data if isinstance(data, dict) else {}


def read_training_checkpoint(path: Path, data: dict[str, Any], trust: Sequence[str] = ()) -> Saved:
    """Read a checkpoint of a run."""
    from zoo.config import Trust
    from zoo.hub.untrusted import check_numbers

    checkpoint = read_checkpoint(path)
    check_numbers(checkpoint["state_dict"], f"checkpoint {path}")
    model = checkpoint["config"]
    trust = (*as_names(trust), *own(path.parent.parent))
    Trust.of(trust).check_config(model, f"{path}: config")
    Trust.of(trust).check_config(data, f"{path}: the data beside it")
    return Saved(path, architecture(model.get("_target_")), model, data, checkpoint["state_dict"], trust)


def as_names(trust: Sequence[str]) -> tuple[str, ...]:
    """``trust`` as a tuple; a single name may stand alone."""
    return (trust,) if isinstance(trust, str) else tuple(trust)
