"""Programs that return the costs of replicas of each example."""

import pytest
import torch

from zoo.relaxations import RLOO, DisARM, Reinforce, StraightThrough

LOGITS = torch.tensor([[0.5, -0.3, 1.0], [0.0, 0.2, -0.4]])
COSTS = torch.tensor([1.0, 3.0, -2.0])


def gradient(relaxation, replicas: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The estimate and its gradient at the logits, of 20,000 copies of two examples."""
    logits = LOGITS.clone().requires_grad_()
    many = logits.repeat(20_000, 1).unsqueeze(1).expand(-1, replicas, -1)
    loss = relaxation.train().expectation(lambda draw: (draw(many) * COSTS).sum(-1))
    assert loss.shape == (40_000,)
    return loss.mean(), torch.autograd.grad(2 * loss.mean(), logits)[0]


@pytest.mark.parametrize("relaxation", [RLOO(samples=2), Reinforce(), StraightThrough()])
@pytest.mark.parametrize("replicas", [2, 5])
def test_replicas_keep_estimates_unbiased(relaxation, replicas):
    p = LOGITS.clone().requires_grad_()
    exact = (p.softmax(-1) * COSTS).sum(-1)
    value, estimate = gradient(relaxation, replicas)
    assert abs(value - exact.mean()) < 0.05
    assert torch.allclose(estimate, torch.autograd.grad(exact.sum(), p)[0], atol=0.05)


def test_replicas_are_a_baseline_for_each_other():
    def variance(replicas: int) -> float:
        logits = LOGITS.repeat(20_000, 1).unsqueeze(1).expand(-1, replicas, -1).clone().requires_grad_()
        loss = RLOO(samples=2).expectation(lambda draw: (draw(logits) * COSTS).sum(-1))
        return torch.autograd.grad(loss.sum(), logits)[0].sum(1).view(-1, 2, 3).var(0).sum().item()

    assert variance(8) < variance(1) / 8 * 0.8  # less than by averaging alone


def test_what_does_not_fit_is_refused():
    logits = LOGITS.unsqueeze(1)
    with pytest.raises(ValueError, match="must begin with these dimensions"):
        RLOO().expectation(lambda draw: draw(logits).sum(-1).expand(-1, 4))
    for relaxation in (DisARM(), StraightThrough()):
        with pytest.raises(ValueError, match="one cost per example"):
            relaxation.expectation(lambda draw: draw(logits))
