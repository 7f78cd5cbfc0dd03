"""Search for sequences: against all of them, enumerated."""

import itertools
import math

import pytest
import torch

from zoo.relaxations.noise import Noise
from zoo.relaxations.search import beam_search, given_largest, sample, stochastic_beam_search, truncated

VOCABULARY, STEPS = 4, 5
ALL = torch.tensor(list(itertools.product(range(VOCABULARY), repeat=STEPS)))


class Chain:
    """Each token depends on the two before it; the state is the one before the last."""

    def __init__(self, seed: int = 0, spread: float = 1.5) -> None:
        g = torch.Generator().manual_seed(seed)
        self.table = spread * torch.randn(VOCABULARY, VOCABULARY, VOCABULARY, generator=g)

    def step(self, tokens, state):
        return self.table[state["before"], tokens], {"before": tokens}

    def start(self, batch):
        return torch.arange(batch) % VOCABULARY, {"before": torch.zeros(batch, dtype=torch.int64)}

    def log_prob(self, first: int, sequences, end=None):
        """Of sequences ``(n, steps)``, one token after another."""
        log_p = torch.zeros(len(sequences), dtype=torch.float64)
        before, last = torch.zeros(len(sequences), dtype=torch.int64), torch.full((len(sequences),), first)
        over = torch.zeros(len(sequences), dtype=torch.bool)
        for token in sequences.T:
            step = self.table[before, last].double().log_softmax(-1).gather(1, token[:, None])[:, 0]
            certain = torch.where(token == end, 0.0, -math.inf) if end is not None else step
            log_p = log_p + torch.where(over, certain, step)
            over = over | (token == end) if end is not None else over
            before, last = last, token
        return log_p


def number(tokens):
    """Sequences as whole numbers."""
    return (tokens * VOCABULARY ** torch.arange(STEPS - 1, -1, -1)).sum(-1)


@pytest.mark.parametrize("end", [None, 2])
def test_a_beam_as_wide_as_the_tree_finds_all_in_order(end):
    chain = Chain()
    tokens, state = chain.start(3)
    found = beam_search(chain.step, tokens, state, k=VOCABULARY**STEPS, steps=STEPS, end=end)
    for row, first in enumerate(tokens.tolist()):
        log_p = chain.log_prob(first, ALL, end)
        assert log_p.logsumexp(0).item() == pytest.approx(0.0, abs=1e-12)
        alive = found.log_prob[row] > -math.inf
        assert alive.sum() == (log_p > -math.inf).sum()
        torch.testing.assert_close(found.log_prob[row][alive], log_p.sort(descending=True)[0][: alive.sum()])
        torch.testing.assert_close(log_p[number(found.tokens[row])][alive], found.log_prob[row][alive])
        assert len(set(number(found.tokens[row])[alive].tolist())) == alive.sum()


def test_a_narrow_beam_keeps_the_best_beginnings():
    chain = Chain(spread=3.0)
    found = beam_search(chain.step, *chain.start(4), k=3, steps=STEPS)
    for row, first in enumerate(chain.start(4)[0].tolist()):
        beams = [((), 0.0)]
        for _ in range(STEPS):
            longer = [(*beam, token) for beam, _ in beams for token in range(VOCABULARY)]
            log_p = chain.log_prob(first, torch.tensor(longer))
            order = log_p.argsort(descending=True)[:3]
            beams = [(longer[i], log_p[i].item()) for i in order.tolist()]
        assert [tuple(beam) for beam in found.tokens[row].tolist()] == [beam for beam, _ in beams]


def drawn(k, runs, *, end=None, seed=0):
    chain = Chain()
    tokens, state = torch.ones(runs, dtype=torch.int64), {"before": torch.zeros(runs, dtype=torch.int64)}
    noise = Noise(torch.Generator().manual_seed(seed))
    found = stochastic_beam_search(chain.step, tokens, state, k=k, steps=STEPS, end=end, noise=noise)
    return chain.log_prob(1, ALL, end), found


def test_a_stochastic_beam_as_wide_as_the_tree_finds_all():
    log_p, found = drawn(VOCABULARY**STEPS, 2)
    assert (found.threshold == -math.inf).all()
    for row in range(2):
        assert sorted(number(found.tokens[row]).tolist()) == list(range(VOCABULARY**STEPS))
    torch.testing.assert_close(found.log_prob, log_p[number(found.tokens)])
    assert (found.scores.diff(dim=1) <= 0).all()
    values = torch.randn(2, VOCABULARY**STEPS, dtype=torch.float64)
    torch.testing.assert_close(found.estimate(values), (found.log_prob.exp() * values).sum(-1))  # the exact one


def within(estimates, exact, errors=4.5):
    deviation = (estimates.mean(0) - exact).abs() / (estimates.std(0) / len(estimates) ** 0.5).clamp_min(1e-12)
    assert deviation.max() < errors, deviation.max()


@pytest.mark.parametrize("end", [None, 2])
def test_the_first_two_are_drawn_one_after_the_other_without_replacement(end):
    runs = 40_000
    log_p, found = drawn(2, runs, end=end)
    p = log_p.exp()
    first, second = number(found.tokens[:, 0]), number(found.tokens[:, 1])
    assert (first != second).all()
    count = torch.bincount(first, minlength=len(ALL)) / runs
    error = ((p * (1 - p)) / runs).sqrt().clamp_min(1e-12)
    likely = p > 1e-3
    assert ((count - p).abs() / error)[likely].max() < 4.5
    odds = p / (1 - p)
    inclusion = p * (odds.sum() - odds)  # P(second = j) = sum over i != j of p_i p_j / (1 - p_i)
    count = torch.bincount(second, minlength=len(ALL)) / runs
    error = ((inclusion * (1 - inclusion)) / runs).sqrt().clamp_min(1e-12)
    assert ((count - inclusion).abs() / error)[inclusion > 1e-3].max() < 4.5


@pytest.mark.parametrize("k", [1, 3, 20])
def test_estimates_are_unbiased(k):
    log_p, found = drawn(k, 20_000, seed=k)
    values = torch.randn(len(ALL), 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact = (log_p.exp()[:, None] * values).sum(0)
    estimates = torch.stack([found.estimate(values[number(found.tokens), i]) for i in range(6)], 1)
    within(estimates, exact)
    within(found.estimate(torch.ones(20_000, k, dtype=torch.float64))[:, None], torch.ones(1, dtype=torch.float64))
    normalized = found.estimate(values[number(found.tokens), 0], normalized=True)
    assert k == 1 or normalized.std() < estimates[:, 0].std()


def test_noise_given_its_largest_has_the_law_of_noise():
    """Gumbel variables whose largest is drawn first are independent ones."""
    log_p = torch.tensor([0.5, 0.3, 0.2, 0.0]).double().log().expand(50_000, -1)
    noise = Noise(torch.Generator().manual_seed(0))
    largest = noise.gumbel(log_p[:, :1])
    value = given_largest(log_p + noise.gumbel(log_p), largest)
    torch.testing.assert_close(value.amax(-1), largest[:, 0])
    assert (value[:, 3] == -math.inf).all()
    centred = value[:, :3] - log_p[:, :3]
    assert (centred.mean(0) - 0.57721566).abs().max() < 4.5 * 1.2825 / 50_000**0.5
    assert (torch.corrcoef(centred.T) - torch.eye(3)).abs().max() < 4.5 / 50_000**0.5


def test_samples_have_the_law_that_is_left():
    chain = Chain()
    log_p = chain.table[0, 1].double().log_softmax(-1)
    tokens, state = torch.ones(40_000, dtype=torch.int64), {"before": torch.zeros(40_000, dtype=torch.int64)}
    for adjust, left in (
        (None, log_p.exp()),
        (truncated(temperature=0.5), (2 * log_p).softmax(-1)),
        (truncated(top_k=2), log_p.exp() * (log_p >= log_p.sort()[0][-2])),
        (truncated(top_p=0.5), log_p.exp() * (log_p >= nucleus(log_p, 0.5))),
    ):
        found = sample(chain.step, tokens, state, steps=1, adjust=adjust, noise=Noise(torch.Generator().manual_seed(0)))
        count = torch.bincount(found.tokens[:, 0, 0], minlength=VOCABULARY) / 40_000
        p = left / left.sum()
        assert ((count - p).abs() <= 4.5 * (p * (1 - p) / 40_000).sqrt() + 1e-12).all()
        torch.testing.assert_close(found.log_prob[:, 0], p.log()[found.tokens[:, 0, 0]])
    greedy = sample(chain.step, tokens[:1], {"before": state["before"][:1]}, steps=STEPS, adjust=truncated(top_k=1))
    assert greedy.log_prob.item() == 0.0
    best = beam_search(chain.step, tokens[:1], {"before": state["before"][:1]}, k=1, steps=STEPS)
    assert torch.equal(greedy.tokens, best.tokens)  # a beam of one is greedy, and not one of two


def test_a_beam_of_one_keeps_one():
    """Where the less probable beginning leads to the more probable whole."""
    law = torch.tensor([[0.55, 0.45, 0.0], [0.34, 0.33, 0.33], [0.99, 0.005, 0.005]]).log()

    def step(tokens, state):
        return law[torch.where(state == 0, 0, tokens + 1)], state + 1

    tokens, state = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    assert beam_search(step, tokens, state, k=1, steps=2).tokens.tolist() == [[[0, 0]]]
    assert beam_search(step, tokens, state, k=2, steps=2).tokens[0, 0].tolist() == [1, 0]


def nucleus(log_p, share):
    """The log-probability of the last one that belongs to it."""
    ordered = log_p.sort(descending=True)[0]
    return ordered[(ordered.exp().cumsum(0) < share).sum()]


def test_mistakes():
    chain = Chain()
    tokens, state = chain.start(2)
    for k, steps in ((0, 3), (2, 0)):
        with pytest.raises(ValueError, match="need k >= 1 and steps >= 1"):
            beam_search(chain.step, tokens, state, k=k, steps=steps)
    with pytest.raises(ValueError, match="int64"):
        sample(chain.step, tokens.float(), state, steps=1)
    for wrong in ({"temperature": 0.0}, {"top_k": 0}, {"top_p": 1.5}):
        with pytest.raises(ValueError, match="temperature > 0"):
            truncated(**wrong)
