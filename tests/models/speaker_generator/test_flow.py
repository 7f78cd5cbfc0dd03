"""The sampler: what it costs, what it draws, and that words do not depend on what they are drawn beside."""

import pytest
import torch
from torch import nn

from tests.models.speaker_generator.test_model import generator, speech
from zoo.data.audio import FRAMES, MELS, resize
from zoo.data.text import letters
from zoo.models.speaker_generator import FlowSampler
from zoo.models.speaker_generator.flow import WINDOW, ceil, stretched
from zoo.relaxations import Noise

WORDS = letters(["yes", "no", "good morning"])
VOICES = torch.eye(3)
SKETCHES = torch.randn(3, FRAMES, MELS, generator=torch.Generator().manual_seed(0))


def sampler(**options) -> FlowSampler:
    torch.manual_seed(1)
    made = FlowSampler(speakers=3, width=8, **options)
    for parameter in made.parameters():  # which begins with a constant
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return made


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_a_word_is_the_same_whatever_it_is_drawn_beside():
    model = sampler()
    with torch.no_grad():
        model.duration.weight.normal_(std=0.5)
    together = model.sample(WORDS, SKETCHES, VOICES, generators(1, 2, 3))
    for i, (word, seed) in enumerate(zip(WORDS, (1, 2, 3))):
        one = slice(i, i + 1)
        (alone,) = model.sample(word[None, : int((word > 0).sum())], SKETCHES[one], VOICES[one], generators(seed))
        assert alone.shape == together[i].shape and torch.allclose(alone, together[i], atol=1e-4)
    (other,) = model.sample(WORDS[:1], SKETCHES[:1], VOICES[:1], generators(4))
    assert other.shape != together[0].shape or not torch.allclose(other, together[0], atol=0.1)


def test_lengths_follow_durations_speed_and_spread():
    model = FlowSampler(speakers=3, width=8)
    three = WORDS[:1].expand(400, -1), SKETCHES[:1].expand(400, -1, -1), VOICES[:1].expand(400, -1)
    frames = torch.tensor([len(word) for word in model.sample(*three, generators(*range(400)), steps=1)]).float()
    expected, spread = 3 * torch.tensor(2.5).exp(), torch.tensor(-2.0).exp()
    assert frames.log().mean().item() == pytest.approx(expected.log().item(), abs=4 * spread.item() / 20)
    assert frames.log().std().item() == pytest.approx(spread.item(), rel=0.15)
    (fast,) = model.sample(WORDS[:1], SKETCHES[:1], VOICES[:1], generators(0), spread=0.0, speed=2.0)
    assert len(fast) == round(expected.item() / 2)
    assert torch.allclose(fast, resize(SKETCHES[:1], len(fast))[0], atol=1e-5)  # to which nothing is added yet


def test_the_cost_is_the_error_of_the_velocity():
    """Of one that adds nothing to a mean of zero: half the sum of the squares, weighted, over the frames there are."""
    model, x = FlowSampler(speakers=3, width=8), speech(8)
    x = x._replace(log_frames=torch.tensor([20.0, 24.0, 60.0, 40.0, 41.0, 12.0, 33.0, 52.0]).log())
    noise = Noise(torch.Generator().manual_seed(0))
    cost = model.cost(x, torch.zeros_like(x.mel), VOICES[x.speaker], noise)
    time = Noise(torch.Generator().manual_seed(0)).uniform(x.mel[:, :2, 0])[:, 1]
    there = torch.arange(60) < ceil(x.lengths()).unsqueeze(-1)
    expected = 0.5 / (1 - time.clamp(max=0.9)).square() * (x.frames.square().sum(-1) * there).sum(-1)
    assert torch.allclose(cost["flow"], expected, rtol=1e-4)
    log_frames, spread = (letters_count(x) * torch.tensor(2.5).exp()).log(), torch.tensor(-2.0).exp()
    expected = -torch.distributions.Normal(log_frames, spread).log_prob(x.log_frames)
    assert torch.allclose(cost["pace"], expected, rtol=1e-4)


def letters_count(x) -> torch.Tensor:
    return (x.letters > 0).sum(-1)


def test_of_a_long_word_a_window_is_seen_at_a_time():
    """Their mean over many draws is the cost of the whole."""
    model, x = FlowSampler(speakers=3, width=8), speech(1)
    loud = torch.zeros(1, 2 * WINDOW, 64)
    loud[:, WINDOW:] = 1.0  # the second half alone
    x = x._replace(frames=loud, log_frames=torch.tensor([2.0 * WINDOW]).log())
    many = type(x)(*(values.expand(2000, *values.shape[1:]) for values in x))
    cost = model.cost(many, torch.zeros_like(many.mel), VOICES[many.speaker], Noise())["flow"]
    weight = 0.5 * (9 + 10)  # the mean of 1 / (1 - t)^2, cut off at 0.9: 9 up to there, and 100 for a tenth
    assert cost.mean().item() == pytest.approx(weight * WINDOW * 64, rel=0.15)


def test_a_window_of_the_mean_is_at_the_pace_of_the_word():
    lengths = torch.tensor([31, 48, 90])
    start = torch.tensor([0.0, 8.0, 40.0])
    windows = stretched(SKETCHES, lengths, start, 20)
    for window, sketch, n, first in zip(windows, SKETCHES, lengths.tolist(), start.int().tolist()):
        assert torch.allclose(window, resize(sketch[None], n)[0, first : first + 20], atol=1e-5)
    beyond = stretched(SKETCHES[:1], torch.tensor([10]), torch.zeros(1), 12)
    assert torch.allclose(beyond[0, 9:], SKETCHES[:1, -1].expand(3, -1))


def test_everything_learns_and_the_model_draws_with_it():
    model = generator(sampler=sampler()).eval()
    x = speech(6)
    sum(value.mean() for value in model.sampler.cost(x, x.mel + 0.1, VOICES[x.speaker], Noise()).values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.sampler.parameters())
    assert model.monitor == "val/cost" and "sampler.embedding.weight" in model.state_dict()
    words = model.generate("4 0 7", 1, seed=3)
    assert words.mel.shape == (3, 48, 64)
    sounds = model.speak("4 0 7", 1, seed=3)
    assert [len(sound) for sound in sounds] == [64 * (n - 1) for n in words.frames.tolist()]
    assert torch.allclose(model.speak("7", 1, seed=3)[0], sounds[2], atol=1e-3)
