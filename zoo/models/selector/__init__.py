"""Selection of inputs: k of n pixels, columns or items, for all examples or for each."""

from zoo.models.selector.data import Bags
from zoo.models.selector.model import Selector
from zoo.models.selector.nets import MLPPredictor, MLPScorer

__all__ = ["Bags", "MLPPredictor", "MLPScorer", "Selector"]
