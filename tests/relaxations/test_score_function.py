"""REINFORCE and RLOO."""

import copy
import pickle

import pytest
import torch

from tests.relaxations.enumeration import CASES, DEPENDENT, Thrice, check_unbiased, exact, expected, sampled
from zoo.errors import ZooError
from zoo.relaxations import (
    RELAXATIONS,
    RLOO,
    Bernoulli,
    Categorical,
    CommonNumbers,
    Reinforce,
    ScoredProgram,
    StraightThrough,
    Subset,
)
from zoo.relaxations.distributions import Distribution
from zoo.relaxations.noise import DEFAULT
from zoo.relaxations.score_function import ScoreFunction

BOTH = pytest.mark.parametrize("make", [Reinforce, RLOO])
LOGITS = torch.tensor([[0.5, -0.3, 1.0], [0.0, 0.2, -0.4]])
COSTS = torch.tensor([1.0, 3.0, -2.0])


# The mean -------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("case", CASES + DEPENDENT, ids=repr)
def test_the_mean_is_exact(make, case):
    check_unbiased(make(), case)


@BOTH
@pytest.mark.parametrize("case", [CASES[2], DEPENDENT[0]], ids=repr)
def test_second_derivatives_are_exact_in_their_mean(make, case):
    n = 200_000
    hessian = torch.autograd.functional.hessian(lambda start: expected(case, start), case.start)
    batch = case.start.expand(n, -1).clone().requires_grad_()
    relaxation = make()
    relaxation.expectation(lambda draw: case.program(draw, batch))
    loss = relaxation.expectation(lambda draw: case.program(draw, batch)).sum()
    (first,) = torch.autograd.grad(loss, batch, create_graph=True)
    for row, exact_row in zip(first.unbind(1), hessian):
        (second,) = torch.autograd.grad(row.sum(), batch, retain_graph=True)
        error = second.std(0) / n**0.5
        assert ((second.mean(0) - exact_row).abs() <= 4.5 * error + 1e-5).all()
        assert error.norm() < 0.1 * hessian.norm()


def test_a_cost_without_any_gradient_of_its_own_is_served():
    """A look-up: what no pathwise estimator can do."""
    batch = LOGITS[0].expand(100_000, -1).clone().requires_grad_()
    loss = RLOO().expectation(lambda draw: COSTS[draw(batch).argmax(-1)])
    (gradient,) = torch.autograd.grad(loss.sum(), batch)
    p = LOGITS[0].softmax(-1)
    torch.testing.assert_close(gradient.mean(0), p * (COSTS - p @ COSTS), atol=0.02, rtol=0.02)


# Baselines ------------------------------------------------------------------------------------------------------------


def variance(relaxation, baseline=None, offset=0.0, n=20_000):
    for _ in range(2):
        batch = LOGITS[:1].expand(n, -1).clone().requires_grad_()
        loss = relaxation.expectation(lambda draw: (draw(batch) * COSTS).sum(-1) + offset, baseline=baseline)  # noqa: B023
        (gradient,) = torch.autograd.grad(loss.sum(), batch)
    return gradient.var(0).sum().item(), gradient.mean(0)


def test_rloo_has_less_variance_than_reinforce_per_program_run():
    """Where examples differ in their mean cost, which one running mean cannot follow."""
    offset = 10 * torch.randn(20_000)
    assert variance(RLOO(samples=4), offset=offset)[0] * 4 < variance(Reinforce(), offset=offset)[0]


@BOTH
def test_the_users_baseline_takes_the_place_of_the_estimators_own(make):
    offset = 10 * torch.randn(20_000)
    exact_gradient = LOGITS[0].softmax(-1) * (COSTS - LOGITS[0].softmax(-1) @ COSTS)
    size, mean = variance(make(), baseline=offset.clone().requires_grad_(), offset=offset)
    bad, bad_mean = variance(make(), baseline=torch.full((20_000,), 5.0), offset=offset)
    assert size < 0.05 * bad
    assert ((mean - exact_gradient).abs() <= 4.5 * (size / 20_000) ** 0.5).all()
    assert ((bad_mean - exact_gradient).abs() <= 4.5 * (bad / 20_000) ** 0.5).all()
    relaxation = make()
    logits = LOGITS.unsqueeze(1).expand(2, 5, 3).clone().requires_grad_()
    for shape in ((2,), (2, 5)):  # of examples, or of their replicas, too
        loss = relaxation.expectation(lambda draw: draw(logits) @ COSTS, baseline=torch.zeros(shape))
        assert loss.shape == (2,)
    assert all((value == 0).all() for name, value in relaxation.state_dict().items() if "extra" not in name)
    with pytest.raises(
        ValueError, match=r"baseline must be \(batch,\) or of the shape of the costs \(2, 5\), got \(5,\)"
    ):
        relaxation.expectation(lambda draw: draw(logits) @ COSTS, baseline=torch.zeros(5))


@pytest.mark.parametrize("name", sorted(RELAXATIONS))
def test_others_have_no_use_for_a_baseline(name):
    relaxation = RELAXATIONS[name]()
    if isinstance(relaxation, ScoreFunction):
        return
    with pytest.raises(ZooError, match=f"{type(relaxation).__name__} takes no baseline.*reinforce or rloo"):
        relaxation.expectation(lambda draw: draw(LOGITS) @ COSTS, baseline=torch.zeros(2))


def test_reinforce_follows_the_mean_cost():
    relaxation = Reinforce(decay=0.5)
    logits = torch.zeros(4, 2, requires_grad=True)
    for constant in (3.0, 3.0, 3.0):
        relaxation.expectation(lambda draw: draw(logits).sum(-1) * constant)  # noqa: B023
    assert relaxation.baseline / relaxation.weight == 3.0
    other = Reinforce()
    other.load_state_dict(relaxation.state_dict())
    assert other.baseline == relaxation.baseline
    before = copy.deepcopy(relaxation.state_dict())
    relaxation.eval().expectation(lambda draw: draw(logits.detach()).sum(-1) * 100)
    assert all(torch.equal(before[name], value) for name, value in relaxation.state_dict().items())


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_one_cost_that_is_not_finite_does_not_spoil_the_baseline(bad):
    relaxation, logits = Reinforce(), torch.zeros(4, 2, requires_grad=True)
    relaxation.expectation(lambda draw: draw(logits).sum(-1))
    before = relaxation.baseline.clone(), relaxation.weight.clone()
    loss = relaxation.expectation(lambda draw: draw(logits).sum(-1) * torch.tensor([1.0, bad, 1.0, 1.0]))
    assert before == (relaxation.baseline, relaxation.weight)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient[[0, 2, 3]].isfinite().all()  # nor another row
    relaxation.expectation(lambda draw: draw(logits).sum(-1))
    assert relaxation.baseline > before[0]


def test_the_baseline_is_that_of_all_processes():
    noise = Thrice(DEFAULT)
    relaxation, logits = Reinforce(decay=0.5), torch.zeros(4, 2, requires_grad=True)
    relaxation.expectation(lambda draw: draw(logits).sum(-1), noise=noise)
    assert relaxation.baseline == 1.5 and noise.asked == 2


def test_replicas_are_a_baseline_for_each_other():
    def variance(replicas: int) -> float:
        logits = LOGITS.repeat(5_000, 1).unsqueeze(1).expand(-1, replicas, -1).clone().requires_grad_()
        loss = RLOO(samples=2).expectation(lambda draw: (draw(logits) * COSTS).sum(-1))
        return torch.autograd.grad(loss.sum(), logits)[0].sum(1).view(-1, 2, 3).var(0).sum().item()

    assert variance(8) < variance(1) / 8 * 0.8  # less than by averaging alone


def test_a_pathwise_relaxation_averages_replicas():
    logits = LOGITS.repeat(5_000, 1).unsqueeze(1).expand(-1, 3, -1).clone().requires_grad_()
    loss = StraightThrough().expectation(lambda draw: draw(logits) @ COSTS)
    p = LOGITS.softmax(-1)
    expected = p * (COSTS - (p @ COSTS).unsqueeze(1))
    gradient = torch.autograd.grad(loss.sum(), logits)[0].sum(1).view(-1, 2, 3)
    assert loss.shape == (10_000,)
    torch.testing.assert_close(gradient.mean(0), expected, atol=1e-4, rtol=1e-4)


# Programs -------------------------------------------------------------------------------------------------------------


@BOTH
def test_auxiliary_values_are_averaged_without_gradient(make):
    logits = LOGITS.clone().requires_grad_()
    seen = []

    def program(draw):
        z = draw(logits)
        seen.append(z)
        return z @ COSTS, {"draw": z, "index": z.argmax(-1), "more": [logits * 2]}

    loss, auxiliary = make().expectation(program)
    assert loss.shape == (2,) and loss.requires_grad
    torch.testing.assert_close(auxiliary["draw"], torch.stack(seen).mean(0))
    torch.testing.assert_close(auxiliary["index"], torch.stack(seen).argmax(-1).float().mean(0), check_dtype=False)
    assert torch.equal(auxiliary["more"][0], 2 * LOGITS) and not auxiliary["draw"].requires_grad
    with pytest.raises(ValueError, match=r"auxiliary values must begin with the dimensions of the cost, \(2,\)"):
        make().expectation(lambda draw: (draw(logits) @ COSTS, torch.zeros(3)))


@BOTH
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions(make, dtype):
    logits = torch.randn(50, 2, 3, dtype=dtype, requires_grad=True)
    loss = make().expectation(lambda draw: draw(logits).float().sum((1, 2)) * torch.randn(50))
    loss.sum().backward()
    assert logits.grad.dtype == dtype and logits.grad.isfinite().all()
    assert make().expectation(lambda draw: draw(logits).sum((1, 2))).shape == (50,)


@BOTH
def test_programs_at_the_edge(make):
    relaxation = make()
    parameter = torch.ones((), requires_grad=True)
    loss = relaxation.expectation(lambda draw: parameter * torch.ones(5))  # without a draw
    assert torch.autograd.grad(loss.sum(), parameter)[0] == 5
    empty = torch.zeros(0, 3, requires_grad=True)
    assert relaxation.expectation(lambda draw: draw(empty) @ COSTS).shape == (0,)
    assert all(value.isfinite().all() for value in relaxation.buffers())
    logits = LOGITS.clone().requires_grad_()
    loss = relaxation.expectation(lambda draw: draw(logits).sum(-1) * 0 + 1)  # that does not depend on the draw
    assert torch.autograd.grad(loss.sum(), logits)[0].abs().max() < 1e-6
    with torch.no_grad():
        assert not relaxation.expectation(lambda draw: draw(logits) @ COSTS).requires_grad


@BOTH
def test_what_does_not_fit_is_refused(make):
    logits = LOGITS.unsqueeze(1).clone().requires_grad_()
    with pytest.raises(ValueError, match="all draws must begin with the dimensions of the cost"):
        make().expectation(lambda draw: draw(logits).sum(-1).expand(-1, 4))
    with pytest.raises(ValueError, match="one cost per example"):
        make().expectation(lambda draw: draw(logits))


# Samples of their own -------------------------------------------------------------------------------------------------


def scored(logits: torch.Tensor, auxiliary: bool = False) -> ScoredProgram:
    """Two draws, the second of which depends on the first."""

    def program(draw):
        first = draw(logits)
        second = draw(logits + first)
        cost = (first * COSTS).sum(-1) + (second * COSTS.flip(0)).sum(-1)
        return (cost, {"second": second}) if auxiliary else cost

    def sample():
        with torch.no_grad():
            first = Categorical(logits).sample()
            second = Categorical(logits + first).sample()
        log_prob = Categorical(logits).log_prob(first) + Categorical(logits + first).log_prob(second)
        cost = (first * COSTS).sum(-1) + (second * COSTS.flip(0)).sum(-1)
        return (cost, log_prob, {"second": second}) if auxiliary else (cost, log_prob)

    return ScoredProgram(program, sample)


@BOTH
@pytest.mark.parametrize("auxiliary", [False, True])
def test_a_scored_program_has_the_estimate_of_its_draws(make, auxiliary):
    estimates = []
    for way in (lambda program: program, lambda program: program.program):
        logits = LOGITS.clone().requires_grad_()
        torch.manual_seed(0)
        result = make().expectation(way(scored(logits, auxiliary)))
        cost, extra = result if auxiliary else (result, {"second": torch.zeros(2)})
        estimates.append((cost.detach(), torch.autograd.grad(cost.sum(), logits)[0], extra["second"]))
    torch.testing.assert_close(*estimates)


@pytest.mark.parametrize("name", sorted(RELAXATIONS))
def test_only_score_functions_ask_for_samples(name):
    asked = []
    program = scored(LOGITS.clone().requires_grad_())
    spy = ScoredProgram(program.program, lambda: asked.append(True) or program.sample())
    relaxation = RELAXATIONS[name]().train()
    if relaxation.dependent_draws:
        assert relaxation.expectation(spy).shape == (2,)
    assert bool(asked) == isinstance(relaxation, ScoreFunction)
    asked.clear()
    with torch.no_grad():
        assert relaxation.eval().expectation(spy).shape == (2,) and not asked


def test_log_probabilities_that_do_not_fit_are_refused():
    program = scored(LOGITS)
    with pytest.raises(ValueError, match=r"costs \(2,\) but log-probabilities \(1, 2\)"):
        RLOO().expectation(ScoredProgram(program.program, lambda: (program.sample()[0], torch.zeros(1, 2))))


# Transforms -----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("case", [CASES[2], CASES[4], DEPENDENT[0]], ids=repr)
def test_torch_func_takes_the_same_gradient(make, case):
    def loss(logits):
        return make().expectation(lambda draw: case.program(draw, logits)).sum()

    batch = torch.randn(5, *case.start.shape)
    torch.manual_seed(1)
    transformed = torch.func.grad(loss)(batch)
    torch.manual_seed(1)
    (plain,) = torch.autograd.grad(loss(batch.requires_grad_()), batch)
    torch.testing.assert_close(transformed, plain)


@BOTH
@pytest.mark.parametrize("case", [CASES[2], DEPENDENT[0]], ids=repr)
def test_vmap_over_seeds_and_logits(make, case):
    relaxation = make()
    before = copy.deepcopy(relaxation.state_dict())

    def gradient(logits):
        return torch.func.grad(lambda x: relaxation.expectation(lambda draw: case.program(draw, x)).sum())(logits)

    many = case.start.expand(100, 50, -1)
    mapped = torch.func.vmap(gradient, randomness="different")(many).flatten(0, 1)
    error = mapped.std(0) / len(mapped) ** 0.5
    assert ((mapped.mean(0) - exact(case)[1]).abs() <= 4.5 * error).all()
    same = torch.func.vmap(gradient, randomness="same")(many[:3])
    assert torch.equal(same[0], same[1])
    assert all(torch.equal(before[name], value) for name, value in relaxation.state_dict().items())  # stand still


@BOTH
def test_second_derivatives_by_torch_func(make):
    case = CASES[2]
    hessian = torch.func.vmap(
        torch.func.jacrev(
            torch.func.grad(lambda x: make().expectation(lambda draw: case.program(draw, x.unsqueeze(0))).sum())
        ),
        randomness="different",
    )(case.start.expand(4_000, -1))
    expected_hessian = torch.autograd.functional.hessian(lambda start: expected(case, start), case.start)
    error = hessian.std(0) / len(hessian) ** 0.5
    assert ((hessian.mean(0) - expected_hessian).abs() <= 4.5 * error + 1e-5).all()


@BOTH
def test_copies_and_pickles(make):
    relaxation, case = make(), CASES[0]
    sampled(relaxation, case, 100)
    for other in (copy.deepcopy(relaxation), pickle.loads(pickle.dumps(relaxation))):
        assert repr(other) == repr(relaxation)
        sampled(other, case, 100)


@pytest.mark.parametrize("make, arguments", [(RLOO, {"samples": 1}), (Reinforce, {"decay": 1.0})])
def test_constructors_check_their_numbers(make, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        make(**arguments)


def test_a_distribution_without_a_log_probability_is_refused_before_any_work():
    class Opaque(Distribution):
        def _sample(self, noise):
            raise AssertionError("it was drawn")

        _mode = _sample

    with pytest.raises(ZooError, match="RLOO does not serve Opaque: it needs a log-probability"):
        RLOO().expectation(lambda draw: draw(Opaque(LOGITS)) @ COSTS)


@pytest.mark.parametrize("law", [Categorical, Bernoulli, lambda x: Subset(x, 2)])
def test_the_first_run_of_a_program_draws_what_later_ones_draw(law):
    """It is followed, and the others are not: a run that is resumed begins with a first one again."""
    logits, relaxation, noise = torch.randn(500, 10), RLOO(), CommonNumbers()
    values = []
    for _ in range(2):
        noise.rewind()
        values.append(relaxation.expectation(lambda draw: draw(law(logits)).cumsum(1).sin().sum(1), noise=noise))
    assert torch.equal(*values)
