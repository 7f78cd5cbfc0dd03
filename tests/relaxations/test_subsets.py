import math
from itertools import combinations, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations import (
    Categorical,
    ConditionalBernoulli,
    Exact,
    Noise,
    PartOfBatch,
    Rebar,
    Reinforce,
    Relax,
    Simple,
    Subset,
)
from zoo.relaxations.distributions.subsets import _LogIntegral, log_integral, successive
from zoo.relaxations.noise import DEFAULT

LOGITS = torch.tensor([2.0, 0.0, -1.0, 1.0, 0.5])
MASK = torch.tensor([True, False, True, True, True])
LAWS = [Subset, ConditionalBernoulli]
both = pytest.mark.parametrize("law", LAWS)


def all_sets(n: int, k: int) -> Tensor:
    """Every k-hot vector of n, ``(sets, n)``."""
    return torch.stack([torch.zeros(n).index_fill_(0, torch.tensor(s), 1.0) for s in combinations(range(n), k)])


def by_orders(logits: Tensor, chosen: tuple[int, ...]) -> Tensor:
    """Probability of a set of k draws without replacement, by enumeration of its orders, in float64."""
    w = logits.double().exp()
    total = torch.zeros((), dtype=torch.float64)
    for order in permutations(chosen):
        p, left = torch.ones((), dtype=torch.float64), w.clone()
        for i in order:
            p = p * left[i] / left.sum()
            left = left * (torch.arange(len(w)) != i)
        total = total + p
    return total


def by_enumeration(law: type, logits: Tensor, k: int) -> Tensor:
    """Probabilities of :func:`all_sets`, float64."""
    if law is Subset:
        return torch.stack([by_orders(logits, s) for s in combinations(range(len(logits)), k)])
    return (all_sets(len(logits), k).double() * logits.double().nan_to_num(neginf=-1e3)).sum(-1).softmax(0)


def p_value(draws: Tensor, probabilities: Tensor, k: int) -> float:
    n = draws.shape[-1]
    code = 2 ** torch.arange(n)
    counts = torch.bincount((draws.long() * code).sum(-1), minlength=2**n)
    observed = counts[(all_sets(n, k).long() * code).sum(-1)]
    assert observed.sum() == len(draws)
    possible = probabilities > 1e-300
    assert observed[~possible].sum() == 0
    return stats.chisquare(observed[possible], probabilities[possible] / probabilities.sum() * len(draws)).pvalue


class TestSampling:
    """Chi-squared at significance 1e-4: with fixed seeds a pass is for ever."""

    @both
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("k", [1, 2, 4])
    def test_samples_follow_the_enumerated_law(self, law, dtype, k):
        draws = law(LOGITS.to(dtype).expand(20_000, -1), k).sample()
        assert draws.dtype == dtype and p_value(draws, by_enumeration(law, LOGITS, k), k) > 1e-4

    @both
    def test_masked_samples_follow_the_law_of_what_is_left(self, law):
        draws = law(LOGITS, 2, MASK).sample((20_000,), generator=torch.Generator().manual_seed(1))
        assert p_value(draws, by_enumeration(law, LOGITS.masked_fill(~MASK, -math.inf), 2), 2) > 1e-4

    @pytest.mark.parametrize("n", [4, 6, 9])
    def test_gates_of_any_number_whether_or_not_a_power_of_two(self, n):
        logits = torch.randn(n)
        draws = ConditionalBernoulli(logits, 3).sample((20_000,))
        assert p_value(draws, by_enumeration(ConditionalBernoulli, logits, 3), 3) > 1e-4

    @both
    def test_neighbours_are_independent(self, law):
        draws = law(torch.zeros(20_000, 2, 4), 2).sample().long() @ (2 ** torch.arange(4))
        values = torch.tensor([3, 5, 6, 9, 10, 12])
        first, second = (torch.searchsorted(values, draws[:, i].contiguous()) for i in (0, 1))
        assert stats.chisquare(torch.bincount(6 * first + second, minlength=36)).pvalue > 1e-4

    @both
    def test_a_generator_repeats_its_samples_and_a_split_batch_draws_its_rows(self, law):
        logits = torch.randn(6, 3, 5)
        one, two = (law(logits, 2).sample((2,), generator=torch.Generator().manual_seed(3)) for _ in range(2))
        assert torch.equal(one, two)
        whole = law(logits, 2).sample((2,), noise=PartOfBatch(0, 1, seed=5))
        parts = [law(logits[3 * i :][:3], 2).sample((2,), noise=PartOfBatch(i, 2, seed=5)) for i in range(2)]
        assert torch.equal(whole, torch.cat(parts, 1))

    @both
    def test_the_mode_is_the_most_probable_set(self, law):
        logits = torch.randn(20, 6)
        sets = all_sets(6, 3)
        log_p = law(logits, 3).log_prob(sets.unsqueeze(1))
        assert torch.equal(law(logits, 3).mode(), sets[log_p.argmax(0)])


class TestProbabilityOfASet:
    @pytest.mark.parametrize("n, k", [(1, 1), (3, 1), (5, 2), (5, 4), (7, 5), (5, 5)])
    @pytest.mark.parametrize("scale", [0.3, 3.0])
    def test_it_is_the_sum_over_all_orders(self, n, k, scale):
        logits = (torch.randn(n, dtype=torch.float64) * scale).requires_grad_()
        log_p = Subset(logits, k).log_prob(all_sets(n, k).double())
        expected = by_enumeration(Subset, logits, k).log()
        torch.testing.assert_close(log_p, expected, atol=1e-10, rtol=1e-10)
        gradients = [torch.autograd.grad(x @ torch.arange(len(x)).double(), logits)[0] for x in (log_p, expected)]
        torch.testing.assert_close(*gradients, atol=1e-9, rtol=1e-9)
        assert abs(log_p.exp().sum() - 1) < 1e-11

    @pytest.mark.parametrize("k", [2, 4])
    def test_with_weights_between_1e_minus_8_and_1e8(self, k):
        logits = math.log(1e8) * torch.tensor([1.0, -1.0, 0.0, 0.5, -0.4, 0.9], dtype=torch.float64)
        log_p = Subset(logits, k).log_prob(all_sets(6, k).double())
        torch.testing.assert_close(log_p, by_enumeration(Subset, logits, k).log(), atol=1e-10, rtol=1e-10)

    def test_of_rare_sets_of_any_size_in_closed_form(self):
        """k items of weight r beside one of weight 1: prod_j j r / (1 + j r)."""
        for k in (1, 10, 100, 1000):
            for r in (1e-8, 1e-2, 1.0, 1e3):
                logits = torch.cat([torch.full((k,), r, dtype=torch.float64), torch.ones(1)]).log()
                log_p = Subset(logits, k).log_prob((torch.arange(k + 1) < k).double())
                j = torch.arange(1, k + 1, dtype=torch.float64)
                torch.testing.assert_close(log_p, (j * r / (1 + j * r)).log().sum(), atol=1e-10, rtol=1e-10)

    def test_of_sets_beyond_the_range_of_alternating_sums(self):
        """All 3! orders are equally rare: what is left always weighs exp(1e4)."""
        logits = torch.tensor([0.0, 1e3, 2e3, 1e4, 9e3], requires_grad=True)
        log_p = Subset(logits, 3).log_prob(torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]))
        torch.testing.assert_close(log_p, torch.tensor((2e3 - 1e4) + (1e3 - 1e4) + (0 - 1e4) + math.log(6)))
        assert torch.autograd.grad(log_p, logits)[0].isfinite().all()

    def test_fifty_of_many(self):
        uniform = Subset(torch.zeros(2, 784), 50)
        expected = torch.full((2,), -math.lgamma(785) + math.lgamma(51) + math.lgamma(735))
        torch.testing.assert_close(uniform.log_prob(uniform.sample()), expected)
        logits = torch.randn(784, requires_grad=True)
        law = Subset(logits, 50)
        log_p = law.log_prob(law.sample((4,)))
        (gradient,) = torch.autograd.grad(log_p.sum(), logits)
        assert log_p.isfinite().all() and gradient.isfinite().all() and abs(gradient.sum()) < 1e-4

    def test_probabilities_of_a_law_over_too_many_sets_to_list_sum_to_one(self):
        """The mean of q(S) / p(S) over S ~ p is the sum of all q(S)."""
        p = Subset(torch.linspace(-1, 1, 60), 12)
        q = Subset(torch.linspace(-1, 1, 60) + 0.1 * torch.randn(60), 12)
        value = p.sample((1000,))
        ratio = (q.log_prob(value) - p.log_prob(value)).exp()
        assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / math.sqrt(len(ratio)) < 0.1

    def test_all_of_all_is_certain(self):
        logits = (torch.randn(7, 4) * 100).requires_grad_()
        log_p = Subset(logits, 4).log_prob(torch.ones(7, 4))
        assert (log_p == 0).all() and (torch.autograd.grad(log_p.sum(), logits)[0] == 0).all()

    def test_the_computation_in_parts_is_the_plain_one(self):
        log_odds = (torch.randn(500, 20, dtype=torch.float64) * 3).requires_grad_()
        log_odds.data[:30] = 1e30  # nothing outside
        parts, _ = _LogIntegral.apply(log_odds)
        plain = log_integral(log_odds)
        torch.testing.assert_close(parts, plain, atol=1e-12, rtol=1e-12)
        gradients = [torch.autograd.grad(x.sum(), log_odds)[0] for x in (parts, plain)]
        torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-12)

    @pytest.mark.parametrize("mask", [None, MASK])
    def test_first_and_second_derivatives(self, mask):
        logits = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
        value = Subset(logits, 2, mask).sample()
        assert torch.autograd.gradcheck(lambda x: Subset(x, 2, mask).log_prob(value), logits)
        assert torch.autograd.gradgradcheck(lambda x: Subset(x, 2, mask).log_prob(value), logits)


@both
class TestBothLaws:
    @pytest.mark.parametrize("n, k", [(4, 1), (5, 2), (6, 3), (4, 4)])
    def test_log_prob_entropy_and_kl_are_those_of_all_sets(self, law, n, k):
        logits, others = (torch.randn(n, dtype=torch.float64, requires_grad=True) for _ in range(2))
        p, q = by_enumeration(law, logits, k), by_enumeration(law, others, k)
        ours = law(logits, k)
        torch.testing.assert_close(ours.log_prob(all_sets(n, k).double()), p.log())
        kl = (p * (p.log() - q.log())).sum()
        for value, expected in ((ours.entropy(), -(p * p.log()).sum()), (ours.kl(law(others, k)), kl)):
            torch.testing.assert_close(value, expected, atol=1e-10, rtol=1e-10)
            gradients = [torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (value, expected)]
            torch.testing.assert_close(*gradients, atol=1e-10, rtol=1e-10)

    def test_masked_items_are_as_if_they_were_not_there(self, law):
        logits = LOGITS.double().requires_grad_()
        mask = torch.tensor([True, False, True, True, False])
        masked, few = law(logits, 2, mask), law(logits[mask], 2)
        value = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0, 0.0]]).double()
        log_p = masked.log_prob(value)
        torch.testing.assert_close(log_p[0], few.log_prob(value[0, mask]))
        assert log_p[1] == -math.inf
        torch.testing.assert_close(masked.entropy(), few.entropy())
        other = logits.detach() * 2
        torch.testing.assert_close(masked.kl(law(other, 2, mask)), few.kl(law(other[mask], 2)))
        torch.testing.assert_close(masked.marginals()[mask], few.marginals())
        for result in (log_p[0], masked.entropy(), masked.marginals()[0]):
            (gradient,) = torch.autograd.grad(result, logits, retain_graph=True)
            assert gradient.isfinite().all() and (gradient[~mask] == 0).all() and (gradient[mask] != 0).all()

    def test_rows_may_have_different_numbers_of_sets(self, law):
        mask = torch.tensor([[True] * 5, [True, False, True, False, True], [False, True, True, False, False]])
        one = law(torch.randn(3, 5), 2, mask)
        assert one.cardinality().tolist() == [10, 3, 1]
        values = one.enumerate_support()
        assert values.shape == (10, 3, 5) and (values[:, ~mask] == 0).all()
        for row, size in enumerate((10, 3, 1)):
            assert len(values[:size, row].unique(dim=0)) == size
            assert (values[size:, row] == values[0, row]).all()
        torch.testing.assert_close(one.entropy()[2], torch.tensor(0.0), atol=1e-6, rtol=0)

    def test_what_is_no_such_set_has_probability_zero(self, law):
        value = torch.tensor([[1.0, 0, 0, 0, 0], [1, 1, 1, 0, 0], [0.5, 0.5, 1, 0, 0], [2, 0, 0, 0, 0]])
        assert (law(LOGITS, 2).log_prob(value) == -math.inf).all()

    def test_scores_that_are_none_give_nan(self, law):
        logits = torch.stack([LOGITS, LOGITS, LOGITS])
        logits[1, 2], logits[2, 3] = math.nan, math.inf
        bad = law(logits, 2)
        value = law(LOGITS, 2).sample()
        for result in (bad.sample().sum(-1), bad.mode().sum(-1), bad.log_prob(value), bad.relax(logits, 1.0).sum(-1)):
            assert result.isnan().tolist() == [False, True, True]

    def test_too_few_items_are_nan_where_they_cannot_be_an_error(self, law):
        bad = law(torch.tensor([0.0, -math.inf, -math.inf]), 2)
        assert bad.sample().isnan().any() and bad.mode().isnan().any()
        assert bad.log_prob(torch.tensor([1.0, 1.0, 0.0])).isnan()

    def test_one_of_n_is_categorical(self, law):
        logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
        mask = torch.rand(4, 5) < 0.8
        mask[:, 0] = True
        one, reference = law(logits, 1, mask), Categorical(logits, mask)
        value = reference.sample()
        pairs = [
            (one.log_prob(value), reference.log_prob(value)),
            (one.entropy(), reference.entropy()),
            (one.marginals(), reference.marginals()),
            (one.relax(one.logits, 0.7), reference.relax(reference.logits, 0.7)),
            (one.kl(law(logits.detach() * 2, 1, mask)), reference.kl(Categorical(logits.detach() * 2, mask))),
        ]
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)
            gradients = [torch.autograd.grad(x.square().sum(), logits, retain_graph=True)[0] for x in (ours, theirs)]
            torch.testing.assert_close(*gradients, atol=1e-9, rtol=1e-9)

    def test_items_along_any_dimension(self, law):
        logits, mask = torch.randn(3, 5, 2), torch.rand(3, 5, 2) < 0.5
        mask[:, :2] = True
        moved, plain = law(logits, 2, mask, dim=1), law(logits.movedim(1, -1), 2, mask.movedim(1, -1))
        value = moved.sample((4,))
        assert value.shape == (4, 3, 5, 2) and (value.sum(-2) == 2).all()
        torch.testing.assert_close(moved.log_prob(value), plain.log_prob(value.movedim(-2, -1)))
        assert torch.equal(moved.mode().movedim(1, -1), plain.mode())
        assert moved.enumerate_support().shape[1:] == logits.shape

    def test_derived_laws_keep_k_and_mask(self, law):
        one = law(torch.randn(3, 5), 2, MASK)
        for other in (one.tempered(0.5), one.expand((4,)), one.with_logits(one.logits + 1)):
            value = other.sample()
            assert (value.sum(-1) == 2).all() and (value[..., ~MASK] == 0).all() and other.entropy().isfinite().all()
        torch.testing.assert_close(one.tempered(0.5).entropy(), law(one.logits * 2, 2, MASK).entropy())

    def test_empty_batches(self, law):
        one = law(torch.zeros(0, 3, 5, requires_grad=True), 2, MASK)
        value = one.sample((2,))
        assert value.shape == (2, 0, 3, 5) and one.log_prob(value).shape == (2, 0, 3)
        assert one.entropy().shape == (0, 3) and one.relax(one.logits, 1.0).shape == (0, 3, 5)
        one.log_prob(value).sum().backward()

    def test_a_first_call_in_inference_mode_leaves_later_gradients_alone(self, law):
        with torch.inference_mode():
            law(torch.zeros(11), 3).entropy()
        logits = torch.zeros(11, requires_grad=True)
        law(logits, 3).entropy().backward()
        assert logits.grad.isfinite().all()

    @pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
    def test_transforms_agree_with_autograd(self, law):
        logits = torch.randn(4, 3, 5, dtype=torch.float64)
        value = law(logits, 2, MASK).sample()

        def f(x: Tensor, v: Tensor) -> Tensor:
            one = law(x, 2, MASK)
            return one.log_prob(v).square().sum() + one.entropy().sum() + one.marginals().square().sum()

        leaf = logits.clone().requires_grad_()
        (expected,) = torch.autograd.grad(sum(f(x, v) for x, v in zip(leaf, value)), leaf)
        torch.testing.assert_close(torch.func.vmap(torch.func.grad(f))(logits, value), expected)
        _, slope = torch.func.jvp(lambda x: f(x, value[0]), (logits[0],), (torch.ones_like(logits[0]),))
        torch.testing.assert_close(slope, expected[0].sum())
        draws = torch.func.vmap(lambda x: law(x, 2).sample(), randomness="different")(logits)
        assert draws.shape == logits.shape and (draws.sum(-1) == 2).all()

    @pytest.mark.parametrize("k", [0, -1, 6])
    def test_k_out_of_range_is_an_error(self, law, k):
        with pytest.raises(ValueError, match="k must be from 1 to the number of items"):
            law(LOGITS, k)

    @pytest.mark.parametrize(
        "mask", [[[True, True, False], [True, False, False]], [[True, True, True], [False, False, False]]]
    )
    def test_a_row_with_fewer_than_k_choices_is_an_error(self, law, mask):
        with pytest.raises(ValueError, match="fewer than k = 2"):
            law(torch.zeros(2, 3), 2, torch.tensor(mask))

    def test_values_and_laws_that_do_not_fit_are_errors(self, law):
        one = law(torch.zeros(3, 5), 2)
        for shape in ((3, 4), (), (2, 5)):
            with pytest.raises(ValueError, match=r"must be \(\.\.\., 3, 5\)"):
                one.log_prob(torch.zeros(shape))
        with pytest.raises(ZooError, match="one size"):
            one.kl(law(torch.zeros(3, 5), 3))
        with pytest.raises(ZooError, match="of a kind"):
            one.kl(Categorical(torch.zeros(3, 5)))
        with pytest.raises(ZooError, match="over the limit"):
            law(torch.zeros(40), 20).enumerate_support()


@given(
    shape=st.lists(st.integers(1, 3), max_size=2),
    n=st.integers(1, 9),
    data=st.data(),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    tau=st.sampled_from([1e-2, 0.1, 1.0, 30.0, 1e3]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
    masked=st.booleans(),
    law=st.sampled_from(LAWS),
    seed=st.integers(0, 1000),
)
@settings(deadline=None)
def test_any_value_is_k_hot_and_any_relaxed_one_sums_to_k(shape, n, data, scale, tau, dtype, masked, law, seed):
    k = data.draw(st.integers(1, n))
    torch.manual_seed(seed)
    logits = (scale * (2 * torch.rand(*shape, n) - 1)).to(dtype).requires_grad_()
    mask = (torch.rand(*shape, n) < 0.5) | (torch.rand(*shape, n).argsort(-1) < k) if masked else None
    one = law(logits, k, mask)
    hard, soft = one.sample(), one.place(one.relax(one.logits, tau))
    assert hard.dtype == soft.dtype == dtype and hard.shape == soft.shape == logits.shape and not hard.requires_grad
    assert ((hard == 0) | (hard == 1)).all() and (hard.sum(-1) == k).all() and (soft >= 0).all()
    torch.testing.assert_close(soft.double().sum(-1), torch.full(shape, float(k)).double(), atol=0, rtol=0.01)
    log_p = one.log_prob(hard)
    assert log_p.shape == tuple(shape) and (log_p <= 1e-3).all() and log_p.isfinite().all()
    p = one.marginals()
    torch.testing.assert_close(p.sum(-1), torch.full_like(log_p, k), atol=1e-3, rtol=0)
    for result in (soft.double(), log_p, p):
        (gradient,) = torch.autograd.grad((result * torch.randn(result.shape)).sum(), logits, retain_graph=True)
        assert gradient.isfinite().all() or (dtype == torch.float16 and tau < 1 and not gradient.isnan().any())
        if masked:
            assert (hard[~mask] == 0).all() and (soft[~mask] == 0).all() and (gradient[~mask] == 0).all()


class TestConditionalBernoulli:
    def test_marginals_are_the_mean_and_the_gradient_of_the_normaliser(self):
        logits = torch.randn(7, dtype=torch.float64, requires_grad=True)
        law = ConditionalBernoulli(logits, 3)
        sets = all_sets(7, 3).double()
        mean = (by_enumeration(ConditionalBernoulli, logits, 3).unsqueeze(-1) * sets).sum(0)
        torch.testing.assert_close(law.marginals(), mean)
        (slope,) = torch.autograd.grad(-law.log_prob(sets[0]), logits)
        torch.testing.assert_close(slope, mean - sets[0])

    @pytest.mark.parametrize("mask", [None, MASK])
    def test_first_and_second_derivatives(self, mask):
        logits = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: ConditionalBernoulli(x, 2, mask).marginals(), logits)
        assert torch.autograd.gradgradcheck(lambda x: ConditionalBernoulli(x, 2, mask).marginals(), logits)
        assert torch.autograd.gradgradcheck(lambda x: ConditionalBernoulli(x, 2, mask).entropy(), logits)

    def test_fifty_of_many(self):
        logits = torch.randn(2, 784, requires_grad=True)
        law = ConditionalBernoulli(logits, 50)
        value = law.sample()
        assert (value.sum(-1) == 50).all()
        (gradient,) = torch.autograd.grad(law.log_prob(value).sum(), logits)
        torch.testing.assert_close(gradient, value - law.marginals(), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(law.marginals().sum(-1), torch.full((2,), 50.0))
        uniform = ConditionalBernoulli(torch.full((784,), 3.0), 50)
        torch.testing.assert_close(uniform.entropy(), torch.tensor(math.log(math.comb(784, 50))))

    def test_extreme_logits(self):
        logits = torch.tensor([1e4, -1e4, 0.0, 5e3], requires_grad=True)
        law = ConditionalBernoulli(logits, 2)
        torch.testing.assert_close(law.marginals(), torch.tensor([1.0, 0.0, 0.0, 1.0]))
        torch.testing.assert_close(law.entropy(), torch.tensor(0.0))
        assert torch.autograd.grad(law.entropy(), logits)[0].isfinite().all()

    def test_kl_is_infinite_where_the_other_law_cannot_follow(self):
        p, q = ConditionalBernoulli(LOGITS, 2), ConditionalBernoulli(LOGITS, 2, MASK)
        assert p.kl(q) == math.inf and q.kl(p).isfinite()


def relaxed_k_hot(scores: Tensor, k: int, tau: float) -> Tensor:
    """The recurrence as in the paper, naively."""
    alpha, total = scores, torch.zeros(())
    for _ in range(k):
        p = (alpha / tau).exp() / (alpha / tau).exp().sum(-1, keepdim=True)
        total = total + p
        alpha = alpha + (1 - p).log()
    return total


class TestRelaxed:
    @pytest.mark.parametrize("k, tau", [(1, 0.5), (2, 0.5), (3, 1.0), (5, 1.0), (4, 2.0)])
    def test_it_is_the_formula(self, k, tau):
        scores = torch.randn(30, 5, dtype=torch.float64, requires_grad=True)
        law = Subset(torch.zeros(30, 5), k)
        ours, naive = law.relax(scores, tau), relaxed_k_hot(scores, k, tau)
        torch.testing.assert_close(ours, naive)
        weight = torch.randn(30, 5)
        gradients = [torch.autograd.grad((x * weight).sum(), scores)[0] for x in (ours, naive)]
        torch.testing.assert_close(*gradients, atol=1e-8, rtol=1e-6)

    def test_it_goes_to_the_hard_value_as_tau_goes_to_zero(self):
        law = Subset(torch.randn(500, 6), 3)
        scores = law.perturb(DEFAULT)
        errors = [(law.relax(scores, tau) - law.harden(scores)).abs().mean().item() for tau in (1.0, 0.1, 0.01, 1e-3)]
        assert errors == sorted(errors, reverse=True) and errors[-1] < 2e-3

    def test_a_temperature_for_each_example_or_to_be_learned(self):
        law = Subset(torch.randn(3, 2, 5, dtype=torch.float64), 2)
        taus = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64).view(3, 1, 1)
        expected = torch.stack([law.relax(law.logits, tau.item())[i] for i, tau in enumerate(taus)])
        torch.testing.assert_close(law.relax(law.logits, taus), expected)
        tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda t: law.relax(law.logits, t), tau)

    @pytest.mark.parametrize("k", [1, 2, 4, 5])
    def test_derivatives(self, k):
        law = Subset(torch.zeros(2, 5), k)
        assert torch.autograd.gradcheck(
            lambda x: law.relax(x, 0.8), torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
        )


def scores_of(logits: Tensor, order: list[int], exponentials: Tensor, k: int) -> Tensor:
    """Scores whose k largest are ``order[:k]``, from one standard exponential an item; one clock after another."""
    w = logits.exp()
    times: dict[int, Tensor] = {}
    now = torch.zeros((), dtype=logits.dtype)
    for place, i in enumerate(order):
        if place < k:
            now = now + exponentials[i] / w[order[place:]].sum()
            times[i] = now
        else:
            times[i] = now + exponentials[i] / w[i]
    return -torch.stack([times[i] for i in range(len(order))]).log()

    @pytest.mark.parametrize("n, k, spread", [(6, 2, 1.0), (6, 6, 1.0), (40, 15, 1.0), (40, 15, 40.0), (5, 3, 400.0)])
    def test_its_quick_way_is_the_formula(self, n, k, spread):
        """In value, in gradient, in many gradients at once and in the second derivative; where one stands out, too."""
        scores = (spread * torch.randn(3, n, dtype=torch.float64)).requires_grad_()
        mask = torch.arange(n) != 0 if k < n else None
        law = Subset(scores, k, mask)
        g = torch.randn(3, n, dtype=torch.float64)
        quick, formula = law.relax(law.logits, 0.7), successive(law.logits, k, 0.7)
        torch.testing.assert_close(quick, formula, atol=1e-11, rtol=1e-11)
        many = torch.stack([g, -2 * g])
        for slopes in ({"grad_outputs": g}, {"grad_outputs": many, "is_grads_batched": True}):
            found = [torch.autograd.grad(x, scores, retain_graph=True, **slopes)[0] for x in (quick, formula)]
            torch.testing.assert_close(*found, atol=1e-9, rtol=1e-9)
        first = [torch.autograd.grad(x, scores, g, create_graph=True)[0] for x in (quick, formula)]
        second = [torch.autograd.grad((x * g).sum(), scores)[0] for x in first]
        torch.testing.assert_close(*second, atol=1e-8, rtol=1e-8)


class TestRecoupled:
    @pytest.mark.parametrize("k", [1, 2, 3, 4])
    def test_it_is_the_scores_in_value_and_one_clock_after_another_in_gradient(self, k):
        logits, exponentials = torch.randn(4, dtype=torch.float64), torch.empty(4).double().exponential_()
        order = torch.randperm(4).tolist()
        scores = scores_of(logits, order, exponentials, k)
        assert scores.argsort(descending=True)[:k].tolist() == order[:k]
        torch.testing.assert_close(Subset(logits, k).recouple(scores), scores)
        jacobians = [
            torch.autograd.functional.jacobian(f, logits)
            for f in (lambda x: Subset(x, k).recouple(scores), lambda x: scores_of(x, order, exponentials, k))
        ]
        torch.testing.assert_close(*jacobians)

    def test_clocks_after_an_order_drawn_have_the_law_of_the_scores(self):
        """Kolmogorov-Smirnov: with an order by Plackett-Luce, each score minus its logit is standard Gumbel again."""
        logits = LOGITS[:4].double()
        orders = Subset(logits.expand(4000, -1), 2).perturb(DEFAULT).argsort(-1, descending=True)
        scores = torch.stack([scores_of(logits, o, torch.empty(4).double().exponential_(), 2) for o in orders.tolist()])
        for i in range(4):
            assert stats.kstest(scores[:, i] - logits[i], stats.gumbel_r.cdf).pvalue > 1e-4

    def test_for_one_of_n_it_is_that_of_categorical(self):
        logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
        mask = torch.rand(6, 5) < 0.7
        mask[:, 1] = True
        one, reference = Subset(logits, 1, mask), Categorical(logits, mask)
        scores = one.perturb(DEFAULT).detach()
        results = [(law.recouple(scores).masked_fill(~mask, 0.0), law.log_prob_of(scores)) for law in (one, reference)]
        for ours, theirs in zip(*results):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
            gradients = [torch.autograd.grad(x.square().sum(), logits, retain_graph=True)[0] for x in (ours, theirs)]
            torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-6)

    def test_the_probability_of_the_order_is_a_product(self):
        logits = torch.randn(5, dtype=torch.float64)
        scores = Subset(logits, 3).perturb(DEFAULT)
        order, w = scores.argsort(descending=True).tolist(), logits.exp()
        expected = sum((w[order[i]] / w[order[i:]].sum()).log() for i in range(3))
        torch.testing.assert_close(Subset(logits, 3).log_prob_of(scores), expected)

    @pytest.mark.parametrize("k", [2, 3, 4])
    def test_masked_scores_stay_impossible_and_derivatives_finite(self, k):
        logits = torch.randn(3, 5, requires_grad=True)
        law = Subset(logits, k, MASK)
        scores = law.perturb(DEFAULT).detach()
        moved = law.recouple(scores)
        torch.testing.assert_close(moved, scores)
        value = moved.masked_fill(~MASK, 0.0).square().sum() + law.log_prob_of(scores).sum()
        (first,) = torch.autograd.grad(value, logits, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), logits)
        assert first.isfinite().all() and second.isfinite().all() and (first[:, ~MASK] == 0).all()


def cost(z: Tensor) -> Tensor:
    table = torch.randn(z.shape[-1], z.shape[-1], generator=torch.Generator().manual_seed(2))
    return torch.einsum("bi,ij,bj->b", z, table, z).sin() + z[:, 0] * z[:, -1] + 2


class TestEstimators:
    @pytest.mark.parametrize("make", [Reinforce, Rebar, Relax])
    @pytest.mark.parametrize("mask", [None, MASK])
    def test_unbiased_ones_have_the_exact_gradient_in_their_mean(self, make, mask):
        """Within 4.5 standard errors for each coordinate."""
        exact = LOGITS.unsqueeze(0).requires_grad_()
        p = by_enumeration(Subset, exact[0] if mask is None else exact[0].masked_fill(~mask, -1e3), 2)
        (expected,) = torch.autograd.grad((p * cost(all_sets(5, 2))).sum(), exact)
        loss = Exact().expectation(lambda draw: cost(draw(Subset(exact, 2, mask))))
        torch.testing.assert_close(torch.autograd.grad(loss, exact)[0], expected, atol=1e-5, rtol=1e-4)
        relaxation = make()
        for _ in range(2):  # baselines come from the batch before
            batch = LOGITS.expand(30_000, -1).clone().requires_grad_()
            loss = relaxation.expectation(lambda draw: cost(draw(Subset(batch, 2, mask))))  # noqa: B023
            (gradient,) = torch.autograd.grad(loss.sum(), batch)
        error = gradient.std(0) / math.sqrt(len(batch))
        assert ((gradient.mean(0) - expected[0]).abs() <= 4.5 * error + 1e-5).all()

    def test_simple_is_its_formula(self):
        """An exact sample of the conditional law forward, the Jacobian of its enumerated marginals backward."""
        logits = torch.randn(5, dtype=torch.float64)
        sets = all_sets(5, 2).double()
        jacobian = torch.autograd.functional.jacobian(
            lambda x: ((sets * x).sum(-1).softmax(0).unsqueeze(-1) * sets).sum(0), logits
        )
        for make in LAWS:
            batch = logits.expand(30, -1).clone().requires_grad_()
            relaxation = Simple()
            relaxation.noise = Noise(torch.Generator().manual_seed(4))
            z = relaxation(make(batch, 2))
            assert (z.sum(-1) == 2).all() and ((z == 0) | (z == 1)).all()
            (gradient,) = torch.autograd.grad(cost(z.float()).sum(), batch)
            leaf = z.detach().float().requires_grad_()
            (slope,) = torch.autograd.grad(cost(leaf).sum(), leaf)
            torch.testing.assert_close(gradient, slope.double() @ jacobian, atol=1e-5, rtol=1e-5)
        assert isinstance(Simple().law(Subset(logits, 2, MASK)), ConditionalBernoulli)
        assert Simple().law(Subset(logits, 2, MASK)).sample((50,))[:, 1].sum() == 0
