"""What judges of speech hear."""

import pytest

from tests.speech import write_digits
from zoo.data import FSDD
from zoo.models.speech_judge import VocodedSpeech

SPEAKERS = ["low", "high"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two voices, ten digits, 16 takes of each."""
    root = tmp_path_factory.mktemp("data")
    write_digits(root / "fsdd" / "recordings", {"low": 100.0, "high": 180.0}, takes=16)
    return root


def test_mixed_voices_are_between_two(root):
    data = VocodedSpeech(speech=FSDD(root=str(root), speakers=SPEAKERS))
    data.setup("test")
    x = data.splits["test"]
    assert x.hybrid.sum() == 100 and x.vocoded.sum() == 200 and not (x.hybrid & ~x.vocoded).any()
    real, same, other = x.mel[~x.vocoded], x.mel[x.vocoded & ~x.hybrid], x.mel[x.hybrid]
    near, far = ((y - real).square().mean((1, 2)) for y in (same, other))
    assert near.mean() < far.mean()
    with pytest.raises(ValueError, match="mix=null"):
        VocodedSpeech(speech=FSDD(root=str(root), speakers=SPEAKERS, mix=[0.7, 0.3]))
