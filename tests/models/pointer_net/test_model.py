"""The pointer network: its two ways to score a solution, its objectives against enumeration, and every relaxation."""

import itertools

import pytest
import torch
from torch.nn import functional as F

import zoo
from zoo.data.seeding import generator
from zoo.errors import ZooError
from zoo.models.pointer_net import (
    TASKS,
    TSP,
    LSTMEncoder,
    PointerDecoder,
    PointerNet,
    TransformerEncoder,
)
from zoo.models.pointer_net.model import most_probable
from zoo.relaxations import (
    RELAXATIONS,
    RLOO,
    Categorical,
    Exact,
    GumbelSoftmax,
    PartOfBatch,
    Reinforce,
    ScoredProgram,
    StraightThrough,
    UnorderedSet,
)
from zoo.training import AdamW
from zoo.training.callbacks.seed_each_batch import use_noise

SIZE = 6
QUERIES = [*((task, "first_last") for task in TASKS), *((task, "lstm") for task in ("tsp", "convex_hull", "cvrp"))]


def make(
    task="tsp", *, relaxation=None, encoder=TransformerEncoder, query="first_last", feedforward=16, **arguments
) -> PointerNet:
    torch.manual_seed(0)
    task = TASKS[task]() if isinstance(task, str) else task
    sizes = {"heads": 2, "layers": 1, "feedforward": 16} if encoder is TransformerEncoder else {}
    model = PointerNet(
        task=task,
        encoder=encoder(features=task.features, width=16, **sizes),
        decoder=PointerDecoder(width=16, heads=2, feedforward=feedforward, query=query, contexts=task.contexts),
        relaxation=relaxation or RLOO(samples=2),
        optimizer=AdamW(),
        **arguments,
    )
    torch.nn.init.normal_(model.decoder.nearness)
    return model.train()


def sample(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return Categorical(logits, mask).sample_index()


def instances(model: PointerNet, count: int = 4, size: int = SIZE) -> torch.Tensor:
    return model.task.generate(count, size, generator("cpu", 0))


def gradient(model: PointerNet, loss: torch.Tensor) -> torch.Tensor:
    grads = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    return torch.cat([g.flatten() for g in grads if g is not None])


# Building and scoring -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task, query", QUERIES)
def test_whole_solutions_are_scored_as_they_were_built(task, query):
    model = make(task, query=query)
    x = instances(model)
    memory, logits = model.encode(x), []

    def choose(step_logits, mask):
        logits.append(step_logits.masked_fill(~mask, -torch.inf))
        return sample(step_logits, mask)

    order, _ = model.build(x, memory, choose, 3)
    scored = model.score(x, memory, order)
    assert scored.shape == torch.stack(logits, 2).shape
    assert torch.allclose(scored, torch.stack(logits, 2), atol=1e-5)
    assert model.task.valid(x, order).all()


@pytest.mark.parametrize("task", ["tsp", "knapsack"])
@pytest.mark.parametrize("feedforward", [0, 16])
def test_logits_are_those_of_the_formula(task, feedforward):
    """Written out for one query after another, with PyTorch's attention."""
    model = make(task, feedforward=feedforward)
    decoder, x = model.decoder, instances(model, 3)
    memory = model.encode(x)
    order, _ = model.build(x, memory, sample, 2)
    scored = model.score(x, memory, order)
    x = model.task.normal(x)
    distances = model.task.relation(x)
    h = model.encoder(x, distances)
    glimpse_keys, values, pointer_keys = decoder.keys(h).chunk(3, -1)
    as_first, as_last = decoder.elements(h).chunk(2, -1)
    steps = order.shape[2]
    for example, start, step in itertools.product(range(3), range(2), range(1, steps)):
        chosen = order[example, start, :step]
        one = x[example : example + 1]
        progress = {
            name: part[:, :, -1]
            for name, part in model.task.prefixes(
                one, order[example : example + 1, start : start + 1, : step + 1]
            ).items()
        }
        mask = model.task.mask(one, progress)[0, 0]
        query = decoder.instance(h[example].mean(0)) + as_last[example, chosen[-1]] + as_first[example, chosen[0]]
        if decoder.context is not None:
            query = query + decoder.context(model.task.context(one, progress))[0, 0]
        near = torch.zeros(3, x.shape[1])  # of two heads and the pointer
        if distances is not None:
            near = decoder.nearness @ distances[example, [chosen[-1], chosen[0]]]
        heads = (part.unflatten(-1, (2, 8)).transpose(0, 1) for part in (glimpse_keys[example], values[example]))
        bias = near[:2].unsqueeze(1).masked_fill(~mask, -torch.inf)
        glimpse = F.scaled_dot_product_attention(query.view(2, 1, 8), *heads, attn_mask=bias)
        query = query + decoder.out(glimpse.flatten())
        if feedforward:
            query = query + decoder.feedforward(decoder.norm(query))
        logits = 10 * torch.tanh(pointer_keys[example] @ query / 4 + near[2])
        got = scored[example, start, step - steps]
        torch.testing.assert_close(got, logits.masked_fill(~mask, -torch.inf), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("encoder", [TransformerEncoder, LSTMEncoder])
def test_encoders(encoder):
    model = make(encoder=encoder)
    x = instances(model)
    assert model(x).sort(1).values.tolist() == [list(range(SIZE))] * 4
    if encoder is TransformerEncoder:  # a set has no order
        permutation = torch.randperm(SIZE)
        d = model.task.relation
        assert torch.allclose(
            model.encoder(x[:, permutation], d(x[:, permutation])), model.encoder(x, d(x))[:, permutation], atol=1e-5
        )


def test_one_hot_choices_build_what_indices_build():
    model = make()
    x = instances(model)
    by_index, _ = model.build(x, model.encode(x), most_probable, 2)

    def one_hot(logits, mask):
        return F.one_hot(most_probable(logits, mask), SIZE).float()

    choices = model.construct(x, model.encode(x), one_hot, 2)
    assert torch.equal(torch.stack([c.argmax(-1) for c in choices[1:]], -1), by_index[..., 1:])


def test_starts_of_a_cycle_are_its_first_elements():
    model = make()
    order, cost = model.greedy(instances(model))
    assert order[:, :, 0].tolist() == [list(range(SIZE))] * 4 and cost.shape == (4, SIZE)
    assert model.greedy(instances(model), starts=2)[0][:, :, 0].tolist() == [[0, 3]] * 4
    assert make("sort").greedy(instances(make("sort")))[0].shape == (4, 1, SIZE)


# Objectives -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relaxation", [RLOO(samples=2), Reinforce()])
def test_score_functions_with_many_starts_have_the_gradient_of_enumeration(relaxation):
    """The mean over 3 starts of the exact expectations, at four points, against 8,192 x 3 sampled tours."""
    model = make(relaxation=relaxation, starts=3, objective="expectation")
    model.task.starts = lambda n, starts, device: torch.arange(3)[:starts]
    x = instances(model, 1, 4)
    memory = model.encode(x)
    orders = torch.tensor([[(s, *p) for p in itertools.permutations(set(range(4)) - {s})] for s in range(3)])
    log_p = model.score(x, memory, orders.view(1, 18, 4)).log_softmax(-1)
    log_p = log_p.gather(-1, orders.view(1, 18, 4)[..., 1:, None]).sum((-2, -1)).view(3, 6)
    exact = (log_p.exp() * model.task.cost(x, orders.view(1, 18, 4)).view(3, 6)).sum(1).mean()
    assert torch.allclose(log_p.exp().sum(1), torch.ones(3), atol=1e-5)
    many = x.expand(4096, -1, -1)
    values = [model.expectation(many) for _ in range(3)]
    assert abs(values[-1]["loss"].item() - exact.item()) < 0.01
    estimate = torch.stack([gradient(model, v["loss"]) for v in values[1:]]).mean(0)
    assert F.cosine_similarity(estimate, gradient(model, exact), dim=0) > 0.97


def program_of(model: PointerNet, x: torch.Tensor) -> ScoredProgram:
    """What the model hands to its relaxation."""
    programs = []
    expectation = model.relaxation.expectation
    model.relaxation.expectation = lambda program: programs.append(program) or torch.zeros(len(x))
    model.expectation(x)
    model.relaxation.expectation = expectation
    return programs[0]


@pytest.mark.parametrize("task, query", QUERIES)
def test_sampled_first_and_scored_as_a_whole_is_the_same_as_draw_by_draw(task, query):
    model = make(task, query=query, feedforward=0, starts=3, objective="expectation")
    x = instances(model)
    found = []
    for draw_by_draw in (False, True):
        program = program_of(model, x)
        torch.manual_seed(1)
        cost = model.relaxation.expectation(program.program if draw_by_draw else program)
        found.append((cost.detach(), gradient(model, cost.sum()), torch.rand(1)))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    assert found[0][1].norm() > 0.1


def test_score_functions_do_not_depend_on_how_a_batch_is_split():
    def cost_and_gradient(part: int, parts: int) -> tuple[torch.Tensor, torch.Tensor]:
        model = make(starts=3, objective="expectation")
        x = instances(model)
        use_noise(model, PartOfBatch(part, parts, seed=1))
        loss = model.expectation(x.chunk(parts)[part])["loss"]
        return loss.detach(), gradient(model, loss)

    halves = [cost_and_gradient(part, 2) for part in range(2)]
    mean = [torch.stack(parts).mean(0) for parts in zip(*halves)]
    torch.testing.assert_close(mean, list(cost_and_gradient(0, 1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", ["expectation", "self_label"])
@pytest.mark.parametrize("feedforward", [0, 16])
def test_half_precision_trains_every_weight(objective, feedforward):
    """What is first used without gradient must still get one, though casts of weights are cached."""
    model = make(starts=3, objective=objective, feedforward=feedforward)
    with torch.autocast("cpu", torch.bfloat16):
        loss = getattr(model, objective)(instances(model))["loss"]
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    unused = ["decoder.norm.weight"] if feedforward == 0 else []
    assert loss.isfinite() and without == unused


def test_exact_enumerates_a_small_tour():
    model = make(relaxation=Exact(), starts=1, objective="expectation")
    x = instances(model, 1, 4)
    exact = model.expectation(x)["loss"]
    many = x.expand(4000, -1, -1)
    sampled = model.build(many, model.encode(many), sample, 1)[1]
    assert abs(exact.item() - sampled.mean().item()) < 4 * sampled.std().item() / 4000**0.5


@pytest.mark.parametrize("name", RELAXATIONS)
def test_every_relaxation_trains_or_says_why_not(name):
    model = make(TSP(gradient="edges"), relaxation=RELAXATIONS[name](), starts=1, objective="expectation")
    x = instances(model, 4, 4)
    try:
        loss = model.expectation(x)["loss"]
    except (ZooError, ValueError) as error:
        assert not RELAXATIONS[name].dependent_draws, error
        return
    assert loss.isfinite() and 0 < gradient(model, loss).norm() < torch.inf


def test_all_different_tours_give_the_exact_gradient():
    """Without replacement nothing is left to chance where there are as many samples as tours."""
    model = make(relaxation=Exact(), starts=1, objective="expectation")
    x = instances(model, 3, 4)
    loss = model.expectation(x)["loss"]
    true = gradient(model, loss)
    model.relaxation = UnorderedSet(samples=8)
    every = model.expectation(x)["loss"]
    torch.testing.assert_close(every, loss)
    torch.testing.assert_close(gradient(model, every), true, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("starts", [1, 3])
def test_tours_without_replacement_have_the_gradient_in_their_mean(starts):
    model = make(relaxation=UnorderedSet(samples=8), starts=starts, objective="expectation")
    x = instances(model, 1, 4)
    true = gradient(model, model.expectation(x)["loss"])
    model.relaxation, many = UnorderedSet(samples=2), x.expand(200, -1, -1)
    found = torch.stack([gradient(model, model.expectation(many)["loss"]) for _ in range(30)])
    way = torch.randn(len(true), 20)
    error = (found @ way).std(0) / 30**0.5
    assert (((found.mean(0) - true) @ way).abs() < 5.5 * error + 1e-6).all()  # of a t distribution
    assert error.mean() < 0.1 * (true @ way).abs().mean()


def test_straight_through_is_right_for_positions_and_the_mask_keeps_it_hard():
    model = make("sort", relaxation=StraightThrough())
    x = instances(model, 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    before = model.expectation(x)["cost"]
    for _ in range(60):
        optimizer.zero_grad()
        model.expectation(instances(model, 64))["loss"].backward()
        optimizer.step()
    assert model.expectation(x)["cost"] < 0.3 * before


def test_self_labels_are_the_best_tours_from_every_start():
    model = make(starts=SIZE, objective="self_label")
    x = instances(model)
    label = torch.tensor([[2, 0, 1, 5, 4, 3]]).expand(4, -1)
    order = torch.stack([label.roll(-shift, 1) for shift in (1, 2, 0, 5, 4, 3)], 1)  # from elements 0, 1, ... 5
    log_p = model.score(x, model.encode(x), order).log_softmax(-1).gather(-1, order[..., 1:, None])
    assert torch.allclose(model.cross_entropy(x, model.encode(x), label, SIZE), -log_p.mean())
    values = model.self_label(x)
    assert values["best_cost"] <= values["cost"] and gradient(model, values["loss"]).norm() > 0
    polished = make(starts=SIZE, objective="self_label", polish=20)
    torch.manual_seed(1)
    plain = model.self_label(x)["best_cost"]
    torch.manual_seed(1)
    assert polished.self_label(x)["best_cost"] <= plain


@pytest.mark.parametrize("task", ["cvrp", "open_tour"])
def test_a_single_start_of_what_is_no_cycle_is_chosen(task):
    model = make(task, objective="self_label", starts=SIZE)
    x = instances(model, 8)
    torch.nn.init.normal_(model.decoder.nothing)
    order, _ = model.greedy(x, 1)
    chosen = order[:, 0, 0]
    assert len(set(chosen.tolist())) > 1
    logits = model.score(x, model.encode(x), order)
    assert logits.shape[2] == order.shape[2] and torch.equal(logits[:, 0, 0].argmax(-1), chosen)
    given = model.greedy(x, SIZE)[0]
    assert torch.equal(given[..., 0], model.task.starts(x.shape[1], SIZE, x.device).expand(8, -1))
    same = (given[..., 0] == chosen.unsqueeze(1)).nonzero(as_tuple=True)  # from there it goes on as ever
    assert len(same[0]) == 8 and torch.equal(given[same][:, : order.shape[2]], order[same[0], 0][:, : given.shape[2]])
    (slope,) = torch.autograd.grad(model.self_label(x)["loss"], model.decoder.nothing)
    assert slope.norm() > 0
    model.eval()
    scores = model.validation_step((x, torch.full((8,), torch.nan)), 0)
    assert scores["cost"] == model.greedy(x, 1)[1].mean() and scores["best_cost"] == model.greedy(x)[1].amin(1).mean()
    alone = make(task, starts=1)
    (slope,) = torch.autograd.grad(alone.expectation(x)["loss"], alone.decoder.nothing)
    assert slope.norm() > 0
    never = make(task, starts=SIZE)
    assert not never.decoder.nothing.requires_grad and len(set(never.greedy(x, 1)[0][:, 0, 0].tolist())) == 1


@pytest.mark.parametrize("starts, objective", [(1, "expectation"), (3, "self_label"), (3, "expectation")])
def test_a_first_element_that_is_always_the_same_is_never_another(starts, objective):
    class FromTheFirst(TASKS["open_tour"]):
        def first_elements(self, elements):
            return range(1)

    model = make(FromTheFirst(), starts=starts, objective=objective)
    torch.nn.init.normal_(model.decoder.nothing, std=5.0)
    x = instances(model, 8)
    getattr(model, objective)(x)["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    for order in (model.greedy(x)[0], model.greedy(x, 1)[0], model.beam(x, 3)[0], model.best_sample(x, 3)[0]):
        assert (order[..., 0] == 0).all()
    order, exists = model.distinct(x, model.encode(x), 4, 1)
    assert exists.all() and (order[..., 0] == 0).all() and order.shape[2] == 4
    assert model.log_prob(x, model.encode(x), order.flatten(1, 2), starts=1).isfinite().all()


def test_a_query_with_a_memory_chooses_the_first_only_where_it_was_trained_to_begin():
    for starts, objective, chooses in ((3, "self_label", False), (1, "self_label", True), (3, "supervised", True)):
        model = make("cvrp", query="lstm", starts=starts, objective=objective)
        assert model.chooses_first == model.decoder.nothing.requires_grad == chooses


def test_the_first_choice_learns_which_start_is_best():
    model = make("open_tour", objective="self_label", starts=SIZE)
    x = torch.zeros(64, SIZE, 2)
    x[:, :, 0] = torch.arange(SIZE) / SIZE  # on a line, in a random order: a path must begin at an end
    x = torch.stack([one[torch.randperm(SIZE, generator=torch.Generator().manual_seed(i))] for i, one in enumerate(x)])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        model.self_label(x)["loss"].backward()
        optimizer.step()
    first = x.gather(1, model.eval().greedy(x, 1)[0][:, 0, :1, None].expand(-1, -1, 2))[..., 0]
    at_an_end = (first == 0) | (first == x[..., 0].amax(1, keepdim=True))
    assert at_an_end.float().mean() > 0.9


def test_labels_of_the_exact_solver():
    model = make("convex_hull", objective="supervised", relaxation=StraightThrough())
    x = instances(model, 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    first = model.supervised(x)["loss"].item()
    for _ in range(30):
        optimizer.zero_grad()
        loss = model.supervised(x)["loss"]
        loss.backward()
        optimizer.step()
    assert loss < 0.8 * first
    with pytest.raises(ZooError, match="no quick exact solver"):
        make(objective="supervised").supervised(x[..., :2])


# Decoding -------------------------------------------------------------------------------------------------------------


def test_a_wide_beam_finds_the_most_probable_tour_and_the_cheapest():
    model = make()
    x = instances(model, 3, 5)
    orders = torch.tensor([[(0, *p) for p in itertools.permutations(range(1, 5))]]).expand(3, -1, -1)
    order, cost = model.beam(x, 24)  # all of them
    assert torch.allclose(cost, model.task.cost(x, orders).amin(1))
    log_p = model.score(x, model.encode(x), orders).log_softmax(-1).gather(-1, orders[..., 1:, None]).sum((-2, -1))
    greedy = model.greedy(x, starts=1)[0][:, 0]
    assert torch.equal(model.beam(x, 1)[0], greedy)
    narrow = model.beam(x, 4)[0]
    at = (orders == narrow.unsqueeze(1)).all(-1)
    assert (log_p[at] >= log_p.median(1).values).all() and model.task.valid(x, order.unsqueeze(1)).all()


@pytest.mark.parametrize("task", ["tsp", "knapsack", "time_windows"])
def test_beams_and_samples_of_a_recurrent_query_keep_to_the_rules(task):
    model = make(task, query="lstm")
    x = instances(model)
    greedy = model.greedy(x)[1]
    for order, cost in (model.beam(x, 5), model.best_sample(x, 7, at_once=3), model.augmented(x)):
        assert model.task.valid(x, order.unsqueeze(1)).all()
        assert torch.allclose(cost, model.task.cost(x, order.unsqueeze(1)).squeeze(1), atol=1e-5)
    assert (cost <= greedy.amin(1) + 1e-5).all()


def test_a_mask_that_leaves_nothing_is_an_error():
    model = make()
    model.task.mask = lambda x, progress: progress["taken"] & False
    x = instances(model)
    for solve in (model.greedy, lambda x: model.beam(x, 2), lambda x: model.best_sample(x, 2)):
        with pytest.raises(ZooError, match="leaves nothing to choose in 4 of 4"):
            solve(x)
    with pytest.raises(ValueError, match="allows no choice"):
        make(TSP(), objective="expectation").relaxation(torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool))


def test_one_number_is_sorted():
    model = make("sort", objective="self_label")
    x = torch.rand(2, 1, 1)
    assert (
        model(x).tolist() == [[0], [0]] and model.score(x, model.encode(x), torch.zeros(2, 1, 1).long()).shape[2] == 1
    )


@pytest.mark.parametrize("size", [2, 3, 30])
def test_other_sizes_and_points_in_one_place(size):
    model = make().eval()
    x = torch.full((1, size, 2), 0.5)
    assert sorted(model(x)[0].tolist()) == list(range(size))
    x = instances(model, 2, size)
    assert sorted(model(x)[1].tolist()) == list(range(size))


# The rest -------------------------------------------------------------------------------------------------------------


def test_round_trip(tmp_path):
    model = make("knapsack").eval()
    again = zoo.from_pretrained(zoo.save_pretrained(model, tmp_path / "pointer_net.test"))
    x = instances(model)
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"starts": 0}, ValueError, "starts"),
        ({"polish": -1}, ValueError, "polish"),
        ({"eval_beam": -1}, ValueError, "eval_beam"),
        ({"max_grad_norm": 0.0}, ValueError, "max_grad_norm"),
    ],
)
def test_numbers_out_of_range(arguments, error, message):
    with pytest.raises(error, match=message):
        make(**arguments)


def test_a_pathwise_relaxation_needs_a_cost_with_a_gradient():
    class Opaque(TSP):
        differentiable = False

    with pytest.raises(ZooError, match="no gradient for a pathwise relaxation such as GumbelSoftmax"):
        make(Opaque(), relaxation=GumbelSoftmax(), objective="expectation")
    make(Opaque(), relaxation=RLOO(), objective="expectation")
