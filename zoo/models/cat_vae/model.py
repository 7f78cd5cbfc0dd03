"""A variational autoencoder with a categorical code.

N latents of K classes each. As in the paper that introduced Gumbel-softmax with it (Jang et al. 2017, arXiv 1611.01144,
section 4.2), posterior and prior are independent in each latent, and pixels are independent given the code. Each of the
three may be made to know more: a prior and a posterior by the chain rule, pixels that see those just before them.
"""

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Config
from zoo.data.seeding import PREDICT, generator
from zoo.errors import ZooError
from zoo.models.cat_vae.local_head import LocalHead
from zoo.models.cat_vae.metrics import CodeStatistics
from zoo.models.chain import MADE, Chain, ChainNet, CodeTransformer
from zoo.models.likelihoods import Bernoulli, Likelihood
from zoo.relaxations import Categorical, Distribution, Relaxation
from zoo.relaxations.base import Draw
from zoo.training import AdamW, ZooModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PRIORS: dict[str, type[ChainNet]] = {"made": MADE, "transformer": CodeTransformer}


class CatVAE(ZooModule):
    """Categorical variational autoencoder.

    Args:
        encoder: images ``(batch, channels, height, width)`` to logits ``(batch, latents, categories)``.
        decoder: codes ``(batch, latents, categories)`` to what the likelihood needs for each pixel, or to features for
            ``head``, ``(batch, out_channels, height, width)``.
        relaxation: how gradients pass through the code; any of :mod:`zoo.relaxations`.
        optimizer: with its learning-rate schedule.
        latents: N.
        categories: K.
        prior: ``uniform``; ``learned``: independent, with logits trained along; ``made`` or ``transformer``: each
            latent given those before, by a :class:`MADE` or :class:`CodeTransformer` of default size; or a network.
        posterior: null: latents independent given the image; or a network, by which a group of latents is given those
            before: a :class:`MADE` with ``groups``, and ``context`` the width of what the encoder calls ``features``.
        likelihood: of the pixels; null: :class:`Bernoulli`.
        head: what a pixel is told of the pixels before it, beside the code; null: nothing.
        iwae_samples: samples of the bound that the test reports as ``nll``.
        iwae_tau: temperature of the posterior as the proposal of that bound; see :meth:`log_likelihood`.
        head_from: share of training, in [0, 1], before which the head does not look: else it learns to do without a
            code before the code is worth anything.
        beta: weight of the KL divergence in training by the ELBO (Higgins et al. 2017); below 1 the code carries more,
            which keeps a head from taking over. The scores are always of the ELBO itself.
        rws_from: share of training, in [0, 1], after which reweighted wake-sleep takes the place of the ELBO; see
            :meth:`rws_terms`. 1 for never.
        rws_samples: samples per image that it weighs.

    Raises:
        ValueError: if a number is out of range, or two parts do not fit.
    """

    def __init__(
        self,
        *,
        encoder: nn.Module,
        decoder: nn.Module,
        relaxation: Relaxation,
        optimizer: AdamW,
        latents: int = 30,
        categories: int = 10,
        prior: Literal["uniform", "learned", "made", "transformer"] | ChainNet = "uniform",
        posterior: ChainNet | None = None,
        likelihood: Likelihood | None = None,
        head: LocalHead | None = None,
        iwae_samples: int = 100,
        iwae_tau: float = 1.0,
        head_from: float = 0.0,
        beta: float = 1.0,
        rws_from: float = 1.0,
        rws_samples: int = 8,
    ) -> None:
        super().__init__()
        if latents < 1 or categories < 2 or iwae_samples < 1 or not iwae_tau > 0:
            raise ValueError(
                "need latents >= 1, categories >= 2, iwae_samples >= 1 and iwae_tau > 0, got "
                f"{latents}, {categories}, {iwae_samples}, {iwae_tau}"
            )
        if not 0 <= rws_from <= 1 or rws_samples < 2 or not 0 <= head_from <= 1:
            raise ValueError(
                "need rws_from and head_from in [0, 1] and rws_samples >= 2, got "
                f"{rws_from}, {head_from}, {rws_samples}"
            )
        if not 0 <= beta < math.inf:
            raise ValueError(f"beta must be a number of at least 0, got {beta}")
        if isinstance(prior, str) and prior in PRIORS:
            prior = PRIORS[prior](latents=latents, categories=categories)
        for name, net in (("prior", prior), ("posterior", posterior)):
            if isinstance(net, ChainNet) and (net.latents, net.categories) != (latents, categories):
                raise ValueError(
                    f"the {name} is of {net.latents} latents with {net.categories} categories, the model of {latents} "
                    f"with {categories}"
                )
        width = getattr(encoder, "width", 0)
        if posterior is not None and posterior.context not in (0, width):
            raise ValueError(f"posterior.context must be {width}, the width of the encoder's features, or 0")
        if isinstance(prior, ChainNet) and prior.context:
            raise ValueError("a prior has no context: prior.context must be 0")
        self.encoder, self.decoder, self.relaxation, self.optimizer = encoder, decoder, relaxation, optimizer
        self.latents, self.categories = latents, categories
        self.iwae_samples, self.iwae_tau = iwae_samples, iwae_tau
        self.head_from, self.beta, self.rws_from, self.rws_samples = head_from, beta, rws_from, rws_samples
        self.monitor = "val/nll" if rws_from < 1 else "val/neg_elbo"
        self.prior_logits = nn.Parameter(torch.zeros(latents, categories), requires_grad=prior != "uniform")
        self.prior_net = prior if isinstance(prior, ChainNet) else None
        self.posterior_net, self.head = posterior, head
        self.likelihood = likelihood or Bernoulli()
        self.code_statistics = CodeStatistics(latents, categories)

    @classmethod
    def without_effect(cls, arguments: Config) -> str:
        if arguments.get("rws_from") == 0:
            return "with model.rws_from=0 the code is drawn exactly from the first step on"
        return super().without_effect(arguments)

    @property
    def units(self) -> str:
        bound = f"nll by {self.iwae_samples} importance samples"
        return f"{self.likelihood.name} likelihood, in nats an image; {bound}"

    # The laws -----------------------------------------------------------------------------------------------------

    @property
    def prior(self) -> Chain:
        """The law p(z) of a code ``(latents, categories)``: ``log_prob(code)``, ``sample(n)`` and more."""
        return Chain(self.prior_logits, self.prior_net)

    def posterior(self, x: Tensor) -> Chain:
        """The law q(z | x) of codes ``(batch, latents, categories)``."""
        if self.posterior_net is not None and self.posterior_net.context:
            context = self.features(x)
            head: Any = self.encoder.logits
            logits = head(context).float()
        else:
            context, logits = None, self.encoder(x).float()
        if logits.shape[1:] != (self.latents, self.categories):
            raise ValueError(
                f"the encoder gives {tuple(logits.shape[1:])} where the model has (latents, categories) = "
                f"({self.latents}, {self.categories})"
            )
        return Chain(logits, self.posterior_net, context)

    def features(self, x: Tensor) -> Tensor:
        """What the encoder has found in images, ``(batch, encoder.width)``: the layer before the logits.

        Raises:
            ZooError: if the encoder has no ``features``.
        """
        features: Any = getattr(self.encoder, "features", None)
        if features is None:
            raise ZooError(f"{type(self.encoder).__name__} has no features(x)")
        return features(x)

    def pixels(self, code: Tensor, x: Tensor | None) -> Tensor:
        """Parameters of p(x | z) for each pixel, of codes ``(batch * samples, latents, categories)``, image by image.

        ``x`` ``(batch, ...)`` is what a head looks at; with None it does not look.
        """
        decoded = self.decoder(code)
        return decoded if self.head is None else self.head(decoded, x)

    def choices(self) -> list[Distribution]:
        if self.rws_from == 0:
            return []
        bounds = Chain(self.prior_logits, self.posterior_net).bounds
        return [Categorical(torch.zeros(1, b - a, self.categories)) for a, b in pairwise(bounds)]

    @property
    def chained(self) -> bool:
        return self.posterior_net is not None

    # The objective ------------------------------------------------------------------------------------------------

    def terms(self, x: Tensor, posterior: Chain, *, look: bool = True) -> dict[str, Tensor]:
        """The negative ELBO and its two parts, in nats, each ``(batch,)``; in ``eval()`` of an exact sample.

        ``loss`` is the first, with its gradient, and with the KL divergence weighed by ``beta`` in training.

        The KL divergence is the sum of those of each latent given the ones before, in closed form. Where some depend
        on what was drawn before them, they are a part of the program's cost, as the reconstruction is: so its
        gradient is that of whatever estimator there is.
        """
        independent = posterior.net is None and self.prior_net is None
        beta = self.beta if self.training else 1.0

        def program(draw: Draw) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            code, logits = posterior.draw(draw)
            reconstruction = self.distortion(x, self.pixels(code, x if look else None))
            kl = self.kl(logits, code)
            return reconstruction if independent else reconstruction + beta * kl, (reconstruction, kl)

        cost, (reconstruction, kl) = self.expected_cost(program)
        loss = cost + beta * self.kl(posterior.logits) if independent else cost
        reconstruction, kl = reconstruction.detach(), kl.detach()
        return {"loss": loss, "neg_elbo": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}

    def kl(self, logits: Tensor, code: Tensor | None = None) -> Tensor:
        """``KL(q(z | x) || p(z))``, in nats, ``(batch,)``, of posteriors with ``logits`` given the ``code`` drawn."""
        prior = self.prior_logits if code is None else self.prior.conditionals(code)
        log_q, log_p = logits.log_softmax(-1), prior.log_softmax(-1)  # without a comparison, which REBAR would refuse
        return (log_q.exp() * (log_q - log_p)).sum((-2, -1))

    def distortion(self, x: Tensor, pixels: Tensor) -> Tensor:
        """``-log p(x | z)`` in nats, ``(batch,)``, of parameters of the pixels."""
        self.likelihood.check(pixels, x)
        return -self.likelihood.log_prob(pixels, x)

    def rws_terms(self, x: Tensor, posterior: Chain) -> dict[str, Tensor]:
        """Reweighted wake-sleep with the wake-phase update of the posterior: its loss and what it says, ``(batch,)``.

        The decoder and the prior follow the importance-weighted bound ``nll`` of ``rws_samples`` exact samples; the
        posterior follows their normalised weights, towards the true posterior. So it becomes wide enough to propose
        from, where the ELBO makes it narrow, and no gradient has to pass through a sample. The bound falls by
        nats; the ELBO gets worse. (Bornschein & Bengio 2015, arXiv 1406.2751, equations 8 and 9; for discrete latents
        Le et al. 2018, arXiv 1805.10469.)
        """
        many = posterior.repeat(self.rws_samples)
        code = many.sample(noise=self.noise_source)
        log_q = many.log_prob(code)
        log_weights = self.log_joint(x, code) - log_q.detach()
        weights = log_weights.detach().softmax(1)
        nll = math.log(self.rws_samples) - log_weights.logsumexp(1)
        wake = -(weights * log_q).sum(1)
        return {"loss": nll + wake, "nll": nll, "neg_elbo": -log_weights.mean(1)}

    def log_joint(self, x: Tensor, code: Tensor) -> Tensor:
        """``log p(x | z) + log p(z)``, ``(batch, samples)``, of codes ``(batch, samples, latents, categories)``."""
        batch, samples = code.shape[:2]
        pixels = self.pixels(code.flatten(0, 1), x)
        many = x.unsqueeze(1).expand(-1, samples, -1, -1, -1).flatten(0, 1)
        return self.prior.log_prob(code) - self.distortion(many, pixels).view(batch, samples)

    @classmethod
    def paced(cls, arguments: Config) -> str:
        wakes = "another objective takes over at a share of training (model.rws_from)"
        looks = "the head begins to look at a share of training (model.head_from)"
        own = wakes if arguments["rws_from"] < 1 else looks if arguments.get("head_from", 0) > 0 else ""
        return super().paced(arguments) or own

    # Lightning's steps --------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        x = batch[0]
        posterior = self.posterior(x)
        paced = self.rws_from < 1 or self.head_from > 0
        done = self.global_step / self.trainer.estimated_stepping_batches if paced else 0.0
        if self.rws_from < 1 and done >= self.rws_from:
            terms = self.rws_terms(x, posterior)
        else:
            terms = self.terms(x, posterior, look=done >= self.head_from)
        return {name: value.mean() for name, value in terms.items()}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        values = self._evaluate(batch[0])
        if self.rws_from < 1:
            values["nll"] = -self.log_likelihood(batch[0], self.rws_samples).mean()
        return values

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        values = self._evaluate(batch[0])  # first: its noise must not depend on iwae_samples
        x = batch[0]
        values["nll"] = -self.log_likelihood(x, self.iwae_samples, tau=self.iwae_tau).mean()
        if self.likelihood.discrete and not isinstance(self.likelihood, Bernoulli):
            values["bits_per_dim"] = values["nll"] / (x[0].numel() * math.log(2))
        if len(x) > 1:  # what the code is worth: a model that does without one would not mind that of another image
            code, logits = self.posterior(x).draw(lambda t: Categorical(t).sample(noise=self.noise_source))
            shuffled = self.distortion(x, self.pixels(code.roll(1, 0), x)) + self.kl(logits, code)
            values["neg_elbo_shuffled"] = shuffled.mean()
        return values

    def _evaluate(self, x: Tensor) -> dict[str, Tensor]:
        posterior = self.posterior(x)
        terms = self.terms(x, posterior)
        code = posterior.sample(noise=self.noise_source) if posterior.net is not None else posterior.logits
        self.code_statistics.update(posterior.conditionals(code))
        return {name: value.mean() for name, value in terms.items() if name != "loss"}

    def on_validation_epoch_end(self) -> None:
        self._log_code_statistics("val")

    def on_test_epoch_end(self) -> None:
        self._log_code_statistics("test")

    def _log_code_statistics(self, stage: str) -> None:
        statistics = {f"{stage}/{name}": value for name, value in self.code_statistics.compute().items()}
        self.log_dict(statistics, sync_dist=True)
        self.code_usage = self.code_statistics.usage().cpu()
        self.code_statistics.reset()

    # What it is for -----------------------------------------------------------------------------------------------

    @property
    def example_input_array(self) -> Tensor:
        """Two images of noise: what :func:`zoo.export` traces ``forward`` with."""
        images = self.decode(torch.zeros(2, self.latents, dtype=torch.int64, device=self.device))
        return torch.rand(images.shape, generator=generator(self.device, 0, PREDICT), device=self.device)

    def forward(self, x: Tensor) -> Tensor:
        """Images to the pixel means of their reconstruction through the most probable code."""
        return self.means(self.posterior(x).mode())

    def means(self, code: Tensor) -> Tensor:
        """Pixel means, ``(batch, channels, height, width)``, of codes; with a head, along its most probable pixels."""
        decoded = self.decoder(code)
        if self.head is not None:
            _, decoded = self.head.generate(decoded, self.likelihood.mode)
        return self.likelihood.mean(decoded)

    @torch.no_grad()
    def encode(self, x: Any) -> Tensor:
        """The most probable code, int64 ``(batch, latents)``, of images ``(batch, channels, height, width)``.

        Images are in [0, 1]; here as in the other methods below a tensor or a NumPy array.
        """
        return self.posterior(self.given(x)).mode().argmax(-1)

    @torch.no_grad()
    def decode(self, codes: Any) -> Tensor:
        """Pixel means, in [0, 1], of codes, int64 ``(batch, latents)``.

        Raises:
            ValueError: if ``codes`` has another shape or dtype, or an entry outside [0, categories).
        """
        return self.means(self._one_hot(codes))

    def _one_hot(self, codes: Any) -> Tensor:
        codes = self.given(codes)
        if codes.dim() != 2 or codes.shape[1] != self.latents or codes.dtype != torch.int64:
            raise ValueError(f"codes must be int64 (batch, {self.latents}), got {codes.dtype} {tuple(codes.shape)}")
        if codes.numel() and not (codes.min() >= 0 and codes.max() < self.categories):
            raise ValueError(f"codes must be in [0, {self.categories})")
        return F.one_hot(codes, self.categories).to(self.prior_logits)

    @torch.no_grad()
    def reconstruct(self, x: Any) -> Tensor:
        """Pixel means of images after a pass through their most probable code, of the shape of ``x``."""
        return self(self.given(x))

    @torch.no_grad()
    def sample_codes(self, n: int, *, temperature: float = 1.0, replacement: bool = True) -> Tensor:
        """``n`` codes drawn from the prior, int64 ``(n, latents)``.

        Args:
            n: how many.
            temperature: of the prior: the logits of each latent, given those before, are divided by it.
            replacement: false for codes that all differ.

        Raises:
            ZooError: if ``temperature`` is not positive, or there are fewer different codes.
        """
        return self.prior.at(temperature).sample_index(n, replacement=replacement)

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0, replacement: bool = True) -> Tensor:
        """Pixel means of ``n`` codes drawn as by :meth:`sample_codes`, ``(n, channels, height, width)``."""
        return self.decode(self.sample_codes(n, temperature=temperature, replacement=replacement))

    @torch.no_grad()
    def draw_pixels(self, codes: Any) -> Tensor:
        """Images drawn from p(x | z) of codes, int64 ``(n, latents)``, ``(n, channels, height, width)``."""
        decoded = self.decoder(self._one_hot(codes))
        if self.head is not None:
            return self.head.generate(decoded, self.likelihood.sample)[0]
        return self.likelihood.sample(decoded)

    @torch.no_grad()
    def interpolate(self, x: Any, steps: int = 8) -> Tensor:
        """Pixel means on the way between two images in code space, ``(pairs, steps, channels, height, width)``.

        The codes on the way take more and more of their latents, in order, from the second image.

        Args:
            x: images in pairs, ``(2 * pairs, channels, height, width)``.
            steps: pictures of each pair, the two ends among them.
        """
        x = self.given(x)
        code = self.posterior(x).mode()
        changed = torch.linspace(0, self.latents, steps, device=x.device).round()
        second = torch.arange(self.latents, device=x.device) < changed[:, None]  # (steps, latents)
        codes = torch.where(second[None, :, :, None], code[1::2, None], code[0::2, None])
        return self.means(codes.flatten(0, 1)).unflatten(0, (len(x) // 2, steps))

    @torch.no_grad()
    def code_map(self, x: Any) -> Tensor:
        """Which pixels each latent moves, ``(latents, 1, height, width)`` in [0, 1].

        The mean change of a pixel's mean, over images and channels, when the latent is drawn anew from the prior.
        """
        x = self.given(x)
        code = self.posterior(x).mode()
        other = self.prior.sample(len(x))
        swapped = code.repeat(self.latents, 1, 1, 1)
        latent = torch.arange(self.latents)
        swapped[latent, :, latent] = other[:, latent].transpose(0, 1)
        change = self.means(swapped.flatten(0, 1)).unflatten(0, (self.latents, len(x))) - self.means(code)
        maps = change.abs().mean((1, 2)).unsqueeze(1)
        return maps / maps.max().clamp_min(1e-9)

    @torch.no_grad()
    def log_likelihood(self, x: Any, k: int, *, tau: float = 1.0, rows: int = 2000) -> Tensor:
        """The importance-weighted lower bound of ``log p(x)`` with ``k`` exact samples, in nats, ``(batch,)``.

        Args:
            x: images.
            k: samples of the proposal; the bound tightens with k (Burda et al. 2016, theorem 1).
            tau: temperature of the proposal, by which the logits of each latent are divided. It is a bound for any
                proposal. A posterior trained on the ELBO is too narrow for a tight one: higher temperatures gain a nat
                and more.
            rows: codes decoded at a time, which bounds the memory.
        """
        x = self.given(x)
        posterior = self.posterior(x)
        proposal = posterior.at(tau)
        chunk = max(1, rows // (len(x) * self.noise_source.parts))  # the same draws, however the batch is split
        parts = []
        for start in range(0, k, chunk):
            code, log_q = proposal.repeat(min(chunk, k - start)).sample_and_score(noise=self.noise_source)
            parts.append((self.log_joint(x, code) - log_q).logsumexp(1))
        return torch.stack(parts, 1).logsumexp(1) - math.log(k)

    def pictures(self, batch: Any) -> "dict[str, Figure]":
        """Reconstructions beside inputs, samples of the prior, and how often each class of each latent is used."""
        from zoo.training.plots import heat_map, image_grid, image_pairs

        x = batch[0][:32]
        pictures = {
            "reconstructions": image_pairs(x, self.reconstruct(x), "Input (left of each pair) and reconstruction"),
            "samples": image_grid(self.sample(64), "Samples of the prior: pixel means"),
            "interpolations": image_grid(
                self.interpolate(x[: len(x) // 2 * 2][:16]).flatten(0, 1), "From one image to another, latent by latent"
            ),
            "code_maps": image_grid(self.code_map(x[:8]), "Which pixels each latent moves", columns=10),
        }
        if hasattr(self, "code_usage"):
            pictures["code_usage"] = heat_map(
                self.code_usage, "Code usage: marginal posterior of each latent", "category", "latent"
            )
        return pictures
