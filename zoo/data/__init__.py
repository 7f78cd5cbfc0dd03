"""Data modules, one a file; :mod:`zoo.data.sources` knows how the bytes get here."""

from zoo.data.environments import Environments
from zoo.data.espeak import Espeak
from zoo.data.fsdd import FSDD
from zoo.data.instances import Instances
from zoo.data.mnist import MNIST, FashionMNIST
from zoo.data.speech import Speech
from zoo.data.steps import Steps
from zoo.data.vocoded import VocodedSpeech

__all__ = ["FSDD", "MNIST", "Environments", "Espeak", "FashionMNIST", "Instances", "Speech", "Steps", "VocodedSpeech"]
