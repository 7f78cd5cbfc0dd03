"""Laws of a code by the chain rule, against enumeration."""

import math

import pytest
import torch
import torch.nn.functional as F

from zoo.config import from_config, to_config
from zoo.errors import ZooError
from zoo.models.chain import MADE, Chain, ChainNet, CodeTransformer

LATENTS, CATEGORIES = 3, 4


def disturbed(net: ChainNet) -> ChainNet:
    """``net`` that says something, which at first it does not."""
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return net.eval()


def nets(context: int = 0) -> dict[str, ChainNet]:
    size = {"latents": LATENTS, "categories": CATEGORIES, "context": context}
    return {
        "made": MADE(**size, hidden=[11]),
        "deep": MADE(**size, hidden=[7, 9]),
        "groups": MADE(**size, hidden=[11], groups=2),
        "transformer": CodeTransformer(**size, width=8, heads=2, layers=1),
    }


NAMES = sorted(nets())


def law(name: str | None, **arguments) -> Chain:
    net = None if name is None else disturbed(nets()[name])
    return Chain(torch.randn(LATENTS, CATEGORIES), net, **arguments)


def all_codes(latents: int = LATENTS, categories: int = CATEGORIES) -> torch.Tensor:
    codes = torch.cartesian_prod(*[torch.arange(categories)] * latents).view(-1, latents)
    return F.one_hot(codes, categories).float()


@pytest.mark.parametrize("name", NAMES)
def test_a_position_is_told_of_earlier_groups_alone(name):
    net = disturbed(nets(context=5)[name])
    code = torch.rand(LATENTS, CATEGORIES)
    told = torch.autograd.functional.jacobian(lambda z: net(z, torch.ones(5)), code).abs().sum((1, 3)) > 0
    group = torch.tensor(net.group_of())
    assert torch.equal(told, group[:, None] > group[None, :])


@pytest.mark.parametrize("name", NAMES)
def test_at_first_a_network_says_nothing(name):
    assert nets()[name].eval()(all_codes()).abs().max() == 0


@pytest.mark.parametrize("name", [None, *NAMES])
@pytest.mark.parametrize("tau", [1.0, 0.6])
def test_probabilities_sum_to_one_and_samples_follow_them(name, tau):
    p = (chain := law(name, tau=tau)).log_prob(all_codes()).exp()
    torch.testing.assert_close(p.sum(), torch.tensor(1.0))
    n = 20_000
    powers = CATEGORIES ** torch.arange(LATENTS).flip(0)
    counts = (chain.sample(n).argmax(-1) * powers).sum(-1).bincount(minlength=len(p)) / n
    assert ((counts - p).abs() <= 4.5 * (p * (1 - p) / n).sqrt() + 1e-4).all()


@pytest.mark.parametrize("name", NAMES)
def test_what_was_drawn_with_is_what_scoring_finds(name):
    net = disturbed(nets(context=5)[name])
    chain = Chain(torch.randn(6, LATENTS, CATEGORIES), net, torch.randn(6, 5))
    code, logits = chain.draw(lambda logits: F.one_hot(logits.argmax(-1), CATEGORIES).float())
    torch.testing.assert_close(logits, chain.conditionals(code))
    assert torch.equal(code, chain.mode())
    torch.manual_seed(3)
    sampled, log_p = chain.sample_and_score()
    torch.testing.assert_close(log_p, chain.log_prob(sampled))
    torch.manual_seed(3)
    assert torch.equal(sampled, chain.sample())
    many = chain.repeat(3)
    torch.testing.assert_close(many.log_prob(code.unsqueeze(1).expand(-1, 3, -1, -1))[:, 2], chain.log_prob(code))
    assert many.sample().shape == (6, 3, LATENTS, CATEGORIES)


@pytest.mark.parametrize("name", [None, *NAMES])
def test_log_probability_is_linear_in_each_position_given_those_before(name):
    chain = law(name)
    low, high = all_codes()[6], all_codes()[6].clone()
    high[-1] = high[-1].roll(1)
    between = chain.log_prob(0.3 * low + 0.7 * high)
    torch.testing.assert_close(between, 0.3 * chain.log_prob(low) + 0.7 * chain.log_prob(high))


@pytest.mark.parametrize("name", [None, "made", "transformer"])
def test_samples_without_replacement_are_different_and_follow_the_law(name):
    chain = law(name)
    codes, log_p = chain.sample_without_replacement(9)
    assert len(codes.flatten(1).unique(dim=0)) == 9
    torch.testing.assert_close(log_p, chain.log_prob(codes))
    every, _ = chain.sample_without_replacement(CATEGORIES**LATENTS)
    assert len(every.flatten(1).unique(dim=0)) == CATEGORIES**LATENTS
    with pytest.raises(ZooError, match="without replacement"):
        chain.sample_without_replacement(CATEGORIES**LATENTS + 1)


def test_the_first_two_without_replacement_have_the_law_of_two_successive_draws():
    chain = Chain(torch.tensor([[0.3, -0.8], [1.1, 0.2]]), disturbed(MADE(latents=2, categories=2, hidden=[4])))
    p = chain.log_prob(all_codes(2, 2)).exp()
    n, counts = 1500, torch.zeros(4, 4)
    for _ in range(n):
        first, second = (chain.sample_without_replacement(2)[0].argmax(-1) * torch.tensor([2, 1])).sum(-1)
        counts[first, second] += 1 / n
    expected = (p[:, None] * p[None, :] / (1 - p[:, None])).fill_diagonal_(0)
    assert ((counts - expected).abs() <= 4.5 * (expected * (1 - expected) / n).sqrt() + 1e-6).all()


def test_a_temperature_near_zero_draws_the_mode():
    chain = law("made", tau=1e-4)
    assert torch.equal(chain.sample(5), chain.mode().expand(5, -1, -1))


@pytest.mark.parametrize("name", NAMES)
def test_configuration_round_trip(name):
    config = to_config(nets()[name])
    assert to_config(from_config(config)) == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MADE(latents=3, categories=4, groups=4), "groups"),
        (lambda: MADE(latents=3, categories=4, hidden=[0]), "hidden"),
        (lambda: MADE(latents=3, categories=1), "categories"),
        (lambda: CodeTransformer(latents=3, categories=4, width=6, heads=4), "heads=4"),
        (lambda: CodeTransformer(latents=3, categories=4, layers=0), "layers"),
    ],
)
def test_networks_check_their_numbers(make, message):
    with pytest.raises((ValueError, ZooError), match=message):
        make()


def test_bits_of_a_law_are_right_for_one_known_by_heart():
    chain = Chain(torch.log(torch.tensor([[0.5, 0.25, 0.25]])))
    assert math.isclose(chain.log_prob(torch.tensor([[1.0, 0.0, 0.0]])).item(), math.log(0.5), rel_tol=1e-6)
