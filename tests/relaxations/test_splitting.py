"""Noise of a batch that is split: the parts together are the whole."""

import pytest
import torch
from zoo.relaxations.splitting import randn_like, rows_of_whole_batch, split_noise

from zoo.relaxations import RELAXATIONS, STRUCTURED
from zoo.relaxations.functional import sample_gumbel

MAKE = {name: cls for name, cls in (RELAXATIONS | STRUCTURED).items() if name != "gumbel_topk"} | {
    "gumbel_topk": lambda: STRUCTURED["gumbel_topk"](k=2)
}


@pytest.fixture(autouse=True)
def whole_again():
    yield
    split_noise()


def run(name: str, logits: torch.Tensor, weight: torch.Tensor, part: int, parts: int) -> tuple[torch.Tensor, ...]:
    """Costs and gradients of one part of the batch; a whole one draws from the default generator."""
    torch.manual_seed(0)
    relaxation = MAKE[name]()
    relaxation.train()
    torch.manual_seed(3 if parts == 1 else part)
    split_noise(part, parts, seed=3)
    rows = len(logits) // parts
    share = logits[part * rows : (part + 1) * rows].clone().requires_grad_()
    w = weight[part * rows : (part + 1) * rows]

    def program(draw):
        first, second = draw(share), draw(share * 0.5)  # two draws: their noise differs
        return ((first * w).flatten(1).sum(1) - 1) ** 2 + (second * w).flatten(1).sum(1)

    cost = relaxation.expectation(program)
    (gradient,) = torch.autograd.grad(cost.sum(), share)
    drawn = relaxation.sample(share.detach())
    return cost.detach(), gradient, drawn


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("name", sorted(MAKE))
def test_parts_draw_what_the_whole_batch_draws(name, parts):
    g = torch.Generator().manual_seed(1)
    shape = (6, 3, 3) if name == "gumbel_sinkhorn" else (6, 2, 4)
    logits, weight = torch.randn(shape, generator=g), torch.randn(shape, generator=g)
    whole = run(name, logits, weight, 0, 1)
    split = [run(name, logits, weight, part, parts) for part in range(parts)]
    for expected, *got in zip(whole, *split, strict=True):
        torch.testing.assert_close(torch.cat(got), expected, rtol=1e-4, atol=1e-5)


def test_parts_differ_from_each_other():
    drawn = []
    for part in range(2):
        split_noise(part, 2)
        drawn.append(sample_gumbel(torch.zeros(50, 3)))
    assert not torch.isclose(drawn[0], drawn[1]).any()


def test_the_batch_may_be_another_dimension():
    torch.manual_seed(0)
    whole = sample_gumbel(torch.zeros(5, 4, 3), batch_dim=1)
    for part in range(2):
        split_noise(part, 2)
        drawn = sample_gumbel(torch.zeros(5, 2, 3), batch_dim=1)
        torch.testing.assert_close(drawn, whole[:, 2 * part : 2 * part + 2])


def test_normal_noise_and_rows():
    torch.manual_seed(0)
    whole = randn_like(torch.zeros(40, 3, dtype=torch.float64))
    assert whole.dtype == torch.float64 and rows_of_whole_batch(20) == 20
    split_noise(1, 2)
    assert (
        torch.equal(randn_like(torch.zeros(20, 3, dtype=torch.float64)), whole[20:]) and rows_of_whole_batch(20) == 40
    )
