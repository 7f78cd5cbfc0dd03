"""What data modules share, and data that several models use; :mod:`zoo.data.sources` knows how the bytes get here."""

from zoo.data.espeak import Espeak
from zoo.data.fsdd import FSDD
from zoo.data.image_folder import CIFAR10, CelebA, ImageFolder, Omniglot
from zoo.data.images import MNIST, FashionMNIST
from zoo.data.speech import Speech

__all__ = ["CIFAR10", "FSDD", "MNIST", "CelebA", "Espeak", "FashionMNIST", "ImageFolder", "Omniglot", "Speech"]
