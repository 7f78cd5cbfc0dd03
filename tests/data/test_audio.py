"""Speech as spectrograms and back."""

import math
import struct

import pytest
import torch

from zoo.data import audio
from zoo.data.recordings import resample


def vowel(hertz: float, seconds: float = 0.4) -> torch.Tensor:
    """Ten harmonics that fall off, with a little noise: about what a voice is."""
    time = torch.arange(int(seconds * audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
    order = torch.arange(1, 11)
    sound = (torch.sin(2 * math.pi * hertz * order[:, None] * time) / order[:, None]).sum(0)
    return audio.level(sound + 0.01 * torch.randn_like(sound))


def test_a_wav_file_comes_back(tmp_path):
    sound = 0.5 * vowel(120)
    audio.write_wav(tmp_path / "x.wav", sound)
    read, rate = audio.read_wav(tmp_path / "x.wav")
    assert rate == 8000 and torch.allclose(read, sound, atol=1e-4)
    audio.write_wav(tmp_path / "loud.wav", 10 * sound / sound.abs().max())
    assert audio.read_wav(tmp_path / "loud.wav")[0].abs().max() > 0.99  # made quieter, not clipped


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "no wav file"),
        (b"RIFF\x00\x00\x00\x00WAVE", "no wav file"),
        (b"not sound at all, but long enough to be looked at", "no wav file"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, content, message):
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        audio.read_wav(tmp_path / "x.wav")


def test_silence_and_other_formats_are_refused(tmp_path):
    audio.write_wav(tmp_path / "x.wav", torch.zeros(800))
    with pytest.raises(ValueError, match="silence"):
        audio.read_wav(tmp_path / "x.wav")
    audio.write_wav(tmp_path / "x.wav", torch.zeros(0))
    with pytest.raises(ValueError, match="no sound"):
        audio.read_wav(tmp_path / "x.wav")
    content = bytearray((tmp_path / "x.wav").read_bytes())
    content[22:24] = struct.pack("<H", 2)  # channels
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(ValueError, match="2 channels"):
        audio.read_wav(tmp_path / "x.wav")


def test_resampling_agrees_with_scipy():
    signal = pytest.importorskip("scipy.signal")
    sound = torch.sin(2 * math.pi * 440 * torch.arange(22050) / 22050) * torch.hann_window(22050)
    expected = torch.from_numpy(signal.resample_poly(sound.numpy(), 160, 441))
    assert torch.allclose(resample(sound, 22050), expected.float(), atol=5e-3)


def test_no_mel_filter_is_empty_and_their_peaks_rise():
    filters = audio.mel_filters()
    assert filters.shape == (64, 129) and (filters > 0).any(1).all() and (filters.argmax(1).diff() > 0).all()


@pytest.mark.parametrize("hertz", [82.0, 110.0, 165.0, 240.0])
def test_pitch_is_found_to_one_percent(hertz):
    found, voiced = audio.pitch(vowel(hertz))
    assert voiced.mean() > 0.9
    assert (found[5:-5] / hertz - 1).abs().max() < 0.01


def test_noise_has_no_pitch():
    _, voiced = audio.pitch(audio.level(torch.randn(3200)))
    assert voiced.mean() < 0.1


@pytest.mark.parametrize("hertz", [90.0, 150.0, 230.0])
def test_excitation_has_the_harmonics_of_its_pitch(hertz):
    """Of all pitches the template of the right one agrees best with a voice."""
    mel = audio.log_mel(vowel(hertz)[None])[0, 10]
    steps = torch.linspace(-1, 1, 200)
    ripples = (x - audio.envelope(x) for x in (mel, audio.excitation(steps)))
    agreement = torch.cosine_similarity(*(x[..., 2:20] for x in ripples), dim=-1)
    found = steps[agreement.argmax()]
    assert abs(found - audio.pitch_to_unit(torch.tensor(hertz))) < 0.03


def test_inverted_magnitudes_have_the_mel_spectrum():
    mel = audio.log_mel(vowel(130)[None])
    magnitude = audio.invert_mel(mel)
    assert (magnitude >= 0).all()
    again = audio.normalise(magnitude @ audio.mel_filters().T)
    assert (again - mel).abs().mean() < 0.05


def test_griffin_lim_gives_back_the_spectrogram():
    """More iterations come nearer, and 20 are near."""
    sound = torch.cat([vowel(110), vowel(160)])
    mel = audio.log_mel(sound[None])
    distance = {
        n: audio.mel_cepstral_distortion(mel, audio.log_mel(audio.griffin_lim(mel, iterations=n))).item()
        for n in (1, 20)
    }
    assert distance[20] < 1.0 < distance[1]


def test_griffin_lim_is_the_algorithm_with_transforms_of_torch():
    mel = audio.log_mel(vowel(120)[None])[:, :40]
    magnitude, before = audio.invert_mel(mel), torch.zeros(())
    spectrum = torch.polar(magnitude, audio.first_phases(magnitude, seed=3)).transpose(1, 2)
    magnitude = magnitude.transpose(1, 2)
    window = torch.hann_window(audio.N_FFT)
    for _ in range(5):
        consistent = audio.stft(torch.istft(spectrum, audio.N_FFT, audio.HOP, window=window))
        ahead = consistent + 0.9 * (consistent - before)
        spectrum, before = magnitude * ahead / ahead.abs(), consistent
    expected = torch.istft(spectrum, audio.N_FFT, audio.HOP, window=window)
    found = audio.griffin_lim(mel, iterations=5, momentum=0.9, seed=3)
    assert torch.allclose(found, expected, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("hertz", [180.0, 707.0, 2345.6])
def test_first_phases_go_on_at_the_frequency_of_a_tone(hertz):
    time = torch.arange(4000) / audio.SAMPLE_RATE
    magnitude = audio.stft(torch.sin(2 * math.pi * hertz * time)[None]).abs().transpose(1, 2)[:, 10:-10]
    steps = audio.first_phases(magnitude, seed=0).diff(dim=1)
    nearest = round(hertz / audio.SAMPLE_RATE * audio.N_FFT)
    expected = 2 * math.pi * hertz * audio.HOP / audio.SAMPLE_RATE
    assert (steps[..., nearest] - expected).abs().max() < 0.15  # radians; to the next bin it is 1.57


def test_first_phases_are_nearer_than_random_ones():
    mel = audio.log_mel(torch.cat([vowel(110), vowel(160)])[None])
    magnitude = audio.invert_mel(mel)

    def wrong(phase):
        spectrum = torch.polar(magnitude, phase.expand_as(magnitude)).transpose(1, 2)
        sound = torch.istft(spectrum, audio.N_FFT, audio.HOP, window=torch.hann_window(audio.N_FFT))
        return (audio.stft(sound).abs() - spectrum.abs()).square().mean()

    random = 2 * math.pi * torch.rand(magnitude.shape[1:], generator=torch.Generator().manual_seed(0))
    assert wrong(audio.first_phases(magnitude, seed=0)) < 0.8 * wrong(random)


def test_vocoded_words_have_the_lengths_asked_for():
    mel = audio.resize(audio.log_mel(vowel(120)[None]), audio.FRAMES).repeat(20, 1, 1)
    frames = [20 + 3 * i for i in range(20)]
    assert [len(sound) for sound in audio.vocode(mel, frames)] == [64 * (n - 1) for n in frames]


def test_mel_cepstral_distortion_of_a_known_difference():
    """A cosine of amplitude a over the bands is c_m = a in ln |X|: 10 sqrt(2) / ln 10 times a."""
    mel = torch.randn(2, 7, audio.MELS)
    bands = torch.arange(audio.MELS) + 0.5
    other = mel + 0.3 / audio.SPREAD * torch.cos(math.pi / audio.MELS * 5 * bands)
    expected = torch.full((2,), 0.3 * 10 * math.sqrt(2) / math.log(10))
    assert torch.allclose(audio.mel_cepstral_distortion(mel, other), expected, rtol=1e-4)
    louder = audio.mel_cepstral_distortion(mel, mel + 1)
    assert louder.max() < 1e-3


def test_trim_keeps_the_word():
    sound = torch.cat([1e-4 * torch.randn(2000), vowel(120), 1e-4 * torch.randn(3000)])
    trimmed = audio.trim(sound)
    assert 3200 <= len(trimmed) <= 3200 + 6 * audio.HOP
