"""Encoders and decoders, policies and critics: plain modules that the models are given."""

from zoo.nets.agents import Critic, Policy, RunningNorm
from zoo.nets.conv import ConvDecoder, ConvEncoder
from zoo.nets.mlp import MLPDecoder, MLPEncoder
from zoo.nets.pointer import LSTMEncoder, PointerDecoder, TransformerEncoder
from zoo.nets.speech import SpeechClassifier, SpeechDecoder, SpeechEncoder

__all__ = [
    "ConvDecoder",
    "ConvEncoder",
    "Critic",
    "LSTMEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "PointerDecoder",
    "Policy",
    "RunningNorm",
    "SpeechClassifier",
    "SpeechDecoder",
    "SpeechEncoder",
    "TransformerEncoder",
]
