"""A generator of speech that decides whose voice to speak with.

p(s | c) p(z | c, s) p(mel, pitch, length | c, s, z): c is the word, s one of K speakers, a categorical variable drawn
through the relaxation, z a small Gaussian residual. It is a variational autoencoder with a discrete and a continuous
latent; where the speaker of a recording is known, s is observed (Kingma et al. 2014, arXiv 1406.5298, model M2).

With several speakers the ELBO does not lead to them: without help codes are shared and split, encoder and decoder soon
fit each other, whoever a code stands for, and the ELBO may be no worse for it. So q(s | x) can be led by a simpler
model of the same recordings, a mixture of Gaussians, which is also how VaDE begins (Jiang et al. 2017, arXiv
1611.05148).
"""

import logging
import secrets
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Config
from zoo.data import Speech, audio
from zoo.data.seeding import PREDICT, generator
from zoo.data.text import DIGITS, letters
from zoo.errors import ZooError
from zoo.models.speaker_generator.flow import FlowSampler
from zoo.models.speaker_generator.guide import fit_guide, guess
from zoo.models.speaker_generator.judging import find_judge, judged_scores
from zoo.models.speaker_generator.likelihood import gaussian_kl, gaussian_nll, observe
from zoo.models.speaker_generator.metrics import SpeakerStatistics, agreement, match, total_variation, usage
from zoo.models.speaker_generator.nets import Voice
from zoo.models.speaker_generator.pictures import draw, play
from zoo.models.speaker_generator.words import MEAN, SAMPLE, find_voice, read_voices, read_words
from zoo.relaxations import Categorical, Distribution, Draw, Relaxation
from zoo.training import AdamW, ZooModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

SHORTEST = 10  # frames of a generated word
FIRST_NOISE = 8.0  # standard deviation of the likelihood of a spectrogram at first; it falls to that of the model
PITCH_NOISE, LENGTH_NOISE = 0.2, 0.1  # of the likelihoods of pitch and logarithm of length
RESIDUAL_FROM = 0.8  # share of the warm-up after which z is used; until then all that differs is left to the speaker
IN_USE = 0.01  # share of recordings from which a code counts as in use
EARLY = 8  # one word of so many is shown to the sampler until then: it takes most of the time, and is given other means
SPREAD = 0.7
WIDEST = 2.0  # of the spread
SLOWEST, FASTEST = 0.25, 4.0  # of the speed of speech


class Words(NamedTuple):
    """Generated words: time-normalised log-mel spectrograms ``(batch, frames, mels)`` and their lengths in frames,
    int64 ``(batch,)``."""

    mel: Tensor
    frames: Tensor


class SpeakerGenerator(ZooModule):
    """Discrete speaker-conditioned generator of spoken words.

    Args:
        speaker_encoder: features over time ``(batch, frames, mels + 2)`` to logits of the speaker,
            ``(batch, speakers)``.
        residual_encoder: the same to mean and log-variance of the residual, ``(batch, 2 residual)``.
        decoder: words, speakers and residuals to a :class:`zoo.models.speaker_generator.nets.Voice`.
        relaxation: how gradients pass through the choice of the speaker; any of :mod:`zoo.relaxations`.
        optimizer: with its learning-rate schedule.
        speakers: K.
        contents: the words, or how many there are of the ten digits.
        residual: size of z.
        prior: of the speaker: one for all words (``marginal``), or one for each (``content``).
        prior_decay: of the running mean of q(s | x) that the prior is.
        noise: standard deviation of the likelihood of a spectrogram.
        warm_up: share of training that is a warm-up, 0 for none: the standard deviation falls from 8 to ``noise``, with
            the rest of the likelihood weighted alike; the prior stays uniform; in the first four fifths there is no
            residual.
        guide: weight, in nats, of the cross-entropy of q(s | x) with what a mixture of Gaussians says of recordings of
            unknown speakers, see :meth:`guess`. It falls linearly to zero, which it is at the end of training. 0 for
            no mixture.
        label_weight: of the cross-entropy of known speakers, in nats.
        sampler: a :class:`zoo.models.speaker_generator.FlowSampler` that draws words frame by frame, given the word,
            the code and the mean spectrogram and length of the decoder. It is trained beside all this, to which its
            gradient does not come, or after it; while there is no residual it is shown an eighth of the words. null:
            the decoder says words, by that mean.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        *,
        speaker_encoder: nn.Module,
        residual_encoder: nn.Module,
        decoder: nn.Module,
        relaxation: Relaxation,
        optimizer: AdamW,
        speakers: int,
        contents: list[str] | int = 10,
        residual: int = 16,
        prior: Literal["marginal", "content"] = "marginal",
        prior_decay: float = 0.98,
        noise: float = 0.5,
        warm_up: float = 0.5,
        guide: float = 0.0,
        label_weight: float = 100.0,
        sampler: FlowSampler | None = None,
    ) -> None:
        super().__init__()
        words = list(DIGITS[:contents]) if isinstance(contents, int) else list(contents)
        if speakers < 2 or residual < 1 or not words or len(set(words)) < len(words):
            raise ValueError(
                f"need speakers >= 2, residual >= 1 and different words, got {speakers}, {residual}, {words}"
            )
        if isinstance(contents, int) and contents != len(words):
            raise ValueError(f"contents={contents}: there are ten digits; of other words give the list")
        if not (0 < noise <= FIRST_NOISE and 0 <= prior_decay <= 1):
            raise ValueError(f"need noise in (0, {FIRST_NOISE}] and prior_decay in [0, 1], got {noise}, {prior_decay}")
        if not 0 <= warm_up < 1:
            raise ValueError(f"need warm_up in [0, 1), got {warm_up}")
        if min(guide, label_weight) < 0:
            raise ValueError(f"guide and label_weight must not be negative, got {guide}, {label_weight}")
        self.speaker_encoder, self.residual_encoder, self.decoder = speaker_encoder, residual_encoder, decoder
        self.relaxation, self.optimizer = relaxation, optimizer
        self.words, self.contents = words, len(words)
        self.speakers, self.residual, self.prior_decay = speakers, residual, prior_decay
        self.noise, self.warm_up, self.guide, self.label_weight = noise, warm_up, guide, label_weight
        self.sampler = sampler
        self.monitor = "val/cost" if sampler else "val/neg_elbo"
        self.annealed = ("neg_elbo", "given_speaker", "cost")  # by the noise of the likelihood
        self.spelling: Tensor
        self.register_buffer("spelling", letters(words), persistent=False)
        self.residual_table = nn.Parameter(torch.zeros(self.contents, speakers, 2 * residual))
        self.prior: Tensor
        self.register_buffer("prior", torch.full((self.contents if prior == "content" else 1, speakers), 1 / speakers))
        self.content_mean: Tensor
        self.register_buffer("content_mean", torch.zeros(self.contents, audio.FRAMES, audio.MELS))
        self.content_count: Tensor
        self.register_buffer("content_count", torch.zeros(self.contents))
        self.matching: Tensor  # the speaker that each code was matched with in the last validation or test
        self.register_buffer("matching", torch.full((speakers,), -1))
        self.guide_weight: Tensor
        self.guide_bias: Tensor
        if guide:
            self.register_buffer("guide_weight", torch.zeros(2 * audio.MELS, speakers))
            self.register_buffer("guide_bias", torch.zeros(self.contents, speakers))
        self.statistics = SpeakerStatistics(speakers, speakers)

    def choices(self) -> list[Distribution]:
        return [Categorical(torch.zeros(1, self.speakers))]

    # The objective ------------------------------------------------------------------------------------------------

    def terms(self, x: Speech, *, weight: float = 1.0, use_residual: bool = True) -> dict[str, Tensor]:
        """The negative ELBO and its parts, in nats, each ``(batch,)``, and the logits of q(s | x).

        ``given_speaker`` is the expectation over q(s | x) of what a recording costs once the speaker is chosen: its
        distortion, and the divergence of q(z | x) from p(z | c, s).

        Args:
            x: recordings; where the speaker is known, q(s | x) is that speaker.
            weight: of the likelihood.
            use_residual: else z is zero and costs nothing.
        """
        logits = self.speaker_logits(x)
        known = observe(logits, x.label)
        mean, log_variance = self.residual_encoder(self.features(x)).float().chunk(2, -1)
        residual = use_residual * (mean + self.noise_source.normal(mean) * (0.5 * log_variance).exp())

        def given_speaker(draw: Draw) -> Tensor:
            speaker = draw(known)
            distortion = self.distortion(x, self.decoder(x.content, speaker, residual))
            residual_kl = gaussian_kl(mean, log_variance, *self.residual_prior(x.content, speaker))
            return weight * distortion + use_residual * residual_kl

        cost = self.expected_cost(given_speaker)
        log_q = known.log_softmax(-1)
        speaker_kl = (log_q.exp() * (log_q - self.log_prior(x.content))).sum(-1)
        return {"neg_elbo": cost + speaker_kl, "given_speaker": cost, "speaker_kl": speaker_kl, "logits": logits}

    def distortion(self, x: Speech, voice: Voice) -> Tensor:
        """``-log p(mel, pitch, voiced, length | c, s, z)`` in nats, ``(batch,)``.

        Gaussian but for Bernoulli voicing. The spectrogram is given the pitch, and the pitch counts where it is voiced.
        """
        mel = gaussian_nll(x.mel, voice.mel(x.pitch, x.voiced), self.noise)
        pitch = gaussian_nll(x.pitch, voice.pitch, PITCH_NOISE) * x.voiced
        voiced = F.binary_cross_entropy_with_logits(voice.voiced, x.voiced, reduction="none")
        length = gaussian_nll(x.log_frames, voice.log_frames, LENGTH_NOISE)
        return sum(value.flatten(1).sum(1) for value in (mel, pitch, voiced)) + length

    def speaker_logits(self, x: Speech) -> Tensor:
        """Logits of q(s | x), ``(batch, speakers)``, from what differs from the mean of the word."""
        centred = x._replace(mel=x.mel - self.content_mean[x.content])
        logits = self.speaker_encoder(self.features(centred)).float()
        if logits.shape[1:] != (self.speakers,):
            raise ValueError(f"the speaker encoder gives {logits.shape[1]} logits for {self.speakers} speakers")
        return logits

    @staticmethod
    def features(x: Speech) -> Tensor:
        """Spectrogram, pitch where voiced, and voicing: ``(batch, frames, mels + 2)``."""
        return torch.cat([x.mel, (x.pitch * x.voiced).unsqueeze(-1), x.voiced.unsqueeze(-1)], -1)

    def residual_prior(self, content: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of p(z | c, s), each ``(batch, residual)``: how this speaker says this word.

        Without it, samples of z fit no speaker: q(z | x) tells how a word is timed, which differs between speakers.
        """
        mean, log_variance = torch.einsum("bk,bkr->br", speaker.float(), self.residual_table[content]).chunk(2, -1)
        return mean, log_variance

    def log_prior(self, content: Tensor) -> Tensor:
        """``log p(s | c)`` of words ``(batch,)``: ``(batch, speakers)``."""
        row = content if len(self.prior) > 1 else torch.zeros_like(content)
        return self.prior.clamp(min=1e-6).log()[row]

    # The guide ----------------------------------------------------------------------------------------------------

    def fit_guide(self, x: Speech, seed: int) -> None:
        """Fit the mixture of :meth:`guess` to all recordings to train on; ``seed`` is of the search's starts."""
        weight, bias = fit_guide(x, speakers=self.speakers, contents=self.contents, seed=seed)
        self.guide_weight.copy_(weight)
        self.guide_bias.copy_(bias)

    def guess(self, x: Speech) -> Tensor:
        """Logits of the speaker, ``(batch, speakers)``, by the mixture: see :func:`guide.guess`."""
        return guess(x, self.guide_weight, self.guide_bias)

    @classmethod
    def paced(cls, arguments: Config) -> str:
        return "parts of the loss come and go at shares of training"

    # Lightning's steps --------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        words = getattr(self.trainer.datamodule, "words", self.words)
        if list(words) != self.words:
            raise ZooError(
                f"the model is to say {', '.join(self.words[:20])}, and the data have {', '.join(words[:20])}: it "
                "needs recordings of these words and no others (data.words=[...] chooses some), or training anew"
            )
        there = getattr(self.trainer.datamodule, "speakers", self.speakers)
        there = there if isinstance(there, int) else len(there)
        if there != self.speakers:
            raise ZooError(
                f"model.speakers={self.speakers}, and the data have {there}: leave model.speakers out, and say "
                "data.speakers"
            )

    def on_fit_start(self) -> None:
        if self.guide and not self.guide_weight.any():  # a resumed run has it
            data = self.trainer.datamodule
            self.fit_guide(data.splits["train"], data.seed)

    def training_step(self, batch: Speech, batch_idx: int) -> dict[str, Tensor]:
        done = self.global_step / self.total_steps
        self._follow_content(batch)
        warm = min(1.0, done / self.warm_up) if self.warm_up else 1.0
        noise = self.noise * (FIRST_NOISE / self.noise) ** (1 - warm)
        use_residual = warm >= RESIDUAL_FROM
        terms = self.terms(batch, weight=(self.noise / noise) ** 2, use_residual=use_residual)
        logits = terms.pop("logits")
        values = {name: value.mean() for name, value in terms.items()}
        known = batch.label >= 0
        told = F.cross_entropy(logits, batch.label.clamp(min=0), reduction="none") * known
        if warm == 1:
            posterior = observe(logits, batch.label).softmax(-1)
            self._follow_posterior(posterior.detach() * ~batch.extra[:, None], batch.content)
        loss = values["neg_elbo"] + self.label_weight * told.mean()
        if self.guide:
            led = F.cross_entropy(logits, self.guess(batch).softmax(-1), reduction="none") * ~known
            loss = loss + self.guide * (1 - done) * led.mean()
        if self.sampler:
            some = (~batch.extra).nonzero()[:: 1 if use_residual else EARLY, 0]
            values["flow"] = self._sampler_cost(batch.at(some), logits[some], use_residual=use_residual)
            loss = loss + values["flow"]
        return {"loss": loss, **values}

    def _sampler_cost(self, x: Speech, logits: Tensor, *, use_residual: bool = True) -> Tensor:
        """What words cost the sampler, given their most probable speakers and a draw of their residuals; the mean."""
        assert self.sampler
        speaker = F.one_hot(observe(logits, x.label).argmax(-1), self.speakers).float()
        with torch.no_grad():
            mean, log_variance = self.residual_encoder(self.features(x)).float().chunk(2, -1)
            residual = use_residual * (mean + self.noise_source.normal(mean) * (0.5 * log_variance).exp())
            sketch = self.render(self.decoder(x.content, speaker, residual)).mel
        return self.sampler.cost(x, sketch, speaker, self.noise_source).mean()

    @torch.no_grad()
    def _follow_content(self, x: Speech) -> None:
        """Take the batch into the mean spectrogram of each word, over all that has been seen."""
        ones = torch.ones_like(x.log_frames)
        self.content_count.index_add_(0, x.content, ones)
        count = self.content_count.clamp(min=1)[:, None, None]
        seen = torch.zeros_like(self.content_mean).index_add_(0, x.content, x.mel)
        new = torch.zeros_like(self.content_count).index_add_(0, x.content, ones)[:, None, None]
        self.content_mean += (seen - new * self.content_mean) / count

    @torch.no_grad()
    def _follow_posterior(self, posterior: Tensor, content: Tensor) -> None:
        """Move the prior towards the mean of q(s | x): for a given q the ELBO is greatest where they are the same."""
        row = content if len(self.prior) > 1 else torch.zeros_like(content)
        total = torch.zeros_like(self.prior).index_add_(0, row, posterior)
        total = self.trainer.strategy.reduce(total, reduce_op="sum")
        count = total.sum(-1, keepdim=True)
        mean = torch.where(count > 0, total / count.clamp(min=1e-9), self.prior)
        self.prior.lerp_(mean, 1 - self.prior_decay)

    def validation_step(self, batch: Speech, batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(batch)

    def test_step(self, batch: Speech, batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(batch)

    def _evaluate(self, x: Speech) -> dict[str, Tensor]:
        terms = self.terms(x)
        logits = terms.pop("logits")
        self.statistics.update(logits.argmax(-1), x.speaker)
        terms["mcd"] = audio.mel_cepstral_distortion(x.mel, self(x).mel)
        speaker = Categorical(self.speaker_logits(x)).mode()
        mean, log_variance = self.residual_encoder(self.features(x)).chunk(2, -1)
        terms["residual_kl"] = gaussian_kl(mean, log_variance, *self.residual_prior(x.content, speaker))
        values = {name: value.mean() for name, value in terms.items()}
        if self.sampler:
            values["flow"] = self._sampler_cost(x, logits)
            values["cost"] = values["neg_elbo"] + values["flow"]
        return values

    def on_validation_epoch_end(self) -> None:
        self._log_statistics("val")

    def on_test_epoch_end(self) -> None:
        self._log_statistics("test")
        if judge := find_judge(self.trainer.datamodule, self.device):
            data = self.trainer.datamodule
            scores = judged_scores(self, judge, data, data.judged)
            self.log_dict({f"test/{name}": value for name, value in scores.items()}, sync_dist=True)

    def _log_statistics(self, stage: str) -> None:
        counts = self.statistics.compute()
        self.code_usage = usage(counts)
        values = {"codes_in_use": (self.code_usage >= IN_USE).sum().float()}
        if (known := counts[:, :-1]).any():
            self.matching.copy_(match(known if known.any(0).all() else known + self._counts_in_training()))
            values |= agreement(known, self.matching)
            truth = self.trainer.datamodule.proportions().to(self.device)
            values["prior_tv"] = total_variation(self.speaker_shares(), truth)
        self.statistics.reset()
        values["rarest_code"] = self.code_usage.min()
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()}, sync_dist=True)

    @torch.no_grad()
    def _counts_in_training(self) -> Tensor:
        """Of each code and speaker, the recordings to train on, int64 ``(codes, speakers)``: a split may lack somebody
        whose code would be given to another then."""
        x = self.trainer.datamodule.splits["train"]
        seen = SpeakerStatistics(self.speakers, self.speakers).to(x.mel.device)
        for some in torch.arange(len(x.mel), device=x.mel.device).split(256):
            part = x.at(some)
            seen.update(self.encode(part), part.speaker)
        return seen.counts[:, :-1]

    def speaker_shares(self) -> Tensor:
        """The learned prior as shares of the speakers that the codes are matched with, ``(speakers,)``."""
        return torch.zeros_like(self.prior[0]).index_add_(0, self.matching, self.prior.mean(0))

    # What it is for -----------------------------------------------------------------------------------------------

    @property
    def example_input_array(self) -> Speech:
        """Two recordings of noise: what :func:`zoo.export` traces ``forward`` with."""
        g = generator(self.device, 0, PREDICT)
        mel = torch.randn(2, *self.content_mean.shape[1:], generator=g, device=self.device)
        voiced, pitch = torch.rand(2, 2, mel.shape[1], generator=g, device=self.device)
        word = torch.zeros(2, dtype=torch.int64, device=self.device)
        known = (voiced.mean(1) + 3.5, word, word - 1, word, word.bool())
        return Speech(mel, 2 * pitch - 1, voiced, *known, mel, word[:, None] + 97)

    def forward(self, x: Speech) -> Words:
        """Recordings after a pass through their most probable speaker and the mean of their residual."""
        speaker = Categorical(self.speaker_logits(x)).mode()
        residual = self.residual_encoder(self.features(x)).chunk(2, -1)[0]
        return self.render(self.decoder(x.content, speaker, residual))

    @torch.no_grad()
    def generate(
        self,
        content: Any,
        speaker: Any = None,
        *,
        spread: float | None = None,
        speed: float = 1.0,
        seed: int | None = None,
    ) -> Words:
        """Say words. What is drawn for one depends on ``seed``, the word and which of its kind it is, and not on what
        else is said beside it.

        Args:
            content: the words: a text, such as "4 0 7" or "four zero seven"; a list of single words; or the indices of
                :attr:`words`, integers ``(batch,)``, a tensor, an array or a list.
            speaker: one for all words, a name of :attr:`speaker_names`, a code, a blend such as
                "theo:0.7,george:0.3", or "mean" for the mean vector of the prior; names or codes of each, integers
                ``(batch,)``; or weights of all codes ``(speakers,)`` or ``(batch, speakers)``, from 0 to 1 with a sum
                of 1. The default, "sample", is to draw from the learned prior: one speaker for a text, else one for
                each word.
            spread: share of the standard deviation of what is drawn, from 0 to 2; below 1 words are more typical and
                less varied. The default is 1 with a sampler, else 0.7.
            speed: how many times as fast, from 0.25 to 4.
            seed: of all that is drawn; the default is a fresh one each time.

        Returns:
            One spectrogram and one length for each word.

        Raises:
            ValueError: if a word, a code or a number is out of range, or a shape is wrong.
            ZooError: if a text has a word that is none of :attr:`words`, or there is no speaker of that name.
        """
        mel, frames = self._say(content, speaker, spread, speed, seed)
        if not isinstance(mel, Tensor):
            mel = torch.cat([audio.resize(one.unsqueeze(0), audio.FRAMES) for one in mel])
        return Words(mel, frames)

    def _say(
        self, content: Any, speaker: Any, spread: float | None, speed: float, seed: int | None
    ) -> tuple[Tensor | list[Tensor], Tensor]:
        """Spectrograms, time-normalised or each at its own pace, and their lengths; arguments of :meth:`generate`."""
        spread = (1.0 if self.sampler else SPREAD) if spread is None else spread
        if not (0 <= spread <= WIDEST and SLOWEST <= speed <= FASTEST):
            raise ValueError(f"need spread in [0, {WIDEST}], speed in [{SLOWEST}, {FASTEST}], got {spread}, {speed}")
        seed = secrets.randbits(40) if seed is None else seed
        if isinstance(content, np.ndarray) and content.dtype.kind in "OU":
            content = content.tolist()
        together = isinstance(content, str)
        content = self._integers(self._read(content), "content must be a text, a list of words, or their indices")
        if content.dtype != torch.int64 or content.dim() != 1 or not len(content):
            raise ValueError(f"content must be a text, or words or their indices (batch,), got {content}")
        if not 0 <= content.min() <= content.max() < self.contents:
            raise ValueError(f"words must be in [0, {self.contents}), got {content}")
        generators = self._generators(content, seed)
        speaker = SAMPLE if speaker is None else speaker
        if isinstance(speaker, str):
            speaker = self._voice(speaker)
        if isinstance(speaker, str):
            chances = self.log_prior(content).exp()
            if speaker == MEAN:
                speaker = chances
            elif together:
                speaker = self.sample_speaker(content[:1], seed=seed).expand(len(content))
            else:
                draws = [torch.multinomial(p, 1, generator=g) for p, g in zip(chances.cpu(), generators)]
                speaker = torch.cat(draws)
        speaker = self.weights(speaker, len(content))
        mean, log_variance = self.residual_prior(content, speaker)
        noise = torch.stack([torch.randn(self.residual, generator=g) for g in generators]).to(mean)
        residual = mean + spread * (0.5 * log_variance).exp() * noise
        words = self.render(self.decoder(content, speaker, residual))
        frames = (words.frames / speed).round().long().clamp(min=SHORTEST)
        if self.sampler:
            spelling = self.spelling[content]
            return self.sampler.sample(spelling, words.mel, frames, speaker, generators, spread=spread), frames
        return words.mel, frames

    def _read(self, content: Any) -> Any:
        """``content`` with its texts as indices of words."""
        if isinstance(content, str):
            return read_words(content, self.words)
        if not (isinstance(content, Sequence) and any(isinstance(one, str) for one in content)):
            return content
        indices = [read_words(str(one), self.words) for one in content]
        for one, words in zip(content, indices):
            if len(words) > 1:
                raise ZooError(f"{one!r} is {len(words)} words: a list has one in each place; say a text by itself")
        return [word for (word,) in indices]

    def _integers(self, value: Any, message: str) -> Tensor:
        """``value`` as a tensor, integers of any kind as int64; ``ValueError`` if it is none."""
        try:
            tensor = self.given(value)
        except (TypeError, ValueError):
            raise ValueError(f"{message}, got {value!r}") from None
        integral = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
        return tensor.long() if integral else tensor

    def _voice(self, text: str) -> Any:
        """The one voice that ``text`` says: a code, weights, or :data:`SAMPLE` or :data:`MEAN`."""
        voices = read_voices(text, self.speaker_names)
        if len(voices) > 1:
            raise ZooError(f"{text!r} names several speakers: give one, or a list with one for each word")
        return voices[0][1]

    def _generators(self, content: Tensor, seed: int) -> list[torch.Generator]:
        """Of what is drawn for words ``(batch,)``: of each word and each take of it."""
        found, takes = [], [0] * self.contents
        for word in content.tolist():
            found.append(generator("cpu", seed, PREDICT, word, takes[word]))
            takes[word] += 1
        return found

    def weights(self, speaker: Any, words: int) -> Tensor:
        """Weights of all codes for each of ``words``, ``(words, speakers)``.

        Args:
            speaker: a code, a name or a code of each word, or weights, as of :meth:`generate`.
            words: how many.

        Raises:
            ValueError: if a code is out of range, a shape is wrong, or weights are not a distribution.
            ZooError: if there is no speaker of a name.
        """
        if isinstance(speaker, np.ndarray) and speaker.dtype.kind in "OU":
            speaker = speaker.tolist()
        if isinstance(speaker, Integral):
            speaker = [speaker] * words
        if isinstance(speaker, Sequence) and any(isinstance(one, str) for one in speaker):
            speaker = [find_voice(str(one), self.speaker_names) for one in speaker]
        speaker = self._integers(speaker, "speaker must be a name, a code, weights, or a list of these")
        if speaker.dtype == torch.int64:
            speaker = speaker.expand(words) if speaker.dim() == 0 else speaker
            if speaker.shape != (words,):
                raise ValueError(
                    f"give one speaker, or one for each of the {words} words, not codes of shape {tuple(speaker.shape)}"
                )
            if not 0 <= speaker.min() <= speaker.max() < self.speakers:
                raise ValueError(f"codes must be in [0, {self.speakers}), got {speaker}")
            return F.one_hot(speaker, self.speakers).to(self.prior)
        if speaker.shape == (self.speakers,):
            speaker = speaker.expand(words, -1)
        if speaker.shape != (words, self.speakers):
            raise ValueError(f"weights must be ({words}, {self.speakers}), got {tuple(speaker.shape)}")
        if not (speaker >= 0).all() or not torch.allclose(speaker.sum(-1), torch.ones_like(speaker[:, 0]), atol=1e-3):
            raise ValueError("weights of speakers must be from 0 to 1 and sum to 1 for each word")
        return speaker.to(self.prior)

    @property
    def speaker_names(self) -> list[str]:
        """The name of the speaker that each code was matched with; empty where it is not known."""
        names = self.trained_on.get("speakers")
        names = [str(name) for name in names] if isinstance(names, list) else []
        return [names[i] if 0 <= i < len(names) else "" for i in self.matching.tolist()]

    @torch.no_grad()
    def sample_speaker(self, content: Tensor, *, seed: int | None = None) -> Tensor:
        """Codes drawn from the learned prior for words ``(batch,)``, int64 ``(batch,)``; fresh ones without a seed."""
        g = generator("cpu", secrets.randbits(40) if seed is None else seed, PREDICT)
        return torch.multinomial(self.log_prior(content.to(self.device)).exp().cpu(), 1, generator=g)[:, 0].to(
            self.device
        )

    @staticmethod
    def render(voice: Voice) -> Words:
        """The most probable spectrogram and length of a voice."""
        frames = voice.log_frames.exp().round().long().clamp(min=SHORTEST)
        return Words(voice.mel(voice.pitch, (voice.voiced > 0).to(voice.pitch)), frames)

    @torch.no_grad()
    def encode(self, x: Speech) -> Tensor:
        """The most probable code of recordings, int64 ``(batch,)``."""
        return self.speaker_logits(x).argmax(-1)

    @torch.no_grad()
    def speak(
        self,
        content: Any,
        speaker: Any = None,
        *,
        spread: float | None = None,
        speed: float = 1.0,
        seed: int | None = None,
    ) -> list[Tensor]:
        """Say words aloud; arguments and errors as of :meth:`generate`.

        Returns:
            For each word a sound at 8 kHz, float32 ``(samples,)``, on the CPU.
        """
        mel, frames = self._say(content, speaker, spread, speed, seed)
        return audio.vocode(mel, frames.tolist())

    def pictures(self, batch: Speech) -> "dict[str, Figure]":
        return draw(self)

    def sounds(self, batch: Speech) -> dict[str, Tensor]:
        return play(self)
