"""Sources of noise: their laws, their tails, and a batch that is split among processes."""

import copy
import math
import pickle
import shutil

import pytest
import torch
from scipy import stats
from torch import Tensor

from tests.relaxations.checks import cells, law, logits_of, path  # noqa: F401 (a fixture)
from zoo.relaxations import (
    RELAXATIONS,
    Bernoulli,
    Categorical,
    CommonNumbers,
    Exact,
    GumbelSoftmax,
    Noise,
    PartOfBatch,
    eager,
)
from zoo.relaxations.distributions.categorical import invert
from zoo.relaxations.noise import DEFAULT

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def gumbel(like: Tensor) -> Tensor:
    return DEFAULT.gumbel(like)


# Laws -----------------------------------------------------------------------------------------------------------------
# Significance 1e-4, with fixed seeds: a pass is for ever.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.usefixtures("path")
def test_laws(dtype):
    like = torch.empty(300_000, dtype=dtype)
    for kind, reference in (
        ("gumbel", stats.gumbel_r()),
        ("normal", stats.norm()),
        ("gaussian", stats.norm(scale=math.pi / 6**0.5)),
        ("box", stats.uniform(-math.pi / 2**0.5, 2 * math.pi / 2**0.5)),
        ("uniform", stats.uniform()),
    ):
        drawn = getattr(DEFAULT, kind)(like)
        assert drawn.dtype == dtype and drawn.isfinite().all()
        assert stats.kstest(drawn.double().numpy(), reference.cdf).pvalue > 1e-4
        if kind in ("gaussian", "box"):
            assert abs(drawn.var() - math.pi**2 / 6) < 0.02


@pytest.mark.usefixtures("path")
def test_neighbouring_noise_is_independent():
    uniform = (-(-gumbel(torch.empty(500_000, 2))).exp()).exp()
    cells = (uniform * 8).long().clamp_max(7)
    assert stats.chisquare(torch.bincount(cells[:, 0] * 8 + cells[:, 1], minlength=64)).pvalue > 1e-4


@pytest.mark.parametrize(
    "backend", ["fast", "plain", "aot_eager", pytest.param("inductor", marks=[needs_compiler, pytest.mark.slow])]
)
def test_the_upper_tail_is_right_and_fine(backend, monkeypatch):
    """What decides between many categories: exceedances of high levels, and no ties among them."""
    monkeypatch.setattr(eager, "WORTH", 2**60 if backend == "plain" else 0)
    compiled = backend in ("aot_eager", "inductor")
    draw = torch.compile(gumbel, backend=backend, fullgraph=True) if compiled else gumbel
    exceeding, n = [], 0
    for _ in range(20):
        noise = draw(torch.empty(10**6))
        assert noise.isfinite().all()
        n += len(noise)
        exceeding.append(noise[noise > 8])
    above = torch.cat(exceeding).double()
    for level in (8.0, 10.0, 12.0, 14.0):
        probability = -math.expm1(-math.exp(-level))
        assert stats.binomtest(int((above > level).sum()), n, probability).pvalue > 1e-4
    above = above[above > 10]  # the law above a high level is exponential
    assert len(above.unique()) > 0.97 * len(above)
    assert stats.kstest((above - 10).numpy(), "expon").pvalue > 1e-4


def test_the_farthest_tail_of_the_fast_noise(monkeypatch):
    """Where a category of probability 1e-10 is decided: with only the 64 smallest of 2^31 random numbers."""
    random = torch.Tensor.random_

    def smallest(self: Tensor, **generator) -> Tensor:
        return random(self, 0, 64, **generator)

    monkeypatch.setattr(torch.Tensor, "random_", smallest)
    noise = DEFAULT.gumbel(torch.empty(1_000_000)).double()
    uniform = (-noise).exp() * (2**31 / 64)
    fine = uniform[uniform < 0.5]  # those that get further bits: the lower half
    assert stats.kstest((2 * fine).numpy(), "uniform").pvalue > 1e-4
    assert len(fine.unique()) > 0.7 * len(fine) and fine.min() < 1e-4
    assert stats.binomtest(len(fine), len(noise), 0.5).pvalue > 1e-4


def test_the_remainder_of_an_inverted_distribution(monkeypatch):
    """Probabilities of 1e-10 are less than a whole unit of 2^-30: all of them is in the remainder."""
    rows, categories, p = 300, 262_144, 1e-10
    probabilities = torch.full((1, categories), p)
    probabilities[:, 1000] = 1 - (categories - 1) * p
    units, scale = 2**30, 2.0**62

    class Remainder(Noise):
        """Only numbers from beyond what is divided in whole units."""

        def bits(self, shape, device, batch_dim=0):
            whole = int((probabilities * units).long().sum())
            return ((whole + categories * torch.rand(shape, dtype=torch.float64)) / (whole + categories) * scale).long()

    index = torch.cat([invert(probabilities.expand(50, -1), Remainder()) for _ in range(rows // 50)])
    rare = int((index != 1000).sum())
    assert stats.binomtest(rare, rows, p * units).pvalue > 1e-4  # times categories / units: (categories - 1) p
    assert len(index[index != 1000].unique()) == rare


@pytest.mark.usefixtures("path")
def test_inversion_never_chooses_what_has_probability_zero():
    p = torch.zeros(200_000, 9)
    p[:, [1, 4, 6]] = torch.tensor([0.3, 1e-7, 0.7 - 1e-7])
    counts = torch.bincount(invert(p, DEFAULT).flatten(), minlength=9)
    assert (counts[[0, 2, 3, 5, 7, 8]] == 0).all() and (counts[[1, 6]] > 0).all()
    assert stats.binomtest(int(counts[1]), len(p), 0.3).pvalue > 1e-4


def test_many_equal_categories_are_drawn_alike():
    """No preference for the first, as ties would give, nor for any other."""
    for draw in (Categorical(torch.zeros(300, 32768)).sample, lambda: GumbelSoftmax()(torch.zeros(300, 32768))):
        index = draw().argmax(-1)
        assert stats.kstest(((index.double() + 0.5) / 32768).numpy(), "uniform").pvalue > 1e-4


@pytest.mark.usefixtures("path")
def test_gumbel_softmax_has_the_law_of_pytorchs():
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0]).expand(100_000, -1)
    ours, theirs = GumbelSoftmax(tau=0.5)(logits), torch.nn.functional.gumbel_softmax(logits, tau=0.5)
    for category in range(4):
        assert stats.ks_2samp(ours[:, category].numpy(), theirs[:, category].numpy()).pvalue > 1e-4


# Where noise comes from -----------------------------------------------------------------------------------------------


def test_a_source_is_passed_to_a_call_or_is_the_layers_own():
    logits, layer = torch.zeros(40, 3), GumbelSoftmax()
    layer.noise = Noise(torch.Generator().manual_seed(1))
    first = layer(logits)
    assert torch.equal(first, layer(logits, noise=Noise(torch.Generator().manual_seed(1))))
    assert not torch.equal(first, layer(logits))
    state = torch.get_rng_state()
    layer.expectation(lambda draw: draw(logits).sum(1))
    assert torch.equal(state, torch.get_rng_state())
    assert copy.deepcopy(layer).noise is layer.noise  # a copy goes on with the same source
    assert "noise" not in "".join(layer.state_dict())


def test_a_layer_with_the_default_source_is_pickled():
    assert pickle.loads(pickle.dumps(GumbelSoftmax())).noise.generator is None


def test_common_numbers_compare_two_relaxations_on_the_same_noise():
    logits, noise = torch.randn(50, 4), CommonNumbers()
    soft = GumbelSoftmax()(logits, noise=noise)
    noise.rewind()
    hard = RELAXATIONS["st_gumbel_softmax"]()(logits, noise=noise)
    assert torch.equal(soft.argmax(-1), hard.argmax(-1))
    noise.rewind()
    with pytest.raises(ValueError, match=r"was \(50, 4\) and is now \(40, 4\)"):
        GumbelSoftmax()(logits[:40], noise=noise)


# A batch that is split ------------------------------------------------------------------------------------------------


def part_of_run(name: str, distribution: str, logits: Tensor, part: int, parts: int) -> tuple[Tensor, ...]:
    """Costs and gradients of one part of the batch, and draws in eval(); a whole one has the default generator."""
    torch.manual_seed(0)
    relaxation = RELAXATIONS[name]()
    torch.manual_seed(3 if parts == 1 else part)
    relaxation.noise = Noise() if parts == 1 else PartOfBatch(part, parts, seed=3)
    rows = len(logits) // parts
    share = logits[part * rows : (part + 1) * rows].clone().requires_grad_()

    def program(draw) -> Tensor:
        first, second = draw(law(distribution, share)), draw(law(distribution, share * 0.5))  # two: their noise differs
        first, second = first.flatten(1), second.flatten(1)
        weight = torch.linspace(-1, 1, first.shape[1])
        return ((first * weight).sum(1) - 1) ** 2 + (second * weight).sum(1)

    cost = relaxation.expectation(program)
    (gradient,) = torch.autograd.grad(cost.sum(), share)
    drawn = relaxation.eval()(law(distribution, share.detach()))
    return cost.detach(), gradient, drawn


@cells(lambda cls: cls is not Exact)  # which draws nothing
@pytest.mark.parametrize("worth", [0, 30, 2**60])
def test_parts_draw_what_the_whole_batch_draws(relaxation, distribution, worth, monkeypatch):
    """Also where the whole batch is worth the fast path, and a part of it is not."""
    monkeypatch.setattr(eager, "WORTH", worth)
    logits = logits_of(distribution, 6, 2, dtype=torch.float32)
    whole = part_of_run(relaxation, distribution, logits, 0, 1)
    for parts in (2, 3):
        split = [part_of_run(relaxation, distribution, logits, part, parts) for part in range(parts)]
        for expected, *got in zip(whole, *split, strict=True):
            torch.testing.assert_close(torch.cat(got), expected, rtol=1e-4, atol=1e-5)


def test_parts_differ_from_each_other():
    one, two = (PartOfBatch(part, 2, seed=0).gumbel(torch.zeros(50, 3)) for part in range(2))
    assert not torch.isclose(one, two).any()


def test_the_batch_may_be_another_dimension():
    """Behind that of samples."""
    torch.manual_seed(4)
    whole = Noise().gumbel(torch.zeros(5, 4, 3), 1)
    law_ = Bernoulli(torch.zeros(2, 3))
    for part in range(2):
        drawn = PartOfBatch(part, 2, seed=4).gumbel(torch.zeros(5, 2, 3), 1)
        torch.testing.assert_close(drawn, whole[:, 2 * part : 2 * part + 2])
    torch.manual_seed(4)
    sampled = Bernoulli(torch.zeros(4, 3)).sample((5,))
    for part in range(2):
        drawn = law_.sample((5,), noise=PartOfBatch(part, 2, seed=4))
        assert torch.equal(drawn, sampled[:, 2 * part : 2 * part + 2])


def test_kinds_of_noise_of_a_part():
    like = torch.zeros(40, 3, dtype=torch.float64)
    for kind in ("normal", "uniform", "gaussian", "box", "gumbel"):
        torch.manual_seed(0)
        whole = getattr(Noise(), kind)(like)
        assert whole.dtype == torch.float64
        assert torch.equal(getattr(PartOfBatch(1, 2, seed=0), kind)(like[:20]), whole[20:])
    torch.manual_seed(0)
    whole = Noise().bits(torch.Size([40, 1]), like.device)
    assert torch.equal(PartOfBatch(1, 2, seed=0).bits(torch.Size([20, 1]), like.device), whole[20:])
