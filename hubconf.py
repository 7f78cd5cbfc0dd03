"""Entry points of torch.hub: one an architecture, and the zoo's own functions.

torch.hub.list("OWNER/REPOSITORY")
model = torch.hub.load("OWNER/REPOSITORY", "cat_vae", tag="mnist")
"""

from typing import Any

from zoo import ZooError as _ZooError
from zoo import from_pretrained, list_models

dependencies = ["torch", "torchvision", "lightning", "torchmetrics", "pydantic", "safetensors", "numpy", "matplotlib"]
__all__ = [*list_models(), "from_pretrained", "list_models"]


def _entry(arch: str) -> Any:
    tags = [name.partition(".")[2] for name in list_models(f"{arch}.*", pretrained=True)]

    def load(tag: str | None = None, **changes: Any) -> Any:
        if tag is None and len(tags) != 1:
            raise _ZooError(f"say which {arch}: tag=, one of {', '.join(tags) or 'none'}")
        return from_pretrained(f"{arch}.{tag or tags[0]}", **changes)

    load.__name__ = arch
    load.__doc__ = (
        f"A pretrained {arch} in eval(). tag: one of {', '.join(tags) or 'none'}; the rest as from_pretrained."
    )
    return load


globals().update({arch: _entry(arch) for arch in list_models()})
