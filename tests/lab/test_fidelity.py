"""The figures by which words are compared with recordings, of sounds whose figures are known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from zoo.data import audio
from zoo.errors import ZooError
from zoo.lab import fidelity


def tone(hertz: float, seconds: float = 0.5) -> torch.Tensor:
    time = torch.arange(int(seconds * audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
    return audio.level(torch.sin(2 * math.pi * hertz * time))


def figures(*takes: torch.Tensor) -> list[float]:
    return [float(value) for value in fidelity.spectra({"anna": [[take] for take in takes]})]


def test_takes_that_are_the_same_do_not_differ():
    _, above, apart, length = figures(tone(500.0), tone(500.0))
    assert (apart, length) == (0.0, 0.0) and above < -30


def test_energy_above_two_kilohertz():
    assert figures(tone(3000.0), tone(3000.0))[1] == 0.0
    assert figures(*2 * [audio.level(tone(500.0) + tone(3000.0))])[1] == pytest.approx(10 * math.log10(0.5), abs=0.1)


def test_length_is_the_deviation_of_its_logarithm():
    words = [tone(500.0, 0.4), tone(500.0, 0.8)]
    frames = torch.tensor([float(audio.log_mel(word[None]).shape[1]) for word in words])
    assert figures(*words)[3] == pytest.approx(frames.log().std().item(), abs=1e-3)
    assert figures(*words)[3] == pytest.approx(math.log(2) / math.sqrt(2), rel=0.05)


def test_movement_is_in_decibels():
    """Noise that is ten times as loud in its second half: two levels 20 dB apart deviate by ten."""
    noise = torch.randn(2 * audio.SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
    even = figures(*2 * [audio.level(noise)])[0]
    loud = torch.cat([noise[: audio.SAMPLE_RATE], 10 * noise[audio.SAMPLE_RATE :]])
    assert figures(*2 * [loud])[0] == pytest.approx(math.hypot(10.0, even), abs=0.6)


def test_voices_are_compared_with_their_own_and_with_the_nearest():
    centroids = {"anna": np.array([1.0, 0.0]), "ben": np.array([0.0, 1.0])}
    voices = {"anna": [[torch.tensor([0.8, 0.6])], [torch.tensor([0.6, 0.8])]], "ben": [[torch.tensor([0.0, 1.0])]]}
    found = fidelity.voices(voices, centroids, lambda sound: sound[:2].numpy())
    assert found == [f"{(0.8 + 0.6 + 1.0) / 3:.3f}", f"{2 / 3:.3f}"]
    assert fidelity.voices(voices, {}, None) == ["", ""]


@pytest.mark.parametrize("checkpoint", ["speaker_generator.espeak", "cat_vae.mnist"])
def test_only_speakers_of_fsdd_have_recordings_to_compare_with(checkpoint):
    with pytest.raises(ZooError, match=f"checkpoint={checkpoint} is not a speaker generator of the digits of FSDD"):
        fidelity.experiment(checkpoint=checkpoint, similarity=False)


def test_a_judge_hears_each_speaker_by_himself():
    class Judge:
        speakers = ("ben", "anna")

        def listen(self, sounds):
            """Of nine and eight by order, of the voice by the sign of a sound, and that all of anna's are mixes."""
            anna = torch.tensor([float(sound[0] > 0) for sound in sounds])
            digit = torch.tensor([fidelity.DIGITS.index(word) for word in fidelity.ORDER]).repeat(len(sounds) // 10)
            digit[:5] = 9 - digit[:5]
            return SimpleNamespace(digit=digit, speaker=torch.stack([1 - anna, anna], 1), hybrid=anna)

    said = {"anna": 2 * [10 * [torch.ones(4)]], "ben": 2 * [[*9 * [-torch.ones(4)], torch.ones(4)]]}
    *_, anna, ben = fidelity.by_speaker(Judge(), {"model": said})
    assert anna == "| anna | model | 0.750 | 1.000 | 1.000 |" and ben == "| ben | model | 0.750 | 0.900 | 0.100 |"
