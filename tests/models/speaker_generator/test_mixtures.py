"""Mixtures of Gaussians with one covariance: against the formula, and against what k-means finds."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from zoo.models.speaker_generator.metrics import agreement, match
from zoo.models.speaker_generator.mixtures import cluster, fit_mixture


def groups(n, components, *, features=8, apart=8.0, seed=0):
    """Groups that are ``apart`` in two directions, and share variances from 1 to 400 in all of them."""
    g = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % components
    angle = 2 * torch.pi * torch.arange(components) / components
    means = torch.zeros(components, features)
    means[:, :2] = apart * torch.stack([angle.cos(), angle.sin()], 1)
    noise = torch.randn(n, features, generator=g) * torch.logspace(0, 1.3, features)
    turn = torch.linalg.qr(torch.randn(features, features, generator=g))[0]
    return (means[label] + noise) @ turn + 5, label


def accuracy(code, label, components):
    counts = torch.zeros(components, components, dtype=torch.int64)
    counts.index_put_((code, label), torch.tensor(1), accumulate=True)
    return agreement(counts, match(counts))["accuracy"].item()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_with_all_labels_it_is_discriminant_analysis():
    """Bayes' rule with the mean of each group, and the covariance within groups."""
    x, label = groups(3000, 3, apart=2.0)
    weight, bias = fit_mixture(x, 3, generator=generator(), label=label, starts=2)
    means = torch.stack([x[label == k].mean(0) for k in range(3)])
    covariance = (x - means[label]).T @ (x - means[label]) / len(x)
    expected = torch.stack([MultivariateNormal(mean, covariance).log_prob(x) for mean in means], 1).softmax(-1)
    assert torch.allclose((x @ weight + bias).softmax(-1), expected, atol=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_groups_that_k_means_does_not(seed):
    x, label = groups(900, 6, seed=seed)
    weight, bias = fit_mixture(x, 6, generator=generator(seed), starts=64)
    assert accuracy((x @ weight + bias).argmax(-1), label, 6) > 0.98
    assert accuracy(cluster(x - x.mean(0), 6, 10, generator(seed)), label, 6) < 0.6


def test_a_few_labels_say_which_is_which():
    x, label = groups(900, 6)
    known = torch.where(torch.arange(900) < 12, label, -1)
    weight, bias = fit_mixture(x, 6, generator=generator(), label=known, starts=64)
    assert ((x @ weight + bias).argmax(-1) == label).float().mean() > 0.98


def test_the_search_follows_its_generator():
    x, _ = groups(300, 4)
    a, b, c = (torch.cat([v.flatten() for v in fit_mixture(x, 4, generator=generator(s), starts=4)]) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_features_that_say_nothing_do_no_harm():
    """Constant, repeated, and more of them than points."""
    x, label = groups(60, 2, features=4, apart=30.0)
    x = torch.cat([x, torch.ones(60, 50), x, x], 1)
    weight, bias = fit_mixture(x, 2, generator=generator(), starts=8)
    assert torch.isfinite(weight).all() and accuracy((x @ weight + bias).argmax(-1), label, 2) == 1


@pytest.mark.parametrize("shape, components, starts", [((9,), 2, 1), ((9, 2), 1, 1), ((2, 2), 3, 1), ((9, 2), 2, 0)])
def test_wrong_arguments_are_refused(shape, components, starts):
    with pytest.raises(ValueError, match="2 <= components <= n"):
        fit_mixture(torch.randn(shape), components, generator=generator(), starts=starts)
