"""Likelihoods of pixels: laws that sum to one, samples that follow them, their names."""

import math

import pytest
import torch

from zoo.config import from_config, to_config
from zoo.models.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian, GreyLevels, Likelihood

LEVELS = torch.arange(256) / 255
ALL = [Bernoulli(), GreyLevels(), DiscretizedLogistic(), DiscretizedLogistic(mixtures=3), Gaussian(std=0.2)]
IDS = ["bernoulli", "grey", "logistic", "mixture", "gaussian"]


def parameters(law: Likelihood, channels: int = 1, count: int = 1) -> torch.Tensor:
    return torch.randn(1, law.width(channels), 1, 1).expand(count, -1, -1, -1)


def log_p(law: Likelihood, values: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    return law.log_prob(of.expand(len(values), -1, -1, -1), values.view(-1, 1, 1, 1))


@pytest.mark.parametrize("law", ALL, ids=IDS)
@pytest.mark.parametrize("scale", [0.3, 3.0, 12.0])
def test_it_sums_to_one(law, scale):
    of = scale * parameters(law)
    if isinstance(law, Gaussian):
        grid = torch.linspace(-40, 40, 80_001)
        total = log_p(law, grid, of).exp().sum() * 0.001
    else:
        total = log_p(law, torch.tensor([0.0, 1.0]) if isinstance(law, Bernoulli) else LEVELS, of).exp().sum()
    torch.testing.assert_close(total, torch.tensor(1.0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("law", ALL, ids=IDS)
def test_samples_have_its_mean_and_are_values_it_knows(law):
    of = parameters(law, count=20_000)
    if isinstance(law, Gaussian):
        of = 0.1 * of + 0.5  # inside, where no sample is cut off
    x = law.sample(of)
    assert x.shape == (20_000, 1, 1, 1) and x.min() >= 0 and x.max() <= 1
    if law.discrete:
        torch.testing.assert_close(255 * x, (255 * x).round())
    tolerance = 4.5 * x.std().item() / math.sqrt(20_000)
    if isinstance(law, DiscretizedLogistic):
        levels = log_p(law, LEVELS, of[:1]).exp()
        assert abs(x.mean() - (levels * LEVELS).sum()) < tolerance + 1e-3  # the mean of what is cut at 0 and 1
    else:
        assert abs(x.mean() - law.mean(of[:1]).item()) < tolerance + 1e-3


@pytest.mark.parametrize("law", ALL, ids=IDS)
def test_shapes_of_colour(law):
    of, x = torch.randn(2, law.width(3), 4, 5), torch.rand(2, 3, 4, 5).round()
    assert law.log_prob(of, x).shape == (2,)
    for image in (law.mean(of), law.mode(of), law.sample(of)):
        assert image.shape == x.shape and image.min() >= 0 and image.max() <= 1


@pytest.mark.parametrize("law", ALL, ids=IDS)
def test_gradients_stay_finite_far_out(law):
    of = torch.full((3, law.width(1), 1, 1), 50.0, requires_grad=True)
    law.log_prob(of, torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)).sum().backward()
    assert of.grad.isfinite().all()


@pytest.mark.parametrize("law", ALL, ids=IDS)
def test_it_has_a_name_and_a_configuration(law):
    assert law.name and from_config(to_config(law)).name == law.name
    assert law.discrete != isinstance(law, Gaussian)


def test_a_gaussian_is_that_of_torch():
    of, x = torch.randn(3, 1, 2, 2), torch.rand(3, 1, 2, 2)
    expected = torch.distributions.Normal(of, 0.2).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(Gaussian(std=0.2).log_prob(of, x), expected)


@pytest.mark.parametrize("make", [lambda: Gaussian(std=0.0), lambda: DiscretizedLogistic(mixtures=0)])
def test_it_checks_its_numbers(make):
    with pytest.raises(ValueError, match=r"std|mixtures"):
        make()
