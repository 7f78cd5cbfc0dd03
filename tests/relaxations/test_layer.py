"""The suite that every relaxation of the registry passes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.relaxations.checks import compile_and_change_tau, finite_gradient, repeats_with_its_seed
from zoo.relaxations import RELAXATIONS, Relaxation

NAMES = sorted(RELAXATIONS)
LOGITS = torch.tensor([2.0, 0.0, -1.0, 1.0, -3.0, 0.5])


def make(name: str, **arguments) -> Relaxation:
    return RELAXATIONS[name](**arguments)


def has_tau(name: str) -> bool:
    return "tau" in make(name).arguments


def every(condition=lambda cls: True):
    return pytest.mark.parametrize("name", [n for n in NAMES if condition(RELAXATIONS[n])])


def chi_squared_p(draws: torch.Tensor, probabilities: torch.Tensor) -> float:
    observed = draws.reshape(-1, draws.shape[-1]).double().sum(0)
    keep = probabilities > 0
    assert observed[~keep].sum() == 0
    return stats.chisquare(
        observed[keep], probabilities[keep].double() * observed.sum() / probabilities.double().sum()
    ).pvalue


class TestSampling:
    """Chi-squared at significance 1e-4: with fixed seeds a pass is for ever."""

    @every()
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_eval_draws_follow_softmax(self, name, dtype):
        relaxation = make(name).eval()
        draws = relaxation(LOGITS.to(dtype).expand(100_000, -1))
        assert draws.dtype == dtype
        assert chi_squared_p(draws, LOGITS.softmax(-1)) > 1e-4

    @every(lambda cls: cls.stochastic and cls.follows_softmax)
    @pytest.mark.parametrize("tau", [0.1, 1.0, 3.0])
    def test_arg_max_of_training_draws_follows_softmax(self, name, tau):
        relaxation = make(name, **({"tau": tau} if has_tau(name) else {}))
        draws = relaxation(LOGITS.expand(100_000, -1))
        winners = torch.nn.functional.one_hot(draws.argmax(-1), len(LOGITS))
        assert chi_squared_p(winners, LOGITS.softmax(-1)) > 1e-4

    @every(lambda cls: not cls.stochastic)
    def test_deterministic_ones_repeat_themselves(self, name):
        relaxation = make(name)
        assert torch.equal(relaxation(LOGITS), relaxation(LOGITS))

    @every()
    def test_masked_draws_follow_the_renormalised_softmax(self, name):
        mask = torch.tensor([True, False, True, True, False, True])
        draws = make(name).eval()(LOGITS.expand(100_000, -1), mask)
        assert chi_squared_p(draws, LOGITS.masked_fill(~mask, -math.inf).softmax(-1)) > 1e-4

    @every()
    def test_neighbours_are_independent(self, name):
        draws = make(name).eval()(torch.zeros(50_000, 2, 3)).argmax(-1)
        table = torch.bincount(draws[:, 0] * 3 + draws[:, 1], minlength=9)
        assert stats.chisquare(table).pvalue > 1e-4

    @every()
    def test_seed_repeats_draws(self, name):
        assert repeats_with_its_seed(make(name).eval(), torch.randn(64, 3, 5))

    @every()
    def test_mode_log_prob_and_entropy(self, name):
        relaxation = make(name)
        logits = torch.randn(16, 3, 5)
        reference = torch.distributions.Categorical(logits=logits)
        value = relaxation.sample(logits)
        assert torch.equal(relaxation.mode(logits).argmax(-1), logits.argmax(-1))
        torch.testing.assert_close(relaxation.log_prob(logits, value), reference.log_prob(value.argmax(-1)))
        torch.testing.assert_close(relaxation.entropy(logits), reference.entropy())


@every()
@given(
    rows=st.integers(1, 5),
    categories=st.integers(2, 9),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    tau=st.sampled_from([1e-3, 0.1, 1.0, 30.0, 1e3]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    masked=st.booleans(),
    training=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_draw_is_a_finite_point_of_the_simplex(name, rows, categories, scale, tau, dtype, masked, training, seed):
    torch.manual_seed(seed)
    logits = (scale * (2 * torch.rand(rows, 2, categories) - 1)).to(dtype).requires_grad_()
    mask = None
    if masked:
        mask = torch.rand(rows, 2, categories) < 0.5
        mask[..., 0] |= ~mask.any(-1)
    relaxation = make(name, **({"tau": tau} if has_tau(name) else {})).train(training)
    if training and not relaxation.pathwise:
        logits = logits.detach()
    draw = relaxation(logits, mask)
    assert draw.shape == logits.shape and draw.dtype == dtype
    assert (draw >= 0).all()
    torch.testing.assert_close(draw.float().sum(-1), torch.ones(rows, 2), atol=0.02, rtol=0)
    if masked:
        assert (draw[~mask] == 0).all()
    if relaxation.hard or not training:
        assert ((draw == 0) | (draw == 1)).all() and (draw.sum(-1) == 1).all()
    if draw.requires_grad:
        assert finite_gradient(draw, logits, mask)


@every()
@pytest.mark.parametrize("tau", [1e-3, 1.0, 1e3])
def test_expectation_at_extreme_logits_has_a_finite_gradient(name, tau):
    logits = torch.tensor([[[1e4, -1e4, 0.0]], [[-1e4, -1e4, -1e4]], [[1e4, 1e4, 0.0]]], requires_grad=True)
    mask = torch.tensor([[[True, True, False]], [[True, True, True]], [[False, True, True]]])
    relaxation = make(name, **({"tau": tau} if has_tau(name) else {}))
    loss = relaxation.expectation(lambda draw: (draw(logits, mask) * torch.tensor([1.0, 2.0, 3.0])).sum((1, 2)))
    loss.sum().backward()
    assert loss.shape == (3,) and loss.isfinite().all() and logits.grad.isfinite().all()
    assert (logits.grad[~mask] == 0).all()


# Gradients ------------------------------------------------------------------------------------------------------------


def random_program(seed: int, latents: int = 2, categories: int = 3):
    """A cost that is coupled, not polynomial of low degree, and depends on a parameter outside the draw."""
    g = torch.Generator().manual_seed(seed)
    coupling = torch.randn(latents, categories, latents, categories, generator=g)
    weight = torch.randn(latents, categories, generator=g)

    def cost(z: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        quadratic = torch.einsum("bnk,nkml,bml->b", z, coupling, z)
        return scale * (quadratic + (z * weight).sum((1, 2)).exp()).sin() + quadratic

    return cost, torch.randn(latents, categories, generator=g)


def exact_gradient(cost, logits, scale):
    """By enumeration, written out here and not through the layer."""
    p = logits.softmax(-1)
    total = torch.zeros(())
    for i in range(logits.shape[1]):
        for j in range(logits.shape[1]):
            z = torch.zeros(1, *logits.shape)
            z[0, 0, i] = z[0, 1, j] = 1.0
            total = total + p[0, i] * p[1, j] * cost(z, scale)[0]
    return total.detach(), torch.autograd.grad(total, (logits, scale))


def moments(relaxation: Relaxation, program, start: torch.Tensor, draws: int):
    """Mean and standard error of the gradient at ``start`` and of the value, over ``draws`` examples in five batches.

    The first batch is not counted: baselines come from earlier ones.
    """
    gradients, values = [], []
    chunk = draws // 5
    for step in range(6 if draws > 100 else 2):
        batch = start.expand(chunk, *start.shape).clone().requires_grad_()
        loss = relaxation.expectation(lambda draw: program(draw, batch))  # noqa: B023
        (gradient,) = torch.autograd.grad(loss.sum(), batch)
        if step:
            gradients.append(gradient.double())
            values.append(loss.detach().double())
    gradients, values = torch.cat(gradients), torch.cat(values)
    return [(x.mean(0), x.std(0) / math.sqrt(len(x))) for x in (gradients, values)]


@every(lambda cls: cls.unbiased)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_unbiased_estimators_have_the_exact_gradient_in_their_mean(name, seed):
    """10^6 draws; within 4.5 standard errors for each coordinate: the family-wise error of all tests is below 1e-3."""
    cost, start = random_program(seed)
    scale = torch.tensor(1.3, requires_grad=True)
    logits = start.clone().requires_grad_()
    value, (gradient, scale_gradient) = exact_gradient(cost, logits, scale)
    relaxation = make(name)
    draws = 100 if name == "exact" else 1_000_000
    (mean, error), (mean_value, value_error) = moments(
        relaxation, lambda draw, batch: cost(draw(batch), scale), start, draws
    )
    assert ((mean - gradient).abs() <= 4.5 * error + 1e-5).all()
    assert (mean_value - value).abs() <= 4.5 * value_error + 1e-5
    batch = start.expand(100 if name == "exact" else 100_000, -1, -1).clone().requires_grad_()
    loss = relaxation.expectation(lambda draw: cost(draw(batch), scale)).mean()
    torch.testing.assert_close(torch.autograd.grad(loss, scale)[0], scale_gradient, atol=0.03, rtol=0.03)


@every(lambda cls: cls.unbiased)
@pytest.mark.parametrize("tau", [0.1, 2.0])
def test_unbiased_estimators_are_so_at_any_temperature(name, tau):
    if not has_tau(name):
        return  # has none: nothing to vary
    cost, start = random_program(3)
    logits = start.clone().requires_grad_()
    _, (gradient, _) = exact_gradient(cost, logits, scale := torch.tensor(1.3, requires_grad=True))
    (mean, error), _ = moments(make(name, tau=tau), lambda draw, batch: cost(draw(batch), scale), start, 500_000)
    assert ((mean - gradient).abs() <= 4.5 * error + 1e-5).all()


def selection(draw, logits: torch.Tensor) -> torch.Tensor:
    """Without replacement: the second draw has the first one's mask and logits that depend on it."""
    table = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    first = draw(logits)
    second = draw(logits + first @ table, first < 0.5)
    return torch.einsum("bi,ij,bj->b", first, table, second) ** 2


@every(lambda cls: cls.unbiased and cls.dependent_draws)
def test_unbiased_estimators_with_dependent_masked_draws(name):
    table = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    start = torch.randn(3)
    logits = start.clone().requires_grad_()
    total = torch.zeros(())
    for i in range(3):
        for j in range(3):
            if i != j:
                row = (logits + table[i]).masked_fill(torch.eye(3, dtype=torch.bool)[i], -math.inf)
                total = total + logits.softmax(-1)[i] * row.softmax(-1)[j] * table[i, j] ** 2
    (gradient,) = torch.autograd.grad(total, logits)
    (mean, error), _ = moments(make(name), selection, start, 100 if name == "exact" else 500_000)
    assert ((mean - gradient).abs() <= 4.5 * error + 1e-5).all()


@every(lambda cls: not cls.dependent_draws)
def test_dependent_draws_are_refused_where_the_theory_does_not_cover_them(name):
    logits = torch.zeros(64, 3, requires_grad=True)
    with pytest.raises(ValueError, match="do not depend on one another"):
        make(name).expectation(lambda draw: selection(draw, logits))


@every(lambda cls: cls.unbiased)
def test_unbiased_estimators_with_several_independent_masked_draws(name):
    """Two draws of different sizes, one masked, coupled by the cost."""
    g = torch.Generator().manual_seed(2)
    start, table = torch.randn(2, 4, generator=g), torch.randn(4, 3, generator=g)
    mask = torch.tensor([True, False, True, True])

    def program(draw, logits):
        first, second = draw(logits[:, 0], mask), draw(logits[:, 1, :3])
        return torch.einsum("bi,ij,bj->b", first, table, second).exp()

    logits = start.clone().requires_grad_()
    p, q = logits[0].masked_fill(~mask, -math.inf).softmax(-1), logits[1, :3].softmax(-1)
    (gradient,) = torch.autograd.grad((p[:, None] * q * table.exp()).sum(), logits)
    (mean, error), _ = moments(make(name), program, start, 100 if name == "exact" else 500_000)
    assert ((mean - gradient).abs() <= 4.5 * error + 1e-5).all()
    assert mean[0, 1] == 0 and mean[1, 3] == 0


def mean_gradient(relaxation: Relaxation, cost, start: torch.Tensor, n: int = 200_000):
    batch = start.expand(n, *start.shape).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(relaxation.expectation(lambda draw: cost(draw(batch))).sum(), batch)
    return gradient.mean(0), gradient.std(0) / math.sqrt(n)


def test_straight_through_is_exact_for_a_linear_program_and_reinmax_for_a_quadratic_one():
    start = torch.randn(1, 4)
    weight, matrix = torch.randn(4), torch.randn(4, 4)
    costs = {
        "straight_through": lambda z: (z[:, 0] * weight).sum(-1),
        "reinmax": lambda z: torch.einsum("bi,ij,bj->b", z[:, 0], matrix, z[:, 0]),
    }
    for name, cost in costs.items():
        logits = start.clone().requires_grad_()
        value = (logits.softmax(-1)[0] * torch.stack([cost(torch.eye(4)[i].view(1, 1, 4))[0] for i in range(4)])).sum()
        (gradient,) = torch.autograd.grad(value, logits)
        mean, error = mean_gradient(make(name), cost, start)
        assert ((mean - gradient).abs() <= 4.5 * error + 1e-5).all()


def test_reinmax_jacobian_at_tau_one_is_the_papers_closed_form():
    logits = torch.randn(5, dtype=torch.float32)
    relaxation = make("reinmax")
    torch.manual_seed(3)
    jacobian = torch.autograd.functional.jacobian(lambda t: relaxation(t), logits)
    torch.manual_seed(3)
    d, p = relaxation(logits), logits.softmax(-1)
    expected = (torch.diag(p) - torch.outer(p, p) + torch.outer(d - p, d - p)) / 2
    torch.testing.assert_close(jacobian, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("tau", [0.7, 1.0, 1.5])
def test_reinmax_agrees_with_the_authors_algorithm(tau):
    """Algorithm 2 of arXiv 2304.08612, written as in the paper."""
    start, weight = torch.randn(8, 3, 5), torch.randn(8, 3, 5)
    ours = start.clone().requires_grad_()
    torch.manual_seed(5)
    d = make("reinmax", tau=tau)(ours)
    (gradient,) = torch.autograd.grad((d * weight).sum(), ours)
    theirs = start.clone().requires_grad_()
    p0 = theirs.softmax(-1)
    p1 = (d.detach() + (theirs / tau).softmax(-1)) / 2
    p1 = ((p1.log() - theirs).detach() + theirs).softmax(-1)
    (reference,) = torch.autograd.grad(((2 * p1 - p0 / 2) * weight).sum(), theirs)
    torch.testing.assert_close(gradient, reference, atol=1e-6, rtol=1e-5)


def test_rloo_has_less_variance_than_reinforce_per_program_run():
    """Where examples differ in their mean cost, which one running mean cannot follow."""
    program, start = random_program(4)
    offset = 10 * torch.randn(50_000)
    variance = {}
    for name, arguments, runs in (("reinforce", {}, 1), ("rloo", {"samples": 4}, 4)):
        relaxation = make(name, **arguments)
        batch = start.expand(50_000, -1, -1).clone().requires_grad_()
        for _ in range(2):
            loss = relaxation.expectation(lambda draw: program(draw(batch), torch.ones(())) + offset)  # noqa: B023
        variance[name] = torch.autograd.grad(loss.sum(), batch)[0].var(0).sum() * runs
    assert variance["rloo"] < variance["reinforce"]


def test_exact_works_on_rows_with_different_numbers_of_choices():
    logits = torch.randn(3, 2, 4, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0]], dtype=torch.bool).unsqueeze(1)
    weight = torch.randn(2, 4)
    p = logits.masked_fill(~mask, -math.inf).softmax(-1)
    expected = (p * weight).sum((1, 2))
    actual = make("exact").expectation(lambda draw: (draw(logits, mask) * weight).sum((1, 2)))
    torch.testing.assert_close(actual, expected)
    gradients = [torch.autograd.grad(value.sum(), logits)[0] for value in (actual, expected)]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)


# What is refused ------------------------------------------------------------------------------------------------------


@every()
def test_a_row_without_a_choice_is_an_error(name):
    mask = torch.tensor([[True, True], [False, False]])
    for relaxation in (make(name), make(name).eval()):
        with pytest.raises(ValueError, match="allows no choice"):
            relaxation(torch.zeros(2, 2), mask)
        with pytest.raises(ValueError, match="allows no choice"):
            relaxation.sample(torch.zeros(2, 2), mask)


@every()
@pytest.mark.parametrize(
    "logits, mask, message",
    [
        (torch.zeros(2, 3, dtype=torch.int64), None, "floating-point"),
        (torch.zeros(()), None, "at least one category"),
        (torch.zeros(2, 0), None, "at least one category"),
        (torch.zeros(2, 3), torch.ones(2, 3), "boolean"),
        (torch.zeros(2, 3), torch.ones(4, 2, 3, dtype=torch.bool), "broadcast"),
        (torch.zeros(2, 3), torch.ones(5, dtype=torch.bool), "broadcast"),
    ],
)
def test_wrong_input_is_an_error(name, logits, mask, message):
    with pytest.raises(ValueError, match=message):
        make(name)(logits, mask)


@every()
@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf])
def test_tau_must_be_positive_and_finite(name, tau):
    if not has_tau(name):
        with pytest.raises(TypeError):
            make(name, tau=1.0)
    else:
        with pytest.raises(ValueError, match="tau"):
            make(name, tau=tau)


@every()
def test_a_program_must_return_one_cost_per_example(name):
    with pytest.raises(ValueError, match="one cost per example"):
        make(name).expectation(lambda draw: draw(torch.zeros(3, 2)).mean())


@every(lambda cls: not cls.pathwise)
def test_a_lost_gradient_is_an_error(name):
    with pytest.raises(ValueError, match="expectation"):
        make(name)(torch.zeros(3, 2, requires_grad=True))


def test_exact_refuses_too_many_combinations_before_any_cost_is_computed():
    def program(draw):
        draw(torch.zeros(2, 30, 10))
        raise AssertionError("the program went on")

    with pytest.raises(ValueError, match="combinations"):
        make("exact").expectation(program)


@pytest.mark.parametrize(
    "name, arguments", [("rloo", {"samples": 1}), ("reinforce", {"decay": 1.0}), ("exact", {"limit": 0})]
)
def test_constructors_check_their_numbers(name, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        make(name, **arguments)


# State, compilation, export -------------------------------------------------------------------------------------------


@every()
def test_tau_travels_in_the_state_dict(name):
    relaxation = make(name)
    relaxation.tau.fill_(0.25)
    other = make(name)
    other.load_state_dict(relaxation.state_dict())
    assert other.tau == 0.25 and other.tau.dim() == 0


def test_reinforce_baseline_travels_in_the_state_dict_and_stands_still_in_eval():
    relaxation = make("reinforce", decay=0.5)
    logits = torch.zeros(4, 2, requires_grad=True)
    relaxation.expectation(lambda draw: draw(logits).sum(-1) * 3)
    assert relaxation.baseline / relaxation.weight == 3.0
    before = {name: value.clone() for name, value in relaxation.state_dict().items()}
    relaxation.eval().expectation(lambda draw: draw(logits).sum(-1) * 100)
    assert all(torch.equal(before[name], value) for name, value in relaxation.state_dict().items())


@every()
@pytest.mark.parametrize("masked", [False, True])
def test_compiles_without_graph_break_and_without_recompile_when_tau_changes(name, masked):
    relaxation = make(name)
    logits = torch.randn(4, 3, 5, requires_grad=relaxation.pathwise)
    mask = torch.tensor([True, True, False, True, True]) if masked else None
    _, draw = compile_and_change_tau(relaxation, logits, mask)
    torch.testing.assert_close(draw.sum(-1), torch.ones(4, 3))
    if name == "softmax":
        torch.testing.assert_close(draw, relaxation(logits, mask))


@every()
def test_exports(name):
    relaxation = make(name).eval()
    exported = torch.export.export(relaxation, (torch.randn(4, 3, 5),)).module()
    draws = exported(torch.tensor([50.0, 0.0, 0.0, 0.0, 0.0]).expand(4, 3, 5))
    assert (draws[..., 0] == 1).all()
