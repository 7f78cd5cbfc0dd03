"""A tokenizer of images: a grid of codes, and a prior over them."""

from zoo.models.tokenizer.model import Tokenizer
from zoo.models.tokenizer.nets import GridDecoder, GridEncoder
from zoo.models.tokenizer.prior import CodeTransformer

__all__ = ["CodeTransformer", "GridDecoder", "GridEncoder", "Tokenizer"]
