"""What every relaxation composes with, on every distribution that it serves: against eager mode with the same noise."""

import contextlib
import copy
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, jacrev, jvp, stack_module_state, vmap

from tests.relaxations.checks import (
    Repeated,
    cells,
    first_distribution,
    gradient,
    law,
    logits_of,
    loss_of,
    pathwise,
    problem,
    relaxations,
    sample_by_gumbel,  # noqa: F401 (a fixture)
    tempered,
    weight_of,
)
from zoo.errors import ZooError
from zoo.relaxations import RELAXATIONS, GumbelSoftmax, Noise, PerturbedOptimizer, Relaxation, eager, functional

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="the inductor needs a C++ compiler")


# torch.func -----------------------------------------------------------------------------------------------------------


@cells()
def test_grad_and_jacrev(relaxation, distribution):
    logits, loss = problem(relaxation, distribution, 12)
    expected = gradient(loss, logits)
    assert expected.isfinite().all() and (expected != 0).any()
    torch.testing.assert_close(grad(loss)(logits), expected)
    torch.testing.assert_close(jacrev(loss)(logits), expected)


@cells()
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")  # of PyTorch's own
def test_forward_mode_agrees_with_reverse_mode(relaxation, distribution):
    logits, loss = problem(relaxation, distribution, 3)
    direction = torch.randn_like(logits)
    if "no forward-mode derivative" in " ".join((RELAXATIONS[relaxation].__doc__ or "").split()):
        with pytest.raises(ZooError, match="forward-mode"):
            jvp(loss, (logits,), (direction,))
        jvp(lambda x: loss(logits) + x.sum(), (direction,), (direction,))  # of something else
        return
    value, tangent = jvp(loss, (logits,), (direction,))
    torch.testing.assert_close(value, loss(logits))
    torch.testing.assert_close(tangent, (gradient(loss, logits) * direction).sum())


@cells()
def test_vmap_with_the_same_noise_is_a_loop(relaxation, distribution):
    _, loss = problem(relaxation, distribution, 1)
    logits = logits_of(distribution, 4, 1)
    expected = torch.stack([gradient(loss, row) for row in logits])
    torch.testing.assert_close(vmap(grad(loss), randomness="same")(logits), expected)
    torch.testing.assert_close(vmap(loss, randomness="same")(logits), torch.stack([loss(row) for row in logits]))


@cells()
@pytest.mark.parametrize("training", [True, False])
def test_vmap_draws_the_same_or_different_noise_as_it_is_told(relaxation, distribution, training):
    layer = RELAXATIONS[relaxation]().train(training)
    logits = logits_of(distribution, 1, dtype=torch.float32).expand(64, *[-1] * logits_of(distribution, 1).dim())

    def draw(logits: Tensor) -> Tensor:
        return layer(law(distribution, logits))

    for randomness in ("same", "different"):
        drawn = vmap(draw, randomness=randomness)(logits)
        alike = (drawn == drawn[:1]).all()
        assert alike == (randomness == "same" or not (layer.stochastic if training else layer.in_eval == "sample"))


@relaxations(lambda cls: pathwise(cls) and tempered(cls))
def test_vmap_over_temperatures(relaxation):
    function = getattr(functional, relaxation, None)
    if function is None:
        return  # the hard variant of another
    logits, noise = logits_of(first_distribution(relaxation), 3, 2), Repeated()
    taus = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)

    def draw(logits: Tensor, tau: Tensor) -> Tensor:
        noise.rewind()
        return function(logits, tau, noise=noise)

    many = vmap(draw, randomness="same")(logits, taus)
    torch.testing.assert_close(many, torch.stack([draw(x, tau) for x, tau in zip(logits, taus)]))


def test_an_ensemble_of_layers():
    layers = [GumbelSoftmax(tau=tau) for tau in (0.3, 1.0, 2.0)]
    parameters, buffers = stack_module_state(layers)
    logits, noise = logits_of("categorical", 3, 2, dtype=torch.float32), Repeated()

    def draw(parameters: Any, buffers: Any, logits: Tensor) -> Tensor:
        noise.rewind()
        return functional_call(layers[0], (parameters, buffers), (logits,), {"noise": noise})

    many = vmap(draw, randomness="same")(parameters, buffers, logits)
    for layer, expected, x in zip(layers, many, logits):
        noise.rewind()
        torch.testing.assert_close(layer(x, noise=noise), expected)


# Derivatives of any order ---------------------------------------------------------------------------------------------


@cells(lambda cls: pathwise(cls) and not cls.hard and cls is not PerturbedOptimizer)  # a mean of hard values
def test_soft_draws_have_the_derivatives_of_their_values(relaxation, distribution):
    logits, loss = problem(relaxation, distribution, 2)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(loss, logits, fast_mode=True)
    assert torch.autograd.gradgradcheck(loss, logits, fast_mode=True)


@cells(lambda cls: pathwise(cls) and cls.hard)
def test_hard_draws_can_be_differentiated_twice(relaxation, distribution):
    """Through a cost that is not linear, so that the first derivative depends on the logits in any case."""
    logits, loss = problem(relaxation, distribution, 12)
    logits.requires_grad_()
    (first,) = torch.autograd.grad(loss(logits).square(), logits, create_graph=True)
    (second,) = torch.autograd.grad((first * torch.randn_like(first)).sum(), logits)
    assert second.isfinite().all() and (second != 0).any()


# Fast paths -----------------------------------------------------------------------------------------------------------


@cells(pathwise)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tau", [0.7, 1.0])
@pytest.mark.usefixtures("sample_by_gumbel")
def test_fast_paths_are_their_formulas(relaxation, distribution, masked, tau, monkeypatch):
    """In value, first and second derivative, in float64 with the same noise."""
    cls = RELAXATIONS[relaxation]
    if not tempered(cls) and tau != 1.0:
        return
    layer = cls(tau=tau).double() if tempered(cls) else cls().double()
    logits, noise, mask = logits_of(distribution, 2), Repeated(), None
    if masked:
        mask = torch.ones(logits.shape, dtype=torch.bool)
        mask.flatten()[1] = False
    weight, direction = weight_of(distribution, logits), torch.randn_like(logits)

    def results() -> list[Tensor]:
        noise.rewind()
        x = logits.clone().requires_grad_()
        value = copy.deepcopy(layer)(law(distribution, x, mask), noise=noise)
        (first,) = torch.autograd.grad((value * weight).sum().square(), x, create_graph=True)
        return [value.detach(), first.detach(), *torch.autograd.grad((first * direction).sum(), x)]

    monkeypatch.setattr(eager, "WORTH", 0)
    fast = results()
    monkeypatch.setattr(eager, "WORTH", 2**60)
    small = results()
    monkeypatch.setattr(eager, "TINY", 0)
    few = results()
    monkeypatch.setattr(eager, "plain", lambda: True)
    for *ways, formula in zip(fast, small, few, results()):
        for way in ways:
            torch.testing.assert_close(way, formula)
    if cls.hard:
        assert torch.equal(fast[0], small[0]) and torch.equal(fast[0].round(), fast[0])


class OtherNoise(Noise):
    """What :class:`Noise` draws, by the way of any other source."""


@pytest.mark.parametrize("relaxation", ["gumbel_softmax", "st_gumbel_softmax", "straight_through", "reinmax"])
@pytest.mark.parametrize("tau", [0.7, 1.0])
@pytest.mark.parametrize("shape", [(3, 1), (2, 5), (16, 10)])
def test_the_short_way_of_few_numbers_draws_the_same(relaxation, tau, shape):
    """To the bit, also where logits are infinite or NaN; and the gradient to rounding."""
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if shape[1] > 1:
        logits[0, 0], logits[1, 1] = -torch.inf, torch.nan
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values, gradients = [], []
    for source in (Noise, OtherNoise):
        layer, x = RELAXATIONS[relaxation](tau=tau), logits.clone().requires_grad_()
        value = layer(x, noise=source(torch.Generator().manual_seed(2)))
        values.append(value.detach())
        gradients.append(torch.autograd.grad(value[2:], x, weight[2:])[0] if shape[0] > 2 else value.detach())
    assert torch.equal(values[0].nan_to_num(9.0), values[1].nan_to_num(9.0))
    assert shape[1] == 1 or (values[0][1].isnan().any() and values[0][0, 0] == 0)
    torch.testing.assert_close(*gradients, equal_nan=True)


# Compilers ------------------------------------------------------------------------------------------------------------


class Model(nn.Module):
    """A layer among others, as it is exported."""

    def __init__(self, relaxation: Relaxation, distribution: str) -> None:
        super().__init__()
        self.relaxation, self.distribution = relaxation, distribution

    def forward(self, logits: Tensor) -> Tensor:
        return self.relaxation(law(self.distribution, logits))


@cells(lambda cls: cls.dependent_draws, slow=True)
def test_compiled_it_is_the_same_function(relaxation, distribution):
    """Without a graph break, and without another compilation when tau changes."""
    torch._dynamo.reset()
    layer, noise = RELAXATIONS[relaxation]().double(), Repeated()
    logits = logits_of(distribution, 3)
    weight = weight_of(distribution, logits)
    compiled = torch.compile(loss_of(layer, distribution, weight, noise), backend="aot_eager", fullgraph=True)

    def compare() -> None:
        expected = gradient(loss_of(copy.deepcopy(layer), distribution, weight, noise), logits)
        torch.testing.assert_close(gradient(compiled, logits), expected)

    compare()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for tau in (0.5, 0.2) if tempered(type(layer)) else ():
            layer.tau = tau
            compare()


@cells(pathwise, slow=True)
@pytest.mark.parametrize("training", [True, False])
def test_exported_it_is_the_same_function(relaxation, distribution, training):
    layer = RELAXATIONS[relaxation]().train(training)
    model = Model(layer, distribution)
    logits = 3 * logits_of(distribution, 200, dtype=torch.float32)
    batch = torch.export.Dim("batch", min=2)
    with torch.no_grad():
        exported = torch.export.export(model, (logits[:5],), dynamic_shapes=((batch, *[None] * (logits.dim() - 1)),))
        draws, expected = exported.module()(logits), model(logits)
    assert draws.shape == expected.shape
    if layer.stochastic if training else layer.in_eval == "sample":
        torch.testing.assert_close(draws.mean(0), expected.mean(0), atol=0.25, rtol=0)  # of the same law
        assert not torch.equal(draws, exported.module()(logits))
    else:
        torch.testing.assert_close(draws, expected)
    if tempered(type(layer)):
        (tau,) = (b for name, b in exported.module().named_buffers() if name.endswith("relaxation.tau"))
        assert tau == layer.tau  # is not baked in


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("relaxation", ["gumbel_softmax", "st_gumbel_softmax", "reinmax", "imle", "gumbel_rao", "rloo"])
def test_the_inductor_has_the_same_gradients(relaxation):
    torch._dynamo.reset()
    logits, noise = logits_of("categorical", 30), Repeated()
    loss = loss_of(RELAXATIONS[relaxation]().double(), "categorical", weight_of("categorical", logits), noise)
    torch.testing.assert_close(gradient(loss, logits), gradient(torch.compile(loss, fullgraph=True), logits))


@pytest.mark.parametrize("in_eval", ["sample", "mode", "soft"])
def test_compiled_draws_in_eval(in_eval):
    torch._dynamo.reset()
    layer = RELAXATIONS["st_gumbel_softmax"](in_eval=in_eval).eval()
    logits = 50 * torch.eye(4)
    draw = torch.compile(layer, backend="aot_eager", fullgraph=True)(logits)
    torch.testing.assert_close(draw, torch.eye(4))


# What meets a derivative ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.7, 1.0])
@pytest.mark.parametrize("shape", [(4, 4), (16, 16), (64, 64)])
def test_many_gradients_of_reinmax_at_once_are_one_after_another(shape, tau):
    x = torch.randn(shape, requires_grad=True)
    value, many = functional.reinmax(x, tau), torch.randn(3, *shape)
    (batched,) = torch.autograd.grad(value, x, many, is_grads_batched=True, retain_graph=True)
    one_by_one = torch.stack([torch.autograd.grad(value, x, each, retain_graph=True)[0] for each in many])
    torch.testing.assert_close(batched, one_by_one)


@pytest.mark.parametrize("shape", [(2, 5), (64, 64)])
def test_hooks_of_the_logits_run_once_where_a_gradient_has_a_graph(shape):
    slopes = []
    for create_graph in (False, True):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
        x.register_hook(lambda g: 2 * g)
        value = functional.reinmax(x, 0.7, generator=torch.Generator().manual_seed(1))
        slopes += torch.autograd.grad(value.square().sum(), x, create_graph=create_graph)
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("name", ["gumbel_softmax", "reinmax"])
def test_tensors_without_data_leave_nothing_behind(name):
    function = getattr(functional, name)
    for _ in range(2):
        for mode in (FakeTensorMode(), contextlib.nullcontext()):
            with mode:
                x = torch.randn(16, 10, requires_grad=True)
                torch.autograd.grad(function(x, 0.37).sum(), x)
