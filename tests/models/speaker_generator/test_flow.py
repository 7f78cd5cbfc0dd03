"""The sampler: what it costs, what it draws, and that words do not depend on what they are drawn beside."""

import pytest
import torch
from torch import nn

from tests.models.speaker_generator.test_model import Alone, generator, speech
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
    frames = torch.tensor([13, 40, 22])
    together = model.sample(WORDS, SKETCHES, frames, VOICES, generators(1, 2, 3))
    assert [len(word) for word in together] == frames.tolist()
    for i, (word, seed) in enumerate(zip(WORDS, (1, 2, 3))):
        one = slice(i, i + 1)
        spelled = word[None, : int((word > 0).sum())]
        (alone,) = model.sample(spelled, SKETCHES[one], frames[one], VOICES[one], generators(seed))
        assert alone.shape == together[i].shape and torch.allclose(alone, together[i], atol=1e-4)
    (other,) = model.sample(WORDS[:1], SKETCHES[:1], frames[:1], VOICES[:1], generators(4))
    assert not torch.allclose(other, together[0], atol=0.1)


def test_at_first_nothing_is_added_to_the_mean():
    model = FlowSampler(speakers=3, width=8)
    (word,) = model.sample(WORDS[:1], SKETCHES[:1], torch.tensor([31]), VOICES[:1], generators(0))
    assert torch.allclose(word, resize(SKETCHES[:1], 31)[0], atol=1e-5)


def test_the_cost_is_the_error_of_the_velocity():
    """Of one that adds nothing to a mean of zero: half the sum of the squares, weighted, over the frames there are."""
    model, x = FlowSampler(speakers=3, width=8), speech(8)
    x = x._replace(log_frames=torch.tensor([20.0, 24.0, 60.0, 40.0, 41.0, 12.0, 33.0, 52.0]).log())
    noise = Noise(torch.Generator().manual_seed(0))
    cost = model.cost(x, torch.zeros_like(x.mel), VOICES[x.speaker], noise)
    time = Noise(torch.Generator().manual_seed(0)).uniform(x.mel[:, :2, 0])[:, 1]
    there = torch.arange(60) < ceil(x.lengths()).unsqueeze(-1)
    expected = 0.5 / (1 - time.clamp(max=0.9)).square() * (x.frames.square().sum(-1) * there).sum(-1)
    assert torch.allclose(cost, expected, rtol=1e-4)


def test_of_a_long_word_a_window_is_seen_at_a_time():
    """Their mean over many draws is the cost of the whole."""
    model, x = FlowSampler(speakers=3, width=8), speech(1)
    loud = torch.zeros(1, 2 * WINDOW, 64)
    loud[:, WINDOW:] = 1.0  # the second half alone
    x = x._replace(frames=loud, log_frames=torch.tensor([2.0 * WINDOW]).log())
    many = type(x)(*(values.expand(2000, *values.shape[1:]) for values in x))
    cost = model.cost(many, torch.zeros_like(many.mel), VOICES[many.speaker], Noise())
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
    model._sampler_cost(x, model.speaker_logits(x)).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.sampler.parameters())
    rest = [p for name, p in model.named_parameters() if not name.startswith("sampler.")]
    assert len(rest) > 20 and all(p.grad is None for p in rest)
    assert model.monitor == "val/cost" and "sampler.embedding.weight" in model.state_dict()
    words = model.generate("4 0 7", 1, seed=3)
    assert words.mel.shape == (3, 48, 64)
    sounds = model.speak("4 0 7", 1, seed=3)
    assert [len(sound) for sound in sounds] == [64 * (n - 1) for n in words.frames.tolist()]
    assert torch.allclose(model.generate("7", 1, seed=3).mel[0], words.mel[2], atol=1e-4)
    alone = model.speak("7", 1, seed=3)[0]
    assert (alone - sounds[2]).norm() < 0.1 * alone.norm()  # Griffin-Lim makes more of the rounding of numbers
    faster = model.generate("4 0 7", 1, seed=3, speed=2.0).frames
    assert faster.tolist() == [max(10, round(n / 2)) for n in words.frames.tolist()]


def test_the_sampler_starts_from_the_mean_of_a_drawn_residual_or_of_none(monkeypatch):
    model, x, seen = generator(sampler=sampler()).eval(), speech(6), []
    monkeypatch.setattr(model.sampler, "cost", lambda x, sketch, *_: seen.append(sketch) or sketch.sum((1, 2)))
    logits = model.speaker_logits(x)
    for use_residual in (True, True, False, False):
        model._sampler_cost(x, logits, use_residual=use_residual)
    speaker = nn.functional.one_hot(logits.argmax(-1), 3).float()
    none = model.render(model.decoder(x.content, speaker, torch.zeros(6, model.residual))).mel
    assert torch.equal(seen[2], none) and torch.equal(seen[3], none)
    assert not torch.allclose(seen[0], seen[1]) and not torch.allclose(seen[0], none)


@pytest.mark.parametrize("step, words", [(0, [0, 8, 16]), (3, [0, 8, 16]), (4, list(range(18)))])
def test_the_sampler_sees_few_words_until_the_residual_is_used_and_none_twice(monkeypatch, step, words):
    """After some of ten steps; the last two of twenty are shown once more for the sake of their labels."""
    model, x, seen = generator(sampler=sampler()), speech(20), []
    x = x._replace(extra=torch.arange(20) >= 18)
    monkeypatch.setattr(model.sampler, "cost", lambda x, sketch, *_: seen.append(x.mel) or sketch.sum((1, 2)))
    schedule = {"strategy": Alone, "global_step": step, "estimated_stepping_batches": 10, "max_steps": -1}
    model._trainer = type("Trainer", (), schedule)
    model.training_step(x, 0)
    assert torch.equal(seen[0], x.mel[words])
