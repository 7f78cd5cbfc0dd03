"""The next character or word, by a recurrent network whose gates may be hard, or by a transformer."""

from zoo.models.language_model.model import LanguageModel
from zoo.models.language_model.nets import Recurrent, Transformer

__all__ = ["LanguageModel", "Recurrent", "Transformer"]
