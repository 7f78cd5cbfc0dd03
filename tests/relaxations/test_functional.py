"""Plain functions: drop-ins for PyTorch's, thin classes around them."""

import inspect

import pytest
import torch
from torch import Tensor

from tests.relaxations.checks import Repeated, cells, law, logits_of, pathwise, relaxations, served, tempered
from zoo.errors import ZooError
from zoo.relaxations import DISTRIBUTIONS, RELAXATIONS, Bernoulli, Categorical, Noise, Relaxation, functional

PLAIN = {name: function for name, function in vars(functional).items() if inspect.isfunction(function)}
PLAIN = {name: function for name, function in PLAIN.items() if function.__module__ == functional.__name__}
PLAIN = {name: function for name, function in PLAIN.items() if not name.startswith("_")}
functions = pytest.mark.parametrize("name", PLAIN)

HARD = {"st_argmax": "softmax"}  # and the others by their names: st_X is X with hard=True


def function_of(relaxation: str) -> tuple[str, bool]:
    """The function that a class is around, and its argument ``hard``."""
    name = HARD.get(relaxation, relaxation.removeprefix("st_"))
    return (name, True) if name != relaxation else (name, RELAXATIONS[relaxation].hard)


def with_a_function(cls: type[Relaxation]) -> bool:
    """Every pathwise relaxation of this project has one; what users register need not."""
    return pathwise(cls) and cls.__module__.startswith("zoo.")


@cells(with_a_function)
def test_a_class_is_its_function(relaxation, distribution):
    name, hard = function_of(relaxation)
    layer, noise = RELAXATIONS[relaxation](), Repeated()
    given = law(distribution, logits_of(distribution, 3))
    drawn = []
    for draw in (lambda: layer(given, noise=noise), lambda: PLAIN[name](given, defaults(layer), hard, noise=noise)):
        noise.rewind()
        drawn.append(draw())
    torch.testing.assert_close(*drawn)


def defaults(layer) -> float:
    """The temperature of a class as it is made; 1 for those without one."""
    return layer.tau.item() if tempered(type(layer)) else 1.0


@functions
def test_signature_is_that_of_pytorchs_gumbel_softmax(name):
    theirs, ours = (inspect.signature(f).parameters for f in (torch.nn.functional.gumbel_softmax, PLAIN[name]))
    assert [*ours][:3] == [*theirs][:3] == ["logits", "tau", "hard"]
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in [*ours.values()][:3])
    assert {"dim", "mask", "generator", "noise"} <= {p.name for p in ours.values() if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("hard", [False, True])
def test_calls_of_pytorchs_gumbel_softmax_still_work(hard):
    logits = torch.randn(5, 4, 3, requires_grad=True)
    for call in (
        lambda f: f(logits),
        lambda f: f(logits, 0.5),
        lambda f: f(logits, 0.5, hard),
        lambda f: f(logits, tau=1, hard=hard, dim=1),
        lambda f: f(logits.half(), hard=hard),
    ):
        ours, theirs = call(functional.gumbel_softmax), call(torch.nn.functional.gumbel_softmax)
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype and ours.requires_grad
    ours = functional.gumbel_softmax(logits, 0.5, True, dim=1)
    assert ((ours == 0) | (ours == 1)).all() and (ours.sum(1) == 1).all()
    with pytest.raises(TypeError, match="positional"):
        functional.gumbel_softmax(logits, 0.5, hard, 1e-10)


@functions
@pytest.mark.parametrize("dim", [0, 1, -2, -3])
def test_dim_is_the_dimension_of_the_choice(name, dim):
    """As if it were moved to the end and back: value, gradient, a mask and a temperature for each example with it."""
    shape = (3, 4, 5)
    mask = torch.ones(shape, dtype=torch.bool)
    mask[1, 2, 3] = False
    one_each = [n if i != dim % 3 else 1 for i, n in enumerate(shape)]
    logits, weight, noise = torch.randn(shape).double(), torch.randn(shape).double(), Repeated()
    has_tau = name not in ("simple", "perturbed_optimizer")
    for tau in (1.0, torch.rand(one_each).double() + 0.5) if has_tau else (1.0,):
        results = []
        for moved in (False, True):
            noise.rewind()
            x = logits.clone().requires_grad_()
            if moved:
                tau_ = tau.movedim(dim, -1) if isinstance(tau, Tensor) else tau
                value = PLAIN[name](x.movedim(dim, -1), tau_, mask=mask.movedim(dim, -1), noise=noise).movedim(-1, dim)
            else:
                value = PLAIN[name](x, tau, dim=dim, mask=mask, noise=noise)
            assert value.shape == shape and value[1, 2, 3] == 0
            results.append((value.detach(), *torch.autograd.grad((value * weight).sum(), x)))
        torch.testing.assert_close(*results)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_dim_of_every_distribution(distribution):
    """As if the logits were moved, where a choice has one dimension; refused where it has more."""
    cls = DISTRIBUTIONS[distribution]
    logits = logits_of(distribution, 2, 5)
    moved = logits.movedim(-1, 1)
    if cls.choice_dims != 1:
        if cls.choice_dims > 1:
            with pytest.raises((ValueError, TypeError)):
                law(distribution, moved, dim=1)
        return
    for relaxation in (
        name for name in ("softmax", "straight_through", "gumbel_softmax") if served(name, distribution)
    ):
        noise = Repeated()
        drawn = []
        for given in (law(distribution, moved, dim=1), law(distribution, logits)):
            noise.rewind()
            drawn.append(RELAXATIONS[relaxation]()(given, noise=noise))
        inside = tuple(range(-cls.value_dims, 0))
        place = tuple(1 + i for i in range(cls.value_dims))
        torch.testing.assert_close(drawn[0].movedim(place, inside), drawn[1])


@functions
def test_a_generator_repeats_its_draws_and_leaves_the_default_one_alone(name):
    logits, state = torch.randn(5, 40), torch.get_rng_state()
    one, two = (PLAIN[name](logits, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two) and torch.equal(torch.get_rng_state(), state)
    with pytest.raises(TypeError, match="not both"):
        functional.gumbel_softmax(logits, generator=torch.Generator(), noise=Noise())


@functions
def test_errors_help(name):
    function, hard = PLAIN[name], inspect.signature(PLAIN[name]).parameters["hard"].default
    for dim in (2, -3):
        with pytest.raises(ValueError, match=rf"dim={dim} is not a dimension of logits of shape \(2, 3\)"):
            function(torch.zeros(2, 3), dim=dim)
    with pytest.raises(TypeError, match=r"a mask belongs to the distribution: Categorical\(logits"):
        function(Categorical(torch.zeros(2, 3)), mask=torch.ones(3, dtype=torch.bool))
    with pytest.raises(TypeError, match="a dimension belongs to the distribution"):
        function(Categorical(torch.zeros(2, 3)), dim=0)
    with pytest.raises(ValueError, match="floating-point"):
        function(torch.zeros(2, 3, dtype=torch.int64))
    for tau in (0.0, -1, float("nan"), float("inf"), True, None):
        with pytest.raises(ValueError, match="tau"):
            function(torch.zeros(2, 3), tau)
    if name in ("softmax", "gumbel_softmax", "gaussian_softmax", "uniform_softmax"):
        return
    with pytest.raises(
        ValueError, match=f"{name} is always {'hard' if hard else 'soft'}: hard={not hard} is not valid"
    ):
        function(torch.zeros(2, 3), hard=not hard)


@relaxations(with_a_function)
def test_what_the_class_does_not_serve_the_function_does_not_serve(relaxation):
    name, hard = function_of(relaxation)
    for distribution, cls in DISTRIBUTIONS.items():
        if not served(relaxation, distribution):
            with pytest.raises(ZooError, match=f"does not serve {cls.__name__}"):
                PLAIN[name](cls.example(), hard=hard)


def test_gates_through_a_plain_function():
    gates = functional.gumbel_softmax(Bernoulli(torch.randn(5, 3)), 0.5, True)
    assert gates.shape == (5, 3) and ((gates == 0) | (gates == 1)).all()
