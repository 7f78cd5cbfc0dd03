"""Encoders and decoders, policies and critics: plain modules that the models are given."""

from zoo.nets.agents import Critic, Policy, RunningNorm
from zoo.nets.conv import ConvDecoder, ConvEncoder
from zoo.nets.mlp import MLPDecoder, MLPEncoder

__all__ = ["ConvDecoder", "ConvEncoder", "Critic", "MLPDecoder", "MLPEncoder", "Policy", "RunningNorm"]
