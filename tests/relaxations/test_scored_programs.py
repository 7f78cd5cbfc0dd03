"""Programs that sample themselves: score functions ask them to, and nothing else does."""

import pytest
import torch

from zoo.relaxations import RELAXATIONS, RLOO, Reinforce, ScoredProgram, StraightThrough
from zoo.relaxations.score_function import ScoreFunction

LOGITS = torch.tensor([[0.5, -0.3, 1.0], [0.0, 0.2, -0.4]])
COSTS = torch.tensor([1.0, 3.0, -2.0])


def chain(logits: torch.Tensor) -> ScoredProgram:
    """Two draws, the second of which depends on the first."""

    def program(draw):
        first = draw(logits)
        return (first * COSTS).sum(-1) + (draw(logits + first) * COSTS.flip(0)).sum(-1)

    def sample():
        with torch.no_grad():
            first = StraightThrough().sample(logits)
            second = StraightThrough().sample(logits + first)
        log_p = torch.stack([logits, logits + first]).log_softmax(-1)
        log_prob = (log_p * torch.stack([first, second])).sum((0, 2))
        return (first * COSTS).sum(-1) + (second * COSTS.flip(0)).sum(-1), log_prob

    return ScoredProgram(program, sample)


@pytest.mark.parametrize("make", [RLOO, Reinforce])
def test_the_estimate_is_that_of_the_draws(make):
    estimates = []
    for way in (lambda program: program, lambda program: program.program):
        logits = LOGITS.clone().requires_grad_()
        torch.manual_seed(0)
        cost = make().train().expectation(way(chain(logits)))
        estimates.append((cost.detach(), torch.autograd.grad(cost.sum(), logits)[0]))
    torch.testing.assert_close(*estimates)


@pytest.mark.parametrize("name", sorted(RELAXATIONS))
def test_only_score_functions_ask_for_samples(name):
    asked = []
    program = chain(LOGITS.clone().requires_grad_())
    spy = ScoredProgram(program.program, lambda: asked.append(True) or program.sample())
    relaxation = RELAXATIONS[name]().train()
    if relaxation.dependent_draws:
        assert relaxation.expectation(spy).shape == (2,)
    assert bool(asked) == isinstance(relaxation, ScoreFunction)
    asked.clear()
    assert relaxation.eval().expectation(spy).shape == (2,) and not asked


def test_log_probabilities_that_do_not_fit_are_refused():
    program = chain(LOGITS)
    with pytest.raises(ValueError, match=r"costs \(2,\) but log-probabilities \(1, 2\)"):
        RLOO().expectation(ScoredProgram(program.program, lambda: (program.sample()[0], torch.zeros(1, 2))))
