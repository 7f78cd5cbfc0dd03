"""Active latents, perplexity and information against their definitions."""

import math

import torch

from zoo.models.cat_vae.metrics import CodeStatistics


def test_known_codes():
    """Latent 0 tells four inputs apart, latent 1 is constant, latent 2 is noise."""
    logits = torch.zeros(4, 3, 4)
    logits[:, 0] = 50 * torch.eye(4)
    logits[:, 1, 2] = 50
    statistics = CodeStatistics(3, 4)
    statistics.update(logits[:1])
    statistics.update(logits[1:])
    values = statistics.compute()
    assert values["active_latents"] == 1
    torch.testing.assert_close(values["perplexity"], torch.tensor((4 + 1 + 4) / 3))
    torch.testing.assert_close(values["information"], torch.tensor(math.log(4)))
    torch.testing.assert_close(statistics.usage()[1], torch.tensor([0.0, 0.0, 1.0, 0.0]))
    torch.testing.assert_close(statistics.usage().sum(-1), torch.ones(3))


def test_it_adds_up_over_batches():
    logits = torch.randn(64, 5, 3)
    whole, parts = CodeStatistics(5, 3), CodeStatistics(5, 3)
    whole.update(logits)
    for part in logits.split(10):
        parts.update(part)
    for name, value in whole.compute().items():
        torch.testing.assert_close(parts.compute()[name], value)
