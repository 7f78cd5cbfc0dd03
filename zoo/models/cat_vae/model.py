"""A variational autoencoder with a categorical code.

N latents of K classes each, a factorised posterior and prior, a Bernoulli likelihood of the pixels. It is the
model with which Gumbel-softmax was introduced (Jang et al. 2017, arXiv 1611.01144, section 4.2).
"""

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Config
from zoo.data.seeding import PREDICT, generator
from zoo.models.cat_vae.metrics import CodeStatistics
from zoo.relaxations import Categorical, Relaxation
from zoo.training import AdamW, ZooModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class CatVAE(ZooModule):
    """Categorical variational autoencoder.

    Args:
        encoder: images ``(batch, channels, height, width)`` to logits ``(batch, latents, categories)``.
        decoder: codes ``(batch, latents, categories)`` to Bernoulli logits of the shape of the images.
        relaxation: how gradients pass through the code; any of :mod:`zoo.relaxations`.
        optimizer: with its learning-rate schedule.
        latents: N.
        categories: K.
        prior: ``uniform``, or ``learned``: factorised, with logits trained along.
        iwae_samples: samples of the bound that the test reports as ``nll``.
        iwae_tau: temperature of the posterior as the proposal of that bound; see :meth:`log_likelihood`.
        rws_from: share of training, in [0, 1], after which reweighted wake-sleep takes the place of the ELBO; see
            :meth:`rws_terms`. 1 for never.
        rws_samples: samples per image that it weighs.

    Raises:
        ValueError: if a number is out of range.
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
        prior: Literal["uniform", "learned"] = "uniform",
        iwae_samples: int = 100,
        iwae_tau: float = 1.0,
        rws_from: float = 1.0,
        rws_samples: int = 8,
    ) -> None:
        super().__init__()
        if latents < 1 or categories < 2 or iwae_samples < 1 or not iwae_tau > 0:
            raise ValueError(
                "need latents >= 1, categories >= 2, iwae_samples >= 1 and iwae_tau > 0, got "
                f"{latents}, {categories}, {iwae_samples}, {iwae_tau}"
            )
        if not 0 <= rws_from <= 1 or rws_samples < 2:
            raise ValueError(f"need rws_from in [0, 1] and rws_samples >= 2, got {rws_from}, {rws_samples}")
        self.encoder, self.decoder, self.relaxation, self.optimizer = encoder, decoder, relaxation, optimizer
        self.latents, self.categories = latents, categories
        self.iwae_samples, self.iwae_tau = iwae_samples, iwae_tau
        self.rws_from, self.rws_samples = rws_from, rws_samples
        self.monitor = "val/nll" if rws_from < 1 else "val/neg_elbo"
        self.prior_logits = nn.Parameter(torch.zeros(latents, categories), requires_grad=prior == "learned")
        self.code_statistics = CodeStatistics(latents, categories)

    @classmethod
    def without_effect(cls, arguments: Config) -> str:
        if arguments.get("rws_from") == 0:
            return "with model.rws_from=0 the code is drawn exactly from the first step on"
        return super().without_effect(arguments)

    # The objective ------------------------------------------------------------------------------------------------

    def terms(self, x: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """The negative ELBO and its two parts, in nats, each ``(batch,)``; in ``eval()`` of an exact sample."""
        reconstruction = self.expected_cost(lambda draw: self.distortion(x, self.decoder(draw(logits))))
        kl = self.kl(logits)
        return {"neg_elbo": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}

    def rws_terms(self, x: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """Reweighted wake-sleep with the wake-phase update of the posterior: its loss and what it says, ``(batch,)``.

        The decoder and the prior follow the importance-weighted bound ``nll`` of ``rws_samples`` exact samples; the
        posterior follows their normalised weights, towards the true posterior. So it becomes wide enough to propose
        from, where the ELBO makes it narrow, and no gradient has to pass through a sample. The bound falls by
        nats; the ELBO gets worse. (Bornschein & Bengio 2015, arXiv 1406.2751, equations 8 and 9; for discrete latents
        Le et al. 2018, arXiv 1805.10469.)
        """
        repeated = logits.unsqueeze(1).expand(-1, self.rws_samples, -1, -1)
        code = Categorical(repeated).sample(noise=self.noise_source)
        log_weights = self.log_weights(x, repeated.detach(), code)
        weights = log_weights.detach().softmax(1)
        nll = math.log(self.rws_samples) - log_weights.logsumexp(1)
        wake = -(weights * Categorical(logits.unsqueeze(1)).log_prob(code).sum(-1)).sum(1)
        return {"loss": nll + wake, "nll": nll, "neg_elbo": -log_weights.mean(1)}

    def posterior_logits(self, x: Tensor) -> Tensor:
        """Logits of q(z | x), ``(batch, latents, categories)``."""
        logits = self.encoder(x).float()
        if logits.shape[1:] != (self.latents, self.categories):
            raise ValueError(
                f"the encoder gives {tuple(logits.shape[1:])} where the model has (latents, categories) = "
                f"({self.latents}, {self.categories})"
            )
        return logits

    def distortion(self, x: Tensor, pixel_logits: Tensor) -> Tensor:
        """``-log p(x | z)`` of Bernoulli pixels, in nats, ``(batch,)``; cross-entropy if ``x`` has grey levels."""
        return F.binary_cross_entropy_with_logits(pixel_logits.float(), x, reduction="none").flatten(1).sum(1)

    def kl(self, logits: Tensor) -> Tensor:
        """``KL(q(z | x) || p(z))`` summed over latents, in nats, ``(batch,)``."""
        return Categorical(logits).kl(Categorical(self.prior_logits)).sum(-1)

    def log_weights(self, x: Tensor, logits: Tensor, code: Tensor) -> Tensor:
        """``log p(x | z) p(z) / q(z | x)``, ``(batch, samples)``, of codes ``(batch, samples, latents, classes)``."""
        batch, samples = code.shape[:2]
        pixel_logits = self.decoder(code.flatten(0, 1))
        repeated = x.unsqueeze(1).expand(-1, samples, -1, -1, -1).flatten(0, 1)
        log_likelihood = -self.distortion(repeated, pixel_logits).view(batch, samples)
        log_ratio = Categorical(self.prior_logits).log_prob(code) - Categorical(logits).log_prob(code)
        return log_likelihood + log_ratio.sum(-1)

    @classmethod
    def paced(cls, arguments: Config) -> str:
        wakes = "another objective takes over at a share of training (model.rws_from)"
        return super().paced(arguments) or (wakes if arguments["rws_from"] < 1 else "")

    # Lightning's steps --------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        x = batch[0]
        logits = self.posterior_logits(x)
        if self.rws_from < 1 and self.global_step >= self.rws_from * self.trainer.estimated_stepping_batches:
            return {name: value.mean() for name, value in self.rws_terms(x, logits).items()}
        values = {name: value.mean() for name, value in self.terms(x, logits).items()}
        return {"loss": values["neg_elbo"], **values}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        values = self._evaluate(batch[0])
        if self.rws_from < 1:
            values["nll"] = -self.log_likelihood(batch[0], self.rws_samples).mean()
        return values

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        values = self._evaluate(batch[0])  # first: its noise must not depend on iwae_samples
        return {**values, "nll": -self.log_likelihood(batch[0], self.iwae_samples, tau=self.iwae_tau).mean()}

    def _evaluate(self, x: Tensor) -> dict[str, Tensor]:
        logits = self.posterior_logits(x)
        self.code_statistics.update(logits)
        return {name: value.mean() for name, value in self.terms(x, logits).items()}

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
        return self.decoder(Categorical(self.posterior_logits(x)).mode()).sigmoid()

    @torch.no_grad()
    def encode(self, x: Any) -> Tensor:
        """The most probable code, int64 ``(batch, latents)``, of images ``(batch, channels, height, width)``.

        Images are in [0, 1]; here as in the other methods below a tensor or a NumPy array.
        """
        return self.posterior_logits(self.given(x)).argmax(-1)

    @torch.no_grad()
    def decode(self, codes: Any) -> Tensor:
        """Pixel means, in [0, 1], of codes, int64 ``(batch, latents)``.

        Raises:
            ValueError: if ``codes`` has another shape or dtype, or an entry outside [0, categories).
        """
        codes = self.given(codes)
        if codes.dim() != 2 or codes.shape[1] != self.latents or codes.dtype != torch.int64:
            raise ValueError(f"codes must be int64 (batch, {self.latents}), got {codes.dtype} {tuple(codes.shape)}")
        if codes.numel() and not (codes.min() >= 0 and codes.max() < self.categories):
            raise ValueError(f"codes must be in [0, {self.categories})")
        return self.decoder(F.one_hot(codes, self.categories).to(self.prior_logits)).sigmoid()

    @torch.no_grad()
    def reconstruct(self, x: Any) -> Tensor:
        """Pixel means of images after a pass through their most probable code, of the shape of ``x``."""
        return self(self.given(x))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Pixel means of ``n`` codes drawn from the prior, ``(n, channels, height, width)``."""
        code = Categorical(self.prior_logits).sample((n,))
        return self.decoder(code).sigmoid()

    @torch.no_grad()
    def log_likelihood(self, x: Any, k: int, *, tau: float = 1.0, rows: int = 2000) -> Tensor:
        """The importance-weighted lower bound of ``log p(x)`` with ``k`` exact samples, in nats, ``(batch,)``.

        Args:
            x: images.
            k: samples of the proposal; the bound tightens with k (Burda et al. 2016, theorem 1).
            tau: temperature of the proposal, ``softmax(logits / tau)``. It is a bound for any proposal. A posterior
                trained on the ELBO is too narrow for a tight one: higher temperatures gain a nat and more.
            rows: codes decoded at a time, which bounds the memory.
        """
        x = self.given(x)
        logits = self.posterior_logits(x) / tau
        chunk = max(1, rows // (len(x) * self.noise_source.parts))  # the same draws, however the batch is split
        parts = []
        for start in range(0, k, chunk):
            repeated = logits.unsqueeze(1).expand(-1, min(chunk, k - start), -1, -1)
            parts.append(
                self.log_weights(x, repeated, Categorical(repeated).sample(noise=self.noise_source)).logsumexp(1)
            )
        return torch.stack(parts, 1).logsumexp(1) - math.log(k)

    def pictures(self, batch: Any) -> "dict[str, Figure]":
        """Reconstructions beside inputs, samples of the prior, and how often each class of each latent is used."""
        from zoo.training.plots import heat_map, image_grid, image_pairs

        x = batch[0][:32]
        pictures = {
            "reconstructions": image_pairs(x, self.reconstruct(x), "Input (left of each pair) and reconstruction"),
            "samples": image_grid(self.sample(64), "Samples of the prior: pixel means"),
        }
        if hasattr(self, "code_usage"):
            pictures["code_usage"] = heat_map(
                self.code_usage, "Code usage: marginal posterior of each latent", "category", "latent"
            )
        return pictures
