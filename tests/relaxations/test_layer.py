"""What every relaxation promises as a layer: its draws, its state, its temperature, its refusals."""

import copy
import io
import math
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.relaxations.checks import (
    CELLS,
    Repeated,
    cells,
    first_distribution,
    is_valid,
    law,
    logits_of,
    path,  # noqa: F401 (a fixture)
    pathwise,
    relaxations,
    tempered,
    weight_of,
)
from zoo.config import from_config, to_config
from zoo.errors import ZooError
from zoo.relaxations import (
    AIMLE,
    DISTRIBUTIONS,
    RELAXATIONS,
    Bernoulli,
    Categorical,
    DecoupledSTGumbel,
    GumbelSoftmax,
    Noise,
    ReinMax,
    Relax,
    Relaxation,
    STGumbelSoftmax,
    StraightThrough,
    Subset,
    functional,
)
from zoo.relaxations.score_function import ScoreFunction

LOGITS = torch.tensor([2.0, 0.0, -1.0, 1.0, -3.0, 0.5])


def make(name: str, **arguments) -> Relaxation:
    return RELAXATIONS[name](**arguments)


def draw(relaxation: Relaxation, distribution, **more) -> Tensor:
    """A draw; without gradient where there is none through a single draw."""
    with torch.set_grad_enabled(pathwise(type(relaxation)) and relaxation.training):
        return relaxation(distribution, **more)


def chi_squared_p(draws: Tensor, probabilities: Tensor) -> float:
    """Of one-hot draws."""
    observed = draws.reshape(-1, draws.shape[-1]).double().sum(0)
    keep = probabilities > 0
    assert observed[~keep].sum() == 0
    expected = probabilities[keep].double() / probabilities.double().sum() * observed.sum()
    return stats.chisquare(observed[keep], expected).pvalue


# Draws ----------------------------------------------------------------------------------------------------------------


@cells()
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.usefixtures("path")
def test_draws_have_the_layout_and_dtype_of_the_logits(relaxation, distribution, training):
    layer = make(relaxation).train(training)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        for batch in ((2, 3), (0,), (2, 0)):
            logits = logits_of(distribution, *batch, dtype=dtype)
            distribution_ = law(distribution, logits)
            value = draw(layer, distribution_)
            assert value.dtype == dtype and value.shape == distribution_.mode().shape
            assert value.isfinite().all()
            if layer.hard or not training:
                assert is_valid(distribution_, value).all()


@cells()
def test_seed_repeats_draws(relaxation, distribution):
    for training in (True, False):
        layer = make(relaxation).train(training)
        logits = law(distribution, logits_of(distribution, 64, dtype=torch.float32))
        drawn = []
        for seed in (7, 7, 8):
            torch.manual_seed(seed)
            drawn.append(draw(layer, logits))
        drawn += [draw(layer, logits, noise=Noise(torch.Generator().manual_seed(9))) for _ in range(2)]
        assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[3], drawn[4])
        random = layer.stochastic if training else layer.in_eval == "sample"
        assert torch.equal(drawn[0], drawn[2]) != random


@cells()
@pytest.mark.filterwarnings("ignore:Sinkhorn's normalisation has not converged")
@settings(max_examples=15)
@given(
    rows=st.integers(1, 5),
    scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]),
    tau=st.sampled_from([1e-3, 0.1, 1.0, 30.0, 1e3]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    masked=st.booleans(),
    training=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_draw_is_finite_and_its_gradient_is_zero_where_it_is_masked(
    relaxation, distribution, rows, scale, tau, dtype, masked, training, seed
):
    torch.manual_seed(seed)
    tau = max(tau, 0.1) if dtype == torch.float16 else tau  # whose gradients overflow
    layer = make(relaxation, **({"tau": tau} if tempered(RELAXATIONS[relaxation]) else {})).train(training)
    logits = logits_of(distribution, rows, 2, dtype=torch.float32)
    logits = (scale * (2 * torch.rand_like(logits) - 1)).to(dtype)
    mask = None
    if masked:
        mask = torch.ones(logits.shape, dtype=torch.bool)
        mask.flatten()[torch.randint(mask.numel(), ())] = False
    logits.requires_grad_(pathwise(type(layer)) and training)
    given_law = law(distribution, logits, mask)
    value = draw(layer, given_law)
    assert value.dtype == dtype and value.isfinite().all()
    if layer.hard or not training:
        assert is_valid(given_law, value).all()
    if masked and value.shape == logits.shape:
        assert (value[~mask] == 0).all()
    if value.requires_grad:
        (gradient,) = torch.autograd.grad((value.float() * torch.randn(value.shape)).sum(), logits)
        assert gradient.isfinite().all() and (mask is None or (gradient[~mask] == 0).all())


# What is drawn in eval() ----------------------------------------------------------------------------------------------


@cells()
def test_in_eval(relaxation, distribution):
    logits = law(distribution, logits_of(distribution, 100, dtype=torch.float32))
    by_default = make(relaxation)
    assert by_default.in_eval == ("sample" if by_default.stochastic else "mode")
    mode = make(relaxation, in_eval="mode").eval()(logits)
    assert torch.equal(mode, logits.mode()) or not by_default.stochastic
    sample = make(relaxation, in_eval="sample").eval()(logits)
    assert is_valid(logits, sample).all()
    try:
        soft = make(relaxation, in_eval="soft").eval()(logits)
    except ZooError as error:
        assert "soft form" in str(error)
    else:
        assert soft.isfinite().all() and not is_valid(logits, soft).all()
    with pytest.raises(ValueError, match="sample, mode or soft"):
        make(relaxation, in_eval="hard")


@cells()
def test_eval_draws_follow_the_law(relaxation, distribution):
    """The mean of the draws against that of exact samples of what ``law`` says is drawn."""
    layer = make(relaxation, in_eval="sample").eval()
    one = logits_of(distribution, dtype=torch.float32)
    logits = law(distribution, one.expand(20_000, *one.shape))
    drawn = layer(logits).double()
    try:
        expected = layer.law(logits).sample().double()
    except ZooError as error:
        assert "closed form" in str(error)
        return
    if relaxation == "st_argmax":
        assert torch.equal(drawn, logits.mode().double())
        return
    error = ((drawn.var(0) + expected.var(0)) / len(drawn)).sqrt()
    assert ((drawn.mean(0) - expected.mean(0)).abs() <= 4.5 * error + 1e-9).all()


@pytest.mark.parametrize("name", ["sparsemax", "entmax15"])
@pytest.mark.parametrize("distribution", ["categorical", "bernoulli"])
def test_sparse_maps_draw_nothing_outside_their_support(name, distribution):
    logits = torch.tensor([3.0, 2.7, 0.0, -5.0, 40.0 if distribution == "bernoulli" else -9.0]).expand(2000, -1)
    layer = make(name, in_eval="sample").eval()
    drawn, soft = layer(law(distribution, logits)), layer.train()(law(distribution, logits))
    error = (soft * (1 - soft) / len(drawn)).sqrt().amax(0)
    assert ((drawn.mean(0) - soft[0]).abs() <= 4.5 * error).all()  # exactly where it is 0 or 1
    assert (soft[0] == 0).any() and layer.law(law(distribution, logits)).entropy().isfinite().all()


@cells()
def test_a_gradient_is_not_lost_without_a_word(relaxation, distribution):
    logits = logits_of(distribution, 2, dtype=torch.float32).requires_grad_()
    for in_eval in ("sample", "mode"):
        layer = make(relaxation, in_eval=in_eval).eval()
        with pytest.warns(UserWarning, match="no gradient"):
            layer(law(distribution, logits))
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("error")
            layer(law(distribution, logits))
    layer = make(relaxation, in_eval="soft").eval()
    try:
        value = layer(law(distribution, logits))
    except ZooError:
        return
    (gradient,) = torch.autograd.grad((value * weight_of(distribution, logits)).sum(), logits)
    assert gradient.isfinite().all() and (gradient != 0).any()


@relaxations(lambda cls: not pathwise(cls))
def test_a_single_draw_of_those_without_a_path_is_refused_where_a_gradient_is_wanted(relaxation):
    with pytest.raises(ZooError, match="expectation"):
        make(relaxation)(torch.zeros(3, 2, requires_grad=True))
    assert make(relaxation)(torch.zeros(3, 2)).sum() == 3


# Laws -----------------------------------------------------------------------------------------------------------------
# Chi-squared at significance 1e-4: with fixed seeds a pass is for ever.


@relaxations(lambda cls: issubclass(Categorical, cls.needs))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_hard_categorical_draws_follow_softmax(relaxation, dtype):
    layer = make(relaxation, in_eval="sample").eval()
    if relaxation in ("sparsemax", "entmax15", "st_argmax"):
        return
    try:
        layer.law(Categorical(LOGITS))
    except ZooError:
        return
    for mask in (None, torch.tensor([True, False, True, True, False, True])):
        draws = layer(LOGITS.to(dtype).expand(100_000, -1), mask)
        logits = LOGITS if mask is None else LOGITS.masked_fill(~mask, -math.inf)
        assert chi_squared_p(draws, logits.softmax(-1)) > 1e-4


RARE = {
    "sample": lambda logits: Categorical(logits).sample(),
    "gumbel_softmax": lambda logits: GumbelSoftmax()(logits),
    "st_gumbel_softmax": lambda logits: STGumbelSoftmax()(logits),
    "straight_through": lambda logits: StraightThrough()(logits),
    "reinmax": lambda logits: ReinMax()(logits),
}


@pytest.mark.parametrize("way", RARE)
@pytest.mark.usefixtures("path")
def test_rare_categories_come_as_often_as_they_should(way):
    """262,144 categories, all but one of probability 5e-7: where noise is too coarse, too few or too many of them win.

    Rarer ones are a matter of the tails of the noise, which have tests of their own.
    """
    rows, p = 48, 5e-7
    logits = torch.full((262_144,), math.log(p))
    logits[1000] = math.log1p(-262_143 * p)
    winners = torch.cat([RARE[way](logits.expand(8, -1)).argmax(-1) for _ in range(rows // 8)])
    rare = winners[winners != 1000]
    assert stats.binomtest(len(rare), rows, 262_143 * p).pvalue > 1e-4
    assert len(rare.unique()) == len(rare)


@pytest.mark.parametrize("way", RARE)
@pytest.mark.usefixtures("path")
def test_probabilities_of_many_sizes(way):
    """First, in the middle and last in the row, on 10^6 draws."""
    p = torch.tensor([1e-5, 1e-4, 0.5, 1e-3, 0.4, 1e-5, 1e-4], dtype=torch.float64)
    p[2] += 1 - p.sum()
    counts = sum(
        torch.bincount(RARE[way](p.log().float().expand(250_000, -1)).argmax(-1), minlength=7) for _ in range(4)
    )
    for count, probability in zip(counts, p):
        assert stats.binomtest(int(count), 10**6, float(probability)).pvalue > 1e-4


# Numbers that are none ------------------------------------------------------------------------------------------------


def spoil(logits: Tensor, how: str) -> Tensor:
    """The first of the examples with a logit, or all of them, that cannot be."""
    logits = logits.clone()
    first = logits[0].flatten()
    if how == "-inf":
        first[:] = -math.inf
    else:
        first[0] = float(how)
    return logits


@cells()
@pytest.mark.parametrize("how", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.usefixtures("path")
def test_logits_that_are_not_finite_give_no_valid_choice(relaxation, distribution, how, training):
    if how == "-inf" and DISTRIBUTIONS[distribution].choice_dims == 0:
        return  # a gate that never opens
    logits = spoil(logits_of(distribution, 3, dtype=torch.float32), how)
    given_law = law(distribution, logits)
    for in_eval in (None,) if training else ("sample", "mode", "soft"):
        layer = make(relaxation, in_eval=in_eval).train(training)
        try:
            value = draw(layer, given_law)
        except ZooError as error:
            assert in_eval == "soft" and "soft form" in str(error)
            continue
        assert value[0].isnan().any() and value[1:].isfinite().all()


@relaxations(tempered)
@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.usefixtures("path")
def test_a_bad_temperature_gives_no_valid_choice(relaxation, tau):
    """Written into the buffer, or given as a tensor, for all examples or one: it is not read on the host."""
    distribution = first_distribution(relaxation)
    given_law = law(distribution, logits_of(distribution, 3, dtype=torch.float32))
    for name in RELAXATIONS[relaxation].temperatures:
        for training, in_eval in ((True, None), (False, "sample"), (False, "mode"), (False, "soft")):
            for way in ("buffer", "tensor", "example"):
                layer = make(relaxation, in_eval=in_eval).train(training)
                if way == "buffer":
                    getattr(layer, name).fill_(tau)
                else:
                    given = torch.tensor(tau) if way == "tensor" else torch.tensor([tau, 1.0, 1.0])
                    setattr(
                        layer, name, given if way == "tensor" else given.view(3, *[1] * (given_law.logits.dim() - 1))
                    )
                value = draw(layer, given_law)
                bad = value[:1] if way == "example" else value
                assert bad.isnan().flatten(1).any(1).all()
                assert way != "example" or value[1:].isfinite().all()
        if pathwise(RELAXATIONS[relaxation]) and hasattr(functional, relaxation):
            value = getattr(functional, relaxation)(given_law, **{name: torch.tensor(tau)})
            assert value.isnan().flatten(1).any(1).all()


@cells(lambda cls: not pathwise(cls) and cls.__name__ != "Exact")
def test_programs_see_no_valid_choice_either(relaxation, distribution):
    seen = []

    def program(draw) -> Tensor:
        seen.append(draw(law(distribution, logits)))
        return seen[-1].flatten(1).square().sum(1)

    logits = spoil(logits_of(distribution, 3, dtype=torch.float32), "nan").requires_grad_()
    make(relaxation).expectation(program)
    assert all(value[0].isnan().any() for value in seen)


# The temperature ------------------------------------------------------------------------------------------------------


@relaxations(tempered)
def test_the_temperature_is_set_and_shown(relaxation):
    layer = make(relaxation)
    for name in layer.temperatures:
        setattr(layer, name, 0.25)
        buffer = getattr(layer, name)
        assert buffer == 0.25 and buffer.dim() == 0 and f"{name}=0.25" in repr(layer)
        setattr(layer, name, 2)
        assert getattr(layer, name) is buffer and buffer == 2.0  # a compiled layer need not be compiled anew
        getattr(layer, name).fill_(0.125)
        assert f"{name}=0.125" in repr(layer)
        for wrong in (0.0, -1.0, math.nan, math.inf, "1", None, True):
            with pytest.raises(ValueError, match=f"{name} must be a positive finite number"):
                setattr(layer, name, wrong)
            with pytest.raises(ValueError, match=f"{name} must be a positive finite number"):
                make(relaxation, **{name: wrong})
        assert buffer == 0.125


@relaxations(lambda cls: not tempered(cls))
def test_those_without_a_temperature_take_none(relaxation):
    with pytest.raises(TypeError):
        make(relaxation, tau=1.0)


@cells(lambda cls: tempered(cls) and pathwise(cls))
@pytest.mark.usefixtures("path")
def test_one_temperature_for_each_example(relaxation, distribution):
    """As a loop over examples; of a shape that broadcasts, or refused."""
    logits, noise = logits_of(distribution, 3), Repeated()
    taus = torch.tensor([0.4, 1.0, 1.5], dtype=torch.float64).view(3, *[1] * (logits.dim() - 1))
    weight = weight_of(distribution, logits)
    layer = make(relaxation, tau=taus)

    def values(layer: Relaxation, logits: Tensor) -> tuple[Tensor, Tensor]:
        noise.rewind()
        logits = logits.clone().requires_grad_()
        value = layer(law(distribution, logits), noise=noise)
        return value.detach(), torch.autograd.grad((value * weight).sum(), logits)[0]

    many = values(layer, logits)
    for i, tau in enumerate(taus.flatten()):
        one = values(make(relaxation, tau=tau.item()), logits)
        torch.testing.assert_close(many[0][i], one[0][i])
        if not issubclass(RELAXATIONS[relaxation], AIMLE):  # whose strength has moved
            torch.testing.assert_close(many[1][i], one[1][i])
    assert "tau=tensor of shape (3, 1" in repr(layer) and "tau" not in layer.state_dict()
    for wrong in ((3,), (2, *taus.shape[1:]), logits.shape if logits[0].dim() and logits.shape != taus.shape else (7,)):
        layer.tau = torch.ones(wrong)
        if DISTRIBUTIONS[distribution].choice_dims or wrong != tuple(logits.shape):
            with pytest.raises(ValueError, match="tensor of temperatures must be 0-dim or"):
                layer(law(distribution, logits))
    layer.tau = 0.5
    assert layer.tau.shape == () and "tau" in layer.state_dict()


@cells(lambda cls: tempered(cls) and pathwise(cls))
def test_a_learned_temperature(relaxation, distribution):
    """Its gradient is the derivative of the surrogate, which for soft draws is that of the value; or it is refused."""
    cls = RELAXATIONS[relaxation]
    if not cls.learns_tau:
        for tau in (nn.Parameter(torch.tensor(0.7)), torch.tensor(0.7, requires_grad=True)):
            with pytest.raises(ZooError, match="no gradient for its tau"):
                make(relaxation, tau=tau)
            with pytest.raises(ZooError, match="no gradient for its tau"):
                make(relaxation).tau = tau
            with pytest.raises(ZooError, match="no gradient for its tau"):
                getattr(functional, relaxation)(torch.zeros(2, 3), tau)
        return
    logits, noise = logits_of(distribution, 3), Repeated()
    weight = weight_of(distribution, logits)
    for name in cls.temperatures:
        layer = make(relaxation, **{name: nn.Parameter(torch.tensor(0.7, dtype=torch.float64))})
        assert [n for n, _ in layer.named_parameters()] == [name] and f"{name}=0.7" in repr(layer)

        def loss(layer: Relaxation = layer) -> Tensor:
            noise.rewind()
            return (layer(law(distribution, logits), noise=noise) * weight).sum()

        (slope,) = torch.autograd.grad(loss(), getattr(layer, name))
        assert slope != 0
        if not cls.hard:
            up, down = (loss(make(relaxation, **{name: 0.7 + step}).double()) for step in (1e-6, -1e-6))
            torch.testing.assert_close(slope, (up - down) / 2e-6, rtol=1e-5, atol=1e-7)
        setattr(layer, name, 0.3)  # a number is written into the parameter
        assert isinstance(getattr(layer, name), nn.Parameter) and getattr(layer, name) == 0.3
        other = copy.deepcopy(layer)
        assert getattr(other, name) is not getattr(layer, name) and list(other.parameters())
        with pytest.raises(ZooError, match=rf"{cls.__name__}.{name}: a Parameter cannot be written"):
            to_config(layer)


@pytest.mark.parametrize("relaxation", ["straight_through", "st_argmax", "st_gumbel_softmax", "st_gaussian_softmax"])
def test_the_temperature_of_a_straight_through_draw_has_the_surrogates_gradient(relaxation):
    logits, noise = logits_of("categorical", 3), Repeated()
    weight, tau = weight_of("categorical", logits), nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
    value = make(relaxation, tau=tau)(logits, noise=noise)
    (slope,) = torch.autograd.grad((value * weight).sum(), tau)
    scores = logits
    if relaxation.endswith("_softmax"):
        noise.rewind()
        scores = logits + (noise.gumbel(logits) if "gumbel" in relaxation else noise.gaussian(logits))
    (expected,) = torch.autograd.grad(((scores / tau).softmax(-1) * weight).sum(), tau)
    torch.testing.assert_close(slope, expected)


def test_a_temperature_from_a_network():
    logits = torch.randn(3, 4)
    tau = torch.rand(3, 1, requires_grad=True)
    layer = GumbelSoftmax()
    layer.tau = tau * 2
    layer(logits).square().sum().backward()
    assert tau.grad.isfinite().all() and (tau.grad != 0).all()


def test_a_tensor_of_the_user_stays_the_users():
    mine = torch.tensor(0.5)
    layer = GumbelSoftmax(tau=mine)
    assert layer.tau is mine
    layer.tau = 0.3
    assert mine == 0.5 and layer.tau == torch.tensor(0.3)


def test_a_temperature_travels_to_a_configuration_as_a_number():
    layer = from_config(to_config(DecoupledSTGumbel(tau=2.0, backward_tau=0.3, in_eval="mode")))
    assert (layer.tau, layer.backward_tau, layer.in_eval) == (2.0, torch.tensor(0.3), "mode")


# State ----------------------------------------------------------------------------------------------------------------


def trained(name: str) -> Relaxation:
    """A relaxation that has changed since it was made."""
    layer = make(name)
    for tau in layer.temperatures if tempered(type(layer)) else ():
        setattr(layer, tau, 0.125)
    with torch.no_grad():
        for key, value in layer.state_dict().items():
            if value.is_floating_point() and "tau" not in key:
                value.add_(0.5)
    return layer


class Network(nn.Module):
    def __init__(self, relaxation: Relaxation) -> None:
        super().__init__()
        self.linear, self.relaxation = nn.Linear(2, 2), relaxation


@relaxations()
def test_the_state_travels_to_the_same_relaxation(relaxation, caplog):
    layer = trained(relaxation)
    other = Network(make(relaxation))
    other.load_state_dict(Network(layer).state_dict())
    for name, value in layer.state_dict().items():
        assert torch.equal(other.relaxation.state_dict()[name], value)
    assert not caplog.records
    logits = law(first_distribution(relaxation), logits_of(first_distribution(relaxation), 50, dtype=torch.float32))
    drawn = []
    for each in (layer, other.relaxation, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.manual_seed(0)
        drawn.append(draw(each, logits))
        assert torch.equal(drawn[0], drawn[-1]) and repr(each) == repr(layer)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    assert repr(torch.load(file, weights_only=False)) == repr(layer)


@relaxations()
def test_a_checkpoint_of_one_estimator_loads_strictly_into_the_model_with_another(relaxation, caplog):
    for other in RELAXATIONS:
        if other == relaxation:
            continue
        model = Network(make(relaxation))
        before = {name: value.clone() for name, value in model.relaxation.state_dict().items()}
        theirs = Network(trained(other))
        caplog.clear()
        model.load_state_dict(theirs.state_dict())
        assert torch.equal(model.linear.weight, theirs.linear.weight)
        for name, value in model.relaxation.state_dict().items():
            assert torch.equal(value, before[name])
        assert caplog.text.count("\n") == 1 and type(theirs.relaxation).__name__ in caplog.text
        model.relaxation.load_state_dict(theirs.relaxation.state_dict())  # also by itself


def test_a_configured_temperature_wins_and_a_line_says_so(caplog):
    checkpoint = GumbelSoftmax(tau=1.0)
    checkpoint.tau = 0.125
    resumed, reconfigured = GumbelSoftmax(tau=1.0), GumbelSoftmax(tau=0.5)
    resumed.load_state_dict(checkpoint.state_dict())
    assert resumed.tau == 0.125 and not caplog.records
    reconfigured.load_state_dict(checkpoint.state_dict())
    assert reconfigured.tau == 0.5
    assert "GumbelSoftmax(tau=0.5) keeps its own tau: the checkpoint is of GumbelSoftmax(tau=1.0)" in caplog.text
    network = Relax()
    nn.init.constant_(network.network[0].bias, 3.0)
    other = Relax(tau=0.5)
    other.load_state_dict(network.state_dict())
    assert other.tau == 0.5 and (other.network[0].bias == 3.0).all()  # the rest is loaded


@relaxations()
def test_state_dicts_of_version_02_load_strictly(relaxation, caplog):
    """They have a 0-dim tau for every relaxation, and do not name it."""
    layer = trained(relaxation)
    state = {name: value for name, value in layer.state_dict().items() if name != "_extra_state"}
    state["tau"] = torch.tensor(0.0625)
    model = Network(make(relaxation))
    model.load_state_dict(
        Network(layer).linear.state_dict(prefix="linear.") | {f"relaxation.{n}": v for n, v in state.items()}
    )
    for name, value in model.relaxation.state_dict().items():
        if name != "_extra_state":
            assert torch.equal(value, state[name])
    assert not caplog.records
    make(relaxation).load_state_dict({"tau": torch.tensor(0.0625)})


def test_what_is_no_checkpoint_of_a_relaxation_is_refused():
    with pytest.raises(RuntimeError, match="Missing key"):
        GumbelSoftmax().load_state_dict({"weight": torch.zeros(3)})
    for state in (torch.zeros(0, dtype=torch.uint8), torch.tensor([255, 1], dtype=torch.uint8), torch.zeros(2)):
        layer = GumbelSoftmax(tau=0.5)
        layer.load_state_dict({"tau": torch.tensor(3.0), "_extra_state": state})  # of something unknown
        assert layer.tau == 0.5


@relaxations()
def test_the_state_travels_through_safetensors(relaxation):
    from safetensors.torch import load, save

    layer, other = trained(relaxation), make(relaxation)
    other.load_state_dict(load(save({name: value.contiguous() for name, value in layer.state_dict().items()})))
    assert repr(other) == repr(layer)


@cells()
def test_half_and_double_modules(relaxation, distribution):
    """Temperatures and running means never get coarser than float32; float64 is computed in float64."""
    for convert, dtype in (
        (nn.Module.half, torch.float16),
        (nn.Module.bfloat16, torch.bfloat16),
        (nn.Module.double, torch.float64),
    ):
        layer = convert(make(relaxation, **({"tau": 0.3} if tempered(RELAXATIONS[relaxation]) else {})))
        wanted = torch.float64 if dtype == torch.float64 else torch.float32
        assert all(b.dtype == wanted for b in layer.buffers())
        if tempered(type(layer)):
            assert layer.tau.item() == torch.tensor(0.3, dtype=wanted).item()
        logits = logits_of(distribution, 3, dtype=dtype).requires_grad_()

        def program(draw, logits: Tensor = logits) -> Tensor:
            return draw(law(distribution, logits)).flatten(1).square().sum(1)

        loss = layer.expectation(program)
        assert loss.isfinite().all()
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert gradient.dtype == dtype and gradient.isfinite().all()


@cells()
def test_automatic_mixed_precision(relaxation, distribution):
    linear, layer = nn.Linear(5, logits_of(distribution, 1).numel()), make(relaxation)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = linear(torch.randn(3, 5)).view(3, *logits_of(distribution, 1).shape[1:])
        assert logits.dtype == torch.bfloat16
        loss = layer.expectation(lambda draw: draw(law(distribution, logits)).float().flatten(1).square().sum(1))
    loss.sum().backward()
    assert loss.isfinite().all() and linear.weight.grad.isfinite().all()


def test_the_layer_moves_to_another_device_and_into_inference_mode():
    layer = DecoupledSTGumbel(tau=2.0).to("meta")
    assert layer.tau.is_meta and "tau=tensor" in repr(layer)
    layer = layer.to_empty(device="cpu")
    assert (layer.tau, layer.backward_tau) == (2.0, 0.5)  # numbers are written again
    with torch.inference_mode():
        inside = GumbelSoftmax(tau=0.5)
        inside.tau = 0.3
        assert inside(torch.zeros(2, 3)).isfinite().all()
        inside.tau.fill_(-1.0)
        assert inside(torch.zeros(2, 3)).isnan().all()


def test_a_copy_knows_whether_its_temperature_has_been_overwritten():
    layer = GumbelSoftmax()
    layer.tau.fill_(-1.0)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other(torch.zeros(2, 3)).isnan().all()


# No look at the device's data -----------------------------------------------------------------------------------------


class NoReading(TorchDispatchMode):
    """Refuses what makes the host wait for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "unique"), name
        return func(*args, **(kwargs or {}))


@cells(lambda cls: cls.__name__ != "Exact")
@pytest.mark.parametrize("masked", [False, True])
def test_no_draw_reads_the_devices_data(relaxation, distribution, masked):
    """On the meta device, which has no data to read."""
    hard = distribution == "matching"  # an assignment is found on the host
    if hard and (RELAXATIONS[relaxation].hard or relaxation == "perturbed_optimizer"):
        return
    logits = (
        logits_of(distribution, 3, dtype=torch.float32).to("meta").requires_grad_(pathwise(RELAXATIONS[relaxation]))
    )
    mask = torch.ones_like(logits, dtype=torch.bool) if masked else None
    for in_eval in ("sample", "mode", "soft"):
        layer = make(relaxation, in_eval=in_eval).to("meta")
        with NoReading():
            value = draw(layer, law(distribution, logits, mask))
            if value.requires_grad:
                value.sum().backward()
            try:
                draw(layer.eval(), law(distribution, logits, mask)) if not hard or in_eval == "soft" else None
            except ZooError as error:
                assert in_eval == "soft" and "soft form" in str(error)


# PyTorch alone --------------------------------------------------------------------------------------------------------

ALONE = """
import sys

ABSENT = "numpy scipy lightning pytorch_lightning pydantic hydra omegaconf torchvision torchmetrics wandb matplotlib"

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT.split() + ["safetensors", "entmax", "yaml"]:
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
import torch
from zoo.relaxations import DISTRIBUTIONS, RELAXATIONS, Pathwise, functional

for cls in RELAXATIONS.values():
    for distribution in DISTRIBUTIONS.values():
        if not all(issubclass(distribution, need) for need in cls.needs):
            continue
        example = distribution.example()
        logits = example.logits.requires_grad_()
        try:
            cls().expectation(lambda draw: draw(example).flatten(1).square().sum(1)).sum().backward()
            cls().eval()(example.with_logits(logits.detach()))
        except ValueError as error:
            assert "Matching needs scipy to assign" in str(error), error
functional.gumbel_softmax(torch.zeros(2, 3), 1.0, True)
print(sorted(name for name in sys.modules if name.partition(".")[0] == "zoo"))
"""


def test_works_where_only_pytorch_is_installed():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ALONE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout
    assert "zoo.relaxations" in loaded and "zoo.models" not in loaded


# What is refused ------------------------------------------------------------------------------------------------------


@relaxations()
def test_distributions_that_are_not_served_are_refused_by_name(relaxation):
    for distribution, cls in DISTRIBUTIONS.items():
        if (relaxation, distribution) not in CELLS:
            message = f"{RELAXATIONS[relaxation].__name__} does not serve {cls.__name__}: it needs .*served by "
            with pytest.raises(ZooError, match=message):
                make(relaxation)(cls.example())
            with pytest.raises(ZooError, match=message):
                make(relaxation).expectation(lambda draw, cls=cls: draw(cls.example()).flatten(1).sum(1))


@relaxations(lambda cls: issubclass(Categorical, cls.needs))
def test_wrong_input_is_an_error(relaxation):
    layer = make(relaxation)
    for logits, mask, message in (
        (torch.zeros(2, 3, dtype=torch.int64), None, "floating-point"),
        (torch.zeros(()), None, "must be"),
        (torch.zeros(2, 0), None, "at least one category"),
        (torch.zeros(2, 3), torch.ones(2, 3), "boolean"),
        (torch.zeros(2, 3), torch.ones(4, 2, 3, dtype=torch.bool), "broadcast"),
        (torch.zeros(2, 3), torch.ones(5, dtype=torch.bool), "broadcast"),
        (torch.zeros(2, 2), torch.tensor([[True, True], [False, False]]), "allows no choice"),
    ):
        for each in (layer, make(relaxation).eval()):
            with pytest.raises(ValueError, match=message):
                each(logits, mask)
    with pytest.raises(TypeError, match="a mask belongs to the distribution"):
        layer(Categorical(torch.zeros(2, 3)), torch.ones(3, dtype=torch.bool))


@relaxations()
def test_a_program_must_return_one_cost_per_example(relaxation):
    example = DISTRIBUTIONS[first_distribution(relaxation)].example()
    for program in (
        lambda draw: draw(example).mean(),
        lambda draw: draw(example)[:, :1, None].expand(-1, 2, 2) if draw(example).dim() == 2 else draw(example),
        lambda draw: 1.0,
    ):
        with pytest.raises(ValueError, match="one cost per example"):
            make(relaxation).expectation(program)


@relaxations(lambda cls: not issubclass(cls, ScoreFunction))
def test_a_baseline_is_for_score_functions(relaxation):
    example = DISTRIBUTIONS[first_distribution(relaxation)].example()
    with pytest.raises(ZooError, match="takes no baseline"):
        make(relaxation).expectation(lambda draw: draw(example).flatten(1).sum(1), baseline=torch.zeros(1))


# What is written behind its back --------------------------------------------------------------------------------------


def test_a_temperature_that_was_written_through_data_counts():
    for write in (lambda tau: tau.data.fill_(0.1), lambda tau: tau.numpy().__setitem__(..., 0.1)):
        layer, logits = GumbelSoftmax(tau=1.0), torch.randn(50, 4)
        write(layer.tau)
        drawn = [
            each(logits, noise=Noise(torch.Generator().manual_seed(0))) for each in (layer, GumbelSoftmax(tau=0.1))
        ]
        torch.testing.assert_close(*drawn)


def test_a_loaded_temperature_is_the_number_that_was_configured():
    """Of which the checkpoint has what float32 leaves."""
    one, other, logits = ReinMax(tau=1.1), ReinMax(tau=1.1), torch.randn(40, 10, requires_grad=True)
    other.load_state_dict(one.state_dict())
    values = [each(logits, noise=Noise(torch.Generator().manual_seed(0))) for each in (one, other)]
    slopes = [torch.autograd.grad(value.square().cumsum(1).sum(), logits)[0] for value in values]
    assert torch.equal(*slopes) and other.temperature_for(Categorical(logits)) == 1.1


# Distributions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in DISTRIBUTIONS if hasattr(DISTRIBUTIONS[name], "rsample")])
def test_a_relaxed_sample_asks_for_a_temperature(name):
    law = DISTRIBUTIONS[name].example()
    for tau in (-1.0, 0.0, math.nan):
        with pytest.raises(ValueError, match="tau must be a positive"):
            law.rsample(tau)
    assert law.rsample(torch.tensor(-1.0)).isnan().all()
    assert law.rsample(0.5).shape == law.sample().shape
    if name not in ("categorical", "bernoulli"):
        with pytest.raises(ZooError, match="no density of a relaxed sample"):
            law.relaxed_log_prob(law.rsample(0.5), 0.5)


@pytest.mark.parametrize("law", [Categorical, Bernoulli, lambda x, mask=None: Subset(x, 1, mask)])
def test_a_divergence_is_infinite_where_the_other_law_never_goes(law):
    mask = torch.tensor([[True, False]])
    assert (law(torch.tensor([[0.0, -110.0]])).kl(law(torch.zeros(1, 2), mask)) == math.inf).any()


def test_the_probability_of_what_is_no_value_is_refused():
    with pytest.raises(ValueError, match=r"a value of Categorical\(\(4, 5\)\) must be \(..., 4, 5\)"):
        Categorical(torch.zeros(4, 5)).log_prob(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="floating-point tensor, got list"):
        Categorical([0.0, 1.0])


# What would be lost without a word ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax", "st_gumbel_softmax", "reinmax"])
def test_a_cost_that_is_cut_off_from_its_draw_is_refused(name):
    logits, rewards = torch.zeros(5, 3, requires_grad=True), torch.arange(3.0)
    with pytest.raises(ZooError, match=f"{RELAXATIONS[name].__name__} sends its gradient through the draw.*Use rloo"):
        make(name).expectation(lambda draw: rewards[draw(logits).argmax(-1)])
    with torch.no_grad():
        assert make(name).expectation(lambda draw: rewards[draw(logits).argmax(-1)]).shape == (5,)


def test_a_temperature_is_given_only_to_what_has_one():
    with pytest.raises(ZooError, match="RLOO has no temperature"):
        make("rloo").tau = 0.3


def test_a_draw_of_another_shape_is_an_error():
    class Wrong(GumbelSoftmax):
        def pathwise(self, distribution, noise):
            return distribution.logits[:2]

    with pytest.raises(ValueError, match=r"Wrong.pathwise must give a value for each choice, \(5,\).*got \(2, 3\)"):
        Wrong()(torch.zeros(5, 3))
