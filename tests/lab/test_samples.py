"""The Fréchet distance of samples, and what is compared with what."""

import pytest
import torch
from torch import nn

from tests.models.cat_vae.test_model import make
from tests.models.tokenizer.test_model import make as make_tokenizer
from zoo.errors import ZooError
from zoo.lab.samples import frechet_distance, nearest, scores
from zoo.models.cat_vae import ConvEncoder
from zoo.models.image_classifier import ImageClassifier
from zoo.training import AdamW


def test_frechet_distance_of_normals_that_are_known():
    one = torch.randn(40_000, 3) * torch.tensor([1.0, 2.0, 0.5])
    other = torch.randn(40_000, 3) * torch.tensor([3.0, 2.0, 1.5]) + torch.tensor([1.0, 0.0, -2.0])
    assert frechet_distance(one, other) == pytest.approx(5 + 4 + 0 + 1, rel=0.05)  # means, then (std - std')^2
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)
    turned = torch.linalg.qr(torch.randn(3, 3)).Q
    assert frechet_distance(one @ turned, other @ turned) == pytest.approx(frechet_distance(one, other), rel=1e-5)


def test_frechet_distance_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="two sets"):
        frechet_distance(torch.randn(5, 2), torch.randn(5, 3))


class Halves(nn.Module):
    """Two latents, each the ink of half of an image; and what a judge of them would look at."""

    width = 2

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        return (12 * code[..., 0] - 6).repeat_interleave(14, -1)[:, None, None, :].expand(-1, 1, 28, -1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[..., :14].mean((1, 2, 3)), x[..., 14:].mean((1, 2, 3))], 1)


def test_the_prior_is_nearer_than_independent_latents_where_they_depend_on_each_other():
    model = make(latents=2, categories=2, prior="made", decoder=Halves()).eval()
    with torch.no_grad():
        model.prior_net.direct.weight[2:, :2] = torch.tensor([[9.0, -9.0], [-9.0, 9.0]])
    drawn = model.draw_pixels(model.sample_codes(2000))
    judge = ImageClassifier(encoder=Halves(), optimizer=AdamW(), classes=2).eval()
    found = scores(model, judge, drawn)
    assert found["real"] < 0.01 and found["samples"] < 0.01 and found["independent"] > 0.05
    with pytest.raises(ZooError, match="no codes"):
        scores(judge, judge, drawn)


def test_tokenizers_are_scored_alike():
    model = make_tokenizer().eval()
    encoder = ConvEncoder(latents=1, categories=2, channels=2, hidden=4, shape=(3, 8, 8))
    judge = ImageClassifier(encoder=encoder, optimizer=AdamW()).eval()
    real = model.decode(model.sample_codes(1200))  # so that they are as near as the other real ones
    found = scores(model, judge, real)
    noise = frechet_distance(judge.features(torch.rand_like(real)), judge.features(real))
    assert max(found["samples"], found["real"]) < 0.001 * noise


def test_nearest():
    among = torch.rand(50, 1, 3, 3)
    assert torch.equal(nearest(among[[7, 3]] + 0.001, among), among[[7, 3]])
