"""A judge of spoken digits: which digit, whose voice, and whether the voice is a mix of two."""

from zoo.models.speech_judge.data import VocodedSpeech
from zoo.models.speech_judge.model import SpeechJudge
from zoo.models.speech_judge.nets import SpeechClassifier

__all__ = ["SpeechClassifier", "SpeechJudge", "VocodedSpeech"]
