"""The local autoregressive head: what it sees, that it is a law, and what it draws."""

import pytest
import torch

from zoo.models.cat_vae import Bernoulli, LocalHead


def disturbed(**arguments) -> LocalHead:
    head = LocalHead(**({"features": 3, "hidden": [5, 4]} | arguments))
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return head.eval()


def seen(head: LocalHead, row: int, column: int, size: int = 10) -> set[tuple[int, int]]:
    """The pixels that the parameters of one pixel depend on, relative to it."""
    x = torch.rand(1, head.channels, size, size, requires_grad=True)
    head(torch.randn(1, 3, size, size), x)[0, :, row, column].sum().backward()
    return {(int(r) - row, int(c) - column) for _, r, c in x.grad[0].nonzero()}


@pytest.mark.parametrize("channels", [1, 3])
def test_it_sees_the_24_pixels_of_a_window_above_and_left(channels):
    window = {(r, c) for r in range(-3, 1) for c in range(-3, 4) if r < 0 or c < 0}
    assert len(window) == 24
    assert seen(disturbed(channels=channels), 5, 5) == window
    assert seen(disturbed(channels=channels), 0, 1) == {(0, -1)}


def test_a_wider_window_sees_more():
    assert len(seen(disturbed(window=5), 5, 5)) == 12


def test_at_first_pixels_do_not_see_each_other():
    head, features = LocalHead(features=3), torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(head(features, torch.rand(2, 1, 6, 6)), head(features, None))


def test_probabilities_of_all_images_sum_to_one():
    head, bernoulli = disturbed(), Bernoulli()
    features = torch.randn(1, 3, 3, 3)
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 9).view(-1, 1, 3, 3)
    log_p = bernoulli.log_prob(head(features.expand(512, -1, -1, -1), images), images)
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0))


def test_an_image_meets_each_of_its_features():
    head, x, features = disturbed(), torch.rand(2, 1, 6, 6), torch.randn(8, 3, 6, 6)
    torch.testing.assert_close(head(features, x), head(features, x.repeat_interleave(4, 0)))


def test_what_is_generated_pixel_by_pixel_has_the_parameters_that_scoring_finds():
    head, features = disturbed(), torch.randn(4, 3, 7, 7)
    image, parameters = head.generate(features, Bernoulli().sample)
    assert image.unique().tolist() == [0, 1]
    torch.testing.assert_close(parameters, head(features, image))


def test_generated_images_follow_the_law():
    head = disturbed()
    features = torch.randn(1, 3, 2, 2)
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).view(-1, 1, 2, 2)
    p = Bernoulli().log_prob(head(features.expand(16, -1, -1, -1), images), images).exp()
    drawn, _ = head.generate(features.expand(20_000, -1, -1, -1), Bernoulli().sample)
    counts = (drawn.flatten(1).long() * torch.tensor([8, 4, 2, 1])).sum(1).bincount(minlength=16) / 20_000
    assert ((counts - p).abs() <= 4.5 * (p * (1 - p) / 20_000).sqrt() + 1e-4).all()


@pytest.mark.parametrize("arguments", [{"window": 4}, {"window": 1}, {"hidden": [0]}, {"features": 0}])
def test_it_checks_its_numbers(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        LocalHead(**arguments)
