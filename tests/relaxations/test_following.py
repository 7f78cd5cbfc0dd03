"""What REBAR and RELAX refuse: programs that read a draw in a way that their relaxed run has no derivative of."""

import contextlib
import copy
import functools
import io
import threading
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from zoo.errors import ZooError
from zoo.relaxations import (
    ARM,
    RLOO,
    Bernoulli,
    Categorical,
    DisARM,
    Exact,
    GumbelSoftmax,
    Rebar,
    Reinforce,
    Relax,
    StraightThrough,
)

K = 4
BATCH = 6
GENERATOR = torch.Generator().manual_seed(0)
TABLE = torch.randn(K, 3, generator=GENERATOR)
WEIGHT = torch.randn(K, K, generator=GENERATOR)
VALUES = torch.randn(K, generator=GENERATOR)
DATA = torch.rand(BATCH, K, generator=GENERATOR)


class Step(torch.autograd.Function):
    """Straight-through: a step forward, the identity backward."""

    @staticmethod
    def forward(ctx, x):
        return (x > 0.5).to(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class StepByArgMax(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return F.one_hot(x.argmax(-1), K).to(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Product(torch.autograd.Function):
    """``x * y``, with the gradient that belongs to it."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        product = x * y
        return product * 1

    @staticmethod
    def backward(ctx, gradient):
        x, y = ctx.saved_tensors
        return gradient * y, gradient * x


class Passes(torch.autograd.Function):
    """Gives a value that it computes, and one of which it says that it has no derivative."""

    @staticmethod
    def forward(ctx, x):
        secret = (3 * x).exp()
        ctx.mark_non_differentiable(secret)
        return x * 1, secret

    @staticmethod
    def backward(ctx, gradient, _):
        return gradient


class Module(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.linear = function, nn.Linear(K, K)

    def forward(self, x):
        return self.function(self.linear(x))


def compiled(function):
    module = Module(function)
    module.compile(backend="eager")
    module(torch.zeros(BATCH, K, requires_grad=True))
    return module


def scripted(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(function)


def look_up(x):
    return x.argmax(-1).float()


def cut(x):
    return (x.detach() * x).sum(-1)


def no_grad(function, *arguments):
    with torch.no_grad():
        return function(*arguments)


def written(y, write, rows=BATCH, columns=2):
    """What is left in a preallocated buffer, of which ``write`` fills a part."""
    buffer = torch.zeros(rows, columns)
    write(buffer, y)
    return buffer.sum(-1)


def add_(function):
    """A change of an activation in a way that autograd does not record."""

    def program(y):
        hidden = y @ WEIGHT
        function(hidden, y)
        return hidden.sum(-1)

    return program


def part(buffer, y):
    buffer[:, 0] = y.argmax(-1)


def view(buffer, y):
    buffer.view(-1)[::2].copy_(y.argmax(-1))


def detached(buffer, y):
    buffer[:, 1] = y.sum(-1)
    buffer[:, 0] = y.detach().exp().sum(-1)


def under_no_grad(buffer, y):
    with torch.no_grad():
        buffer[:, 0] = y.exp().sum(-1)
    buffer[:, 1] = y.sum(-1)


def selected(buffer, y):
    buffer[y[:, :2] > 0.5] = 1.0


def masked(buffer, y):
    buffer.masked_fill_(y[:, :2] > 0.5, 1.0)


def out(buffer, y):
    torch.ge(y[:, :2], 0.5, out=buffer)


def by_foreach(buffer, y):
    torch._foreach_copy_([buffer], [y[:, :2].round()])


def in_if(y):
    return y.sum(-1) if y[0, 0] > 0.5 else 2 * y.sum(-1)


def in_while(y):
    i = 0
    while y.sum() > i:
        i += 1
    return y.sum(-1) * i


def python_slice(y):
    return y[:, : int(y[0].argmax()) + 1].sum(-1)


def swap_data(y):
    other = torch.zeros(BATCH, K, requires_grad=True) * 1
    other.data = y
    return other.sum(-1)


def swap_storage(y):
    other = torch.zeros(BATCH, K)
    other.set_(y.detach())
    return other.exp().sum(-1)


def new_leaf(y):
    return (y.detach().requires_grad_() * 2).exp().sum(-1)


def new_parameter(y):
    return nn.Parameter(y.detach()).view(-1, K).exp().sum(-1)


def hook(y):
    if y.requires_grad:
        y.register_hook(lambda gradient: 2 * gradient)
    return y.exp().sum(-1)


def inner_gradient(y):
    return torch.func.grad(lambda x: (3 * x - 1).relu().sum())(y).sum(-1)


def inner_autograd(y):
    if not y.requires_grad:
        return y.sum(-1)
    return torch.autograd.grad((3 * y - 1).relu().sum(), y, create_graph=True)[0].sum(-1)


def inner_gradient_elsewhere(y):
    return torch.func.vmap(lambda r: torch.func.grad(lambda w: (3 * r * w - 1).relu().sum())(torch.ones(K)))(y).sum(-1)


def inner_jvp(y):
    return torch.func.jvp(lambda x: (3 * x - 1).relu(), (y,), (torch.ones_like(y),))[1].sum(-1)


def inner_jvp_elsewhere(y):
    return torch.func.jvp(lambda w: (3 * y * w - 1).relu(), (torch.ones(K),), (torch.ones(K),))[1].sum(-1)


def secret_to_function(y):
    first, secret = Passes.apply(y)
    return Product.apply(first, secret).sum(-1)


def no_grad_to_function(y):
    with torch.no_grad():
        other = (2 * y).exp() * 2
    return Product.apply(y, other).sum(-1)


def no_grad_into_function(y):
    product = Product.apply(y, y)
    with torch.no_grad():
        product.add_(y.exp())
    return product.sum(-1)


def quantised_weights(y):
    return torch.fake_quantize_per_tensor_affine(y, 0.5, 0, 0, 255).sum(-1)


def nearest(y):
    grid = torch.stack([2 * y - 1, 0 * y], -1).unsqueeze(1)
    image = DATA.view(BATCH, 1, 1, K)
    return F.grid_sample(image, grid, mode="nearest", align_corners=False).sum((1, 2, 3))


def transposed_table(y):
    return F.embedding_bag(y.topk(2).indices, TABLE).sum(-1)


def saved(y):
    file = io.BytesIO()
    torch.save(y.detach(), file)
    file.seek(0)
    return torch.load(file).exp().sum(-1)


def subclass(y):
    class Subclass(torch.Tensor):
        pass

    return y.detach().as_subclass(Subclass).exp().sum(-1)


def moving_average(y):
    average = torch.zeros(K)
    average.lerp_(y.detach().mean(0), 0.5)
    return (average * y).sum(-1)


def optimised(y):
    parameter = nn.Parameter(torch.zeros(K))
    parameter.grad = y.detach().mean(0)
    torch.optim.SGD([parameter], 1.0).step()
    return (parameter * y).sum(-1)


def swapped(y):
    other = torch.zeros(BATCH, K)
    torch.utils.swap_tensors(other, y.detach().clone())
    return other.exp().sum(-1)


def without_calls(y):
    with torch._C.DisableTorchFunction():
        return y.detach().exp().sum(-1)


def branches(y):
    return torch.cond(y.sum() > 2, lambda t: t.sum(-1), lambda t: t.exp().sum(-1), (y,))


@torch.library.custom_op("zoo_tests::count", mutates_args=())
def count(x: torch.Tensor) -> torch.Tensor:
    return (x > 0.5).float().sum(-1)


count.register_autograd(lambda ctx, gradient: gradient.unsqueeze(-1).expand(BATCH, K))


def nested_layer(y):
    return StraightThrough()(y).sum(-1) + (StraightThrough()(y @ WEIGHT) * VALUES).sum(-1)


JUMPS = {
    "argmax": lambda y: VALUES[y.argmax(-1)],
    "argmin": lambda y: VALUES[y.argmin(-1)],
    "max indices": lambda y: VALUES[y.max(-1).indices],
    "sort indices": lambda y: VALUES[y.sort(-1).indices[:, 0]],
    "argsort": lambda y: VALUES[y.argsort(-1)[:, 0]],
    "topk indices": lambda y: VALUES[y.topk(2).indices].sum(-1),
    "kthvalue index": lambda y: VALUES[y.kthvalue(2).indices],
    "median index": lambda y: VALUES[y.median(-1).indices],
    "cummax index": lambda y: VALUES[y.cummax(-1).indices].sum(-1),
    "look-up and smooth": lambda y: VALUES[y.argmax(-1)] + (y * VALUES).sum(-1),
    "gather": lambda y: DATA.gather(1, y.argmax(-1, keepdim=True)).squeeze(1),
    "gather of itself": lambda y: (y @ WEIGHT).gather(1, y.argmax(-1, keepdim=True)).squeeze(1),
    "scatter": lambda y: torch.zeros(BATCH, K).scatter(1, y.argmax(-1, keepdim=True), 1.0) @ VALUES,
    "scatter_add": lambda y: torch.zeros(BATCH, K).scatter_add(1, y.topk(2).indices, DATA) @ VALUES,
    "index_select": lambda y: TABLE.index_select(0, y.argmax(-1)).sum(-1),
    "take": lambda y: VALUES.take(y.argmax(-1)),
    "take_along_dim": lambda y: DATA.take_along_dim(y.argmax(-1, keepdim=True), 1).sum(-1),
    "index_add": lambda y: torch.zeros(K).index_add(0, y.argmax(-1), DATA[:, 0]).expand(BATCH, K).sum(-1),
    "slice": lambda y: y[:, y[0].argmax() :].sum(-1),
    "slice of two": lambda y: y[torch.arange(BATCH), y.argmax(-1)],
    "boolean index": lambda y: y[y > 0.5].sum().expand(BATCH),
    "boolean index of a constant": lambda y: DATA[y > 0.5].sum().expand(BATCH),
    "shape": lambda y: DATA.sum(-1) * DATA[y > 0.5].shape[0],
    "shape of nonzero": lambda y: DATA.sum(-1) * len((y - 0.5).relu().nonzero()),
    "masked_select": lambda y: y.masked_select(y > 0.5).sum().expand(BATCH),
    "narrow": lambda y: VALUES.narrow(0, y[0].argmax(), 1).sum().expand(BATCH),
    "embedding": lambda y: F.embedding(y.argmax(-1), TABLE).sum(-1),
    "nn.Embedding": lambda y: nn.Embedding(K, 3)(y.argmax(-1)).sum(-1),
    "embedding_bag": transposed_table,
    "one_hot": lambda y: F.one_hot(y.argmax(-1), K).float() @ VALUES,
    "one_hot of any size": lambda y: F.one_hot(y.argmax(-1)).float().sum(-1) + y.sum(-1),
    "comparison": lambda y: (y > 0.5).float() @ VALUES,
    "comparison in place": lambda y: (y * 1).gt_(0.5) @ VALUES,
    "equality": lambda y: (y == y.amax(-1, keepdim=True)).float() @ VALUES,
    "isclose": lambda y: torch.isclose(y, torch.ones_like(y), atol=0.5).float() @ VALUES,
    "where": lambda y: torch.where(y > 0.5, y, 2 * y).sum(-1),
    "where of constants": lambda y: torch.where(y[:, 0] > 0.5, 1.0, 2.0),
    "masked_fill": lambda y: y.masked_fill(y < 0.5, 0.0).sum(-1),
    "masked_scatter": lambda y: y.masked_scatter(y < 0.5, DATA).sum(-1),
    "product with a mask": lambda y: (y * (y > 0.5)) @ VALUES,
    "round": lambda y: y.round() @ VALUES,
    "round to decimals": lambda y: y.round(decimals=1) @ VALUES,
    "floor": lambda y: (2 * y).floor() @ VALUES,
    "ceil": lambda y: y.ceil() @ VALUES,
    "trunc": lambda y: (2 * y).trunc() @ VALUES,
    "fix": lambda y: torch.fix(2 * y) @ VALUES,
    "frac": lambda y: (2 * y).frac() @ VALUES,
    "special.round": lambda y: torch.special.round(y) @ VALUES,
    "aten.round": lambda y: torch.ops.aten.round.default(y) @ VALUES,
    "sign": lambda y: (y - 0.5).sign() @ VALUES,
    "sgn": lambda y: (y - 0.5).sgn() @ VALUES,
    "signbit": lambda y: (y - 0.5).signbit().float() @ VALUES,
    "heaviside": lambda y: torch.heaviside(y - 0.5, torch.zeros(())) @ VALUES,
    "copysign": lambda y: DATA.copysign(y - 0.5) @ VALUES,
    "atan2": lambda y: torch.atan2(y - 0.5, y - 1).sum(-1),
    "angle": lambda y: (y - 0.5).angle().sum(-1),
    "floor division": lambda y: (y // 0.5) @ VALUES,
    "floor_divide": lambda y: torch.floor_divide(y, 0.5) @ VALUES,
    "div with rounding": lambda y: torch.div(y, 0.5, rounding_mode="trunc") @ VALUES,
    "remainder": lambda y: (y % 0.5) @ VALUES,
    "remainder by it": lambda y: (1.0 % (y + 0.3)) @ VALUES,
    "fmod": lambda y: y.fmod(0.5) @ VALUES,
    "frexp": lambda y: (y + 0.1).frexp().mantissa @ VALUES,
    "hardshrink": lambda y: F.hardshrink(y, 0.5) @ VALUES,
    "threshold": lambda y: F.threshold(y, 0.5, 0.0) @ VALUES,
    "mode": lambda y: y.mode(-1).values,
    "norm of order 0": lambda y: torch.linalg.vector_norm((y - 0.5).relu(), 0, dim=-1) + y.sum(-1),
    "dist of order 0": lambda y: torch.cdist(y.unsqueeze(1), DATA.unsqueeze(1), p=0).sum((1, 2)),
    "count_nonzero": lambda y: (y - 0.5).relu().count_nonzero(-1).float(),
    "histc": lambda y: y.histc(2)[0].expand(BATCH),
    "bincount": lambda y: torch.bincount(y.argmax(-1), minlength=K)[0].float().expand(BATCH),
    "searchsorted": lambda y: torch.searchsorted(torch.tensor([0.3, 0.6]), y).float() @ VALUES,
    "bucketize": lambda y: torch.bucketize(y, torch.tensor([0.3, 0.6])).float() @ VALUES,
    "unique": lambda y: y.unique().sum().expand(BATCH),
    "long": lambda y: (2 * y).long().float() @ VALUES,
    "to int": lambda y: (2 * y).to(torch.int32).float() @ VALUES,
    "bits": lambda y: y.detach().view(torch.int32).float() @ VALUES,
    "bernoulli": lambda y: torch.bernoulli(y) @ VALUES,
    "bernoulli in place": lambda y: torch.zeros(BATCH, K).bernoulli_(y) @ VALUES,
    "multinomial": lambda y: VALUES[torch.multinomial(y, 1)].squeeze(1),
    "poisson": lambda y: torch.poisson(y) @ VALUES,
    "normal": lambda y: torch.normal(y, 1.0) @ VALUES,
    "torch.distributions sample": lambda y: torch.distributions.Normal(y, 1.0).sample() @ VALUES,
    "gumbel_softmax": lambda y: F.gumbel_softmax(y, hard=True) @ VALUES,
    "fake_quantize": quantised_weights,
    "grid_sample": nearest,
    "a straight-through layer": nested_layer,
    # Arguments without a derivative
    "cross_entropy": lambda y: F.cross_entropy(DATA, y.argmax(-1), reduction="none"),
    "hinge_embedding_loss": lambda y: F.hinge_embedding_loss(DATA, y.round() * 2 - 1, reduction="none").sum(-1),
    # Out of sight
    "item": lambda y: y.sum(-1) * y[0, 0].item(),
    "int": lambda y: y.sum(-1) * int(2 * y[0, 0]),
    "float": lambda y: y.sum(-1) * float(y[0, 0]),
    "if": in_if,
    "while": in_while,
    "and": lambda y: y.sum(-1) if bool(y[0, 0] > 0.5) and True else y[:, 0],
    "in": lambda y: y.sum(-1) if 1.0 in y else y[:, 0],
    "equal": lambda y: y.sum(-1) if torch.equal(y, y.round()) else y[:, 0],
    "allclose": lambda y: y.sum(-1) if torch.allclose(y, y.round(), atol=0.1) else y[:, 0],
    "index": lambda y: y.sum(-1) * [1.0, 2.0, 3.0, 4.0][y[0].argmax()],
    "Python's slice": python_slice,
    "range": lambda y: sum(y[:, i] for i in range(y[0].argmax() + 1)),
    "tolist": lambda y: torch.tensor([max(row) for row in y.tolist()]),
    "numpy": lambda y: torch.from_numpy(y.detach().numpy().argmax(-1)).float(),
    "asarray": lambda y: torch.from_numpy(np.asarray(y.detach())).exp().sum(-1),
    "dlpack": lambda y: torch.from_dlpack(y.detach()).exp().sum(-1),
    "deepcopy": lambda y: copy.deepcopy(y.detach()).exp().sum(-1),
    # Derivatives that are lost
    "detach": lambda y: y.detach().exp().sum(-1),
    "detach and smooth": lambda y: (y.detach() * y).sum(-1),
    "detach_": lambda y: (y * 1).detach_().exp().sum(-1) + y.sum(-1),
    "data": lambda y: y.data.exp().sum(-1),
    "data of a view": lambda y: y.view(-1, 2).data.exp().view(BATCH, K).sum(-1) + y.sum(-1),
    "no_grad": lambda y: no_grad(torch.exp, y).sum(-1) + y.sum(-1),
    "inference_mode": lambda y: torch.inference_mode()(torch.exp)(y).clone().sum(-1) + y.sum(-1),
    "tensor": lambda y: torch.as_tensor(y.detach()).exp().sum(-1) + y.sum(-1),
    "straight-through": lambda y: (F.one_hot(y.argmax(-1), K) + y - y.detach()) @ VALUES,
    "new leaf": new_leaf,
    "new parameter": new_parameter,
    "swapped data": swap_data,
    "swapped storage": swap_storage,
    "hook": hook,
    # Written
    "buffer": lambda y: written(y, part),
    "buffer by view": lambda y: written(y, view),
    "buffer detached": lambda y: written(y, detached),
    "buffer under no_grad": lambda y: written(y, under_no_grad),
    "buffer by mask": lambda y: written(y, selected),
    "buffer by masked_fill": lambda y: written(y, masked),
    "buffer by out": lambda y: written(y, out),
    "buffer by foreach": lambda y: written(y, by_foreach),
    "index_put_": lambda y: written(y, lambda b, y: b.index_put_((torch.arange(BATCH), y.argmax(-1) % 2), DATA[:, 0])),
    "in place on data": add_(lambda hidden, y: hidden.data.add_(y.exp())),
    "in place on detach": add_(lambda hidden, y: hidden.detach().mul_(y)),
    "in place under no_grad": add_(lambda hidden, y: no_grad(hidden.add_, y.exp())),
    # Transforms inside of the program
    "vmap of argmax": lambda y: torch.func.vmap(lambda r: VALUES.take(r.argmax()))(y),
    "vmap of comparison": lambda y: torch.func.vmap(lambda r: (r > 0.5).float() @ VALUES)(y),
    "vmap of detach": lambda y: torch.func.vmap(lambda r: (r.detach() * r).sum())(y),
    "vmap of vmap": lambda y: torch.func.vmap(torch.func.vmap(lambda x: x.round()))(y).sum(-1),
    "vmap of a custom function": lambda y: torch.func.vmap(StepByArgMax.apply)(y) @ VALUES,
    "grad": inner_gradient,
    "grad elsewhere": inner_gradient_elsewhere,
    "autograd.grad": inner_autograd,
    "jvp": inner_jvp,
    "jvp elsewhere": inner_jvp_elsewhere,
    # Code that hides it
    "checkpoint": lambda y: checkpoint(look_up, y, use_reentrant=False),
    "checkpoint, reentrant": lambda y: checkpoint(lambda x: x.round().sum(-1), y, use_reentrant=True),
    "custom function": lambda y: Step.apply(y) @ VALUES,
    "custom function of a functional kind": lambda y: StepByArgMax.apply(y) @ VALUES,
    "custom function of what it is not told": lambda y: Product.apply(y, y.detach()).sum(-1),
    "custom function that passes a secret on": secret_to_function,
    "custom function of what has no gradient": no_grad_to_function,
    "custom function changed under no_grad": no_grad_into_function,
    "TorchScript": lambda y: scripted(look_up)(y) + y.sum(-1),
    "TorchScript that detaches": lambda y: scripted(cut)(y),
    "torch.save": saved,
    "subclass": subclass,
    "swapped tensors": swapped,
    "moving average": moving_average,
    "optimiser": optimised,
    "unseen by one mode": without_calls,
    "cond": branches,
    "custom operator": count,
    "sparse": lambda y: torch.sparse.mm(y.round().to_sparse(), VALUES.unsqueeze(1)).squeeze(1),
    "nested estimator": lambda y: Rebar().expectation(lambda draw: draw(y @ WEIGHT) @ VALUES),
    "nested score function": lambda y: Reinforce().expectation(lambda draw: draw(y @ WEIGHT) @ VALUES),
    "nested sample": lambda y: Categorical(y @ WEIGHT).sample() @ VALUES,
    "Jacobian": lambda y: torch.func.vmap(torch.func.jacfwd(lambda r: (r - 0.5).relu().sum()))(y).sum(-1),
    "compiled": lambda y: COMPILED["argmax"](y) + y.sum(-1),
    "compiled detach": lambda y: COMPILED["detach"](y),
}
COMPILED = {}


@pytest.fixture(scope="module", autouse=True)
def compiled_modules():
    """Compiled and run before: their code is in the cache."""
    COMPILED.update({"argmax": compiled(look_up), "detach": compiled(cut), "smooth": compiled(torch.tanh)})
    yield
    torch._dynamo.reset()


def drawn(relaxation, program, make=Categorical, shape=(BATCH, K)):
    logits = torch.randn(shape, requires_grad=True)
    loss = relaxation.expectation(lambda draw: program(draw(make(logits))))
    assert loss.shape == shape[:1]
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    return loss, gradient


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [Rebar, Relax])
@pytest.mark.parametrize("name", JUMPS)
def test_a_jump_is_refused(name, make):
    with pytest.raises(ZooError, match=r"differentiable in its draws.*through .*Use rloo"):
        drawn(make(), JUMPS[name])


# What passes ----------------------------------------------------------------------------------------------------------


def by_buffer(y):
    buffer = torch.zeros(BATCH, 2 * K)
    buffer[:, :K] = y
    buffer[:, K:].copy_(y @ WEIGHT)
    buffer += 1.0
    return (buffer**2).sum(-1)


def with_logs(y):
    """Looks at a draw in every way that does not reach the cost."""
    logs = [y.detach().mean(), y.argmax(-1), (y > 0.5).float().mean(), y.round(), y.data.std(), y.detach().view(-1)]
    with torch.no_grad():
        logs += [y.exp().mean(), F.one_hot(y.argmax(-1), K)]
    str(y), f"{y[0, 0]:.2f} {logs[0]}"
    return (y @ WEIGHT).square().sum(-1)


def by_torch_distributions(y):
    """Whose constructors look whether their arguments are allowed."""
    normal = torch.distributions.Normal(y @ WEIGHT, F.softplus(y @ WEIGHT) + 0.1)
    bernoulli = torch.distributions.Independent(torch.distributions.Bernoulli(logits=y @ WEIGHT), 1)
    kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(torch.zeros(K), torch.ones(K)))
    categorical = torch.distributions.Categorical(logits=y @ WEIGHT).log_prob(torch.arange(BATCH) % K)
    return bernoulli.log_prob(DATA.round()) + kl.sum(-1) + normal.rsample().sum(-1) + categorical


class Cube(torch.autograd.Function):
    """``x ** 3`` in several steps, one in place."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        result = x.detach().clone()
        return result.mul_(x).view(-1).mul(x.reshape(-1)).view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradient


class CubeOfSum(torch.autograd.Function):
    """A custom function that calls another."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return Cube.apply(x.sum(-1)) * 2

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return (6 * x.sum(-1) ** 2 * gradient).unsqueeze(-1).expand_as(x)


def module(make, call=lambda module, x: module(x)):
    def program(y):
        torch.manual_seed(0)
        result = call(make(), y)
        return result.reshape(len(y), -1).square().sum(-1)

    return program


SMOOTH = {
    "polynomial": lambda y: torch.einsum("bi,ij,bj->b", y, WEIGHT, y) ** 2,
    "shapes": lambda y: (y * y.shape[-1] + torch.zeros_like(y) + torch.ones(y.size()) * y.numel()).sum(-1) / len(y),
    "max": lambda y: y.max(-1).values + y.amin(-1),
    "sort": lambda y: y.sort(-1).values @ VALUES + y.topk(2).values.sum(-1),
    "median": lambda y: y.median(-1).values + y.kthvalue(2).values + y.quantile(0.3, -1),
    "abs, clamp, relu": lambda y: (y - 0.5).abs().sum(-1) + y.clamp(0.2, 0.7).sum(-1) + (y - 0.3).relu().sum(-1),
    "activations": lambda y: sum(f(y @ WEIGHT).sum(-1) for f in (F.gelu, F.silu, F.elu, F.hardswish, F.softshrink)),
    "softmax": lambda y: (y @ WEIGHT).softmax(-1) @ VALUES + (y @ WEIGHT).logsumexp(-1),
    "where": lambda y: torch.where(DATA > 0.5, y, 2 * y).sum(-1),
    "masked_fill": lambda y: y.masked_fill(DATA > 0.5, 0.0).sum(-1),
    "constant indices": lambda y: y[:, 0] + y[:, torch.tensor([1, 2])].sum(-1) + y[:, VALUES > 0].sum(-1),
    "gather": lambda y: y.gather(1, torch.zeros(BATCH, 1, dtype=torch.int64)).squeeze(1),
    "in place": lambda y: (y * 1).add_(1.0).mul_(DATA).relu_().sum(-1),
    "buffer": by_buffer,
    "out of place": lambda y: y.index_add(1, torch.tensor([0]), y[:, 1:2]).sum(-1) ** 2,
    "distances": lambda y: torch.cdist(y.unsqueeze(1), DATA.unsqueeze(1)).sum((1, 2)) + y.norm(dim=-1),
    "logs": with_logs,
    "torch.distributions": by_torch_distributions,
    "losses": lambda y: (
        F.binary_cross_entropy_with_logits(y @ WEIGHT, DATA, reduction="none").sum(-1)
        + F.binary_cross_entropy_with_logits(DATA, y, reduction="none").sum(-1)
        + F.cross_entropy(y @ WEIGHT, torch.arange(BATCH) % K, reduction="none")
        + F.cross_entropy(DATA, y, reduction="none")
        + F.smooth_l1_loss(y, DATA, reduction="none").sum(-1)
        + F.kl_div(DATA.log(), y, reduction="none").sum(-1)
    ),
    "linear": module(lambda: nn.Sequential(nn.Linear(K, 8), nn.ReLU(), nn.Linear(8, 3))),
    "layer norm": module(lambda: nn.Sequential(nn.Linear(K, 8), nn.LayerNorm(8), nn.GroupNorm(2, 8), nn.Tanh())),
    "batch norm in eval": module(lambda: nn.Sequential(nn.Linear(K, 8), nn.BatchNorm1d(8)).eval()),
    "dropout behind": module(lambda: nn.Sequential(nn.Linear(K, 8), nn.Dropout(0.5), nn.Linear(8, 2))),
    "convolution": module(
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 2, 2)),
            nn.ConvTranspose2d(1, 3, 4, 2, 1),
            nn.MaxPool2d(2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(3, 2, 3),
            nn.AdaptiveAvgPool2d(1),
        )
    ),
    "attention": module(lambda: nn.MultiheadAttention(2, 1, batch_first=True), lambda m, y: attend(m, y)),
    "transformer": module(
        lambda: nn.TransformerEncoderLayer(2, 1, 4, batch_first=True, dropout=0.0), lambda m, y: m(y.view(BATCH, 2, 2))
    ),
    "masked attention": lambda y: F.scaled_dot_product_attention(
        y.view(BATCH, 2, 2), y.view(BATCH, 2, 2), DATA.view(BATCH, 2, 2), is_causal=True
    ).sum((1, 2)),
    "LSTM": module(lambda: nn.LSTM(2, 3, batch_first=True), lambda m, y: m(y.view(BATCH, 2, 2))[0]),
    "packed LSTM": module(lambda: nn.LSTM(2, 3, batch_first=True), lambda m, y: m(packed(y))[1][0]),
    "GRU cell": module(lambda: nn.GRUCell(K, 3)),
    "weight norm": module(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(K, 3))),
    "bilinear": module(lambda: nn.Bilinear(K, K, 2), lambda m, y: m(y, y)),
    "embedding": lambda y: (y @ F.embedding(torch.arange(K), WEIGHT)).sum(-1) + F.embedding(torch.tensor([0]), y).sum(),
    "grid_sample": lambda y: F.grid_sample(
        DATA.view(BATCH, 1, 2, 2), torch.stack([y, y], -1).unsqueeze(1), align_corners=False
    ).sum((1, 2, 3)),
    "linear algebra": lambda y: (
        torch.linalg.solve(torch.diag_embed(y + 1) + 0.1 * WEIGHT, DATA.unsqueeze(-1)).sum((1, 2))
        + torch.linalg.slogdet(torch.diag_embed(y + 1)).logabsdet
    ),
    "gumbel_softmax": lambda y: F.gumbel_softmax(y @ WEIGHT) @ VALUES,
    "one of our own": lambda y: (
        GumbelSoftmax(tau=0.7)((y @ WEIGHT).repeat(1, 300).view(BATCH, 300, K)).mean(1) @ VALUES
    ),
    "sparse": lambda y: torch.sparse.mm(y.to_sparse(), VALUES.unsqueeze(1)).squeeze(1),
    "multivariate normal": lambda y: torch.distributions.MultivariateNormal(y, torch.eye(K)).log_prob(DATA),
    "simplex": lambda y: torch.distributions.Categorical(probs=y).log_prob(torch.zeros(BATCH, dtype=torch.int64)),
    "vmap": lambda y: torch.func.vmap(lambda r: (r * VALUES).sum().tanh())(y),
    "vmap of vmap": lambda y: torch.func.vmap(torch.func.vmap(torch.sin))(y).sum(-1),
    "functional_call": lambda y: torch.func.functional_call(nn.Identity(), {}, (y @ WEIGHT,)).sum(-1),
    "checkpoint": lambda y: checkpoint(lambda x: x.tanh().square().sum(-1), y, use_reentrant=False),
    "custom function": lambda y: Cube.apply(y @ WEIGHT).sum(-1),
    "custom function of two": lambda y: Product.apply(y @ WEIGHT, y).view(-1, K).sum(-1),
    "custom function in another": lambda y: CubeOfSum.apply(y),
    "compiled": lambda y: COMPILED["smooth"](y).square().sum(-1),
    "half precision": lambda y: (y.bfloat16() @ WEIGHT.bfloat16()).float().sum(-1),
    "autocast": lambda y: torch.autocast("cpu", torch.bfloat16)(lambda: (y @ WEIGHT).float().sum(-1))(),
    "double precision": lambda y: (y.double() @ WEIGHT.double()).sum(-1).float(),
    "complex": lambda y: torch.fft.rfft(y @ WEIGHT).abs().sum(-1),
    "not the draw at all": lambda y: DATA.sum(-1),
    "only its shape": lambda y: torch.zeros_like(y).sum(-1) + DATA.argmax(-1),
}


def packed(y):
    return nn.utils.rnn.pack_padded_sequence(y.view(BATCH, 2, 2), torch.full((BATCH,), 2), batch_first=True)


def attend(module, y):
    result, _ = module(y.view(BATCH, 2, 2), y.view(BATCH, 2, 2), DATA.view(BATCH, 2, 2))
    return result


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SMOOTH)
def test_what_is_differentiable_passes(name):
    for make in (Rebar, Relax):
        loss, gradient = drawn(make(), SMOOTH[name])
        assert loss.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("name", SMOOTH)
def test_the_list_of_what_is_differentiable_holds_nothing_that_jumps(name, monkeypatch):
    """Its slope is that of finite differences, in double precision."""
    if name in (
        "one of our own",
        "gumbel_softmax",
        "dropout behind",
        "torch.distributions",
        "half precision",
        "double precision",
        "autocast",
    ):
        return  # random, or coarse
    for constant in ("DATA", "WEIGHT", "VALUES"):
        monkeypatch.setitem(globals(), constant, globals()[constant].double())
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        y = torch.randn(BATCH, K).softmax(-1).requires_grad_()
        direction = torch.randn(BATCH, K)
        program, step = SMOOTH[name], 1e-6
        if name == "compiled":
            program = module(lambda: Module(torch.tanh))
        cost = program(y).sum()
        slope = torch.autograd.grad(cost, y)[0] if cost.requires_grad else torch.zeros_like(y)
        with torch.no_grad():
            ahead, behind = program(y + step * direction), program(y - step * direction)
        difference = ((ahead - behind) / (2 * step)).sum()
        torch.testing.assert_close((slope * direction).sum(), difference.to(slope), atol=1e-4, rtol=1e-4)
    finally:
        torch.set_default_dtype(default)


ARGUMENTS = {
    "nll_loss": lambda y: F.nll_loss(DATA, torch.arange(BATCH) % K, weight=y[0], reduction="none"),
    "bce": lambda y: F.binary_cross_entropy(DATA, DATA, weight=y, reduction="none").sum(-1),
    "bce, pos_weight": lambda y: F.binary_cross_entropy_with_logits(DATA, DATA, pos_weight=y, reduction="none").sum(-1),
    "soft_margin_loss": lambda y: F.soft_margin_loss(DATA, 2 * y - 1, reduction="none").sum(-1),
    "batch_norm": lambda y: F.batch_norm(DATA, y.mean(0), 1 + y.var(0)).sum(-1),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_without_a_derivative_are_refused_by_autograd(name):
    with pytest.raises(RuntimeError, match="not differentiable with respect to argument"):
        drawn(Rebar(), ARGUMENTS[name])


@pytest.mark.parametrize("name", ["argmax", "comparison", "detach and smooth", "no_grad", "data", "round", "item"])
@pytest.mark.parametrize("way", ["grad", "vmap", "vmap of grad", "grad of vmap"])
def test_a_jump_is_refused_inside_transforms(name, way):
    def loss(logits):
        return Rebar().expectation(lambda draw: JUMPS[name](draw(logits))).sum()

    ways = {
        "grad": lambda: torch.func.grad(loss)(torch.randn(BATCH, K)),
        "vmap": lambda: torch.func.vmap(loss, randomness="different")(torch.randn(2, BATCH, K)),
        "vmap of grad": lambda: torch.func.vmap(torch.func.grad(loss), randomness="same")(torch.randn(2, BATCH, K)),
        "grad of vmap": lambda: torch.func.grad(
            lambda logits: torch.func.vmap(loss, randomness="different")(logits.expand(2, -1, -1)).sum()
        )(torch.randn(BATCH, K)),
    }
    with pytest.raises((ZooError, RuntimeError), match=r"differentiable in its draws|vmap"):
        ways[way]()


# What is in the table is biased: without the check, by this much -----------------------------------------------------


class Unchecked:
    def __init__(self, *arguments, **keywords):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def drawing(self, draw):
        return draw

    def check(self, cost):
        pass


def look_up_of(y):
    return VALUES[y.argmax(-1)] + 0.5 * (y * VALUES).sum(-1).square()


BIASED = {
    "look-up": look_up_of,
    "comparison": lambda y: (y > 0.5).float() @ VALUES + (y @ VALUES).square(),
    "round": lambda y: y.round() @ VALUES + (y @ VALUES).square(),
    "detach": lambda y: (y.detach() @ VALUES) * (y @ VALUES),
    "custom function": lambda y: Step.apply(y) @ VALUES,
    "inner gradient": lambda y: (2 * y - 1).clamp(0, 1) @ VALUES + inner_step(y),
}


def inner_step(y):
    return torch.func.grad(lambda x: (x - 0.5).relu().sum())(y) @ VALUES


@pytest.mark.parametrize("name", BIASED)
def test_without_the_check_it_would_be_biased(name, monkeypatch):
    monkeypatch.setattr("zoo.relaxations.control_variates.Following", Unchecked)
    logits = torch.tensor([0.5, -0.3, 1.0, -1.5], requires_grad=True)
    costs = torch.stack([BIASED[name](one.unsqueeze(0))[0] for one in torch.eye(K)]).detach()
    (exact,) = torch.autograd.grad(logits.softmax(-1) @ costs, logits)
    batch = logits.detach().expand(40_000, -1).clone().requires_grad_()
    relaxation = Rebar()  # in its first batch eta is 1
    (gradient,) = torch.autograd.grad(relaxation.expectation(lambda draw: BIASED[name](draw(batch))).sum(), batch)
    bias = (gradient.mean(0) - exact).norm() / exact.norm()
    assert bias > 0.1 and bias > 5 * (gradient.std(0) / 200).norm() / exact.norm()


class Turned(torch.autograd.Function):
    """The identity, with a derivative that is not its own."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


def by_module_hook(y):
    layer = nn.Identity()
    layer.register_full_backward_hook(lambda module, inner, outer: (2 * inner[0],))
    return layer(y).exp().sum(-1)


def by_saved_tensors(y):
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: 2 * tensor, lambda tensor: tensor):
        return y.exp().sum(-1)


def by_thread(y):
    found = []
    thread = threading.Thread(target=lambda: found.append(VALUES[y.argmax(-1)]))
    thread.start()
    thread.join()
    return found[0] + y.sum(-1)


UNSEEN = {
    "another derivative": lambda y: Turned.apply(y) @ VALUES,
    "module hook": by_module_hook,
    "hook of saved tensors": by_saved_tensors,
    "thread": by_thread,
    "DLPack capsule": lambda y: torch.from_dlpack(torch.utils.dlpack.to_dlpack(y.detach())).exp().sum(-1) + y.sum(-1),
    "text": lambda y: y.sum(-1) * float(f"{y[0, 0]}"),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_the_documentation_says_is_not_seen(name):
    """Where one of them is seen some day, the documentation is to be changed."""
    drawn(Rebar(), UNSEEN[name])


# Rows, and draws that depend on each other ----------------------------------------------------------------------------


def by_escape(draw, logits):
    first = draw(logits)
    if first.sum() > 100:
        raise AssertionError
    return draw(logits).sum(-1) + first.sum(-1)


DEPENDENT = {
    "logits": lambda draw, x: draw(x + draw(x)).sum(-1),
    "look-up": lambda draw, x: draw(WEIGHT[draw(x).argmax(-1)] + x) @ VALUES,
    "mask": lambda draw, x: draw(x, draw(x) < 0.5) @ VALUES,
    "distribution": lambda draw, x: draw(Categorical(x, mask=draw(x) < 0.5)) @ VALUES,
    "buffer": lambda draw, x: draw(x + torch.zeros(BATCH, K).copy_(draw(x).detach())) @ VALUES,
    "vmap": lambda draw, x: draw(torch.func.vmap(lambda r: r.cumsum(0))(draw(x))) @ VALUES,
    "gates": lambda draw, x: draw(Bernoulli(draw(x) @ WEIGHT)) @ VALUES,
    "in part": lambda draw, x: draw(torch.cat([x[:3], draw(x)[3:]])) @ VALUES,
    "in nothing but its graph": lambda draw, x: draw(x + 0 * draw(x)) @ VALUES,
}


@pytest.mark.parametrize("make", [Rebar, Relax, DisARM, ARM])
@pytest.mark.parametrize("name", DEPENDENT)
def test_a_draw_that_depends_on_another_is_refused(name, make):
    logits = torch.randn(BATCH, K, requires_grad=True)
    with pytest.raises(ZooError, match=r"draw depends on an earlier draw.*use rloo or reinforce"):
        make().expectation(lambda draw: DEPENDENT[name](draw, logits))
    for other in (Reinforce(), RLOO(), Exact()):
        assert other.expectation(lambda draw: DEPENDENT[name](draw, logits)).shape == (BATCH,)


@pytest.mark.parametrize("make", [DisARM, ARM])
def test_a_draw_that_may_depend_on_a_number_of_another_is_refused(make):
    logits = torch.randn(BATCH, K, requires_grad=True)
    with pytest.raises(ZooError, match="or may, since the program reads one by a number of Python's"):
        make().expectation(lambda draw: by_escape(draw, logits))


@pytest.mark.parametrize("make", [DisARM, ARM])
def test_antithetic_estimators_serve_any_cost_of_independent_draws(make):
    for name in ("look-up and smooth", "if", "detach", "TorchScript", "buffer", "compiled", "round", "boolean index"):
        loss, gradient = drawn(make(), JUMPS[name])
        assert loss.isfinite().all() and gradient.isfinite().all()


class Normalised(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(K, 8), norm, nn.Linear(8, 1))

    def forward(self, y):
        return self.layers(y).squeeze(1)


def shared(y):
    """Costs ``(rows,)`` with a draw in weights that three examples share."""
    seen = F.batch_norm(DATA[:3, :1] * y.sum(0), None, None, training=True)
    return seen.square().mean().expand(len(y))


@pytest.mark.parametrize("make", [Reinforce, RLOO, Rebar, Relax, DisARM, ARM])
def test_batch_normalisation_behind_a_draw_is_refused(make):
    relaxation = make()
    for model in (Normalised(nn.BatchNorm1d(8)), Normalised(nn.BatchNorm1d(8, track_running_stats=False)).eval()):
        with pytest.raises(ZooError, match=r"each row see the others' draws.*eval\(\)"):
            drawn(relaxation, model)
    drawn(relaxation, Normalised(nn.BatchNorm1d(8)).eval())
    drawn(relaxation, Normalised(nn.LayerNorm(8)))
    one, several = (lambda draw, rows=rows: shared(draw(torch.zeros(rows, K))) for rows in (1, 2))
    assert relaxation.expectation(one).isfinite().all()  # there are no others
    with pytest.raises(ZooError, match="each row see"):
        relaxation.expectation(several)
    before = nn.Sequential(nn.Linear(K, K), nn.BatchNorm1d(K))
    if make in (Reinforce, RLOO):
        x = torch.randn(BATCH, K)
        assert relaxation.expectation(lambda draw: draw(before(x)) @ VALUES).shape == (BATCH,)
    with pytest.raises(ZooError, match="each row see"):
        compiled_model = Normalised(nn.BatchNorm1d(8))
        compiled_model.compile(backend="eager")
        drawn(make(), compiled_model)


@pytest.mark.parametrize("norm", [False, True])
def test_batch_normalisation_is_refused_also_where_an_option_brings_it(norm):
    """After a first run of the same code without it."""
    relaxation, layers = RLOO(), nn.Sequential(nn.Linear(K, 8), nn.BatchNorm1d(8).eval())

    def cost(use, draw):
        z = draw(torch.zeros(BATCH, K))
        return (F.batch_norm(z, None, None, training=True) if use else layers(z)).sum(1)

    relaxation.expectation(functools.partial(cost, False))
    if norm:
        layers[1].train()
    with pytest.raises(ZooError, match="each row see"):
        relaxation.expectation(functools.partial(cost, not norm))


@pytest.mark.parametrize("make", [Reinforce, RLOO, DisARM])
def test_a_program_is_watched_once_and_then_costs_nothing(make, monkeypatch):
    relaxation, model, entered = make(), Normalised(nn.Identity()), []
    monkeypatch.setattr(
        "zoo.relaxations.following._Kernels",
        lambda f: entered.append(f) or contextlib.nullcontext(),
    )
    for _ in range(3):
        drawn(relaxation, model)
    assert len(entered) == 1
    copy.deepcopy(relaxation)
    drawn(relaxation, model.eval())  # another mode is another program
    assert len(entered) == 2


# A compiled part ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Rebar, Relax, DisARM, Reinforce, RLOO, Exact])
def test_a_compiled_decoder_trains_and_is_not_compiled_anew(make):
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    model = nn.Sequential(nn.Linear(K, 8), nn.ReLU(), nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 3, 2), nn.Flatten())
    model.compile(backend=counter)
    relaxation = make()
    with torch._dynamo.config.patch(error_on_recompile=False):
        for _ in range(3):
            drawn(relaxation, lambda y: model(y).square().sum(-1))
        compiled = counter.frame_count
        for _ in range(3):
            drawn(relaxation, lambda y: model(y).square().sum(-1))
    assert compiled == counter.frame_count >= 1
    parameter = next(model.parameters())
    logits = torch.randn(BATCH, K, requires_grad=True)
    relaxation.expectation(lambda draw: model(draw(logits)).sum(-1)).sum().backward()
    assert parameter.grad.abs().sum() > 0
