"""A tokenizer of images: a grid of codes, and a prior over them.

An encoder makes an image a grid of vectors, a quantiser makes each of these a whole number, a decoder makes the image
of the numbers again (van den Oord et al. 2017, arXiv 1711.00937). How gradients pass through the choice of a number is
the relaxation's, as everywhere here: vector quantisation is one of them.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.config import Config, locate
from zoo.data.seeding import PREDICT, generator
from zoo.errors import ZooError
from zoo.models.chain import Chain, CodeTransformer
from zoo.models.layers import check_images
from zoo.models.likelihoods import Gaussian, Likelihood
from zoo.models.tokenizer.metrics import CodeUse
from zoo.relaxations import Distribution, Relaxation
from zoo.relaxations.base import drawn_by
from zoo.relaxations.quantizers import Quantizer
from zoo.training import AdamW, ZooModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Tokenizer(ZooModule):
    """Images as grids of codes, with an autoregressive prior.

    Args:
        encoder: images ``(batch, channels, height, width)`` to features ``(batch, features, rows, columns)``.
        decoder: such features to what the likelihood needs for each pixel, ``(batch, out_channels, height, width)``.
        quantizer: of a projection of the features at each place; any of :mod:`zoo.relaxations.quantizers`.
        relaxation: how gradients pass through the choice of a code, where the quantiser makes one.
        optimizer: with its learning-rate schedule.
        shape: of an image: channels, height, width.
        likelihood: of the pixels; null: :class:`Gaussian` with its fixed noise of 0.1, a number that weighs the
            reconstruction against what else is minimised.
        prior_width, prior_layers: of the transformer over the codes, which is trained along on codes as they are, and
            sends nothing back; 0 layers for none.

    Raises:
        ValueError: if a number is out of range.
    """

    monitor = "val/mse"
    progress = ("loss", "mse")

    def __init__(
        self,
        *,
        encoder: nn.Module,
        decoder: nn.Module,
        quantizer: Quantizer,
        relaxation: Relaxation,
        optimizer: AdamW,
        shape: Sequence[int] = (3, 32, 32),
        likelihood: Likelihood | None = None,
        prior_width: int = 64,
        prior_layers: int = 2,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1 or prior_width < 1 or prior_layers < 0:
            raise ValueError(
                "need a shape of channels, height and width, prior_width >= 1 and prior_layers >= 0, got "
                f"{list(shape)}, {prior_width}, {prior_layers}"
            )
        self.encoder, self.decoder, self.quantizer = encoder, decoder, quantizer
        self.relaxation, self.optimizer = relaxation, optimizer
        self.shape, self.likelihood = tuple(shape), likelihood or Gaussian()
        features, self.rows, self.columns = grid_of(encoder, decoder, self.shape, self.likelihood)
        self.inward = nn.Linear(features, quantizer.width)
        self.outward = nn.Linear(quantizer.width, features)
        self.places = self.rows * self.columns
        self.prior_net = None
        if prior_layers:
            size = {"latents": self.places * quantizer.depth, "categories": quantizer.codes}
            self.prior_net = CodeTransformer(**size, width=prior_width, layers=prior_layers)
            self.prior_logits = nn.Parameter(torch.zeros(*size.values()))
        self.code_use = CodeUse(quantizer.depth, quantizer.codes)

    @classmethod
    def without_effect(cls, arguments: Config) -> str:
        kind = locate(arguments["quantizer"]["_target_"], "model.quantizer")
        if not getattr(kind, "chooses", True):
            return f"{kind.__name__} has fixed codes, between which nothing is drawn"
        return super().without_effect(arguments)

    def compile_networks(self) -> None:
        for network in (
            self.encoder,
            self.decoder,
            self.prior_net,
        ):  # what the quantiser draws is not a part of a graph
            if network is not None:
                network.compile()

    def choices(self) -> list[Distribution]:
        points = torch.zeros(1, self.places, self.quantizer.width)
        return drawn_by(lambda draw: self.quantizer(points, draw)) if self.quantizer.chooses else []

    @property
    def chained(self) -> bool:
        return self.quantizer.depth > 1

    # The objective ------------------------------------------------------------------------------------------------

    def points(self, x: Tensor) -> Tensor:
        """What is quantised of images, ``(batch, places, width)``."""
        check_images(x, self.shape)
        return self.inward(self.encoder(x).flatten(2).transpose(1, 2)).float()

    def pixels(self, vectors: Tensor) -> Tensor:
        """Parameters of p(x | code) for each pixel, of vectors ``(batch, places, width)``."""
        features = self.outward(vectors).transpose(1, 2).unflatten(2, (self.rows, self.columns))
        return self.decoder(features).float()

    def distortion(self, x: Tensor, pixels: Tensor) -> Tensor:
        """``-log p(x | code)`` in nats, ``(batch,)``, of parameters of the pixels."""
        return -self.likelihood.log_prob(pixels, x)

    def mse(self, x: Tensor, pixels: Tensor) -> Tensor:
        """The mean squared error of pixel means in [0, 1], ``(batch,)``."""
        return (x - self.likelihood.mean(pixels.detach())).square().flatten(1).mean(1)

    def cost(self, x: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """The expected distortion, with the gradient of training, and the squared error of a pixel, ``(batch,)``."""

        def program(draw: Any) -> tuple[Tensor, Tensor]:
            pixels = self.pixels(self.quantizer(points, draw))
            return self.distortion(x, pixels), self.mse(x, pixels)

        return self.relaxation.expectation(program) if self.quantizer.chooses else program(None)

    @property
    def prior(self) -> Chain:
        """The law of a code ``(places * depth, codes)``: ``log_prob(code)``, ``sample(n)`` and more.

        Raises:
            ZooError: if the model has no prior.
        """
        if self.prior_net is None:
            raise ZooError("this tokenizer was trained without a prior (model.prior_layers=0): nothing to sample from")
        return Chain(self.prior_logits, self.prior_net)

    def nll_of_code(self, index: Tensor) -> Tensor:
        """``-log p(code)`` in nats, ``(batch,)``, of the numbers that the quantiser gives."""
        code = self.prior_logits.new_zeros(len(index), *self.prior_logits.shape)
        return -self.prior.log_prob(code.scatter_(2, index.flatten(1).unsqueeze(2), 1))

    # Lightning's steps --------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        x = batch[0]
        points = self.points(x)
        (distortion, mse), penalty = self.cost(x, points), self.quantizer.penalty(points).mean()
        values = {"loss": distortion.mean() + penalty, "mse": mse.mean(), "penalty": penalty}
        if self.prior_net is not None:
            nll = self.nll_of_code(self.quantizer.encode(points.detach())).mean()
            values |= {"loss": values["loss"] + nll, "rate": nll / math.log(2)}
        return {name: value if name == "loss" else value.detach() for name, value in values.items()}

    def on_after_backward(self) -> None:
        self.quantizer.update(self.noise_source)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(batch[0])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(batch[0])

    def _evaluate(self, x: Tensor) -> dict[str, Tensor]:
        """Of the most probable codes: what pixels cost and are off by, and the bits of an image's code."""
        index = self.quantizer.encode(self.points(x))
        self.code_use.update(index)
        pixels = self.pixels(self.quantizer.decode(index))
        values = {"mse": self.mse(x, pixels).mean(), "reconstruction": self.distortion(x, pixels).mean()}
        if self.prior_net is not None:
            values["rate"] = self.nll_of_code(index).mean() / math.log(2)
        return values

    def on_validation_epoch_end(self) -> None:
        self._log_code_use("val")

    def on_test_epoch_end(self) -> None:
        self._log_code_use("test")

    def _log_code_use(self, stage: str) -> None:
        values = {f"{stage}/{name}": value for name, value in self.code_use.compute().items()}
        self.log_dict(values, sync_dist=True)
        self.code_use.reset()

    # What it is for -----------------------------------------------------------------------------------------------

    @property
    def units(self) -> str:
        return f"{self.likelihood.name} likelihood, reconstruction in nats an image; rate in bits an image"

    @property
    def bits(self) -> float:
        """Of an image's code without a prior."""
        return self.places * self.quantizer.depth * math.log2(self.quantizer.codes)

    @property
    def example_input_array(self) -> Tensor:
        """Two images of noise: what :func:`zoo.export` traces ``forward`` with."""
        return torch.rand(2, *self.shape, generator=generator(self.device, 0, PREDICT), device=self.device)

    def forward(self, x: Tensor) -> Tensor:
        """Images to the pixel means of their reconstruction through the most probable codes."""
        return self.means(self.quantizer.encode(self.points(x)))

    def means(self, index: Tensor) -> Tensor:
        """Pixel means of numbers ``(batch, places, depth)``."""
        return self.likelihood.mean(self.pixels(self.quantizer.decode(index)))

    @torch.no_grad()
    def encode(self, x: Any) -> Tensor:
        """The most probable codes of images, int64 ``(batch, rows, columns, depth)``.

        Images are in [0, 1]; here as in the other methods below a tensor or a NumPy array.
        """
        return self.quantizer.encode(self.points(self.given(x))).unflatten(1, (self.rows, self.columns))

    @torch.no_grad()
    def decode(self, codes: Any) -> Tensor:
        """Pixel means, in [0, 1], of codes, int64 ``(batch, rows, columns, depth)``.

        Raises:
            ValueError: if ``codes`` has another shape or dtype, or an entry outside [0, codes).
        """
        return self.means(self._checked(codes))

    def _checked(self, codes: Any) -> Tensor:
        codes, wanted = self.given(codes), (self.rows, self.columns, self.quantizer.depth)
        if codes.shape[1:] != wanted or codes.dtype != torch.int64:
            raise ValueError(f"codes must be int64 (batch, *{wanted}), got {codes.dtype} {tuple(codes.shape)}")
        if codes.numel() and not (codes.min() >= 0 and codes.max() < self.quantizer.codes):
            raise ValueError(f"codes must be in [0, {self.quantizer.codes})")
        return codes.flatten(1, 2)

    @torch.no_grad()
    def reconstruct(self, x: Any) -> Tensor:
        """Pixel means of images after a pass through their most probable codes."""
        return self(self.given(x))

    @torch.no_grad()
    def sample_codes(self, n: int, *, temperature: float = 1.0, replacement: bool = True) -> Tensor:
        """``n`` codes drawn from the prior, int64 ``(n, rows, columns, depth)``.

        Args:
            n: how many.
            temperature: of the prior: the logits of each number, given those before, are divided by it.
            replacement: false for codes that all differ.

        Raises:
            ZooError: if the model has no prior, or ``temperature`` is not positive, or there are fewer codes.
        """
        code = self.prior.at(temperature).sample_index(n, replacement=replacement)
        return code.view(n, self.rows, self.columns, self.quantizer.depth)

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0, replacement: bool = True) -> Tensor:
        """Pixel means of ``n`` codes drawn as by :meth:`sample_codes`, ``(n, channels, height, width)``."""
        return self.decode(self.sample_codes(n, temperature=temperature, replacement=replacement))

    @torch.no_grad()
    def draw_pixels(self, codes: Any) -> Tensor:
        """Images drawn from p(x | code) of codes as :meth:`sample_codes` gives them."""
        return self.likelihood.sample(self.pixels(self.quantizer.decode(self._checked(codes))))

    def pictures(self, batch: Any) -> "dict[str, Figure]":
        """Reconstructions beside inputs, samples of the prior, and the codes of some images as maps."""
        from zoo.training.plots import image_grid, image_pairs

        x = batch[0][:32]
        codes = self.encode(x[:16])[..., 0].unsqueeze(1).float() / (self.quantizer.codes - 1)
        maps = nn.functional.interpolate(codes, size=x.shape[2:], mode="nearest")
        pictures = {
            "reconstructions": image_pairs(x, self.reconstruct(x), "Input (left of each pair) and reconstruction"),
            "codes": image_pairs(
                x[:16], maps.expand(-1, x.shape[1], -1, -1), "Input and its code: the number of each place as grey"
            ),
        }
        if self.prior_net is not None:
            pictures["samples"] = image_grid(self.sample(64), "Samples of the prior: pixel means")
        return pictures


def grid_of(
    encoder: nn.Module, decoder: nn.Module, shape: tuple[int, ...], likelihood: Likelihood
) -> tuple[int, int, int]:
    """Features, rows and columns of the grid that ``encoder`` makes of an image of ``shape``.

    Raises:
        ValueError: if it makes none, or ``decoder`` does not make an image of that size of it.
        ZooError: if it does not give what ``likelihood`` needs.
    """
    training = encoder.training, decoder.training
    with torch.no_grad():
        features = encoder.eval()(torch.zeros(1, *shape))
        if features.dim() != 4:
            raise ValueError(f"the encoder must give (batch, features, rows, columns), got {tuple(features.shape)}")
        image = decoder.eval()(features)
    encoder.train(training[0])
    decoder.train(training[1])
    if image.shape[2:] != shape[1:]:
        raise ValueError(f"the decoder makes an image of {tuple(image.shape[2:])} where the data has {shape[1:]}")
    likelihood.check(image, torch.zeros(1, *shape))
    return features.shape[1], features.shape[2], features.shape[3]
