"""Encoders and decoders, policies and critics: plain modules that the models are given."""

from zoo.nets.agents import Critic, Policy
from zoo.nets.conv import ConvDecoder, ConvEncoder
from zoo.nets.mlp import MLPDecoder, MLPEncoder
from zoo.nets.speech import SpeechClassifier, SpeechDecoder, SpeechEncoder

__all__ = [
    "ConvDecoder",
    "ConvEncoder",
    "Critic",
    "MLPDecoder",
    "MLPEncoder",
    "Policy",
    "SpeechClassifier",
    "SpeechDecoder",
    "SpeechEncoder",
]
