"""What data modules share, and data that several models use; :mod:`zoo.data.sources` knows how the bytes get here."""

from zoo.data.espeak import Espeak
from zoo.data.fsdd import FSDD
from zoo.data.images import MNIST, FashionMNIST
from zoo.data.speech import Speech
from zoo.data.speech_folder import SpeechFolder

__all__ = ["FSDD", "MNIST", "Espeak", "FashionMNIST", "Speech", "SpeechFolder"]
