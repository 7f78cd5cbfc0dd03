"""Data modules, one a file; :mod:`zoo.data.sources` knows how the bytes get here."""

from zoo.data.environments import Environments
from zoo.data.instances import Instances
from zoo.data.mnist import MNIST, FashionMNIST
from zoo.data.steps import Steps

__all__ = ["MNIST", "Environments", "FashionMNIST", "Instances", "Steps"]
