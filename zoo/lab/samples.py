"""How good samples are: their Fréchet distance to real images in the features of a classifier."""

from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError


@torch.no_grad()
def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Between the normal distributions that have the means and covariances of two sets of features ``(n, width)``.

    ``|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))`` (Heusel et al. 2017, arXiv 1706.08500, equation 6).

    Raises:
        ValueError: if a set has fewer than two members, or the widths differ.
    """
    if one.dim() != 2 or other.dim() != 2 or one.shape[1] != other.shape[1] or min(len(one), len(other)) < 2:
        raise ValueError(f"need two sets of features, (n, width), got {tuple(one.shape)} and {tuple(other.shape)}")
    one, other = one.double(), other.double()
    mean = (one.mean(0) - other.mean(0)).square().sum()
    c, d = one.T.cov(), other.T.cov()
    root = torch.linalg.eigvals(c @ d).real.clamp_min(0).sqrt().sum()
    return float((mean + c.trace() + d.trace() - 2 * root).clamp_min(0))


@torch.no_grad()
def scores(model: Any, judge: Any, real: Tensor, *, temperature: float = 1.0) -> dict[str, float]:
    """Fréchet distances to every second of ``real``, of as many images each.

    Args:
        model: with ``likelihood``, ``sample_codes(n, temperature=)``, ``draw_pixels(codes)`` and ``decode(codes)``,
            such as a :class:`zoo.models.cat_vae.CatVAE` or a :class:`zoo.models.tokenizer.Tokenizer`.
        judge: with ``features(x)``, an :class:`zoo.models.image_classifier.ImageClassifier`.
        real: images as the model was trained on, ``(n, channels, height, width)``.
        temperature: of the prior.

    Returns:
        ``samples``: of the prior; ``independent``: of codes of which each latent is drawn on its own, with the
        frequencies that it has under the prior; ``real``: of the other half of the real images.

    Raises:
        ZooError: if the model has no codes to sample.
    """
    if not hasattr(model, "sample_codes"):
        raise ZooError(f"a {type(model).__name__} has no codes to sample")
    half = len(real) // 2
    one, other = real[: 2 * half : 2], real[1 : 2 * half : 2]  # as test sets may begin with their easiest
    counts = [len(part) for part in one.split(500)]
    codes = torch.cat([model.sample_codes(count, temperature=temperature) for count in counts])
    latents = codes.flatten(1)
    shuffled = torch.stack([latent[torch.randperm(half)] for latent in latents.unbind(1)], 1).view_as(codes)

    def features(images: Tensor) -> Tensor:
        return torch.cat([judge.features(part.to(judge.device)) for part in images.split(500)]).cpu()

    def drawn(codes: Tensor) -> Tensor:
        draw = (
            model.draw_pixels if model.likelihood.discrete else model.decode
        )  # the noise of a density is not an image
        return features(torch.cat([draw(part) for part in codes.split(500)]))

    reference = features(one)
    return {
        "samples": frechet_distance(drawn(codes), reference),
        "independent": frechet_distance(drawn(shuffled), reference),
        "real": frechet_distance(features(other), reference),
    }


def nearest(images: Tensor, among: Tensor) -> Tensor:
    """The member of ``among`` ``(m, ...)`` with the least squared distance to each of ``images`` ``(n, ...)``."""
    flat = images.flatten(1)
    best = [torch.cdist(flat, part.flatten(1)) for part in among.split(5000)]
    return among[torch.cat(best, 1).argmin(1)]
