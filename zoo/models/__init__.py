"""The models, one LightningModule a file."""

from zoo.models.actor_critic import ActorCritic
from zoo.models.base import ZooModule, read_checkpoint
from zoo.models.cat_vae import CatVAE
from zoo.models.pointer_net import PointerNet
from zoo.models.polynomial import PolynomialProgram

__all__ = ["ActorCritic", "CatVAE", "PointerNet", "PolynomialProgram", "ZooModule", "read_checkpoint"]
