"""A zoo of neural networks that make discrete choices.

    import zoo

    zoo.list_models(pretrained=True)
    model = zoo.from_pretrained("cat_vae.mnist")

Importing this package costs nothing: models, PyTorch and Lightning are imported when they are used.
"""

from zoo.errors import ZooError
from zoo.hub import export, from_pretrained, list_models, push_to_hub, save_pretrained

__version__ = "0.2.0"
__all__ = ["ZooError", "export", "from_pretrained", "list_models", "push_to_hub", "save_pretrained"]
