"""REBAR and RELAX. What they refuse is in ``test_following``."""

import copy

import pytest
import torch
from torch import nn

from tests.relaxations.enumeration import CASES, MASK, Thrice, check_unbiased, exact, sampled
from zoo.errors import ZooError
from zoo.relaxations import Bernoulli, Rebar, Reinforce, Relax
from zoo.relaxations.distributions import Distribution
from zoo.relaxations.noise import DEFAULT

BOTH = pytest.mark.parametrize("make", [Rebar, Relax])
WEIGHT = torch.tensor([[1.0, -2.0, 0.5], [0.3, 1.0, -1.0]])


def cost(z):
    return (z * WEIGHT).sum((-1, -2)) ** 2 + 3


def statistics(relaxation):
    return {name: value.clone() for name, value in relaxation.named_buffers()}


def moved(before, relaxation):
    return any(not torch.equal(value, before[name]) for name, value in relaxation.named_buffers())


# The mean -------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_the_mean_is_exact(make, case):
    check_unbiased(make() if make is Rebar else Relax(hidden=4), case)


@pytest.mark.parametrize("tau", [0.1, 3.0])
def test_the_mean_is_exact_at_any_temperature(tau):
    check_unbiased(Rebar(tau=tau), CASES[2])
    check_unbiased(Relax(tau=tau, hidden=4), CASES[3])


def variance(relaxation, case, n=20_000):
    for _ in range(2):
        _, gradient = sampled(relaxation, case, n)
    return gradient.flatten(1).var(0).sum().item()


def test_they_lower_the_variance_of_reinforce():
    """REBAR's coefficient and RELAX's network learn from earlier batches."""
    plain, rebar = variance(Reinforce(), CASES[0]), variance(Rebar(), CASES[0])
    relax = Relax()
    optimizer = torch.optim.Adam(relax.parameters(), 1e-2)
    for _ in range(200):
        batch = CASES[0].start.expand(250, -1, -1).clone().requires_grad_()
        optimizer.zero_grad()
        relax.expectation(lambda draw: CASES[0].program(draw, batch)).mean().backward()  # noqa: B023
        optimizer.step()
    assert rebar < 0.95 * plain
    assert variance(relax, CASES[0]) < 0.97 * rebar


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_rebar_where_its_relaxation_is_poor_is_no_worse_than_reinforce(tau):
    """Least squares find its weight, and a large constant in the cost does not mislead them."""
    sizes = []
    for relaxation in (Reinforce(), Rebar(tau=tau)):
        for _ in range(3):
            batch = CASES[0].start.expand(20_000, -1, -1).clone().requires_grad_()
            loss = relaxation.expectation(lambda draw: CASES[0].program(draw, batch) + 100)  # noqa: B023
            (gradient,) = torch.autograd.grad(loss.sum(), batch)
        sizes.append(gradient.var(0).sum())
    assert sizes[1] < 1.05 * sizes[0]


def test_the_programs_own_gradient_is_that_of_the_hard_run_alone():
    parameter, logits, seen = torch.ones((), requires_grad=True), torch.zeros(4, 1, 3, requires_grad=True), []

    def program(draw):
        z = draw(logits)
        seen.append(z.detach())
        return parameter * z[:, 0, 0] ** 3

    (gradient,) = torch.autograd.grad(Rebar().expectation(program).sum(), parameter)
    hard, relaxed = seen
    assert gradient == hard[:, 0, 0].sum() != (relaxed[:, 0, 0] ** 3).sum()


def test_relax_leaves_the_loss_alone_and_trains_its_own_parameters():
    relaxation, logits, seen = Relax(), torch.randn(64, 2, 3, requires_grad=True), []

    def program(draw):
        seen.append(cost(draw(logits)))
        return seen[-1]

    loss = relaxation.expectation(program)
    assert torch.equal(loss, seen[0])
    loss.mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in relaxation.parameters())


# Running statistics ---------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_one_cost_that_is_not_finite_spoils_nothing(make, bad):
    relaxation, logits = make(), torch.randn(8, 2, 3, requires_grad=True)
    scale = torch.ones(8)
    relaxation.expectation(lambda draw: cost(draw(logits)) * scale)
    before = statistics(relaxation)
    scale[3] = bad
    loss = relaxation.expectation(lambda draw: cost(draw(logits)) * scale)
    assert not moved(before, relaxation)
    gradients = torch.autograd.grad(loss.sum(), [logits, *relaxation.parameters()])
    assert gradients[0][[0, 1, 2, 4, 5, 6, 7]].isfinite().all()  # nor another row
    assert all(gradient.isfinite().all() for gradient in gradients[1:])  # nor the network
    scale[3] = 1.0
    relaxation.expectation(lambda draw: cost(draw(logits)) * scale)
    assert moved(before, relaxation) and all(value.isfinite().all() for value in relaxation.buffers())


@BOTH
def test_statistics_are_those_of_all_processes(make):
    logits = torch.randn(8, 2, 3, requires_grad=True)
    noise = Thrice(DEFAULT)
    seen = []
    for source in (DEFAULT, noise):
        torch.manual_seed(1)
        relaxation = make()
        torch.manual_seed(2)
        relaxation.expectation(lambda draw: cost(draw(logits)), noise=source)
        seen.append((relaxation.gram, relaxation.cross))
    torch.testing.assert_close(seen[1], tuple(3 * value for value in seen[0]))
    assert noise.asked == (2 if make is Rebar else 3)


@BOTH
def test_statistics_stand_still_without_a_gradient_and_in_eval(make):
    relaxation, logits, runs = make(), torch.randn(8, 2, 3, requires_grad=True), []

    def program(draw):
        runs.append(True)
        return cost(draw(logits))

    before = statistics(relaxation)
    with torch.no_grad():
        assert relaxation.expectation(program).shape == (8,)
        assert relaxation.eval().expectation(program).shape == (8,)
    with torch.inference_mode():
        assert relaxation.train().expectation(program).shape == (8,)
    assert not moved(before, relaxation) and len(runs) == 3  # of which none is relaxed


def test_statistics_are_saved():
    relaxation, logits = Rebar(), torch.randn(8, 2, 3, requires_grad=True)
    relaxation.expectation(lambda draw: cost(draw(logits)))
    other = Rebar()
    other.load_state_dict(relaxation.state_dict())
    assert torch.equal(other.gram, relaxation.gram) and torch.equal(other.coefficients(), relaxation.coefficients())
    copy.deepcopy(relaxation)


# Programs -------------------------------------------------------------------------------------------------------------


@BOTH
def test_auxiliary_values_are_those_of_the_hard_run(make):
    logits = torch.randn(8, 2, 3, requires_grad=True)

    def program(draw):
        z = draw(logits)
        return cost(z), {"z": z, "index": z.argmax(-1)}

    loss, auxiliary = make().expectation(program)
    assert loss.requires_grad and not auxiliary["z"].requires_grad
    assert ((auxiliary["z"] == 0) | (auxiliary["z"] == 1)).all() and auxiliary["index"].shape == (8, 2)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions(make, dtype):
    relaxation, logits = make(), torch.randn(50, 2, 3, dtype=dtype, requires_grad=True)
    for way in (lambda z: cost(z.float()), lambda z: z.square().sum((1, 2))):
        loss = relaxation.expectation(lambda draw: way(draw(logits)))  # noqa: B023
        (gradient,) = torch.autograd.grad(loss.float().sum(), logits)
        assert gradient.dtype == dtype and gradient.isfinite().all()
    assert relaxation.gram.dtype == torch.float32


@BOTH
def test_programs_at_the_edge(make):
    relaxation, parameter = make(), torch.ones((), requires_grad=True)
    loss = relaxation.expectation(lambda draw: parameter * torch.ones(5))  # without a draw
    assert torch.autograd.grad(loss.sum(), parameter)[0] == 5
    empty = torch.zeros(0, 2, 3, requires_grad=True)
    assert relaxation.expectation(lambda draw: cost(draw(empty))).shape == (0,)
    assert all(value.isfinite().all() for value in relaxation.buffers())
    logits = torch.randn(5, 3, requires_grad=True)
    loss = relaxation.expectation(lambda draw: (draw(logits), torch.ones(5) * 2)[1])  # which the draw does not reach
    assert torch.equal(loss, torch.full((5,), 2.0))
    loss = relaxation.expectation(lambda draw: draw(logits)[:, 0] + draw(Bernoulli(logits)).prod(-1))
    assert torch.autograd.grad(loss.sum(), logits)[0].isfinite().all()


@BOTH
def test_masked_entries_have_a_gradient_of_zero(make):
    relaxation, logits = make(), torch.tensor([[1e4, -1e4, 0.0], [-1e4, 0.0, 0.0]], requires_grad=True)
    loss = relaxation.expectation(lambda draw: draw(logits, MASK) @ WEIGHT[0] + draw(Bernoulli(logits, MASK)).sum(-1))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient.isfinite().all() and (gradient[:, ~MASK] == 0).all()


@BOTH
def test_a_second_run_with_other_draws_is_refused_by_name(make):
    dropout, logits, parity = nn.Dropout(0.5), torch.randn(8, 2, 3, requires_grad=True), []

    def alternating(draw, first, second):
        parity.append(True)
        return first(draw) if len(parity) % 2 else second(draw)

    programs = {
        "draw 0 had other logits or another mask.*dropout": lambda draw: cost(draw(dropout(logits))),
        "asked for more than the 1 draws": lambda draw: alternating(
            draw, lambda d: cost(d(logits)), lambda d: cost(d(logits)) + cost(d(logits))
        ),
        "asked for 1 draws in place of 2": lambda draw: alternating(
            draw, lambda d: cost(d(logits)) + cost(d(logits)), lambda d: cost(d(logits))
        ),
        r"draw 0 was \(8, 2, 3\) and is now \(8, 3\)": lambda draw: alternating(
            draw, lambda d: cost(d(logits)), lambda d: d(logits[:, 0]).sum(-1)
        ),
        r"its costs were \(8,\) and are now \(4,\)": lambda draw: alternating(
            draw, lambda d: cost(d(logits)), lambda d: cost(d(logits))[:4]
        ),
    }
    for message, program in programs.items():
        parity.clear()
        with pytest.raises(ZooError, match=f"{make.__name__} runs a program twice, and the second time .*{message}"):
            make().expectation(program)


def test_a_distribution_that_does_not_serve_is_refused_before_any_work():
    class Opaque(Distribution):
        def _sample(self, noise):
            raise AssertionError("it was drawn")

        _mode = _sample

    with pytest.raises(ZooError, match="Rebar does not serve Opaque: it needs the noise given its outcome"):
        Rebar().expectation(lambda draw: cost(draw(Opaque(torch.zeros(2, 2, 3)))))


@BOTH
def test_what_does_not_fit_is_refused(make):
    logits = torch.zeros(2, 1, 3, requires_grad=True)
    with pytest.raises(ValueError, match="all draws must begin with the dimensions of the cost"):
        make().expectation(lambda draw: draw(logits).sum(-1).expand(-1, 4))
    with pytest.raises(ValueError, match="one cost per example"):
        make().expectation(lambda draw: draw(logits))


@pytest.mark.parametrize("make, arguments", [(Rebar, {"decay": 1.0}), (Relax, {"hidden": 0}), (Rebar, {"tau": 0.0})])
def test_constructors_check_their_numbers(make, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        make(**arguments)


# Transforms -----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[3], CASES[4]], ids=repr)
def test_torch_func_takes_the_same_gradient(make, case):
    relaxation = make()

    def loss(logits):
        return relaxation.expectation(lambda draw: case.program(draw, logits)).sum()

    batch = torch.randn(5, *case.start.shape)
    torch.manual_seed(1)
    transformed = torch.func.grad(loss)(batch)
    torch.manual_seed(1)
    (plain,) = torch.autograd.grad(loss(batch.requires_grad_()), batch)
    if case.name != "masked":  # whose noise differs
        torch.testing.assert_close(transformed, plain)
    assert transformed.isfinite().all()


@BOTH
@pytest.mark.parametrize("case", [CASES[2], CASES[4]], ids=repr)
def test_vmap_over_seeds_and_logits(make, case):
    relaxation = make() if make is Rebar else Relax(hidden=4)
    sampled(relaxation, case, 100)
    before = statistics(relaxation)

    def gradient(logits):
        return torch.func.grad(lambda x: relaxation.expectation(lambda draw: case.program(draw, x)).sum())(logits)

    many = case.start.expand(100, 50, -1)
    mapped = torch.func.vmap(gradient, randomness="different")(many).flatten(0, 1)
    error = mapped.std(0) / len(mapped) ** 0.5
    assert ((mapped.mean(0) - exact(case)[1]).abs() <= 4.5 * error).all()
    same = torch.func.vmap(gradient, randomness="same")(many[:3])
    torch.testing.assert_close(same[0], same[1])
    assert not moved(before, relaxation)  # stand still


@BOTH
def test_other_draws_are_seen_inside_transforms(make):
    relaxation = make()

    def loss(logits):
        return relaxation.expectation(lambda draw: cost(draw(nn.functional.dropout(logits, 0.5)))).sum()

    with pytest.raises(ZooError, match="dropout"):
        torch.func.grad(loss)(torch.randn(8, 2, 3))
    with pytest.raises(ZooError, match="dropout"):
        torch.func.vmap(torch.func.grad(loss), randomness="different")(torch.randn(4, 8, 2, 3))


@BOTH
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of what PyTorch itself scripts
def test_second_derivatives_are_refused(make):
    def loss(logits):
        return make().expectation(lambda draw: cost(draw(logits))).sum()

    logits = torch.randn(8, 2, 3, requires_grad=True)
    (first,) = torch.autograd.grad(loss(logits), logits, create_graph=True)
    with pytest.raises(ZooError, match="no second derivative"):
        first.sum().backward()
    (first,) = torch.autograd.grad(loss(logits).square(), logits, create_graph=True)
    with pytest.raises(ZooError, match="no second derivative"):
        first.square().sum().backward()
    twice = (
        lambda x: torch.func.grad(lambda x: torch.func.grad(loss)(x).sum())(x),
        lambda x: torch.func.jvp(torch.func.grad(loss), (x,), (x,)),
        lambda x: torch.func.jvp(lambda x: torch.func.jvp(loss, (x,), (x,))[1], (x,), (x,)),
    )
    for derivative in twice:
        with pytest.raises(ZooError, match="no second derivative"):
            derivative(logits.detach())


def test_a_directional_derivative_is_the_gradients():
    relaxation, logits = Rebar(), torch.randn(8, 2, 3)
    direction = torch.randn(8, 2, 3)

    def loss(logits):
        torch.manual_seed(3)
        return relaxation.expectation(lambda draw: cost(draw(logits))).sum()

    _, tangent = torch.func.jvp(loss, (logits,), (direction,))
    torch.testing.assert_close(tangent, (torch.func.grad(loss)(logits) * direction).sum())
