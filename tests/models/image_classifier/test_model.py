"""The image classifier, from scratch and from the weights of another model."""

import logging

import pytest
import torch

import zoo
from tests.models.cat_vae.test_model import make
from zoo.config import from_config, to_config
from zoo.errors import ZooError
from zoo.hub.loading import start_from
from zoo.models.cat_vae import ConvDecoder, ConvEncoder
from zoo.models.image_classifier import ImageClassifier
from zoo.training import AdamW
from zoo.training.train import freeze


def classifier(classes: int = 3, **arguments) -> ImageClassifier:
    encoder = ConvEncoder(**({"latents": 1, "categories": 2, "channels": 2, "hidden": 8} | arguments))
    return ImageClassifier(encoder=encoder, optimizer=AdamW(), classes=classes)


@pytest.fixture
def saved(tmp_path):
    size = {"latents": 3, "categories": 4}
    nets = {"encoder": ConvEncoder(**size, channels=2, hidden=8), "decoder": ConvDecoder(**size, channels=2, hidden=8)}
    model = make(**nets)
    return model, zoo.save_pretrained(model, tmp_path / "cat_vae.test")


def test_it_learns_and_is_linear_in_its_features():
    model, x, y = classifier(), torch.rand(6, 1, 28, 28), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.training_step((x, y), 0)["loss"].backward()
        optimizer.step()
    assert model.test_step((x, y), 0)["accuracy"] == 1
    torch.testing.assert_close(model(x), model.linear(model.features(x)))
    assert to_config(from_config(to_config(model))) == to_config(model)


def test_it_starts_from_the_encoder_of_another_model(saved, caplog):
    source, folder = saved
    model = classifier(classes=7)
    with caplog.at_level(logging.INFO):
        start_from(model, str(folder))
    x = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(model.features(x), source.eval().features(x))
    assert "linear.weight" in caplog.text and "encoder.layers.0" not in caplog.text


def test_another_number_of_categories_keeps_what_fits(saved):
    source, folder = saved
    size = {"latents": 3, "categories": 5}
    other = make(
        **size, encoder=ConvEncoder(**size, channels=2, hidden=8), decoder=ConvDecoder(**size, channels=2, hidden=8)
    )
    start_from(other, str(folder))
    x = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(other.features(x), source.features(x))
    assert other.posterior(x).logits.shape == (2, 3, 5)


def test_another_number_of_channels_gives_a_grey_image_what_it_gave(saved):
    source, folder = saved
    model = classifier(shape=(3, 28, 28))
    start_from(model, str(folder))
    x = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(model.features(x.expand(-1, 3, -1, -1)), source.features(x))


def test_nothing_that_fits_is_an_error(saved):
    with pytest.raises(ZooError, match="none of its weights fits"):
        start_from(torch.nn.Linear(2, 2), str(saved[1]))


def test_what_is_frozen_stays(saved):
    model = classifier()
    freeze(model, ["encoder"])
    model.training_step((torch.rand(2, 1, 28, 28), torch.tensor([0, 1])), 0)["loss"].backward()
    assert all(p.grad is None for p in model.encoder.parameters()) and model.linear.weight.grad is not None
    with pytest.raises(ZooError, match=r"Did you mean 'encoder'\?"):
        freeze(model, ["encodr"])
    with pytest.raises(ZooError, match="nothing to train"):
        freeze(model, ["encoder", "linear"])


def test_a_prior_learns_afterwards_on_a_frozen_code(saved):
    source, folder = saved
    size = {"latents": 3, "categories": 4}
    model = make(
        **size,
        encoder=ConvEncoder(**size, channels=2, hidden=8),
        decoder=ConvDecoder(**size, channels=2, hidden=8),
        prior="made",
    )
    start_from(model, str(folder))
    freeze(model, ["encoder", "decoder"])
    x = (torch.rand(40, 1, 28, 28) < 0.3).float()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    kls = []
    for _ in range(40):
        optimizer.zero_grad()
        values = model.training_step((x, None), 0)
        values["loss"].backward()
        optimizer.step()
        kls.append(values["kl"].item())
    assert kls[-1] < 0.8 * kls[0]
    for name, value in source.decoder.state_dict().items():
        assert torch.equal(value, model.decoder.state_dict()[name])


def test_an_encoder_without_features_is_refused():
    with pytest.raises(ValueError, match="has no features"):
        ImageClassifier(encoder=torch.nn.Flatten(), optimizer=AdamW())
