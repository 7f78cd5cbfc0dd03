"""A classifier whose weights are draws: of one bit each, or convolutions put together from shared bricks."""

from zoo.models.binary_net.model import BinaryNet
from zoo.models.binary_net.nets import BinaryMLP, BrickNet

__all__ = ["BinaryMLP", "BinaryNet", "BrickNet"]
