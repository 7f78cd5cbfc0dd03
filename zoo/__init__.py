"""A zoo of neural networks that make discrete choices.

    import zoo

    zoo.list_models(pretrained=True)
    model = zoo.from_pretrained("cat_vae.mnist")
    model, scores = zoo.train("cat_vae", latents=20)

Importing this package costs nothing: models, PyTorch and Lightning are imported when they are used.
"""

from typing import TYPE_CHECKING, Any

from zoo.config import remember
from zoo.errors import ZooError
from zoo.hub import export, from_pretrained, list_models, push_to_hub, register, save_pretrained

if TYPE_CHECKING:
    from zoo.training.api import train

__version__ = "0.3.0"
__all__ = [
    "ZooError",
    "export",
    "from_pretrained",
    "list_models",
    "push_to_hub",
    "register",
    "remember",
    "save_pretrained",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "train":
        from zoo.training.api import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
