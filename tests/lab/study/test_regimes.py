"""The regimes: that cells do not see each other, that what is claimed to be exact is, that every one trains."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from zoo.config.composition import check, compose
from zoo.lab.study.plan import load, regimes
from zoo.lab.study.regimes.costs import Costs
from zoo.lab.study.regimes.images import ImageCodes
from zoo.lab.study.regimes.paths import GridPath, all_paths
from zoo.lab.study.regimes.probit import probit
from zoo.lab.study.regimes.trained import Trained
from zoo.lab.study.tensors import Adam, Seeds, TensorRegime
from zoo.relaxations import Softmax, STGumbelSoftmax

SETTINGS = [{"lr": 0.1, "tau": 1.0, "end": 1.0}, {"lr": 0.03, "tau": 0.3, "end": 0.1}]
TINY = [name for name in regimes() if all(isinstance(task, TensorRegime) for task in load(name).tasks.values())]


def named(plan, name):
    return next(one for one in plan.estimators if one.name == name)


@pytest.mark.parametrize("name", ["softmax", "st_argmax", "exact"])
def test_a_cell_is_what_it_is_alone(name):
    """Side by side with others: the same scores, of an estimator without noise, as by itself."""
    plan = load("costs")
    cells = [(settings, seed) for settings in SETTINGS for seed in (1, 2)]
    task = Costs(kind="convex", choices=4, steps=30, batch=5)
    together = task.run(named(plan, name), cells, share=1.0, key="a")
    for cell, result in zip(cells, together):
        (alone,) = task.run(named(plan, name), [cell], share=1.0, key="b")
        assert alone.test == pytest.approx(result.test, abs=1e-4) and alone.steps == result.steps == 30


def test_a_temperature_of_each_cell():
    """The estimator's noise apart, each cell has its own temperature: at a tiny one ST-Gumbel has no gradient."""
    plan = load("costs")
    cells = [({"lr": 0.3, "tau": tau, "end": 1.0}, 3) for tau in (1.0, 1e-6)]
    warm, cold = Costs(kind="linear", steps=60).run(named(plan, "st_gumbel_softmax"), cells, share=1.0, key="a")
    assert warm.test < 0.1 < cold.test


def test_what_a_seed_says_is_the_same_for_every_estimator_and_cell():
    first, second = Seeds([5, 7, 5]), Seeds([7])
    a, b = first.normal(4), second.normal(4)
    assert torch.equal(a[0], a[2]) and torch.equal(a[1], b[0]) and not torch.equal(a[0], a[1])
    assert not torch.equal(second.normal(4), b)  # each call has its own numbers


def test_adam_is_that_of_torch():
    g = torch.Generator().manual_seed(0)
    start, slopes = torch.randn(3, 4, generator=g), torch.randn(10, 3, 4, generator=g)
    lr = torch.tensor([0.1, 0.01, 0.3])
    mine = start.clone()
    adam = Adam({"p": mine}, {"p": lr})
    for slope in slopes:
        adam.step([slope], 1.0)
    for i in range(3):
        theirs = start[i].clone().requires_grad_()
        optimizer = torch.optim.Adam([theirs], lr=lr[i].item())
        for slope in slopes:
            theirs.grad = slope[i]
            optimizer.step()
        torch.testing.assert_close(mine[i], theirs.detach(), rtol=1e-5, atol=1e-6)


def test_adam_leaves_a_cell_without_a_finite_gradient_where_it_is():
    p = torch.ones(2, 3)
    bad = torch.tensor([[1.0, float("nan"), 1.0], [1.0, 1.0, 1.0]])
    assert Adam({"p": p}, {"p": 0.1}).step([bad], 1.0).tolist() == [1.0, 0.0]
    assert (p[0] == 1).all() and (p[1] < 1).all()


def test_paths_by_dynamic_programming_are_those_by_enumeration():
    n, g = 4, torch.Generator().manual_seed(1)
    scores = torch.randn(20, n, n, generator=g, dtype=torch.float64)
    paths = all_paths(n).double()
    assert len(paths) == 20 and (paths.sum((1, 2)) == 2 * n - 1).all()
    assert len({tuple(path.flatten().tolist()) for path in paths}) == 20
    value = torch.einsum("bij,pij->bp", scores, paths)
    law = GridPath(scores)
    torch.testing.assert_close(law.mode(), paths[value.argmax(1)])
    for tau in (0.3, 2.0):
        marginals = torch.einsum("bp,pij->bij", (value / tau).softmax(1), paths)
        torch.testing.assert_close(law.relax(scores, tau), marginals)


def test_gradients_of_soft_paths():
    scores = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: GridPath(s).relax(s, 0.7), scores)
    assert STGumbelSoftmax().expectation(lambda draw: draw(GridPath(scores)).sum((1, 2)).square()).shape == (2,)
    assert Softmax()(GridPath(scores)).shape == (2, 3, 3)


def test_the_table_of_costs_has_the_best():
    task = Costs(kind="deceptive", choices=3, categories=2, batch=4)
    _, data = task.begin(Seeds([0]))
    for i, combination in enumerate(itertools.product(range(2), repeat=3)):
        z = torch.eye(2)[list(combination)].expand(4, 3, 2)
        torch.testing.assert_close(task.costs(z, data), data["table"][:, i])


@pytest.mark.parametrize("name", regimes())
def test_options_of_trainings_are_in_order(name):
    plan = load(name)
    for task in plan.tasks.values():
        if isinstance(task, ImageCodes):
            check(compose(["model=cat_vae", *task.options]))
        elif isinstance(task, Trained):
            config = compose(task.options)
            check(config)
            for rung, one in itertools.product(plan.rungs, plan.estimators):  # each ends with a validation
                assert round(task.epochs * rung.share / one.runs) % config.trainer.check_val_every_n_epoch == 0, one


@pytest.mark.parametrize("name", TINY)
@pytest.mark.filterwarnings("ignore:Sinkhorn")
def test_every_regime_trains_with_one_estimator_of_each_family(name):
    plan = load(name)
    for task in [*plan.tasks.values()][-1:]:
        families = {}
        for one in plan.estimators:
            if one.family not in families and not task.serves(one):
                families[one.family] = one
        assert {"deterministic", "gumbel", "sampled"} <= families.keys()
        for one in families.values():
            for result in task.run(one, [(SETTINGS[0], 1), (SETTINGS[1], 2)], share=4.001 / task.steps, key="a"):
                assert 0 <= result.test < 1e6 and 0 <= result.valid < 1e6 and result.steps * one.runs == result.runs


@pytest.mark.parametrize("task", ["2x8", "30x10"])
def test_codes_of_images_train_and_are_scored(task, mnist_root, monkeypatch):
    monkeypatch.setenv("ZOO_DATA_DIR", mnist_root)
    plan = load("image_codes")
    for name in ("softmax", "reinmax", "rloo"):
        one = named(plan, name)
        (result,) = plan.tasks[task].run(one, [(plan.settings(0), 1)], share=8 / 1500, key="a")
        assert result.runs == result.steps * one.runs == 8
        assert 0 < min(result.scores["sampled"], result.scores["quantised"]) <= result.test < 2000


def test_a_training_that_diverges_has_the_score_that_was_set_for_it(mnist_root, monkeypatch):
    monkeypatch.setenv("ZOO_DATA_DIR", mnist_root)
    task = Trained(options=["model=cat_vae"], epochs=1, score={"neg_elbo": 1.0}, diverged=9e5)
    softmax = named(load("image_codes"), "softmax")
    (result,) = task.run(softmax, [({"lr": 1e20, "tau": 1.0, "end": 1.0}, 0)], share=1, key="a")
    assert result.valid == result.test == 9e5


@pytest.mark.parametrize("k", [2, 5])
def test_the_law_of_gaussian_noise(k):
    logits = 3 * torch.randn(20, k, generator=torch.Generator().manual_seed(k), dtype=torch.double)
    p = probit(logits, 1.3).exp()
    if k == 2:
        exact = torch.special.ndtr((logits[:, 0] - logits[:, 1]) / (1.3 * 2**0.5))
        torch.testing.assert_close(p[:, 0], exact, rtol=0, atol=1e-6)
    n = 100_000
    noisy = logits + 1.3 * torch.randn(n, 20, k, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    shares = torch.nn.functional.one_hot(noisy.argmax(-1), k).double().mean(0)
    assert ((shares - p).abs() < 5 * (p / n).sqrt() + 1e-4).all()  # five standard errors
    assert torch.autograd.gradcheck(lambda t: probit(t, 1.3), logits[:3].requires_grad_(), atol=1e-5)
    torch.testing.assert_close(probit(100 * logits.detach().float(), 1.3).exp().sum(-1), torch.ones(20))


def test_a_code_is_scored_by_the_law_that_draws_it():
    task = ImageCodes(options=[])
    logits = torch.tensor([[3.0, 0.0, -1.0]])
    for name, probability in (("gumbel_softmax", 0.9362), ("gaussian_softmax", 0.9418), ("softmax", 0.9972)):
        model = SimpleNamespace(relaxation=named(load("image_codes"), name).build())
        model.relaxation.tau = 0.5
        assert task.law(model, logits).logits.softmax(-1)[0, 0].item() == pytest.approx(probability, abs=5e-4), name


def test_training_helps():
    plan = load("routing")
    task = plan.tasks["even_start"]
    short, long = (
        task.run(
            named(plan, "softmax"), [({"lr": 0.03, "tau": 1.0, "end": 1.0}, s) for s in range(4)], share=x, key="a"
        )
        for x in (0.01, 0.3)
    )
    assert sum(r.test for r in long) < 0.85 * sum(r.test for r in short)
