import math
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations import (
    IMLE,
    Exact,
    GumbelSoftmax,
    PartOfBatch,
    PerturbedOptimizer,
    Ranking,
    Rebar,
    Reinforce,
    Relax,
    Simple,
    STGumbelSoftmax,
    StraightThrough,
)
from zoo.relaxations.noise import DEFAULT

LOGITS = torch.tensor([1.0, 0.0, -1.0, 0.5])
MASK = torch.tensor([True, False, True, True])


def all_orders(n: int, of: list[int] | None = None) -> Tensor:
    """Every order of the items ``of`` n, ``(orders, n, n)``; rows behind them are zero."""
    of = list(range(n)) if of is None else of
    values = []
    for order in permutations(of):
        value = torch.zeros(n, n)
        value[torch.arange(len(of)), torch.tensor(order)] = 1
        values.append(value)
    return torch.stack(values)


def plackett_luce(logits: Tensor, of: list[int] | None = None) -> Tensor:
    """Probabilities of :func:`all_orders`, float64: one draw after another."""
    w = logits.double().exp()
    of = list(range(len(w))) if of is None else of
    orders = permutations(of)
    return torch.stack([math.prod(w[o[i]] / w[list(o[i:])].sum() for i in range(len(o))) for o in orders])


def p_value(draws: Tensor, orders: Tensor, probabilities: Tensor) -> float:
    which = (draws.unsqueeze(1) == orders).flatten(2).all(-1)
    assert (which.sum(-1) == 1).all()
    return stats.chisquare(which.sum(0), probabilities.detach() * len(draws)).pvalue


class TestTheLaw:
    """Chi-squared at significance 1e-4: with fixed seeds a pass is for ever."""

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
    def test_samples_follow_plackett_luce(self, dtype):
        draws = Ranking(LOGITS.to(dtype).expand(20_000, -1)).sample()
        assert draws.dtype == dtype and p_value(draws, all_orders(4), plackett_luce(LOGITS)) > 1e-4

    def test_masked_samples_are_orders_of_what_is_left(self):
        draws = Ranking(LOGITS, MASK).sample((20_000,), generator=torch.Generator().manual_seed(1))
        assert p_value(draws, all_orders(4, [0, 2, 3]), plackett_luce(LOGITS, [0, 2, 3])) > 1e-4

    @pytest.mark.parametrize("n", [1, 2, 4])
    def test_log_prob_entropy_and_kl_are_those_of_all_orders(self, n):
        logits, others = (2 * torch.randn(n, dtype=torch.float64, requires_grad=True) for _ in range(2))
        logits.retain_grad()
        p, q = plackett_luce(logits), plackett_luce(others)
        law = Ranking(logits)
        torch.testing.assert_close(law.log_prob(all_orders(n).double()), p.log(), atol=1e-10, rtol=1e-10)
        kl = (p * (p.log() - q.log())).sum()
        for value, expected in ((law.entropy(), -(p * p.log()).sum()), (law.kl(Ranking(others)), kl)):
            torch.testing.assert_close(value, expected, atol=1e-10, rtol=1e-10)
            gradients = [torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (value, expected)]
            torch.testing.assert_close(*gradients, atol=1e-10, rtol=1e-10)

    def test_masked_items_are_as_if_they_were_not_there(self):
        logits = LOGITS.double().requires_grad_()
        masked, few = Ranking(logits, MASK), Ranking(logits[MASK])
        log_p = masked.log_prob(all_orders(4, [0, 2, 3]).double())
        torch.testing.assert_close(log_p, few.log_prob(all_orders(3).double()))
        torch.testing.assert_close(masked.entropy(), few.entropy())
        for result in (log_p[0], masked.entropy()):
            (gradient,) = torch.autograd.grad(result, logits, retain_graph=True)
            assert gradient.isfinite().all() and gradient[1] == 0 and (gradient[MASK] != 0).all()

    def test_what_is_no_order_has_probability_zero(self):
        values = [torch.eye(4), torch.zeros(4, 4), torch.full((4, 4), 0.25), all_orders(4, [0, 1, 3])[0]]
        values += [all_orders(4, [0, 2])[0], all_orders(4, [0, 2, 3])[0].roll(1, 0)]
        assert (Ranking(LOGITS, MASK).log_prob(torch.stack(values)) == -math.inf).all()
        assert Ranking(LOGITS).log_prob(torch.eye(4)[[0, 0, 1, 2]]) == -math.inf

    def test_rows_may_have_different_numbers_of_orders(self):
        mask = torch.tensor([[True] * 4, [True, False, True, False], [False, True, False, False]])
        law = Ranking(torch.randn(3, 4), mask)
        assert law.cardinality().tolist() == [24, 2, 1]
        values = law.enumerate_support()
        assert values.shape == (24, 3, 4, 4) and (values.sum(-2) == mask).all()
        for row, size in enumerate((24, 2, 1)):
            assert len(values[:size, row].unique(dim=0)) == size
            assert (values[size:, row] == values[0, row]).all()
        torch.testing.assert_close(law.entropy()[2], torch.tensor(0.0))

    def test_the_mode_sorts(self):
        logits = torch.randn(20, 4)
        law = Ranking(logits)
        assert torch.equal((law.mode() @ logits.unsqueeze(-1)).squeeze(-1), logits.sort(-1, descending=True).values)
        best = law.log_prob(all_orders(4).unsqueeze(1)).argmax(0)
        assert torch.equal(law.mode(), all_orders(4)[best])

    def test_many_items_and_extreme_logits(self):
        logits = (1e4 * torch.randn(2, 200)).requires_grad_()
        law = Ranking(logits)
        log_p = law.log_prob(law.sample())
        assert log_p.isfinite().all() and torch.autograd.grad(log_p.sum(), logits)[0].isfinite().all()
        with pytest.raises(ZooError, match=r"1e\+374 values, over the limit"):
            law.entropy()
        with pytest.raises(ZooError, match=r"at least 1e\+374 combinations"):
            Exact().expectation(lambda draw: draw(law).sum((1, 2)))

    def test_scores_that_are_none_give_nan(self):
        logits = torch.stack([LOGITS, LOGITS, LOGITS, LOGITS])
        logits[1, 2], logits[2, 3], logits[3] = math.nan, math.inf, -math.inf
        for soft in ("softsort", "neuralsort"):
            law = Ranking(logits, soft=soft)
            results = [law.sample().sum((1, 2)), law.mode().sum((1, 2)), law.relax(logits, 1.0).sum((1, 2))]
            for result in [*results, law.log_prob(torch.eye(4))]:
                assert result.isnan().tolist() == [False, True, True, True]

    def test_a_split_batch_draws_its_rows(self):
        logits = torch.randn(6, 3, 5)
        whole = Ranking(logits).sample((2,), noise=PartOfBatch(0, 1, seed=5))
        parts = [Ranking(logits[3 * i :][:3]).sample((2,), noise=PartOfBatch(i, 2, seed=5)) for i in range(2)]
        assert torch.equal(whole, torch.cat(parts, 1))

    def test_first_and_second_derivatives(self):
        for mask in (None, MASK):
            logits = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
            value = Ranking(logits, mask).sample()
            assert torch.autograd.gradcheck(lambda x: Ranking(x, mask).log_prob(value), logits)  # noqa: B023
            assert torch.autograd.gradgradcheck(lambda x: Ranking(x, mask).log_prob(value), logits)  # noqa: B023


class TestLayout:
    def test_items_along_any_dimension_have_their_places_before_them(self):
        logits, mask = torch.randn(3, 5, 2), torch.rand(3, 5, 2) < 0.6
        mask[:, 0] = True
        moved, plain = Ranking(logits, mask, dim=1), Ranking(logits.movedim(1, -1), mask.movedim(1, -1))
        value = moved.sample((7,))
        assert value.shape == (7, 3, 5, 5, 2) and (value.sum(2) == mask).all()
        torch.testing.assert_close(moved.log_prob(value), plain.log_prob(value.movedim(-1, 2)))
        assert torch.equal(moved.mode(), plain.mode().movedim(1, -1))
        first = Ranking(logits, dim=0).mode()
        assert first.shape == (3, 3, 5, 2)
        torch.testing.assert_close((first * logits).sum(1), logits.sort(0, descending=True).values)
        soft = moved.place(moved.relax(moved.logits, 0.5))
        torch.testing.assert_close(moved.unplace(soft), moved.relax(moved.logits, 0.5))
        for relaxation in (GumbelSoftmax(tau=torch.full((3, 1, 2), 0.5)), STGumbelSoftmax()):
            assert relaxation(moved).shape == (3, 5, 5, 2)

    def test_derived_laws_keep_their_kind_and_mask(self):
        law = Ranking(torch.randn(3, 4), MASK, soft="neuralsort")
        for other in (law.tempered(0.5), law.expand((2,)), law.with_logits(law.logits + 1)):
            value = other.sample()
            assert (value.sum(-2) == MASK).all() and other.soft == "neuralsort" and other.entropy().isfinite().all()

    def test_empty_batches(self):
        law = Ranking(torch.zeros(0, 3, 4, requires_grad=True), MASK)
        value = law.sample((2,))
        assert value.shape == (2, 0, 3, 4, 4) and law.log_prob(value).shape == (2, 0, 3)
        assert law.entropy().shape == (0, 3) and law.relax(law.logits, 1.0).shape == (0, 3, 4, 4)

    @pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
    @pytest.mark.parametrize("soft", ["softsort", "neuralsort"])
    def test_transforms_agree_with_autograd(self, soft):
        logits = torch.randn(4, 4, dtype=torch.float64)
        value = Ranking(logits, MASK).sample()

        def f(x: Tensor, v: Tensor) -> Tensor:
            law = Ranking(x, MASK, soft=soft)
            return law.log_prob(v) + law.entropy() + law.relax(law.logits, 0.7).square().sum()

        leaf = logits.clone().requires_grad_()
        (expected,) = torch.autograd.grad(sum(f(x, v) for x, v in zip(leaf, value)), leaf)
        torch.testing.assert_close(torch.func.vmap(torch.func.grad(f))(logits, value), expected)
        _, slope = torch.func.jvp(lambda x: f(x, value[0]), (logits[0],), (torch.ones_like(logits[0]),))
        torch.testing.assert_close(slope, expected[0].sum())
        draws = torch.func.vmap(lambda x: Ranking(x).sample(), randomness="different")(logits)
        assert draws.shape == (4, 4, 4) and (draws.sum(-1) == 1).all() and (draws.sum(-2) == 1).all()

    def test_errors(self):
        with pytest.raises(ValueError, match="softsort or neuralsort"):
            Ranking(LOGITS, soft="hardsort")
        with pytest.raises(ValueError, match="allows no choice"):
            Ranking(torch.zeros(2, 3), torch.tensor([[True, True, True], [False, False, False]]))
        with pytest.raises(ValueError, match=r"must be \(\.\.\., 3, 4, 4\)"):
            Ranking(torch.zeros(3, 4)).log_prob(torch.zeros(3, 4))
        with pytest.raises(ZooError, match="of a kind"):
            Ranking(torch.zeros(3)).kl(Ranking(torch.zeros(4)))


def softsort(s: Tensor, tau: float) -> Tensor:
    """Equation 3 of the paper, of a vector."""
    return (-(s.sort(descending=True).values[:, None] - s[None]).abs() / tau).softmax(-1)


def neuralsort(s: Tensor, tau: float) -> Tensor:
    """Equation 5 of the paper, of a vector."""
    n = len(s)
    a = (s[:, None] - s[None]).abs().sum(1)
    return torch.stack([(((n + 1 - 2 * i) * s - a) / tau).softmax(-1) for i in range(1, n + 1)])


@pytest.mark.parametrize("soft, formula", [("softsort", softsort), ("neuralsort", neuralsort)])
class TestRelaxed:
    @pytest.mark.parametrize("tau", [0.1, 1.0, 5.0])
    def test_it_is_the_formula(self, soft, formula, tau):
        scores = torch.randn(5, dtype=torch.float64, requires_grad=True)
        ours, naive = Ranking(scores, soft=soft).relax(scores, tau), formula(scores, tau)
        torch.testing.assert_close(ours, naive)
        weight = torch.randn(5, 5)
        gradients = [torch.autograd.grad((x * weight).sum(), scores)[0] for x in (ours, naive)]
        torch.testing.assert_close(*gradients)

    def test_masked_items_are_as_if_they_were_not_there(self, soft, formula):
        law = Ranking(LOGITS.double(), MASK, soft=soft)
        value = law.relax(law.logits, 0.7)
        torch.testing.assert_close(value[:3][:, MASK], formula(LOGITS[MASK].double(), 0.7))
        assert (value[3] == 0).all() and (value[:, 1] == 0).all()

    def test_equal_scores_are_told_apart_by_neuralsort_alone(self, soft, formula):
        scores = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        value = Ranking(scores, soft=soft).relax(scores, 1.0)
        (gradient,) = torch.autograd.grad(value[0, 0], scores)
        assert gradient.any() == (soft == "neuralsort")

    def test_it_goes_to_the_hard_value_as_tau_goes_to_zero(self, soft, formula):
        law = Ranking(torch.randn(500, 5), soft=soft)
        scores = law.perturb(DEFAULT)
        errors = [(law.relax(scores, tau) - law.harden(scores)).abs().mean().item() for tau in (1.0, 0.1, 0.01, 1e-3)]
        assert errors == sorted(errors, reverse=True) and errors[-1] < 2e-3

    def test_a_temperature_for_each_example_or_to_be_learned(self, soft, formula):
        law = Ranking(torch.randn(3, 1, 4, dtype=torch.float64), soft=soft)
        taus = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64).view(3, 1, 1)
        expected = torch.stack([law.relax(law.logits, tau.item())[i] for i, tau in enumerate(taus)])
        torch.testing.assert_close(law.relax(law.logits, taus), expected)
        tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda t: law.relax(law.logits, t), tau)
        assert torch.autograd.gradcheck(lambda x: law.relax(x, 0.7), law.logits.clone().requires_grad_())


@given(
    shape=st.lists(st.integers(1, 3), max_size=2),
    n=st.integers(1, 7),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    tau=st.sampled_from([1e-2, 0.1, 1.0, 30.0, 1e3]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
    masked=st.booleans(),
    soft=st.sampled_from(["softsort", "neuralsort"]),
    seed=st.integers(0, 1000),
)
def test_any_value_is_an_order_and_any_relaxed_one_unimodal(shape, n, scale, tau, dtype, masked, soft, seed):
    torch.manual_seed(seed)
    logits = (scale * (2 * torch.rand(*shape, n) - 1)).to(dtype).requires_grad_()
    mask = (torch.rand(*shape, n) < 0.5) | (torch.arange(n) == n // 2) if masked else None
    law = Ranking(logits, mask, soft=soft)
    scores = law.perturb(DEFAULT)
    hard, relaxed = law.place(law.harden(scores)), law.relax(scores, tau)
    assert hard.dtype == dtype and hard.shape == relaxed.shape == (*shape, n, n) and not hard.requires_grad
    allowed = torch.ones(*shape, n, dtype=torch.bool) if mask is None else mask
    rows = (torch.arange(n) < allowed.sum(-1, keepdim=True)).double()
    assert ((hard == 0) | (hard == 1)).all() and (hard.sum(-1) == rows).all() and (hard.sum(-2) == allowed).all()
    assert (relaxed >= 0).all() and (relaxed.transpose(-1, -2)[~allowed] == 0).all()
    torch.testing.assert_close(relaxed.double().sum(-1), rows, atol=1e-5, rtol=0)
    assert (relaxed.gather(-1, hard.argmax(-1, keepdim=True)).squeeze(-1) >= relaxed.amax(-1) * (1 - 1e-3)).all()
    log_p = law.log_prob(hard)
    assert log_p.shape == tuple(shape) and (log_p <= 1e-4).all() and log_p.isfinite().all()
    for result in (relaxed, log_p):
        (gradient,) = torch.autograd.grad((result * torch.randn(result.shape)).sum(), logits, retain_graph=True)
        assert not gradient.isnan().any() and (gradient[~allowed] == 0).all()


def scores_of(logits: Tensor, order: list[int], exponentials: Tensor) -> Tensor:
    """Scores in this order, from one standard exponential an item; one clock after another."""
    w = logits.exp()
    gaps = torch.stack([exponentials[i] / w[order[place:]].sum() for place, i in enumerate(order)])
    return torch.zeros_like(logits).index_put((torch.tensor(order),), -gaps.cumsum(0).log())


class TestRecoupled:
    def test_it_is_the_scores_in_value_and_one_clock_after_another_in_gradient(self):
        for _ in range(5):
            logits, exponentials = torch.randn(4, dtype=torch.float64), torch.empty(4).double().exponential_()
            order = torch.randperm(4).tolist()
            scores = scores_of(logits, order, exponentials)
            assert scores.argsort(descending=True).tolist() == order
            torch.testing.assert_close(Ranking(logits).recouple(scores), scores)
            jacobians = [
                torch.autograd.functional.jacobian(f, logits)
                for f in (lambda x: Ranking(x).recouple(scores), lambda x: scores_of(x, order, exponentials))  # noqa: B023
            ]
            torch.testing.assert_close(*jacobians)

    def test_clocks_after_an_order_drawn_have_the_law_of_the_scores(self):
        """Kolmogorov-Smirnov: with an order by Plackett-Luce, each score minus its logit is standard Gumbel again."""
        logits = LOGITS.double()
        orders = Ranking(logits.expand(4000, -1)).sample().argmax(-1).tolist()
        scores = torch.stack([scores_of(logits, o, torch.empty(4).double().exponential_()) for o in orders])
        for i in range(4):
            assert stats.kstest(scores[:, i] - logits[i], stats.gumbel_r.cdf).pvalue > 1e-4

    def test_masked_scores_stay_impossible_and_derivatives_finite(self):
        logits = torch.randn(3, 4, requires_grad=True)
        law = Ranking(logits, MASK)
        scores = law.perturb(DEFAULT).detach()
        torch.testing.assert_close(law.recouple(scores), scores)
        torch.testing.assert_close(law.log_prob_of(scores), law.log_prob(law.harden(scores)))
        value = law.recouple(scores).masked_fill(~MASK, 0.0).square().sum() + law.log_prob_of(scores).sum()
        (first,) = torch.autograd.grad(value, logits, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), logits)
        assert first.isfinite().all() and second.isfinite().all() and (first[:, 1] == 0).all()


def cost(z: Tensor) -> Tensor:
    flat = z.flatten(1)
    table = torch.randn(flat.shape[1], flat.shape[1], generator=torch.Generator().manual_seed(2))
    return torch.einsum("bi,ij,bj->b", flat, table, flat).sin() + flat[:, 0] * flat[:, -1] + 2


class TestEstimators:
    @pytest.mark.parametrize("make", [Reinforce, Rebar, Relax])
    @pytest.mark.parametrize("soft, mask", [("softsort", MASK), ("neuralsort", None)])
    def test_unbiased_ones_have_the_exact_gradient_in_their_mean(self, make, soft, mask):
        """Within 4.5 standard errors for each coordinate."""
        exact = LOGITS.unsqueeze(0).requires_grad_()
        of = [0, 1, 2, 3] if mask is None else [0, 2, 3]
        (expected,) = torch.autograd.grad((plackett_luce(exact[0], of) * cost(all_orders(4, of))).sum(), exact)
        loss = Exact().expectation(lambda draw: cost(draw(Ranking(exact, mask))))
        torch.testing.assert_close(torch.autograd.grad(loss, exact)[0], expected, atol=1e-5, rtol=1e-4)
        relaxation = make()
        for _ in range(2):  # baselines come from the batch before
            batch = LOGITS.expand(30_000, -1).clone().requires_grad_()
            loss = relaxation.expectation(lambda draw: cost(draw(Ranking(batch, mask, soft=soft))))  # noqa: B023
            (gradient,) = torch.autograd.grad(loss.sum(), batch)
        error = gradient.std(0) / math.sqrt(len(batch))
        assert ((gradient.mean(0) - expected[0]).abs() <= 4.5 * error + 1e-5).all()

    @pytest.mark.parametrize("make", [IMLE, Simple])
    def test_those_that_need_more_refuse(self, make):
        with pytest.raises(ZooError, match=f"{make.__name__} does not serve Ranking"):
            make()(Ranking(LOGITS))

    def test_the_perturbed_optimizer_has_the_derivative_of_its_mean(self):
        """The mean value under Gaussian noise, by its closed form for two items: P(first before second)."""
        batch = torch.tensor([0.3, -0.4]).expand(50_000, -1).clone().requires_grad_()
        value = PerturbedOptimizer(samples=2)(Ranking(batch))
        (gradient,) = torch.autograd.grad(value[:, 0, 0].sum(), batch)
        density = math.exp(-(0.7**2) / 4) / math.sqrt(4 * math.pi)
        error = gradient[:, 0].std() / math.sqrt(len(batch))
        assert abs(gradient[:, 0].mean() - density) < 4.5 * error

    @pytest.mark.parametrize("soft", ["softsort", "neuralsort"])
    @pytest.mark.parametrize("make", [GumbelSoftmax, STGumbelSoftmax, StraightThrough])
    def test_training_sorts_numbers(self, make, soft):
        numbers = torch.tensor([0.3, -1.2, 2.0, 0.9, -0.4])
        target = numbers.sort().values
        logits = (0.1 * torch.randn(5)).requires_grad_()  # of equal ones SoftSort's gradient is zero
        relaxation = make(tau=1.0)
        optimiser = torch.optim.Adam([logits], lr=0.2)
        for _ in range(100):
            law = Ranking(logits.expand(16, -1), soft=soft)
            loss = relaxation.expectation(lambda draw: (draw(law) @ numbers - target).square().sum(-1))  # noqa: B023
            optimiser.zero_grad()
            loss.mean().backward()
            optimiser.step()
        assert torch.equal(Ranking(logits).mode() @ numbers, target)


def test_an_item_of_no_weight_is_one_that_is_masked():
    logits, mask = torch.tensor([[0.5, -0.3, 0.9, -math.inf]]), torch.tensor([[True, True, True, False]])
    free, masked = Ranking(logits), Ranking(logits, mask)
    weight = torch.arange(16.0).view(4, 4).sin()

    def expected(law: Ranking) -> Tensor:
        return Exact().expectation(lambda draw: (draw(law) * weight).sum((-2, -1)))

    costs = [expected(law) for law in (free, masked)]
    torch.testing.assert_close(*costs)
    torch.testing.assert_close(free.entropy(), masked.entropy())
    assert free.entropy() > 1 and free.kl(masked) == 0
