"""A variational autoencoder with a categorical code."""

from zoo.models.cat_vae.conv import ConvDecoder, ConvEncoder
from zoo.models.cat_vae.local_head import LocalHead
from zoo.models.cat_vae.mlp import MLPDecoder, MLPEncoder
from zoo.models.cat_vae.model import CatVAE
from zoo.models.chain import MADE, Chain, ChainNet, CodeTransformer
from zoo.models.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian, GreyLevels, Likelihood

__all__ = [
    "MADE",
    "Bernoulli",
    "CatVAE",
    "Chain",
    "ChainNet",
    "CodeTransformer",
    "ConvDecoder",
    "ConvEncoder",
    "DiscretizedLogistic",
    "Gaussian",
    "GreyLevels",
    "Likelihood",
    "LocalHead",
    "MLPDecoder",
    "MLPEncoder",
]
