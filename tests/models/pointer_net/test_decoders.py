"""Every way to decode, for every task, width and size: solutions that keep to the rules, no better than optimal."""

import itertools

import numpy as np
import pytest
import torch

import zoo
from tests.conftest import ROOT
from tests.models.pointer_net.test_model import make
from zoo.data.seeding import generator
from zoo.errors import ZooError
from zoo.models.pointer_net import TASKS, Knapsack, OpenTour, PickupDelivery, TimeWindows, VehicleRouting

WIDTHS = (1, 100)
SIZES = (1, 2, 3, 4, 6)
ENUMERATED = 4
DECODERS = {
    "greedy": lambda model, x, width: model.greedy(x, width),
    "augmented": lambda model, x, width: model.augmented(x, min(width, 8)),
    "sampled": lambda model, x, width: model.best_sample(x, width, at_once=40),
    "beam": lambda model, x, width: model.beam(x, width),
}


def sizes(task) -> list[int]:
    found = []
    for size in SIZES:
        try:
            task.check_size(size)
            found.append(size)
        except ValueError:
            assert size < 3 or size % 2
    return found


def enumerated(task, x: torch.Tensor) -> torch.Tensor:
    """The least cost of all that the mask allows, ``(batch,)``: each instance by depth-first search."""

    def least(one: torch.Tensor, progress: dict, order: list[int]) -> float:
        if len(order) == task.steps(one.shape[1]):
            return task.cost(one, torch.tensor([[order]])).item()
        allowed = task.mask(one, progress)[0, 0].nonzero().flatten().tolist()
        assert allowed
        return min(least(one, task.advance(one, progress, torch.tensor([[j]])), [*order, j]) for j in allowed)

    return torch.tensor([least(one, task.begin(one, 1), []) for one in x.split(1)])


@pytest.mark.parametrize("name", TASKS)
def test_solutions_are_valid_and_cost_what_they_say(name):
    task = TASKS[name]()
    model = make(task).eval()
    for size, (way, decode) in itertools.product(sizes(task), DECODERS.items()):
        x = task.generate(3, size, generator("cpu", size))
        task.check(x)
        optimum = enumerated(task, x) if size <= ENUMERATED else task.optimum(x)
        for width in WIDTHS if size < max(SIZES) else (3, *WIDTHS):
            order, cost = decode(model, x, width)
            order, cost = (order, cost) if order.dim() == 3 else (order.unsqueeze(1), cost.unsqueeze(1))
            assert task.valid(x, order).all(), (way, size, width)
            assert torch.allclose(task.cost(x, order), cost, atol=1e-5), (way, size, width)
            if optimum is not None:
                assert (cost >= optimum.unsqueeze(1) - 1e-5).all(), (way, size, width)
            if way == "beam" and width == 100 and size <= 3:  # as wide as there are solutions
                assert torch.allclose(cost[:, 0], optimum, atol=1e-5), size


@pytest.mark.parametrize("name", TASKS)
def test_solutions_without_replacement_are_different_and_all_there_are(name):
    task = TASKS[name]()
    model = make(task).eval()
    for size in sizes(task)[:3]:
        x = task.generate(2, size, generator("cpu", size))
        memory = model.encode(x)
        for k, starts in ((2, 1), (400, 2 if task.first_elements(x.shape[1]) is None or size > 1 else 1)):
            order, exists = model.distinct(x, memory, k, starts)
            assert task.valid(x, order.flatten(1, 2)).all()
            for found, there in zip(order.flatten(0, 1), exists.flatten(0, 1)):
                assert len(found[there].unique(dim=0)) == there.sum()
        p = model.log_prob(x, memory, order.flatten(1, 2)).view(exists.shape).exp()
        torch.testing.assert_close(torch.where(exists, p, 0.0).sum(-1), torch.ones(2, starts), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TASKS)
def test_optima_are_those_of_all_solutions(name):
    task = TASKS[name]()
    x = task.generate(2, 4, generator("cpu", 0))
    if (optimum := task.optimum(x)) is not None:
        assert torch.allclose(optimum, enumerated(task, x), atol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_solutions_that_break_the_rules_are_not_valid(name):
    """An element twice, and one too few: whatever the task, one of the two is forbidden in most solutions."""
    task = TASKS[name]()
    x = task.generate(20, 6, generator("cpu", 0))
    order = make(task).eval().greedy(x, 1)[0]
    twice = order.clone()
    twice[..., 1] = twice[..., 0]
    assert not task.valid(x, twice).any() if name != "convex_hull" else not task.valid(x, twice).all()


def test_a_validity_below_one_ends_an_evaluation(monkeypatch):
    model = make("knapsack", eval_beam=3).eval()
    x = model.task.generate(4, 5, generator("cpu", 0))
    logged = {}
    monkeypatch.setattr(model, "log", lambda name, value, **_: logged.__setitem__(name, value))
    model.test_step((x, torch.full((4,), torch.nan)), 0)
    model.on_test_epoch_end()
    assert logged["test/validity"] == 1
    wrong = torch.zeros(4, 6, dtype=torch.int64)
    wrong[:, :2] = 1
    monkeypatch.setattr(model, "beam", lambda x, width: (wrong, torch.zeros(4)))
    model.test_step((x, torch.full((4,), torch.nan)), 0)
    with pytest.raises(ZooError, match=r"only 0\.0000% of those by beam"):
        model.on_test_epoch_end()


def test_solutions_that_end_early_are_filled_with_stops():
    model = make("cvrp").eval()
    x = model.task.generate(3, 8, generator("cpu", 0))
    assert model.greedy(x)[0].shape[2] < model(x).shape[1] == model.task.steps(9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cvrp", "time_windows", "knapsack"])
def test_tasks_with_state_are_exported(name, tmp_path):
    model = make(name).eval()
    program = torch.export.load(zoo.export(model, tmp_path / "model.pt2")).module()
    x = model.task.generate(5, 10, generator("cpu", 1))[:, : model.example_input_array.shape[1]]
    assert torch.equal(program(x), model(x))


@pytest.mark.parametrize("call", ["greedy", "augmented", "best_sample", "beam"])
def test_a_width_of_zero_is_refused(call):
    model = make().eval()
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        getattr(model, call)(torch.rand(1, 5, 2), 0)


# Units, scales, precisions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tsp", "open_tour", "cvrp", "orienteering", "prize_collecting", "pickup_delivery"])
def test_solutions_do_not_depend_on_the_unit(name):
    task = TASKS[name]()
    model = make(task).eval()
    x = task.generate(5, 8, generator("cpu", 0))
    order, _ = model.greedy(x)
    moved = x.clone()
    columns = [0, 1, *getattr(task, "lengths", ())] + ([2, 3] if name == "pickup_delivery" else [])
    moved[..., columns] *= 1024.0
    if name == "cvrp":
        moved[..., 2] *= 4
    task.check(moved)
    assert torch.equal(model.greedy(moved)[0], order)
    assert torch.equal(model(moved.double()), model(x))


def test_half_and_double_precision(monkeypatch):
    model = make().eval()
    x = torch.rand(3, 9, 2)
    assert torch.equal(model(x.double()), model(x))
    assert torch.equal(model((200 * x).half()), model((200 * x).half().float()))
    assert model.task.cost((200 * x).half(), model.greedy(x)[0]).isfinite().all()
    for convert in (torch.nn.Module.half, torch.nn.Module.double):
        with pytest.raises(ZooError, match="weights in float32"):
            convert(make().eval())(x)
    with pytest.raises(ZooError, match="must be floating-point numbers"):
        model(torch.ones(1, 4, 2, dtype=torch.int64))
    with pytest.raises(ZooError, match="give it in another unit"):
        model(1e30 * x)
    assert torch.equal(model(1e30 * x.double()), model(x))


def test_a_network_of_version_0_2_sees_points_as_they_are():
    model = make(TASKS["tsp"](scaled=False)).eval()
    x = 0.5 * torch.rand(2, 6, 2)
    assert torch.equal(model.encode(x).distances, model.task.relation(x))
    assert torch.equal(model.task.symmetries(x)[3], 1 - x)
    with pytest.raises(ZooError, match="points of the unit square"):
        model(3 * x + 0.1)


def test_data_of_another_task_are_refused():
    from types import SimpleNamespace

    model = make("tsp")
    model._trainer = SimpleNamespace(datamodule=SimpleNamespace(task=TASKS["sort"]()))
    with pytest.raises(ZooError, match="for TSP, the data are instances of Sorting"):
        model.setup("test")


# Rules of single tasks, by hand ---------------------------------------------------------------------------------------


def test_routes_by_hand():
    x = torch.tensor([[[0.0, 0, 10, 1], [1, 0, 6, 0], [2, 0, 5, 0], [0, 1, 4, 0]]])
    task = VehicleRouting()
    task.check(x)
    orders = torch.tensor([[[1, 3, 0, 2, 0], [1, 2, 3, 0, 0], [1, 0, 2, 3, 0], [1, 0, 2, 0, 2], [1, 0, 2, 0, 0]]])
    assert task.valid(x, orders).tolist() == [[True, False, True, False, False]]
    assert task.cost(x, orders[:, :1]).item() == pytest.approx(1 + 2**0.5 + 1 + 4)
    with pytest.raises(ZooError, match="more than the capacity"):
        task.check(x * torch.tensor([1, 1, 2.0, 1]) - torch.tensor([[[0.0, 0, 10, 0]] + [[0.0] * 4] * 3]))


def test_windows_by_hand():
    x = torch.tensor([[[0.0, 0, 10, 0, 9, 1], [1, 0, 1, 0, 1, 0], [2, 0, 1, 3, 4, 0], [0, 2, 1, 0, 2, 0]]])
    task = TimeWindows()
    task.check(x)
    orders = torch.tensor([[[1, 2, 0, 3, 0], [2, 1, 0, 3, 0], [1, 3, 0, 2, 0]]])
    assert task.valid(x, orders).tolist() == [[True, False, False]]
    progress = task.advance(x, task.begin(x, 1), torch.tensor([[1]]))
    assert task.mask(x, progress)[0, 0].tolist() == [True, False, True, False]
    assert task.advance(x, progress, torch.tensor([[2]]))["time"].item() == 3  # it waits
    late = x.clone()
    late[0, 1, 4] = 0.5
    with pytest.raises(ZooError, match="cannot be reached from the depot in time"):
        task.check(late)


def test_pairs_are_pairs():
    task = PickupDelivery()
    with pytest.raises(ValueError, match="size must be even, got 5"):
        task.check_size(5)
    x = task.generate(2, 4, generator("cpu", 0))
    task.check(x)
    assert torch.equal(x[:, 1, 2:4], x[:, 3, :2]) and torch.equal(x[:, 4, 2:4], x[:, 2, :2])
    orders = torch.tensor([[[1, 3, 2, 4], [3, 1, 2, 4]]]).expand(2, -1, -1)
    assert task.valid(x, orders).tolist() == [[True, False]] * 2
    with pytest.raises(ZooError, match="with partners"):
        task.check(x.roll(1, 1))


def test_standard_routes_are_those_of_the_literature():
    """NumPy's calls in the order of the code of Kool et al. 2019."""
    np.random.seed(1234)
    depot, places = np.random.uniform(size=(10_000, 2)), np.random.uniform(size=(10_000, 20, 2))
    demand = np.random.randint(1, 10, size=(10_000, 20))
    from zoo.data.seeding import TEST

    x = VehicleRouting().standard(3, 20, TEST, "cpu").numpy()
    assert np.allclose(x[:, 0, :2], depot[:3]) and np.allclose(x[:, 1:, :2], places[:3])
    assert (x[:, 1:, 2] == demand[:3]).all() and (x[:, 0, 2] == 30).all()
    prize = TASKS["orienteering"]().standard(3, 20, TEST, "cpu").numpy()[:, 1:, 3]
    distance = np.linalg.norm(depot[:3, None] - places[:3], axis=-1)
    assert np.allclose(prize, (1 + (distance / distance.max(-1, keepdims=True) * 99).astype(int)) / 100)


def test_any_capacity_and_exact_weights():
    task = Knapsack(capacity=0.7, units=1000)
    x = torch.tensor([[[0.0, 0, 1], [0.333, 1, 0], [0.333, 1, 0], [0.035, 0.1, 0]]])
    task.check(x)
    assert task.optimum(x).item() == pytest.approx(-2)
    assert task.valid(x, torch.tensor([[[1, 2, 0, 0], [1, 2, 3, 0]]])).tolist() == [[True, False]]
    with pytest.raises(ZooError, match="whole numbers of units of 1/100"):
        Knapsack().check(x)
    for capacity in (0, -1.0, 0.0005, float("nan"), 1e6 + 0.001):
        with pytest.raises(ValueError, match="capacity must be positive"):
            Knapsack(capacity=capacity)
    fine = Knapsack(capacity=12.3, units=1_000_000)
    x[0, 1:, 0] = torch.tensor([4.194303, 0.000001, 1.0])
    fine.check(x)
    assert fine.weights(x).tolist() == [[0, 4_194_303, 1, 1_000_000]]
    x[0, 1, 0] = 0.5000005  # between two units
    with pytest.raises(ZooError, match="whole numbers of units of 1/1000000"):
        fine.check(x)
    x[0, 1, 0] = 6.3000004  # float32 has no number for each half of a unit there
    with pytest.raises(ZooError, match="at most 4,194,304 units"):
        fine.check(x)
    integers = Knapsack(capacity=float(np.float32(12.3)) * 1e6 // 1, units=1)
    x[0, 1:, 0] = torch.tensor([8_000_001.0, 1.0, 16_777_215.0])
    integers.check(x)
    x[0, 1, 0] = 16_777_216.0
    with pytest.raises(ZooError, match="at most 16,777,215 units"):
        integers.check(x)
    for capacity in (float(np.float32(12.3)), sum([0.01] * 1250)):
        assert Knapsack(capacity=capacity).limit(x) == round(100 * capacity)


def test_whole_demands_are_held_to_the_capacity_exactly():
    x = torch.zeros(1, 7, 4)
    x[0, :, :2] = torch.rand(7, 2)
    x[0, 0, 2], x[0, 1:, 2], x[0, 0, 3] = 1e6, 333_336, 1  # three are 8 too many
    task = TASKS["cvrp"]()
    order = torch.tensor([[[1, 2, 3, 0, 4, 5, 6], [1, 2, 0, 3, 4, 0, 5]]])
    assert not task.valid(x, order)[0, 0]
    progress = task.begin(x, 1)
    for chosen in (1, 2):
        progress = task.advance(x, progress, torch.tensor([[chosen]]))
    assert task.mask(x, progress)[0, 0].tolist() == [True] + 6 * [False]


@pytest.mark.parametrize("name", ["tsp20", "cvrp20", "op20"])
def test_places_may_lie_anywhere(name):
    model = zoo.from_pretrained(f"pointer_net.{name}")
    x = model.task.generate(1, 20, torch.Generator().manual_seed(0))[0].double().numpy()
    order, cost = model.solve(x)
    for shift, factor in ((1e8, 1.0), (0.0, 1e-25), (0.0, 1e100)):
        moved = x.copy()
        moved[:, :2] = moved[:, :2] * factor + shift
        for column in getattr(model.task, "lengths", ()):
            moved[:, column] *= factor
        again, now = model.solve(moved)
        assert np.array_equal(order, again)
        assert now == pytest.approx(cost * (1 if name == "op20" else factor), rel=1e-6)


@pytest.mark.parametrize("wrong", [None, "here", [[1, 2], [3]], np.zeros((0, 20, 2)), np.ones((5, 2)) * 1j])
def test_what_is_no_array_of_numbers_is_refused(wrong):
    with pytest.raises(ZooError, match="numbers"):
        zoo.from_pretrained("pointer_net.tsp20").solve(wrong)


def test_an_open_path_is_no_longer_than_the_tour_without_its_longest_edge():
    x = torch.rand(3, 5, 2)
    paths, tours = enumerated(OpenTour(), x), enumerated(TASKS["tsp"](), x)
    assert (paths < tours).all()


def test_the_task_of_the_documentation():
    text = (ROOT / "docs/how-to/own_task.md").read_text(encoding="utf-8")
    block = text.split("```python\n")[1].split("```")[0]
    assert len(block.splitlines()) < 60
    scope: dict = {}
    exec(block, scope)
    task = scope["Van"]()
    x = task.generate(4, 7, generator("cpu", 0))
    model = make(task, objective="self_label", starts=3)
    assert model.self_label(x)["loss"].isfinite()
    order, cost = model.beam(x, 5)
    assert task.valid(x, order.unsqueeze(1)).all() and torch.allclose(task.cost(x, order.unsqueeze(1))[:, 0], cost)
    charge = task.advance(x, task.advance(x, task.begin(x, 1), order[:, :1]), order[:, 1:2])["charge"][:, 0]
    rows = torch.arange(4)
    first, second = x[rows, order[:, 0]], x[rows, order[:, 1]]
    expected = 2 - (first - second)[:, :2].norm(dim=-1) + 2 * (first[:, 2] + second[:, 2])
    assert torch.allclose(charge, expected)


@pytest.mark.parametrize("name", ["cvrp", "time_windows", "orienteering", "pickup_delivery"])
def test_the_routes_of_pyvrp_keep_to_the_rules_and_cost_no_more(name):
    pytest.importorskip("pyvrp")
    from zoo.models.pointer_net.routes import routes

    task = TASKS[name]()
    x = task.generate(2, 8, generator("cpu", 0))
    least = make(task).eval().best_sample(x, 50)[1]
    for i in range(2):
        order = torch.from_numpy(routes(task, x[i].numpy(), iterations=100)).view(1, 1, -1)
        assert task.valid(x[i : i + 1], order).all()
        assert task.cost(x[i : i + 1], order).item() <= least[i] + 1e-4
