"""A variational autoencoder with a categorical code."""

from zoo.models.cat_vae.conv import ConvDecoder, ConvEncoder
from zoo.models.cat_vae.mlp import MLPDecoder, MLPEncoder
from zoo.models.cat_vae.model import CatVAE

__all__ = ["CatVAE", "ConvDecoder", "ConvEncoder", "MLPDecoder", "MLPEncoder"]
