"""Pretrained models: list, load, save, export and publish them. Nothing heavy is imported until one is needed.

A pretrained model is a folder with ``config.json`` (architecture, arguments, metrics, the command that made it,
versions, sha256 of the weights), ``model.safetensors``, and a model card ``README.md`` generated from the two.
"""

from zoo.hub.compact import rounded
from zoo.hub.exporting import export
from zoo.hub.loading import Saved, find_pretrained, from_pretrained, read, read_pretrained
from zoo.hub.pushing import push_to_hub
from zoo.hub.registering import register
from zoo.hub.registry import list_models, models, pretrained_folder
from zoo.hub.saving import save_pretrained

__all__ = [
    "Saved",
    "export",
    "find_pretrained",
    "from_pretrained",
    "list_models",
    "models",
    "pretrained_folder",
    "push_to_hub",
    "read",
    "read_pretrained",
    "register",
    "rounded",
    "save_pretrained",
]
