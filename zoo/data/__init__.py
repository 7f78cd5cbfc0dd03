"""What data modules share, and data that several models use; :mod:`zoo.data.sources` knows how the bytes get here."""

from zoo.data.environments import Environments
from zoo.data.espeak import Espeak
from zoo.data.fsdd import FSDD
from zoo.data.images import MNIST, FashionMNIST
from zoo.data.speech import Speech

__all__ = ["FSDD", "MNIST", "Environments", "Espeak", "FashionMNIST", "Speech"]
