import builtins
import math
import warnings
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from torch import Tensor

from zoo.errors import ZooError
from zoo.relaxations import (
    AIMLE,
    IMLE,
    Exact,
    GumbelSoftmax,
    Matching,
    PartOfBatch,
    PerturbedOptimizer,
    Rebar,
    Reinforce,
    Simple,
    STGumbelSoftmax,
    StraightThrough,
)
from zoo.relaxations.distributions.matchings import allows_matching
from zoo.relaxations.noise import DEFAULT

LOGITS = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.8, 0.0], [-0.5, 1.0, 0.3]])
MASK = torch.tensor([[True, True, False], [True, True, True], [False, True, True]])


def all_permutations(n: int) -> Tensor:
    """Every permutation matrix, ``(n!, n, n)``."""
    return torch.stack([torch.eye(n)[list(p)] for p in permutations(range(n))])


def count(draws: Tensor) -> Tensor:
    """How often each permutation occurs in ``(draws, n, n)``."""
    which = (draws.unsqueeze(1) == all_permutations(draws.shape[-1])).flatten(2).all(-1)
    assert (which.sum(-1) == 1).all()
    return which.sum(0)


def simulate(logits: Tensor, draws: int) -> np.ndarray:
    """Counts of perturb-and-MAP permutations with numpy's own noise, by comparing all of them."""
    noisy = logits.double().numpy() + np.random.default_rng(11).gumbel(size=(draws, *logits.shape))
    best = np.einsum("bij,pij->bp", noisy, all_permutations(len(logits)).numpy()).argmax(-1)
    return np.bincount(best, minlength=math.factorial(len(logits)))


class TestSampling:
    """Chi-squared at significance 1e-4: with fixed seeds a pass is for ever."""

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
    def test_draws_follow_perturb_and_map(self, dtype):
        draws = Matching(LOGITS.to(dtype)).sample((10_000,))
        assert draws.dtype == dtype
        assert stats.chi2_contingency(np.stack([count(draws).numpy(), simulate(LOGITS, 100_000)])).pvalue > 1e-4

    def test_the_law_is_not_gibbs(self):
        """So that nobody adds its log_prob: at 1e-9 the two differ."""
        gibbs = torch.einsum("ij,pij->p", LOGITS, all_permutations(3)).softmax(0).double()
        observed = simulate(LOGITS, 200_000)
        assert stats.chisquare(observed, gibbs * observed.sum() / gibbs.sum()).pvalue < 1e-9

    def test_of_two_the_law_is_logistic_in_closed_form(self):
        """P(identity) = P(s + g1 + g2 > g3 + g4): the difference of two logistic variables, by quadrature."""
        logits = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
        x = torch.linspace(-60, 60, 200_001, dtype=torch.float64)
        p = torch.trapezoid(torch.sigmoid(x + 1.5) * torch.sigmoid(x) * torch.sigmoid(-x), x).item()
        observed = count(Matching(logits).sample((10_000,), generator=torch.Generator().manual_seed(1)))
        assert stats.binomtest(int(observed[0]), 10_000, p).pvalue > 1e-4

    def test_the_mode_is_the_best_of_all_permutations_allowed(self):
        logits, mask = torch.randn(20, 4, 4), torch.rand(20, 4, 4) < 0.7
        mask |= torch.eye(4, dtype=torch.bool)
        matrices = all_permutations(4)
        scores = torch.einsum("bij,pij->bp", logits, matrices)
        assert torch.equal(Matching(logits).mode(), matrices[scores.argmax(-1)])
        forbidden = torch.einsum("bij,pij->bp", (~mask).float(), matrices) > 0
        best = scores.masked_fill(forbidden, -math.inf).argmax(-1)
        assert torch.equal(Matching(logits, mask).mode(), matrices[best])

    def test_a_split_batch_draws_its_rows(self):
        logits = torch.randn(6, 2, 3, 3)
        whole = Matching(logits).sample((2,), noise=PartOfBatch(0, 1, seed=5))
        parts = [Matching(logits[3 * i :][:3]).sample((2,), noise=PartOfBatch(i, 2, seed=5)) for i in range(2)]
        assert torch.equal(whole, torch.cat(parts, 1))

    def test_scores_that_are_none_or_allow_no_matching_give_nan(self):
        logits = LOGITS.repeat(4, 1, 1)
        logits[1, 0, 0], logits[2, 1, 1], logits[3, :2, 1:] = math.nan, math.inf, -math.inf
        law = Matching(logits)
        for value in (law.sample(), law.mode()):
            assert value.isnan().any(-1).any(-1).tolist() == [False, True, True, True]

    def test_empty_batches_and_derived_laws(self):
        law = Matching(torch.zeros(0, 2, 3, 3), MASK, iterations=5)
        assert law.sample((4,)).shape == (4, 0, 2, 3, 3) and law.relax(law.logits, 1.0).shape == (0, 2, 3, 3)
        law = Matching(torch.randn(2, 3, 3), MASK, iterations=5)
        for other in (law.tempered(0.5), law.expand((2,)), law.with_logits(law.logits + 1)):
            value = other.sample()
            assert other.iterations == 5 and (value.sum(-1) == 1).all() and (value[..., ~MASK] == 0).all()


def sinkhorn(scores: Tensor, tau: float, iterations: int) -> Tensor:
    """As in the paper, naively: rows, then columns."""
    x = (scores / tau).exp()
    for _ in range(iterations):
        x = x / x.sum(-1, keepdim=True)
        x = x / x.sum(-2, keepdim=True)
    return x


class TestRelaxed:
    @pytest.mark.filterwarnings("ignore:Sinkhorn")
    @pytest.mark.parametrize("tau, iterations", [(0.5, 1), (1.0, 20), (2.0, 5)])
    @pytest.mark.parametrize("masked", [True, False])
    def test_it_is_the_formula(self, tau, iterations, masked):
        logits, weight = torch.randn(20, 4, 4, dtype=torch.float64, requires_grad=True), torch.randn(20, 4, 4)
        mask = (torch.rand(20, 4, 4) < 0.7) | torch.eye(4, dtype=torch.bool) if masked else None
        law = Matching(logits, mask, iterations=iterations)
        ours, naive = law.relax(law.logits, tau), sinkhorn(law.logits, tau, iterations)
        torch.testing.assert_close(ours, naive)
        gradients = [torch.autograd.grad((x * weight).sum(), logits, retain_graph=True)[0] for x in (ours, naive)]
        torch.testing.assert_close(*gradients)
        if masked:
            assert (ours[~mask] == 0).all() and (gradients[0][~mask] == 0).all()

    @pytest.mark.filterwarnings("ignore:Sinkhorn")
    def test_it_goes_to_the_hard_value_as_tau_goes_to_zero_with_iterations_enough(self):
        law = Matching(torch.randn(50, 4, 4), iterations=200)
        scores = law.perturb(DEFAULT)
        errors = [(law.relax(scores, tau) - law.harden(scores)).abs().mean().item() for tau in (3.0, 1.0, 0.1, 0.01)]
        assert errors == sorted(errors, reverse=True) and errors[-1] < 0.02

    @pytest.mark.parametrize("n", [3, 12])
    def test_what_has_converged_says_nothing(self, n):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for tau, iterations in ((1.0, 20), (0.5, 20), (0.1, 60)):
                law = Matching(torch.randn(50, n, n), iterations=iterations)
                law.relax(law.perturb(DEFAULT), tau)

    def test_what_has_not_converged_says_so(self):
        law = Matching(torch.randn(50, 10, 10))
        for tau in (0.03, torch.tensor(0.03)):
            with pytest.warns(UserWarning, match=r"not converged.*tau=0\.03, iterations=20"):
                law.relax(law.perturb(DEFAULT), tau)
        with pytest.warns(UserWarning, match="tau=one a matching, iterations=1"):
            Matching(3 * torch.randn(2, 5, 5), iterations=1).relax(3 * torch.randn(2, 5, 5), torch.full((2, 1, 1), 0.1))

    def test_a_temperature_for_each_example_or_to_be_learned(self):
        law = Matching(torch.randn(3, 3, 3, dtype=torch.float64), iterations=8)
        taus = torch.tensor([0.8, 1.0, 2.0], dtype=torch.float64).view(3, 1, 1)
        expected = torch.stack([law.relax(law.logits, tau.item())[i] for i, tau in enumerate(taus)])
        torch.testing.assert_close(law.relax(law.logits, taus), expected)
        assert GumbelSoftmax(tau=taus)(law).shape == (3, 3, 3)
        tau = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda t: law.relax(law.logits, t), tau)
        assert torch.autograd.gradcheck(lambda x: law.relax(x, 1.5), law.logits[:1].clone().requires_grad_())


@pytest.mark.filterwarnings("ignore:Sinkhorn")
@given(
    shape=st.lists(st.integers(1, 3), max_size=2),
    n=st.integers(1, 6),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    tau=st.sampled_from([1e-3, 0.1, 1.0, 30.0, 1e3]),
    iterations=st.sampled_from([1, 20]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
    masked=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_value_is_a_matching_and_any_relaxed_one_has_columns_that_sum_to_one(
    shape, n, scale, tau, iterations, dtype, masked, seed
):
    torch.manual_seed(seed)
    shape = (*shape, n, n)
    logits = (scale * (2 * torch.rand(shape) - 1)).to(dtype).requires_grad_()
    some = torch.eye(n, dtype=torch.bool)[torch.rand(shape[:-1]).argsort(-1)]
    mask = (torch.rand(shape) < 0.4) | some if masked else None
    law = Matching(logits, mask, iterations=iterations)
    scores = law.perturb(DEFAULT)
    hard, soft = law.place(law.harden(scores)), law.place(law.relax(scores, tau))
    assert hard.shape == soft.shape == shape and hard.dtype == soft.dtype == dtype and not hard.requires_grad
    assert ((hard == 0) | (hard == 1)).all() and (hard.sum(-1) == 1).all() and (hard.sum(-2) == 1).all()
    assert (soft >= 0).all()
    torch.testing.assert_close(soft.double().sum(-2), torch.ones(shape[:-1]).double(), atol=0.02, rtol=0)
    (gradient,) = torch.autograd.grad((soft.double() * torch.randn(shape)).sum(), logits)
    assert gradient.isfinite().all()
    if masked:
        assert (hard[~mask] == 0).all() and (soft[~mask] == 0).all() and (gradient[~mask] == 0).all()


@given(n=st.integers(1, 8), density=st.sampled_from([0.2, 0.4, 0.7]), seed=st.integers(0, 10_000))
def test_whether_a_mask_allows_a_matching(n, density, seed):
    mask = np.random.default_rng(seed).random((n, n)) < density
    expected = (maximum_bipartite_matching(csr_matrix(mask)) >= 0).sum() == n
    assert allows_matching(mask.tolist()) == expected


class TestRefusals:
    @pytest.mark.parametrize(
        "mask",
        [
            [[True, True, True], [False, False, False], [True, True, True]],
            [[True, False, False], [True, False, False], [True, True, True]],  # two rows for one column
        ],
    )
    def test_a_mask_without_a_matching_is_an_error(self, mask):
        for each in (torch.tensor(mask), torch.stack([torch.ones(3, 3, dtype=torch.bool), torch.tensor(mask)])):
            with pytest.raises(ValueError, match="allows no matching"):
                Matching(torch.zeros(2, 3, 3), each)

    def test_a_mask_of_columns_broadcasts(self):
        with pytest.raises(ValueError, match="allows no matching"):
            Matching(torch.zeros(2, 3, 3), torch.tensor([True, True, False]))
        assert Matching(torch.zeros(2, 3, 3), torch.ones(3, dtype=torch.bool)).sample().sum() == 6

    @pytest.mark.parametrize(
        "logits, mask, message",
        [
            (torch.zeros(2, 3, 3, dtype=torch.int64), None, "floating-point"),
            (torch.zeros(3), None, "Matching must be"),
            (torch.zeros(2, 3), None, "n, n"),
            (torch.zeros(2, 0, 0), None, "n, n"),
            (torch.zeros(2, 3, 3), torch.ones(3, 3), "boolean"),
            (torch.zeros(2, 3, 3), torch.ones(4, 2, 3, 3, dtype=torch.bool), "broadcast"),
        ],
    )
    def test_wrong_input_is_an_error(self, logits, mask, message):
        with pytest.raises(ValueError, match=message):
            Matching(logits, mask)

    def test_wrong_arguments_are_errors(self):
        with pytest.raises(ValueError, match="iterations"):
            Matching(LOGITS, iterations=0)
        with pytest.raises(ValueError, match="of the last two dimensions"):
            Matching(LOGITS, dim=0)

    def test_there_is_no_log_prob_no_entropy_and_nothing_that_needs_them(self):
        law = Matching(LOGITS)
        for call in (lambda: law.log_prob(torch.eye(3)), law.entropy, lambda: law.kl(law), law.enumerate_support):
            with pytest.raises(ZooError, match=r"Matching has no .* no closed form"):
                call()
        for make in (Reinforce, Rebar, Exact, Simple):
            with pytest.raises(ZooError, match=f"{make.__name__} does not serve Matching"):
                make().expectation(lambda draw: draw(law).sum((1, 2)))

    def test_without_scipy_the_relaxed_form_works_and_the_rest_says_what_to_install(self, monkeypatch):
        def no_scipy(name, *args, **kwargs):
            if name.startswith("scipy"):
                raise ImportError(name)
            return real(name, *args, **kwargs)

        real = builtins.__import__
        monkeypatch.setattr(builtins, "__import__", no_scipy)
        law = Matching(LOGITS, MASK)
        assert GumbelSoftmax(tau=1.0)(law).isfinite().all()
        for call in (law.sample, law.mode):
            with pytest.raises(ZooError, match=r"discrete-latent-zoo\[permutations\]"):
                call()


class TestEstimators:
    @pytest.mark.filterwarnings("ignore:Sinkhorn")
    @pytest.mark.parametrize("make", [GumbelSoftmax, STGumbelSoftmax, StraightThrough, IMLE, AIMLE, PerturbedOptimizer])
    def test_training_sorts_numbers(self, make):
        numbers = torch.tensor([0.3, -1.2, 2.0, 0.9, -0.4])
        target = numbers.sort().values
        logits = torch.zeros(5, 5, requires_grad=True)
        relaxation = make() if make is PerturbedOptimizer else make(tau=1.0)
        optimiser = torch.optim.Adam([logits], lr=0.2)
        for _ in range(40):
            law = Matching(logits.expand(16, -1, -1), iterations=10)
            loss = relaxation.expectation(lambda draw: (draw(law) @ numbers - target).square().sum(-1))  # noqa: B023
            optimiser.zero_grad()
            loss.mean().backward()
            optimiser.step()
        assert torch.equal(Matching(logits).mode() @ numbers, target)

    @pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
    @pytest.mark.parametrize("make", [STGumbelSoftmax, StraightThrough, IMLE])
    def test_hard_values_follow_transforms(self, make):
        relaxation, weight = make(), torch.randn(3, 3)

        def step(logits: Tensor) -> Tensor:
            return (relaxation(Matching(logits)) * weight).sum()

        gradients = torch.func.vmap(torch.func.grad(step), randomness="different")(LOGITS.expand(4, -1, -1))
        assert gradients.shape == (4, 3, 3) and gradients.isfinite().all()
        logits = torch.randn(4, 2, 3, 3)
        values = torch.func.vmap(lambda x: Matching(x).mode(), in_dims=1, out_dims=1)(logits)
        assert torch.equal(values, Matching(logits).mode())

    @pytest.mark.parametrize("masked", [False, True])
    def test_compiles_without_a_graph_break_and_exports(self, masked):
        torch._dynamo.reset()
        relaxation = STGumbelSoftmax()
        logits = torch.randn(4, 3, 3, requires_grad=True)
        mask = MASK if masked else None
        draw = torch.compile(lambda x: relaxation(Matching(x, mask)), backend="aot_eager", fullgraph=True)
        value = draw(logits)
        value.square().sum().backward()
        assert (value.sum(-1) == 1).all() and logits.grad.isfinite().all()

        class Mode(torch.nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return Matching(x).mode()

        order = torch.eye(3)[[2, 0, 1]]
        exported = torch.export.export(Mode(), (torch.randn(2, 3, 3),)).module()
        assert torch.equal(exported(50 * order.expand(2, 3, 3)), order.expand(2, 3, 3))
