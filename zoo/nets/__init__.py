"""Encoders and decoders: plain modules that the models are given."""

from zoo.nets.conv import ConvDecoder, ConvEncoder
from zoo.nets.mlp import MLPDecoder, MLPEncoder

__all__ = ["ConvDecoder", "ConvEncoder", "MLPDecoder", "MLPEncoder"]
