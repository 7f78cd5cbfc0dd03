"""The speaker generator: its objective, its schedules, what it says; and the judge."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.speech import write_digits
from zoo.data import FSDD, Speech
from zoo.data.text import DIGITS
from zoo.errors import ZooError
from zoo.models.speaker_generator import SpeakerGenerator, SpeechDecoder, SpeechEncoder
from zoo.models.speaker_generator.judging import judged_scores
from zoo.models.speaker_generator.likelihood import gaussian_nll, observe
from zoo.models.speaker_generator.pictures import voices
from zoo.models.speaker_generator.words import read_voices, read_words
from zoo.models.speech_judge import SpeechClassifier, SpeechJudge
from zoo.relaxations import RELAXATIONS, Exact, ReinMax
from zoo.training import AdamW


def generator(relaxation=None, *, speakers=3, decoder=None, **options):
    return SpeakerGenerator(
        speaker_encoder=SpeechEncoder(outputs=speakers, width=8),
        residual_encoder=SpeechEncoder(outputs=8, width=8, pool=False),
        decoder=decoder or SpeechDecoder(speakers=speakers, residual=4, width=8),
        relaxation=relaxation or ReinMax(),
        optimizer=AdamW(lr=1e-3),
        speakers=speakers,
        residual=4,
        **options,
    )


def speech(batch=6, label=-1):
    return Speech(
        mel=torch.randn(batch, 48, 64),
        pitch=torch.rand(batch, 48) * 2 - 1,
        voiced=torch.randint(2, (batch, 48)).float(),
        log_frames=3.9 + 0.2 * torch.randn(batch),
        content=torch.randint(10, (batch,)),
        label=torch.full((batch,), label),
        speaker=torch.randint(3, (batch,)),
        extra=torch.zeros(batch, dtype=torch.bool),
        frames=torch.randn(batch, 60, 64),
        letters=torch.randint(97, 123, (batch, 4)),
    )


def test_the_expectation_is_over_the_posterior():
    """By hand: the distortion of every speaker, weighted with q; with z off nothing else is random."""
    model, x = generator(Exact()), speech()
    terms = model.terms(x, use_residual=False)
    q = model.speaker_logits(x).softmax(-1)
    zero = torch.zeros(6, 4)
    each = torch.stack([model.distortion(x, model.decoder(x.content, s.expand(6, -1), zero)) for s in torch.eye(3)], -1)
    assert torch.allclose(terms["given_speaker"], (q * each).sum(-1), rtol=1e-5)
    kl = (q * (q.log() + math.log(3))).sum(-1)
    assert torch.allclose(terms["speaker_kl"], kl, atol=1e-6)
    assert torch.allclose(terms["neg_elbo"], terms["given_speaker"] + kl)


def test_the_residual_is_compared_with_what_its_speaker_does():
    """With a silent likelihood what is left is the divergence from the prior of each speaker, weighted with q."""
    model, x = generator(Exact()), speech()
    nn.init.normal_(model.residual_table)
    given_speaker = model.terms(x, weight=0.0)["given_speaker"]
    q = model.speaker_logits(x).softmax(-1)
    mean, log_variance = model.residual_encoder(model.features(x)).chunk(2, -1)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = 0
    for k in range(3):
        prior_mean, prior_log_variance = model.residual_table[x.content, k].chunk(2, -1)
        prior = torch.distributions.Normal(prior_mean, (0.5 * prior_log_variance).exp())
        expected = expected + q[:, k] * torch.distributions.kl_divergence(posterior, prior).sum(-1)
    assert torch.allclose(given_speaker, expected, rtol=1e-4)


def test_residuals_are_drawn_as_the_speaker_says_the_word():
    """A decoder that shows the residual: its mean and spread over 4,000 words, within four standard errors."""
    model = generator().eval()
    nn.init.normal_(model.residual_table)
    seen = []
    decoder = model.decoder.forward
    model.decoder.forward = lambda content, speaker, z: seen.append(z) or decoder(content, speaker, z)
    word = torch.full((4000,), 3)
    model.generate(word, torch.full_like(word, 2), spread=0.5, seed=0)
    mean, log_variance = model.residual_table[3, 2].chunk(2)
    std = 0.5 * (0.5 * log_variance).exp()
    assert ((seen[0].mean(0) - mean).abs() < 4 * std / 4000**0.5).all()
    assert ((seen[0].std(0) / std - 1).abs() < 4 / 8000**0.5).all()


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_every_relaxation_trains_the_speaker(relaxation):
    model = generator(RELAXATIONS[relaxation]())
    model.train()
    model.terms(speech())["neg_elbo"].mean().backward()
    gradient = model.speaker_encoder.head[-1].weight.grad
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


@pytest.mark.parametrize("relaxation", ["reinmax", "gumbel_softmax", "softmax", "rloo", "exact", "rebar"])
def test_a_known_speaker_is_not_drawn(relaxation):
    """Every draw is the label, and the encoder learns nothing from the ELBO."""
    model, x = generator(RELAXATIONS[relaxation]()), speech(label=1)
    model.train()
    drawn = []
    decoder = model.decoder.forward
    model.decoder.forward = lambda content, speaker, residual: (
        drawn.append(speaker) or decoder(content, speaker, residual)
    )
    terms = model.terms(x)
    if relaxation != "exact":  # which tries the impossible too, with weight zero
        assert all(torch.allclose(s, torch.tensor([0.0, 1.0, 0.0]).expand_as(s), atol=1e-5) for s in drawn)
    assert torch.allclose(terms["speaker_kl"], torch.full((6,), math.log(3)))
    terms["neg_elbo"].sum().backward()
    assert model.speaker_encoder.head[-1].bias.grad.abs().max() < 1e-4


def test_observe_leaves_the_unknown_alone():
    logits = torch.randn(3, 4)
    known = observe(logits, torch.tensor([-1, 2, -1]))
    assert torch.equal(known[[0, 2]], logits[[0, 2]])
    assert known[1].softmax(-1).tolist() == [0, 0, 1, 0]


def test_gaussian_nll_is_that_of_torch():
    x, mean = torch.randn(2, 50)
    expected = -torch.distributions.Normal(mean, 0.3).log_prob(x)
    assert torch.allclose(gaussian_nll(x, mean, 0.3), expected, atol=1e-5)


def test_the_mean_of_each_word_is_followed_exactly():
    model = generator()
    batches = [speech(20) for _ in range(3)]
    for x in batches:
        model._follow_content(x)
    mel, content = (torch.cat([getattr(x, name) for x in batches]) for name in ("mel", "content"))
    for word in content.unique():
        assert torch.allclose(model.content_mean[word], mel[content == word].mean(0), atol=1e-5)


class Alone:
    """A Trainer's strategy for one process."""

    @staticmethod
    def reduce(tensor, reduce_op):
        return tensor


def of_three_voices(batch):
    """Recordings whose speaker shows in one of three bands, by less than what words and recordings differ in."""
    x = speech(batch)
    mel = 0.1 * x.mel + 3 * torch.randn(10, 1, 64)[x.content] + 0.3 * torch.randn(batch, 1, 1)
    band = nn.functional.one_hot(20 + 9 * x.speaker, 64)
    return x._replace(mel=mel + 0.6 * band.unsqueeze(1))


def test_the_guide_tells_voices_apart():
    """Without labels up to the order of the codes; a few labels are enough for that order."""
    model, x = generator(guide=1.0), of_three_voices(600)
    model.fit_guide(x, seed=0)
    counts = torch.bincount(3 * model.guess(x).argmax(-1) + x.speaker, minlength=9).view(3, 3)
    assert counts.amax(1).sum() > 588 and sorted(counts.argmax(1).tolist()) == [0, 1, 2]
    model.fit_guide(x._replace(label=torch.where(torch.arange(600) < 20, x.speaker, -1)), seed=0)
    assert (model.guess(x).argmax(-1) == x.speaker).sum() > 588


def after(step):
    """A trainer after some of ten steps."""
    schedule = {"strategy": Alone, "global_step": step, "estimated_stepping_batches": 10, "max_steps": -1}
    return type("Trainer", (), schedule)


@pytest.mark.parametrize("known", [0, 4])
@pytest.mark.parametrize("step, share", [(0, 1.0), (2, 0.8), (10, 0.0)])
def test_the_guide_falls_to_nothing_and_leads_the_unknown_alone(step, share, known):
    """The loss with it less that without it."""
    model, x, losses = generator(guide=7.0), speech(), []
    x.label[:known] = 1
    nn.init.normal_(model.guide_weight)
    model._trainer = after(step)
    model._follow_content(x)
    for model.guide in (7.0, 0.0):
        torch.manual_seed(0)
        losses.append(model.training_step(x, 0)["loss"].item())
    distance = -(model.guess(x).softmax(-1) * model.speaker_logits(x).log_softmax(-1)).sum(-1)
    assert losses[0] - losses[1] == pytest.approx(7 * share * distance[known:].sum().item() / 6, abs=0.05)


@pytest.mark.parametrize(
    "warm_up, step, weight, use_residual, prior_moves",
    [
        (0.5, 0, 1 / 256, False, False),
        (0.5, 3, 1 / 256**0.4, False, False),
        (0.5, 4, 1 / 256**0.2, True, False),
        (0.5, 5, 1.0, True, True),
        (0.0, 0, 1.0, True, True),
    ],
)
def test_the_likelihood_sharpens_during_the_warm_up(monkeypatch, warm_up, step, weight, use_residual, prior_moves):
    """From a deviation of 8 to 0.5; the residual joins after four fifths of it, and the prior moves after it."""
    model, terms, seen = generator(warm_up=warm_up), SpeakerGenerator.terms, []
    monkeypatch.setattr(SpeakerGenerator, "terms", lambda model, x, **how: seen.append(how) or terms(model, x, **how))
    model._trainer = after(step)
    model.training_step(speech(), 0)
    assert seen == [{"weight": pytest.approx(weight), "use_residual": use_residual}]
    assert torch.equal(model.prior, torch.full((1, 3), 1 / 3)) != prior_moves


@pytest.mark.parametrize("prior", ["marginal", "content"])
def test_the_prior_follows_the_posterior(prior):
    model = generator(prior=prior, prior_decay=0.9)
    model._trainer = type("Trainer", (), {"strategy": Alone})
    content = torch.arange(20) % 10
    posterior = torch.where(content[:, None] < 5, torch.tensor([0.8, 0.1, 0.1]), torch.tensor([0.2, 0.5, 0.3]))
    for _ in range(200):
        model._follow_posterior(posterior, content)
    expected = posterior[:10] if prior == "content" else posterior.mean(0, keepdim=True)
    assert torch.allclose(model.prior, expected, atol=1e-4)
    assert torch.allclose(model.log_prior(content).exp().sum(-1), torch.ones(20), atol=1e-4)


def test_speakers_are_drawn_from_the_learned_prior():
    """Chi-squared with two degrees of freedom: below 13.8 with probability 0.999."""
    model = generator().eval()
    model.prior.copy_(torch.tensor([[0.6, 0.3, 0.1]]))
    counts = torch.bincount(model.sample_speaker(torch.zeros(3000, dtype=torch.int64), seed=0), minlength=3)
    expected = 3000 * model.prior[0]
    assert ((counts - expected) ** 2 / expected).sum() < 13.8


def test_a_word_sounds_the_same_whatever_it_is_said_beside():
    """With one seed; its second take differs, and so does another seed."""
    model = generator().eval()
    with torch.no_grad():
        model.residual_table.normal_()
    several = model.speak(torch.tensor([4, 7, 4, 0]), 1, seed=5)
    (alone,) = model.speak("7", 1, seed=5)
    assert several[1].shape == alone.shape and torch.allclose(several[1], alone, atol=1e-3)
    assert len(several[0]) != len(several[2]) or not torch.allclose(several[0], several[2], atol=1e-2)
    model.prior.copy_(torch.tensor([[0.4, 0.3, 0.3]]))
    for seed in range(8):  # with drawn speakers, too
        alone, beside = (model.generate(words, seed=seed) for words in ([7], [0, 4, 7]))
        torch.testing.assert_close(beside.mel[2], alone.mel[0], atol=1e-3, rtol=0)
        assert beside.frames[2] == alone.frames[0]
    (alone,) = model.speak("7", 1, seed=5)
    other = model.speak("7", 1, seed=6)[0]
    assert len(other) != len(alone) or not torch.allclose(other, alone, atol=1e-2)
    fast = model.generate("7", 1, seed=5, speed=2.0).frames
    assert 2 * fast.item() == pytest.approx(model.generate("7", 1, seed=5).frames.item(), abs=1)


def test_own_words_numbers_and_one_speaker_an_utterance():
    words = ["forty", "good morning", "hello", "two"]
    decoder = SpeechDecoder(contents=4, speakers=3, residual=4, width=8)
    model = generator(contents=words, decoder=decoder).eval()
    seen, forward = [], decoder.forward
    decoder.forward = lambda content, speaker, z: seen.append((content, speaker)) or forward(content, speaker, z)
    model.generate("Hello! Good morning, 42")
    content, speaker = seen[0]
    assert content.tolist() == [2, 1, 0, 3] and (speaker == speaker[0]).all() and speaker.sum() == 4
    ((about, weights),) = read_voices("theo:0.7,1:0.3", ["george", "", "theo"])
    assert weights.tolist() == pytest.approx([0, 0.3, 0.7]) and about == "0.30 1, 0.70 theo"
    model.generate("hello", weights)
    assert seen[1][1][0].tolist() == pytest.approx([0, 0.3, 0.7])
    assert [code for _, code in read_voices("theo,mean,george,1", ["george", "", "theo"])] == [2, "mean", 0, 1]
    ((_, large),) = read_voices("theo:1e39,1:1e39", ["george", "", "theo"])
    assert large.tolist() == [0, 0.5, 0.5]
    for text in ("theo:x", "theo:-1,george:2", "theo:0", "nobody:1", "theo:1e308,1:1e308", "", " ,", ":1", "01", "-1"):
        with pytest.raises(ZooError, match=r"share|no speaker"):
            read_voices(text, ["george", "", "theo"])
    with pytest.raises(ZooError, match=r"cannot say .goodbye..*has learned: forty, good morning"):
        model.generate("goodbye")
    with pytest.raises(ZooError, match=r"cannot say .one. of 1999\."):
        model.generate("hello 1999")
    with pytest.raises(ZooError, match=r"cannot say .point. of 2\.2\."):
        model.generate("hello 2.2")
    with pytest.raises(ZooError, match=r"cannot say .point. of 1000\.5\."):
        read_words("1,000.5", [*words, "one", "thousand"])
    assert [code for _, code in read_voices("smith, john", ["", "smith, john"])] == [1]
    model.trained_on = {"speakers": ["01", 10, "20"]}  # as a configuration has names that are numbers
    model.matching.copy_(torch.tensor([2, 0, 1]))
    assert model.speaker_names == ["20", "01", "10"] and read_voices("10", model.speaker_names)[0][1] == 2


SIGNED = (
    *("-4", "(-4)", "4 \u22125", "\u20114", "\uff0d4", ".5", "20 %", "4\uff05", "$3", "\u20ac 3", "5\u20ac", "4\u00b2"),
    *("\u00bd", "\u2460 2", "2+2", "3 & 4", "7\u00b0", "01/02", "#4", "4 > 0", "4<0"),
)
UNSIGNED = (
    *("4-7", "4 - 7", "(4)-7", "four/seven", "4 | 7", "4 -> 7", "*four* seven", "four & seven", "wait...4 7"),
    *("4... 7", "AT&T? four: seven"),
)


@pytest.mark.parametrize("text", SIGNED)
def test_signs_that_would_be_left_out_are_refused(text):
    with pytest.raises(ZooError, match=r"cannot say .* write it as a word, or leave it out"):
        generator().generate(text)


@pytest.mark.parametrize("text", UNSIGNED)
def test_signs_that_are_of_no_number_are_passed_over(text):
    known = ["wait", "at t", "four", "seven"]
    assert [known[i] for i in read_words(text, known)][-2:] == ["four", "seven"]


def test_numbers_that_have_no_other_words_are_said_digit_by_digit():
    tens = [*DIGITS, "forty", "hundred"]
    assert read_words("47 07", ["forty", "seven"]) == [0, 1, 1]
    said = lambda text, known: [known[i] for i in read_words(text, known)]  # noqa: E731
    assert said("42 042 007", tens) == ["forty", "two", "zero", "four", "two", "zero", "zero", "seven"]
    assert said("1234567890123456", tens) == [DIGITS[int(digit)] for digit in "1234567890123456"]
    assert said("4-7, twenty: (4)!", [*DIGITS, "twenty"]) == ["four", "seven", "twenty", "four"]
    assert said("42", list(DIGITS)) == ["four", "two"]


def test_python_takes_the_voices_that_the_command_takes():
    model = generator().eval()
    model.trained_on = {"speakers": ["anna", "ben", "cleo"]}
    model.matching.copy_(torch.tensor([2, 0, 1]))

    def said(speaker, content=(3, 4)):
        return model.generate(list(content), speaker, seed=1).mel

    anna = said(1)
    for same in ("anna", "1", np.int64(1), [1, "anna"], np.array(["anna", "anna"]), "anna:2", [0.0, 1.0, 0.0]):
        torch.testing.assert_close(said(same), anna)
    torch.testing.assert_close(said("anna:1,ben:1"), said([0.0, 0.5, 0.5]))
    torch.testing.assert_close(said("mean"), said(model.prior[0]))
    torch.testing.assert_close(said("sample"), said(None))
    for content in (["three", "four"], np.array(["three", "4"]), np.array([3, 4], dtype=np.int32)):
        torch.testing.assert_close(said("anna", content), anna)
    torch.testing.assert_close(said(torch.tensor(1)), anna)
    with pytest.raises(ZooError, match="'three four' is 2 words: a list has one in each place"):
        model.generate(["three four", "one"])
    for given in (["anna", "sample"], "anna:1,mean:2"):
        with pytest.raises(ZooError, match="is none of the speakers of a blend or a list"):
            said(given)
    for content in (None, b"34", {"3": 4}, [[3], [4]], [3.0, 4.0]):
        with pytest.raises(ValueError, match="content must be a text"):
            model.generate(content)
    with pytest.raises(ZooError, match="'anna,ben' names several speakers"):
        said("anna,ben")
    for wrong in ({"anna": 1.0}, np.array([{}, {}], dtype=object)):
        with pytest.raises(ValueError, match="speaker must be a name, a code"):
            said(wrong)
    with pytest.raises(ValueError, match=r"need spread in \[0, 2"):
        model.generate("3", spread=math.inf)


@pytest.mark.parametrize(
    "data, message",
    [
        (
            {"words": ["one", "two"]},
            r"is to say zero, .* and the data have one, two: it needs recordings of these words",
        ),
        ({"speakers": 4}, r"model\.speakers=3, and the data have 4"),
        ({"speakers": ["anna", "ben"]}, r"model\.speakers=3, and the data have 2"),
    ],
)
@pytest.mark.parametrize("stage", ["fit", "test"])
def test_data_of_other_words_or_speakers_are_refused(data, message, stage):
    model = generator()
    model._trainer = SimpleNamespace(datamodule=SimpleNamespace(**data))
    with pytest.raises(ZooError, match=message):
        model.setup(stage)


@pytest.mark.parametrize("speakers", [3, ["anna", "ben", "cleo"]])
def test_speakers_are_named_where_the_data_are_told_their_names(speakers):
    model = generator()
    model._trainer = SimpleNamespace(datamodule=SimpleNamespace(speakers=speakers, names=["anna", "ben", "cleo"]))
    model.matching.copy_(torch.tensor([2, 0, 1]))
    named = speakers != 3
    assert [name for _, name, _ in voices(model)] == (
        ["cleo", "anna", "ben"] if named else ["code_0", "code_1", "code_2"]
    )
    assert [speaker for *_, speaker in voices(model)] == [2, 0, 1]
    model.matching.fill_(-1)
    assert voices(model) == [(0, "code_0", -1), (1, "code_1", -1), (2, "code_2", -1)]


def test_a_speaker_whom_the_split_lacks_keeps_his_code():
    """Validation has one of three speakers: it does not say whose the other two codes are."""
    model, codes = generator().eval(), torch.tensor([2, 0, 1])
    x = speech(12)._replace(speaker=torch.arange(12) % 3)
    model.encode = lambda part: codes[part.speaker]
    data = SimpleNamespace(splits={"train": x}, proportions=lambda: torch.full((3,), 1 / 3))
    model._trainer = SimpleNamespace(datamodule=data)
    model.log_dict = lambda values, **_: scores.update(values)
    for there in ([0, 0], [1], [2], [2, 0, 1]):
        scores, speaker = {}, torch.tensor(there)
        model.statistics.update(codes[speaker], speaker)
        model._log_statistics("val")
        assert model.matching.tolist() == [1, 2, 0] and scores["val/accuracy"] == 1
        assert scores["val/prior_tv"].item() == pytest.approx(0, abs=1e-6)
        assert scores["val/codes_in_use"] == len(set(there))


def test_words_are_spoken():
    model = generator().eval()
    words = model.generate(torch.arange(10))
    assert words.mel.shape == (10, 48, 64) and words.frames.dtype == torch.int64 and (words.frames >= 10).all()
    sounds = model.speak(torch.tensor([4, 0, 7]), torch.tensor([2, 2, 2]))
    assert len(sounds) == 3 and all(torch.isfinite(sound).all() and len(sound) >= 576 for sound in sounds)
    mixed = model.generate(torch.arange(10), torch.full((10, 3), 1 / 3))
    assert mixed.mel.shape == (10, 48, 64)


@pytest.mark.parametrize(
    "content, speaker, message",
    [
        (torch.tensor([10]), None, r"\[0, 10\)"),
        (torch.tensor([1.0]), None, "a text, or words or their indices"),
        (torch.tensor([1]), torch.tensor([3]), r"\[0, 3\)"),
        (torch.tensor([1, 2]), torch.tensor([1]), r"one for each of the 2 words, not codes of shape \(1,\)"),
        (torch.tensor([1, 2]), torch.ones(2, 4), r"weights must be \(2, 3\)"),
        (torch.tensor([1]), torch.full((1, 3), 0.5), "sum to 1"),
        (torch.tensor([], dtype=torch.int64), None, "a text, or words or their indices"),
    ],
)
def test_wrong_words_and_speakers_are_refused(content, speaker, message):
    with pytest.raises(ValueError, match=message):
        generator().generate(content, speaker)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"noise": 9.0}, "noise in"),
        ({"prior_decay": 1.5}, r"in \[0, 1\]"),
        ({"warm_up": 1.0}, r"in \[0, 1\)"),
        ({"guide": -1.0}, "not be negative"),
        ({"contents": 0}, "different words"),
        ({"contents": 11}, "there are ten digits"),
        ({"contents": ["a", "a"]}, "different words"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        generator(**options)


def test_the_judge_hears_any_level_and_length():
    judge = SpeechJudge(
        classifier=SpeechClassifier(speakers=3, channels=4), optimizer=AdamW(), speakers=["a", "b", "c"]
    ).eval()
    sounds = [torch.randn(n) for n in (1500, 4000)]
    judgement = judge.listen(sounds)
    assert judgement.speaker.shape == (2, 3) and torch.allclose(judgement.speaker.sum(-1), torch.ones(2))
    louder = judge.listen([7 * sound for sound in sounds])
    assert torch.allclose(judgement.speaker, louder.speaker, atol=1e-4)


def test_judged_scores_agree_with_what_is_heard(tmp_path):
    """A judge that hears who and what by construction: the scores are those of an oracle."""
    write_digits(tmp_path / "fsdd" / "recordings", {"a": 100.0, "b": 140.0, "c": 180.0}, takes=9)
    data = FSDD(root=str(tmp_path), speakers=["a", "b", "c"])
    data.setup()
    model = generator().eval()
    model.matching.copy_(torch.tensor([2, 0, 1]))
    judge = SpeechJudge(
        classifier=SpeechClassifier(speakers=4, channels=4), optimizer=AdamW(), speakers=["c", "x", "b", "a"]
    ).eval()
    calls = []

    def listen(sounds):
        calls.append(len(sounds))
        torch.manual_seed(1)
        n = len(sounds)
        if len(calls) == 1:  # what was drawn, but for every tenth word
            speaker = torch.nn.functional.one_hot(torch.tensor([3, 2, 0])[model.matching[codes]], 4).float()
            digit = torch.arange(n) % 10
            digit[::10] = 9
        else:  # always x, and mixed
            speaker, digit = torch.tensor([0.0, 1.0, 0.0, 0.0]).expand(n, -1), torch.zeros(n, dtype=torch.int64)
        from zoo.models.speech_judge.model import Judgement

        return Judgement(digit, speaker, torch.full((n,), float(len(calls) > 1)))

    codes = torch.arange(60) % 3
    judge.listen = listen
    model.sample_speaker = lambda content, seed: codes
    scores = judged_scores(model, judge, data, 60)
    assert calls == [60, 60, 150]
    assert scores["digit_accuracy"].item() == pytest.approx(0.9) and scores["code_match"] == 1
    assert scores["voices_tv"].item() == pytest.approx(0, abs=1e-6) and scores["hybrid_rate"] == 0
    assert scores["mean_code_match"] == 0 and scores["mean_voices_tv"].item() == pytest.approx(1)
    assert scores["mean_hybrid_rate"] == 1 and scores["entropy"] == 0
