"""A generator of speech that decides whose voice to speak with."""

from zoo.models.speaker_generator.flow import FlowSampler
from zoo.models.speaker_generator.model import SpeakerGenerator
from zoo.models.speaker_generator.nets import SpeechDecoder, SpeechEncoder

__all__ = ["FlowSampler", "SpeakerGenerator", "SpeechDecoder", "SpeechEncoder"]
