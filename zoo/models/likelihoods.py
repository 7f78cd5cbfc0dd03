"""What the pixels of an image are, given what the decoder says of them."""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.config import Configurable, check_positive
from zoo.errors import ZooError

__all__ = ["Bernoulli", "DiscretizedLogistic", "Gaussian", "GreyLevels", "Likelihood"]

LEVELS = 256


class Likelihood(Configurable, ABC):
    """The law of an image, its pixels independent given ``parameters`` ``(batch, width(channels), height, width)``.

    Images are float ``(batch, channels, height, width)`` in [0, 1].
    """

    name: str
    """What stands beside every number."""
    discrete: bool = True
    """Whether it gives probabilities, which can be told in bits, and not a density."""

    def __init__(self) -> None:  # so that those without settings can be written down, too
        super().__init__()

    @abstractmethod
    def width(self, channels: int) -> int:
        """Parameters of each pixel of an image with ``channels``."""

    def check(self, parameters: Tensor, x: Tensor) -> None:
        """Check that there are as many ``parameters`` as images ``x`` need.

        Raises:
            ZooError: if there are not.
        """
        if parameters.shape[1] != (needed := self.width(x.shape[1])):
            raise ZooError(
                f"the {self.name} likelihood needs {needed} channels for images of {x.shape[1]}, and the decoder gives "
                f"{parameters.shape[1]}: say model.decoder.out_channels={needed}, or with a head "
                f"model.head.parameters={needed}"
            )

    @abstractmethod
    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """In nats, ``(batch,)``."""

    @abstractmethod
    def mean(self, parameters: Tensor) -> Tensor:
        """Of each pixel, in [0, 1]."""

    @abstractmethod
    def sample(self, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """An image."""

    @abstractmethod
    def mode(self, parameters: Tensor) -> Tensor:
        """The most probable value of each pixel, or its mean where that is as good."""


class Bernoulli(Likelihood):
    """Pixels that are black or white, the parameters logits of white; cross-entropy if ``x`` has grey levels."""

    name = "Bernoulli"

    def width(self, channels: int) -> int:
        return channels

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(parameters.float(), x, reduction="none").flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters.float().sigmoid()

    def sample(self, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(self.mean(parameters), generator=generator)

    def mode(self, parameters: Tensor) -> Tensor:
        return (parameters > 0).float()


class GreyLevels(Likelihood):
    """A categorical over the 256 levels of each pixel and channel, the parameters logits."""

    name = "categorical over 256 levels"

    def width(self, channels: int) -> int:
        return LEVELS * channels

    def _logits(self, parameters: Tensor) -> Tensor:
        return parameters.float().unflatten(1, (LEVELS, -1))

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        level = (x * (LEVELS - 1)).round().long()
        return -F.cross_entropy(self._logits(parameters), level, reduction="none").flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Tensor:
        levels = torch.linspace(0, 1, LEVELS, device=parameters.device)
        return torch.einsum("nlchw,l->nchw", self._logits(parameters).softmax(1), levels)

    def sample(self, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        p = self._logits(parameters).softmax(1).movedim(1, -1)
        return torch.multinomial(p.reshape(-1, LEVELS), 1, generator=generator).view(p.shape[:-1]) / (LEVELS - 1)

    def mode(self, parameters: Tensor) -> Tensor:
        return self._logits(parameters).argmax(1) / (LEVELS - 1)


class DiscretizedLogistic(Likelihood):
    """A mixture of logistics for each pixel and channel, cut into 256 levels (Salimans et al. 2017, arXiv 1701.05517).

    The channels of a pixel are independent given the parameters.

    Args:
        mixtures: logistics in a mixture.

    Raises:
        ValueError: if it is less than 1.
    """

    name = "discretised logistic"

    def __init__(self, *, mixtures: int = 1) -> None:
        check_positive(mixtures=mixtures)
        self.mixtures = mixtures

    def width(self, channels: int) -> int:
        return 3 * self.mixtures * channels

    def _parts(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights, means in [-1, 1] and log-scales, each ``(batch, mixtures, channels, height, width)``."""
        weight, mean, scale = parameters.float().unflatten(1, (3, self.mixtures, -1)).unbind(1)
        return weight.log_softmax(1), mean.tanh(), (scale - 2).clamp_min(-7)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        weight, mean, log_scale = self._parts(parameters)
        x = 2 * x.unsqueeze(1) - 1
        half = 1 / (LEVELS - 1)
        upper, lower = (x + half - mean) / log_scale.exp(), (x - half - mean) / log_scale.exp()
        # log(sigmoid(upper) - sigmoid(lower)), which keeps its digits in both tails
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
        log_p = torch.where(x < -1 + half, F.logsigmoid(upper), torch.where(x > 1 - half, F.logsigmoid(-lower), inside))
        return (weight + log_p).logsumexp(1).flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Tensor:
        weight, mean, _ = self._parts(parameters)
        return ((weight.exp() * mean).sum(1) + 1) / 2

    def sample(self, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        weight, mean, log_scale = self._parts(parameters)
        p = weight.exp().movedim(1, -1)
        which = torch.multinomial(p.reshape(-1, self.mixtures), 1, generator=generator).view(p.shape[:-1]).unsqueeze(1)
        mean, log_scale = mean.gather(1, which).squeeze(1), log_scale.gather(1, which).squeeze(1)
        u = torch.rand(mean.shape, device=mean.device, generator=generator).clamp(1e-5, 1 - 1e-5)
        value = (mean + log_scale.exp() * u.logit() + 1) / 2
        return (value.clamp(0, 1) * (LEVELS - 1)).round() / (LEVELS - 1)

    def mode(self, parameters: Tensor) -> Tensor:
        return self.mean(parameters)


class Gaussian(Likelihood):
    """A normal around each pixel's mean, the parameters, with fixed noise: a density, in nats and never in bits.

    Args:
        std: of the noise, on the scale on which white is 1.

    Raises:
        ValueError: if it is not positive.
    """

    discrete = False

    def __init__(self, *, std: float = 0.1) -> None:
        if not std > 0:
            raise ValueError(f"std must be positive, got {std}")
        self.std = std
        self.name = f"Gaussian density, std {std:g}"

    def width(self, channels: int) -> int:
        return channels

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        z = (x - parameters.float()) / self.std
        return (-0.5 * z.square() - math.log(self.std * math.sqrt(2 * math.pi))).flatten(1).sum(1)

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters.float().clamp(0, 1)

    def sample(self, parameters: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(parameters.shape, device=parameters.device, generator=generator)
        return (parameters.float() + self.std * noise).clamp(0, 1)

    def mode(self, parameters: Tensor) -> Tensor:
        return self.mean(parameters)
