import math
from itertools import combinations, permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.relaxations.checks import compile_and_change_tau, repeats_with_its_seed
from zoo.config import from_config, to_config
from zoo.errors import ZooError
from zoo.relaxations.functional import sample_gumbel
from zoo.relaxations.gumbel import GumbelSoftmax, STGumbelSoftmax
from zoo.relaxations.subsets import GumbelTopK

LOGITS = torch.tensor([2.0, 0.0, -1.0, 1.0, 0.5])


def all_sets(n: int, k: int) -> torch.Tensor:
    """Every k-hot vector of n, ``(sets, n)``."""
    return torch.stack([torch.zeros(n).index_fill_(0, torch.tensor(s), 1.0) for s in combinations(range(n), k)])


def plackett_luce(logits: torch.Tensor, chosen: tuple[int, ...]) -> torch.Tensor:
    """Probability of a set by enumeration of its orders."""
    w = logits.double().exp()
    total = torch.zeros((), dtype=torch.float64)
    for order in permutations(chosen):
        p, left = torch.ones((), dtype=torch.float64), w.sum()
        for i in order:
            p, left = p * w[i] / left, left - w[i]
        total = total + p
    return total


def inclusion_exclusion(logits: torch.Tensor, chosen: tuple[int, ...]) -> torch.Tensor:
    """The same from exponential clocks: all of the set ring before any of the others."""
    w = logits.double().exp()
    others = w.sum() - w[list(chosen)].sum()
    subsets = (c for size in range(len(chosen) + 1) for c in combinations(chosen, size))
    return sum((-1) ** len(c) * others / (others + w[list(c)].sum()) for c in subsets)


def set_p_value(draws: torch.Tensor, logits: torch.Tensor, k: int) -> float:
    n = len(logits)
    code = 2 ** torch.arange(n)
    counts = torch.bincount((draws.long() * code).sum(-1), minlength=2**n)
    sets = list(combinations(range(n), k))
    observed = torch.stack([counts[code[list(s)].sum()] for s in sets])
    assert observed.sum() == len(draws)
    expected = torch.stack([plackett_luce(logits, s) for s in sets]) * len(draws)
    assert observed[expected == 0].sum() == 0
    return stats.chisquare(observed[expected > 0], expected[expected > 0]).pvalue


class TestSampling:
    """Chi-squared at significance 1e-4: with fixed seeds a pass is for ever."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_eval_draws_follow_plackett_luce(self, dtype):
        for hard in (True, False):
            draws = GumbelTopK(k=2, hard=hard).eval()(LOGITS.to(dtype).expand(100_000, -1))
            assert draws.dtype == dtype and set_p_value(draws, LOGITS, 2) > 1e-4

    @pytest.mark.parametrize("tau", [0.1, 3.0])
    @pytest.mark.parametrize("k", [1, 2, 4])
    def test_hard_training_draws_follow_plackett_luce(self, tau, k):
        assert set_p_value(GumbelTopK(k=k, tau=tau)(LOGITS.expand(100_000, -1)), LOGITS, k) > 1e-4

    def test_masked_draws_follow_plackett_luce_of_what_is_left(self):
        mask = torch.tensor([True, False, True, True, True])
        draws = GumbelTopK(k=2).eval()(LOGITS.expand(100_000, -1), mask)
        assert set_p_value(draws, LOGITS.masked_fill(~mask, -math.inf), 2) > 1e-4

    @pytest.mark.parametrize("training", [True, False])
    def test_seed_repeats_draws(self, training):
        assert repeats_with_its_seed(GumbelTopK(k=2, hard=False).train(training), torch.randn(64, 3, 5))


class TestProbabilities:
    @pytest.mark.parametrize("n, k", [(1, 1), (3, 1), (5, 2), (5, 4), (6, 3), (5, 5)])
    def test_log_prob_is_the_sum_over_all_orders(self, n, k):
        logits = torch.randn(n) * 2
        sets = all_sets(n, k)
        log_p = GumbelTopK(k=k).log_prob(logits.expand(len(sets), -1), sets)
        expected = torch.stack([plackett_luce(logits, s) for s in combinations(range(n), k)])
        torch.testing.assert_close(log_p, expected.log().float(), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(log_p.double().exp().sum().float(), torch.tensor(1.0))
        if k < n:
            alternating = torch.stack([inclusion_exclusion(logits, s) for s in combinations(range(n), k)])
            torch.testing.assert_close(log_p, alternating.log().float(), atol=1e-5, rtol=1e-5)

    def test_log_prob_has_the_gradient_of_the_sum_over_all_orders(self):
        logits = LOGITS.clone().requires_grad_()
        value = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
        (ours,) = torch.autograd.grad(GumbelTopK(k=3).log_prob(logits, value), logits)
        (reference,) = torch.autograd.grad(plackett_luce(logits, (0, 2, 3)).log(), logits)
        torch.testing.assert_close(ours, reference)

    def test_log_prob_of_a_set_too_rare_for_alternating_sums(self):
        """All 3! orders are equally rare here: what is left always weighs exp(1e4)."""
        logits = torch.tensor([0.0, 1e3, 2e3, 1e4, 9e3], requires_grad=True)
        log_p = GumbelTopK(k=3).log_prob(logits, torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]))
        expected = (2e3 - 1e4) + (1e3 - 1e4) + (0 - 1e4) + math.log(6)
        torch.testing.assert_close(log_p, torch.tensor(expected))
        assert torch.autograd.grad(log_p, logits)[0].isfinite().all()

    def test_log_prob_of_twelve_equal_items_of_many(self):
        value = torch.zeros(2, 40)
        value[:, ::3][:, :12] = 1
        log_p = GumbelTopK(k=12).log_prob(torch.full((2, 40), 3.0), value)
        torch.testing.assert_close(log_p, torch.full((2,), -math.log(math.comb(40, 12))))

    def test_all_of_all_is_certain(self):
        relaxation = GumbelTopK(k=4)
        logits = (torch.randn(7, 4) * 100).requires_grad_()
        for value in (relaxation.log_prob(logits, torch.ones(7, 4)), relaxation.entropy(logits)):
            torch.testing.assert_close(value, torch.zeros(7), atol=1e-6, rtol=0)
            assert torch.autograd.grad(value.sum(), logits)[0].abs().max() < 1e-6

    @pytest.mark.parametrize("n, k", [(4, 1), (5, 2), (6, 3), (12, 10)])
    def test_entropy_and_its_gradient_are_those_of_all_sets(self, n, k):
        relaxation = GumbelTopK(k=k)
        logits = torch.randn(2, n, requires_grad=True)
        sets = all_sets(n, k)
        log_p = relaxation.log_prob(logits.unsqueeze(1).expand(-1, len(sets), -1), sets)
        expected = -(log_p.exp() * log_p).sum(-1)
        actual = relaxation.entropy(logits)
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
        gradients = [torch.autograd.grad(value.sum(), logits)[0] for value in (actual, expected)]
        torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)

    def test_entropy_at_extreme_logits_and_of_equal_ones(self):
        logits = torch.tensor([[1e4, -1e4, 0.0, 5e3], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
        entropy = GumbelTopK(k=2).entropy(logits)
        torch.testing.assert_close(entropy, torch.tensor([0.0, math.log(6)]))
        assert torch.autograd.grad(entropy.sum(), logits)[0].isfinite().all()

    def test_masked_items_are_never_in_the_set(self):
        relaxation = GumbelTopK(k=2)
        logits = LOGITS.clone().requires_grad_()
        mask = torch.tensor([True, False, True, True, False])
        value = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0, 0.0]])
        log_p = relaxation.log_prob(logits.expand(2, -1), value, mask)
        few = GumbelTopK(k=2)
        torch.testing.assert_close(log_p[0], few.log_prob(logits[mask], value[0, mask]))
        assert log_p[1] == -math.inf
        entropy = relaxation.entropy(logits, mask)
        torch.testing.assert_close(entropy, few.entropy(logits[mask]))
        for result in (log_p[0], entropy):
            (gradient,) = torch.autograd.grad(result, logits, retain_graph=True)
            assert gradient.isfinite().all() and (gradient[~mask] == 0).all() and (gradient[mask] != 0).all()

    def test_mode_is_the_most_probable_set(self):
        logits = torch.randn(20, 6)
        relaxation = GumbelTopK(k=3)
        sets = all_sets(6, 3)
        log_p = relaxation.log_prob(logits.unsqueeze(1).expand(-1, len(sets), -1), sets)
        assert torch.equal(relaxation.mode(logits), sets[log_p.argmax(-1)])

    def test_a_first_call_in_inference_mode_leaves_later_gradients_alone(self):
        relaxation = GumbelTopK(k=3)
        value = torch.tensor([1.0] * 3 + [0.0] * 8)
        with torch.inference_mode():
            relaxation.log_prob(torch.zeros(11), value)
            relaxation.entropy(torch.zeros(11))
        logits = torch.zeros(11, requires_grad=True)
        (relaxation.log_prob(logits, value) + relaxation.entropy(logits)).backward()
        assert logits.grad.isfinite().all()


@given(
    rows=st.integers(1, 5),
    n=st.integers(1, 9),
    data=st.data(),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    tau=st.sampled_from([1e-3, 0.1, 1.0, 30.0, 1e3]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    masked=st.booleans(),
    hard=st.booleans(),
    training=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_draw_is_finite_and_sums_to_k(rows, n, data, scale, tau, dtype, masked, hard, training, seed):
    k = data.draw(st.integers(1, n))
    torch.manual_seed(seed)
    logits = (scale * (2 * torch.rand(rows, 2, n) - 1)).to(dtype).requires_grad_()
    mask = None
    if masked:
        mask = (torch.rand(rows, 2, n) < 0.5) | (torch.rand(rows, 2, n).argsort(-1) < k)
    draw = GumbelTopK(k=k, tau=tau, hard=hard).train(training)(logits, mask)
    assert draw.shape == logits.shape and draw.dtype == dtype and (draw >= 0).all()
    torch.testing.assert_close(draw.float().sum(-1), torch.full((rows, 2), float(k)), atol=0, rtol=0.01)
    if hard or not training:
        assert ((draw == 0) | (draw == 1)).all() and (draw.sum(-1) == k).all()
    if masked:
        assert (draw[~mask] == 0).all()
    assert draw.requires_grad == training
    if training:
        (gradient,) = torch.autograd.grad((draw.float() * torch.randn(rows, 2, n)).sum(), logits)
        assert gradient.isfinite().all() or (dtype == torch.float16 and tau < 0.1 and not gradient.isnan().any())
        if masked:
            assert (gradient[~mask] == 0).all()


def relaxed_k_hot(perturbed: torch.Tensor, k: int, tau: float) -> torch.Tensor:
    """The recurrence as in the paper, naively in float64."""
    alpha, total = perturbed, 0.0
    for _ in range(k):
        p = (alpha / tau).exp() / (alpha / tau).exp().sum(-1, keepdim=True)
        total = total + p
        alpha = alpha + (1 - p).log()
    return total


class TestGradient:
    @pytest.mark.parametrize("k, tau", [(1, 0.5), (2, 0.5), (3, 1.0), (5, 1.0), (4, 2.0)])
    @pytest.mark.parametrize("hard", [True, False])
    def test_value_and_gradient_are_the_formula(self, k, tau, hard):
        logits = torch.randn(30, 5, requires_grad=True)
        weight = torch.randn(30, 5)
        torch.manual_seed(3)
        noise = sample_gumbel(torch.empty(30, 5)).double()
        reference = logits.detach().double().requires_grad_()
        soft = relaxed_k_hot(reference + noise, k, tau)
        torch.manual_seed(3)
        draw = GumbelTopK(k=k, tau=tau, hard=hard)(logits)
        if hard:
            top = (reference + noise).topk(k).indices
            assert torch.equal(draw, torch.zeros(30, 5).scatter_(-1, top, 1.0))
        else:
            torch.testing.assert_close(draw, soft.float(), atol=1e-5, rtol=1e-4)
        (gradient,) = torch.autograd.grad((draw * weight).sum(), logits)
        (expected,) = torch.autograd.grad((soft * weight).sum(), reference)
        torch.testing.assert_close(gradient, expected.float(), atol=1e-4, rtol=1e-3)

    @pytest.mark.parametrize("hard, one", [(False, GumbelSoftmax), (True, STGumbelSoftmax)])
    def test_one_of_n_is_gumbel_softmax(self, hard, one):
        logits = torch.randn(20, 5, requires_grad=True)
        results = []
        for relaxation in (GumbelTopK(k=1, tau=0.7, hard=hard), one(tau=0.7)):
            torch.manual_seed(4)
            draw = relaxation(logits)
            results.append((draw, torch.autograd.grad((draw * torch.arange(5.0)).sum(), logits)[0]))
        torch.testing.assert_close(*results)

    def test_soft_goes_to_hard_as_tau_goes_to_zero(self):
        logits = torch.randn(500, 6)
        errors = []
        for tau in (1.0, 0.1, 0.01, 1e-3):
            torch.manual_seed(5)
            soft = GumbelTopK(k=3, tau=tau, hard=False)(logits)
            torch.manual_seed(5)
            errors.append((soft - GumbelTopK(k=3, tau=tau)(logits)).abs().mean().item())
        assert errors == sorted(errors, reverse=True) and errors[-1] < 2e-3

    @pytest.mark.parametrize("hard", [True, False])
    def test_mean_gradient_is_a_descent_direction(self, hard):
        """Of the exact expected cost, by enumeration of the sets."""
        weight = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0])

        def cost(z):
            return ((z * weight).sum(-1) - 0.7).square()

        relaxation = GumbelTopK(k=2, tau=0.5, hard=hard)
        sets = all_sets(5, 2)

        def expected(logits):
            return (relaxation.log_prob(logits.expand(len(sets), -1), sets).exp() * cost(sets)).sum()

        batch = LOGITS.expand(20_000, -1).clone().requires_grad_()
        loss = relaxation.expectation(lambda draw: cost(draw(batch)))
        gradient = torch.autograd.grad(loss.sum(), batch)[0].mean(0)
        assert expected(LOGITS - 0.1 * gradient) < expected(LOGITS)
        if hard:
            assert (loss.mean() - expected(LOGITS)).abs() < 4.5 * loss.std() / math.sqrt(len(batch))

    @pytest.mark.parametrize("hard", [True, False])
    @pytest.mark.parametrize("tau", [0.1, 0.5, 1.0])
    def test_training_finds_the_best_k(self, hard, tau):
        worth = torch.tensor([0.1, 0.9, 0.3, 0.8, 0.2, 0.7, 0.0, 0.4])
        logits = torch.zeros(8, requires_grad=True)
        relaxation = GumbelTopK(k=3, tau=tau, hard=hard)
        optimiser = torch.optim.Adam([logits], lr=0.1)
        for _ in range(100):
            batch = logits.expand(32, -1)
            loss = relaxation.expectation(lambda draw: -(draw(batch) * worth).sum(-1))  # noqa: B023
            optimiser.zero_grad()
            loss.mean().backward()
            optimiser.step()
        assert set(relaxation.mode(logits).nonzero().flatten().tolist()) == {1, 3, 5}


class TestRefusals:
    @pytest.mark.parametrize(
        "mask", [[[True, True, False], [True, False, False]], [[True, True, True], [False, False, False]]]
    )
    def test_a_row_with_fewer_than_k_choices_is_an_error(self, mask):
        relaxation, logits, mask = GumbelTopK(k=2), torch.zeros(2, 3), torch.tensor(mask)
        for call in (relaxation, GumbelTopK(k=2).eval(), relaxation.sample, relaxation.mode, relaxation.entropy):
            with pytest.raises(ValueError, match="fewer than k = 2"):
                call(logits, mask)

    def test_a_mask_that_broadcasts_over_items_is_counted_in_full(self):
        assert GumbelTopK(k=2)(torch.zeros(2, 3), torch.ones(2, 1, dtype=torch.bool)).sum() == 4

    @pytest.mark.parametrize(
        "logits, mask, message",
        [
            (torch.zeros(2, 3, dtype=torch.int64), None, "floating-point"),
            (torch.zeros(()), None, "n >= k"),
            (torch.zeros(2, 1), None, "n >= k"),
            (torch.zeros(2, 3), torch.ones(2, 3), "boolean"),
            (torch.zeros(2, 3), torch.ones(4, 2, 3, dtype=torch.bool), "broadcast"),
        ],
    )
    def test_wrong_input_is_an_error(self, logits, mask, message):
        with pytest.raises(ValueError, match=message):
            GumbelTopK(k=2)(logits, mask)

    @pytest.mark.parametrize("value", [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.5, 0.5, 1.0], [2.0, 0.0, 0.0]])
    def test_a_value_that_is_not_k_hot_is_an_error(self, value):
        with pytest.raises(ValueError, match="k-hot"):
            GumbelTopK(k=2).log_prob(torch.zeros(3), torch.tensor(value))

    def test_too_many_subsets_are_an_error(self):
        with pytest.raises(ZooError, match="smaller k"):
            GumbelTopK(k=13).log_prob(torch.zeros(20), torch.tensor([1.0] * 13 + [0.0] * 7))
        with pytest.raises(ZooError, match="fewer items"):
            GumbelTopK(k=3).entropy(torch.zeros(100))

    def test_constructor_checks_its_numbers(self):
        with pytest.raises(ValueError, match="k must be"):
            GumbelTopK(k=0)
        with pytest.raises(ValueError, match="tau"):
            GumbelTopK(k=2, tau=math.nan)
        with pytest.raises(ZooError, match="lacks k"):
            from_config({"_target_": "zoo.relaxations.subsets.GumbelTopK"})


def test_configuration_and_state_travel():
    relaxation = from_config(to_config(GumbelTopK(k=3, tau=0.3, hard=False)))
    assert relaxation.arguments == {"k": 3, "tau": 0.3, "hard": False}
    relaxation.tau.fill_(0.25)
    other = GumbelTopK(k=3)
    other.load_state_dict(relaxation.state_dict())
    assert other.tau == 0.25


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("hard", [True, False])
def test_compiles_without_graph_break_and_without_recompile_when_tau_changes(masked, hard):
    logits = torch.randn(4, 3, 5, requires_grad=True)
    mask = torch.tensor([True, True, False, True, True]) if masked else None
    _, draw = compile_and_change_tau(GumbelTopK(k=2, hard=hard), logits, mask)
    torch.testing.assert_close(draw.sum(-1), torch.full((4, 3), 2.0))
    if masked:
        assert (draw[..., 2] == 0).all() and (logits.grad[..., 2] == 0).all()


def test_exports():
    exported = torch.export.export(GumbelTopK(k=2).eval(), (torch.randn(4, 3),)).module()
    assert torch.equal(exported(torch.tensor([50.0, -50.0, 50.0]).expand(4, 3))[0], torch.tensor([1.0, 0.0, 1.0]))
