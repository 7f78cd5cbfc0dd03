"""The selector: what is drawn, what the predictor sees, and what others make of the selection."""

import pytest
import torch

import zoo
from zoo.config import from_config, to_config
from zoo.models.selector import MLPPredictor, MLPScorer, Selector, judging
from zoo.relaxations import Exact, STGumbelSoftmax, Subset
from zoo.training import AdamW


def make(*, features=6, columns=6, k=2, each=False, items=1, groups=None, relaxation=None, **options) -> Selector:
    return Selector(
        predictor=MLPPredictor(features=features, outputs=2, items=items, hidden=[8]),
        relaxation=relaxation or STGumbelSoftmax(),
        optimizer=AdamW(),
        features=features,
        columns=columns,
        k=k,
        groups=groups,
        scorer=MLPScorer(features=features, columns=columns, items=items, hidden=[8]) if each else None,
        **options,
    )


@pytest.mark.parametrize("each", [False, True])
def test_the_predictor_sees_only_what_was_selected(each):
    model = make(each=each).eval()
    x = torch.randn(5, 6)
    prediction, chosen = model(x)
    assert (chosen.sum(1) == 2).all()
    hidden = torch.where(chosen == 1, x, torch.randn(5, 6))
    seen = model.predictor(hidden * chosen).log_softmax(-1)
    torch.testing.assert_close(seen, prediction)
    if not each:
        torch.testing.assert_close(model(hidden)[0], prediction)
        assert (chosen == chosen[0]).all()


def test_a_column_is_selected_with_all_its_features():
    model = make(features=6, columns=3, k=1, groups=[0, 0, 1, 2, 2, 2])
    assert model.spread(torch.tensor([[0.0, 1.0, 0.0]])).tolist() == [[0, 0, 1, 0, 0, 0]]
    assert make(features=6, columns=3, k=1).spread(torch.tensor([[0.0, 0.0, 1.0]])).tolist() == [[0, 0, 0, 0, 1, 1]]


@pytest.mark.parametrize("each", [False, True])
def test_the_objective_is_the_expectation_over_subsets(each):
    """By enumeration, in the layer and here."""
    model = make(each=each, relaxation=Exact(), rows=2).double()
    x, y = torch.randn(4, 6, dtype=torch.float64), torch.randint(2, (4,))
    if not each:
        torch.nn.init.normal_(model.scores, std=0.1)
    value = model.expected(x, y, 2)
    law = Subset(model.logits(x).expand(4, -1) if not each else model.logits(x), 2)
    support = law.enumerate_support()
    p = law.log_prob(support).exp()
    costs = torch.stack([model.cost(x, y, model.predictor(x * chosen)) for chosen in support])
    expected = (p * costs).sum(0)
    torch.testing.assert_close(value, expected if each else expected.view(2, 2).mean(1))


def test_rows_that_share_a_draw_divide_the_batch():
    model = make(rows=16)
    for batch, parts in ((64, 4), (100, 10), (7, 1), (50, 5)):
        assert len(model.expected(torch.randn(batch, 6), torch.zeros(batch, dtype=torch.int64), 2)) == parts


def test_the_budget_falls_from_many_to_k():
    model = make(features=100, columns=100, k=5, start=0.5, shrink=0.5)
    budgets = [model.budget(i / 20) for i in range(21)]
    assert budgets[0] == 50 and budgets[5] == round((50 * 5) ** 0.5) and budgets[10:] == [5] * 11
    assert budgets == sorted(budgets, reverse=True)
    assert make(k=2, shrink=0.0).budget(0.0) == 2
    assert make(k=5, start=0.1).budget(0.0) == 5


def test_where_an_item_of_a_bag_stands_says_nothing():
    model = make(features=12, columns=4, k=2, each=True, items=4).eval()
    x, order = torch.randn(3, 4, 3), torch.tensor([2, 0, 3, 1])
    prediction, chosen = model(x)
    moved, also = model(x[:, order])
    torch.testing.assert_close(moved, prediction)
    assert torch.equal(also, chosen[:, order])


def test_products_see_what_two_columns_do_together():
    net = MLPPredictor(features=3, outputs=2, hidden=[4], products=True)
    with torch.no_grad():
        net.head.weight.zero_(), net.head.bias.zero_()
        net.products.view(3, 2, 3)[0, 1, 2] = 1.0
    x = torch.randn(5, 3)
    torch.testing.assert_close(net(x), torch.stack([torch.zeros(5), x[:, 0] * x[:, 2]], 1))


def test_a_column_and_its_opposite_say_as_much_of_the_label():
    """Most values of a pixel are its smallest, or its largest."""
    y = (torch.arange(400) % 20 == 0).long()
    x = torch.stack([y.float(), 1.0 - y.float(), torch.arange(400) % 2 / 1.0], 1)
    for first in (x, x[:, [1, 0, 2]]):
        assert set(judging.by_mutual_information((first, y), torch.arange(3), 2)) == {0, 1}


def test_products_cost_their_norm_in_training():
    net = MLPPredictor(features=3, outputs=2, hidden=[4], products=True, lasso=0.5)
    assert net.penalty() == 0.0
    with torch.no_grad():
        net.products.view(3, 2, 3)[0, 1, 2] = -3.0
    assert net.penalty() == 1.5
    assert MLPPredictor(features=3, outputs=2, hidden=[4]).penalty() == 0.0
    with pytest.raises(ValueError, match="products=true makes 200000000 weights"):
        MLPPredictor(features=10_000, outputs=2, products=True)
    with pytest.raises(ValueError, match="lasso"):
        MLPPredictor(features=3, outputs=2, products=True, lasso=-1.0)


def test_names_go_with_the_weights(tmp_path):
    model = make()
    model.about["names"], model.about["shape"] = list("abcdef"), [2, 3]
    loaded = zoo.from_pretrained(zoo.save_pretrained(model, tmp_path / "selector.test"))
    assert loaded.names == model.names and loaded.example_input_array.shape == (2, 2, 3)
    assert to_config(loaded) == to_config(model)
    assert from_config(to_config(model)).names == []


@pytest.mark.parametrize(
    "options, message",
    [
        ({"k": 7}, "k=7 of 6 columns"),
        ({"k": 0}, "k=0 of 6 columns"),
        ({"rows": 0}, "rows >= 1"),
        ({"start": 0.0}, "start in"),
        ({"columns": 4}, "4 columns do not have equally many of 6 features"),
        ({"groups": [0, 0, 1]}, "groups must have one of 6 columns"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


# Judges ---------------------------------------------------------------------------------------------------------------

pytest.importorskip("sklearn")


def planted(rows=600, columns=12):
    """The label is the sign of the first two columns' sum; the third one says the same with noise."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(rows, columns, generator=g)
    y = (x[:, 0] + x[:, 1] > 0).long()
    x[:, 2] += 2.0 * y
    return (x[:400], y[:400]), (x[400:], y[400:])


def test_baselines_find_what_each_column_says():
    train, _ = planted()
    groups = torch.arange(12)
    assert set(judging.by_mutual_information(train, groups, 3)) == {0, 1, 2}
    assert set(judging.by_lasso(train, groups, 3)) == {0, 1, 2}
    assert len(set(judging.at_random(train, groups, 3))) == 3
    pairs = torch.arange(12) // 2
    assert set(judging.by_lasso(train, pairs, 2)) == {0, 1}


def test_judges_know_a_good_selection_from_a_bad_one():
    train, test = planted()
    values = judging.judge([0, 1], train, test, torch.arange(12), ["random"], 2)
    assert values["trees"] > 0.9 and values["network"] > 0.95
    assert values["trees_random"] < 0.75 and 0.4 < values["chance"] < 0.6


def test_a_choice_that_writes_the_label_is_found_out():
    train, test = planted()

    def honest(x):
        return torch.zeros_like(x).scatter(1, torch.full((len(x), 1), 0), 1.0)

    def writing(x):  # which of two useless columns says what the label is
        return torch.zeros_like(x).scatter(1, 10 + (x[:, :1] + x[:, 1:2] > 0).long(), 1.0)

    assert judging.leak(writing, train, test)["leak"] == 1.0
    clean = judging.leak(honest, train, test)
    assert abs(clean["leak"] - clean["chance"]) < 0.05 and clean["leak_of_ink"] < 0.9
