"""A variational autoencoder with a categorical code."""

from zoo.models.cat_vae.chain import Chain, ChainNet
from zoo.models.cat_vae.chain_nets import MADE, CodeTransformer
from zoo.models.cat_vae.conv import ConvDecoder, ConvEncoder
from zoo.models.cat_vae.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian, GreyLevels, Likelihood
from zoo.models.cat_vae.local_head import LocalHead
from zoo.models.cat_vae.mlp import MLPDecoder, MLPEncoder
from zoo.models.cat_vae.model import CatVAE

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
