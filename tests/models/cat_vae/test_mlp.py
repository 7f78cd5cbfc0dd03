"""The options of the multi-layer perceptrons."""

import math

import pytest
import torch
from torch import nn

from zoo.config import from_config
from zoo.errors import ZooError
from zoo.models.cat_vae import MLPDecoder, MLPEncoder

SIZE = {"latents": 3, "categories": 4, "hidden": [16, 8]}


@pytest.mark.parametrize("cls", [MLPEncoder, MLPDecoder])
@pytest.mark.parametrize(
    "name, kind", [("silu", nn.SiLU), ("relu", nn.ReLU), ("leaky_relu", nn.LeakyReLU), ("tanh", nn.Tanh)]
)
def test_activation_follows_each_hidden_layer(cls, name, kind):
    layers = list(cls(**SIZE, activation=name).layers)
    assert sum(isinstance(layer, kind) for layer in layers) == 2
    linear = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    assert len(linear) == 3 and all(isinstance(layers[i + 1], kind) for i in linear[:2])


def test_unknown_options_are_refused():
    for option in ({"activation": "tang"}, {"init": "zeros"}):
        with pytest.raises(ZooError, match=next(iter(option))):
            from_config({"_target_": "zoo.models.cat_vae.MLPEncoder", **SIZE, **option}, where="encoder")


@pytest.mark.parametrize("cls", [MLPEncoder, MLPDecoder])
def test_pytorch_init_is_that_of_a_plain_linear_layer(cls):
    for layer in cls(**SIZE, init="pytorch").layers:
        if isinstance(layer, nn.Linear):
            bound = 1 / math.sqrt(layer.in_features)
            assert layer.weight.abs().max() <= bound and 0 < layer.bias.abs().max() <= bound
    scaled = cls(**SIZE)
    assert any(
        layer.weight.abs().max() > 1 / math.sqrt(layer.in_features)
        for layer in scaled.layers
        if isinstance(layer, nn.Linear)
    )
    assert torch.isfinite(scaled(torch.rand(2, *((1, 28, 28) if cls is MLPEncoder else (3, 4))))).all()
