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
from zoo.models.layers import check_images
from zoo.models.tokenizer.metrics import CodeUse
from zoo.models.tokenizer.prior import CodeTransformer
from zoo.relaxations import Relaxation
from zoo.relaxations.quantizers import Quantizer
from zoo.training import AdamW, ZooModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Tokenizer(ZooModule):
    """Images as grids of codes, with an autoregressive prior.

    Args:
        encoder: images ``(batch, channels, height, width)`` to features ``(batch, features, rows, columns)``.
        decoder: such features to images.
        quantizer: of a projection of the features at each place; any of :mod:`zoo.relaxations.quantizers`.
        relaxation: how gradients pass through the choice of a code, where the quantiser makes one.
        optimizer: with its learning-rate schedule.
        shape: of an image: channels, height, width.
        noise: standard deviation of the Gaussian likelihood of the pixels, in [0, 1]. It is fixed: a number that weighs
            the reconstruction against what else is minimised.
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
        noise: float = 0.1,
        prior_width: int = 64,
        prior_layers: int = 2,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1 or not noise > 0 or prior_width < 1 or prior_layers < 0:
            raise ValueError(
                "need a shape of channels, height and width, noise > 0, prior_width >= 1 and prior_layers >= 0, got "
                f"{list(shape)}, {noise}, {prior_width}, {prior_layers}"
            )
        self.encoder, self.decoder, self.quantizer = encoder, decoder, quantizer
        self.relaxation, self.optimizer = relaxation, optimizer
        self.shape, self.noise = tuple(shape), noise
        features, self.rows, self.columns = grid_of(encoder, decoder, self.shape)
        self.inward = nn.Linear(features, quantizer.width)
        self.outward = nn.Linear(quantizer.width, features)
        self.places = self.rows * self.columns
        self.prior = (
            CodeTransformer(
                places=self.places * quantizer.depth, codes=quantizer.codes, width=prior_width, layers=prior_layers
            )
            if prior_layers
            else None
        )
        self.code_use = CodeUse(quantizer.depth, quantizer.codes)

    @classmethod
    def without_effect(cls, arguments: Config) -> str:
        kind = locate(arguments["quantizer"]["_target_"], "model.quantizer")
        if not getattr(kind, "chooses", True):
            return f"{kind.__name__} has fixed codes, between which nothing is drawn"
        return super().without_effect(arguments)

    def compile_networks(self) -> None:
        for network in (self.encoder, self.decoder, self.prior):  # what the quantiser draws is no part of a graph
            if network is not None:
                network.compile()

    # The objective ------------------------------------------------------------------------------------------------

    def points(self, x: Tensor) -> Tensor:
        """What is quantised of images, ``(batch, places, width)``."""
        check_images(x, self.shape)
        return self.inward(self.encoder(x).flatten(2).transpose(1, 2)).float()

    def images(self, vectors: Tensor) -> Tensor:
        """Images of vectors ``(batch, places, width)``, as the decoder has them: not yet in [0, 1]."""
        features = self.outward(vectors).transpose(1, 2).unflatten(2, (self.rows, self.columns))
        return self.decoder(features).float()

    def distortion(self, x: Tensor, images: Tensor) -> Tensor:
        """``-log p(x | code)`` but for a constant, in nats of a density, ``(batch,)``."""
        return (x - images).square().flatten(1).sum(1) / (2 * self.noise**2)

    def cost(self, x: Tensor, points: Tensor) -> Tensor:
        """The expected distortion, ``(batch,)``, with the gradient of training."""

        def program(draw: Any) -> Tensor:
            return self.distortion(x, self.images(self.quantizer(points, draw)))

        return self.relaxation.expectation(program) if self.quantizer.chooses else program(None)

    # Lightning's steps --------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        x = batch[0]
        points = self.points(x)
        distortion, penalty = self.cost(x, points).mean(), self.quantizer.penalty(points).mean()
        values = {"loss": distortion + penalty, "mse": self._mse(distortion, x), "penalty": penalty}
        if self.prior is not None:
            nll = -self.prior.log_prob(self.quantizer.encode(points.detach()).flatten(1)).mean()
            values |= {"loss": values["loss"] + nll, "rate": nll / math.log(2)}
        return {name: value if name == "loss" else value.detach() for name, value in values.items()}

    def _mse(self, distortion: Tensor, x: Tensor) -> Tensor:
        return distortion * 2 * self.noise**2 / x[0].numel()

    def on_after_backward(self) -> None:
        self.quantizer.update(self.noise_source)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(batch[0])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(batch[0])

    def _evaluate(self, x: Tensor) -> dict[str, Tensor]:
        """Of the most probable codes: mean squared error of a pixel's value, and the bits of an image's code."""
        index = self.quantizer.encode(self.points(x))
        self.code_use.update(index)
        images = self.images(self.quantizer.decode(index)).clamp(0, 1)
        values = {"mse": (x - images).square().mean()}
        if self.prior is not None:
            values["rate"] = -self.prior.log_prob(index.flatten(1)).mean() / math.log(2)
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
    def bits(self) -> float:
        """Of an image's code without a prior."""
        return self.places * self.quantizer.depth * math.log2(self.quantizer.codes)

    @property
    def example_input_array(self) -> Tensor:
        """Two images of noise: what :func:`zoo.export` traces ``forward`` with."""
        return torch.rand(2, *self.shape, generator=generator(self.device, 0, PREDICT), device=self.device)

    def forward(self, x: Tensor) -> Tensor:
        """Images to their reconstruction through the most probable codes, in [0, 1]."""
        return self.images(self.quantizer.decode(self.quantizer.encode(self.points(x)))).clamp(0, 1)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """The most probable codes of images, int64 ``(batch, rows, columns, depth)``."""
        return self.quantizer.encode(self.points(x)).unflatten(1, (self.rows, self.columns))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Images, in [0, 1], of codes, int64 ``(batch, rows, columns, depth)``.

        Raises:
            ValueError: if ``codes`` has another shape or dtype, or an entry outside [0, codes).
        """
        wanted = (self.rows, self.columns, self.quantizer.depth)
        if codes.shape[1:] != wanted or codes.dtype != torch.int64:
            raise ValueError(f"codes must be int64 (batch, *{wanted}), got {codes.dtype} {tuple(codes.shape)}")
        if codes.numel() and not (codes.min() >= 0 and codes.max() < self.quantizer.codes):
            raise ValueError(f"codes must be in [0, {self.quantizer.codes})")
        return self.images(self.quantizer.decode(codes.flatten(1, 2))).clamp(0, 1)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Images after a pass through their most probable codes."""
        return self(x)

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0) -> Tensor:
        """Images of ``n`` codes drawn from the prior, ``(n, channels, height, width)``.

        Raises:
            ZooError: if the model has no prior.
        """
        if self.prior is None:
            raise ZooError("this tokenizer was trained without a prior (model.prior_layers=0): nothing to sample from")
        code = self.prior.sample(n, temperature=temperature, noise=self.noise_source)
        return self.decode(code.view(n, self.rows, self.columns, self.quantizer.depth))

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
        if self.prior is not None:
            pictures["samples"] = image_grid(self.sample(64), "Samples of the prior")
        return pictures


def grid_of(encoder: nn.Module, decoder: nn.Module, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Features, rows and columns of the grid that ``encoder`` makes of an image of ``shape``.

    Raises:
        ValueError: if it makes none, or ``decoder`` does not make an image of that shape of it.
    """
    training = encoder.training, decoder.training
    with torch.no_grad():
        features = encoder.eval()(torch.zeros(1, *shape))
        if features.dim() != 4:
            raise ValueError(f"the encoder must give (batch, features, rows, columns), got {tuple(features.shape)}")
        image = decoder.eval()(features)
    encoder.train(training[0])
    decoder.train(training[1])
    if image.shape[1:] != shape:
        raise ValueError(f"the decoder makes an image of {tuple(image.shape[1:])} where the data has {shape}")
    return features.shape[1], features.shape[2], features.shape[3]
