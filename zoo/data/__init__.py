"""What data modules share, and data that several models use; :mod:`zoo.data.sources` knows how the bytes get here."""

from zoo.data.environments import Environments
from zoo.data.espeak import Espeak
from zoo.data.fsdd import FSDD
from zoo.data.image_folder import CIFAR10, CelebA, ImageFolder, Omniglot
from zoo.data.images import MNIST, FashionMNIST
from zoo.data.inputs import Inputs, inputs
from zoo.data.speech import Speech
from zoo.data.speech_folder import SpeechFolder
from zoo.data.tables import Table
from zoo.data.texts import Text, vocabulary

__all__ = [
    "CIFAR10",
    "FSDD",
    "MNIST",
    "CelebA",
    "Environments",
    "Espeak",
    "FashionMNIST",
    "ImageFolder",
    "Inputs",
    "Omniglot",
    "Speech",
    "SpeechFolder",
    "Table",
    "Text",
    "inputs",
    "vocabulary",
]
