"""A tokenizer of images: a grid of codes, and a prior over them."""

from zoo.models.tokenizer.model import Tokenizer
from zoo.models.tokenizer.nets import GridDecoder, GridEncoder

__all__ = ["GridDecoder", "GridEncoder", "Tokenizer"]
