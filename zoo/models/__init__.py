"""The models, one LightningModule a file."""

from zoo.models.actor_critic import ActorCritic
from zoo.models.base import ZooModule, read_checkpoint
from zoo.models.cat_vae import CatVAE
from zoo.models.pointer_net import PointerNet
from zoo.models.polynomial import PolynomialProgram
from zoo.models.speaker_generator import SpeakerGenerator
from zoo.models.speech_judge import SpeechJudge

__all__ = [
    "ActorCritic",
    "CatVAE",
    "PointerNet",
    "PolynomialProgram",
    "SpeakerGenerator",
    "SpeechJudge",
    "ZooModule",
    "read_checkpoint",
]
