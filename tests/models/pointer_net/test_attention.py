"""Attention that generalises: near elements, relative distances, and no memory for the distances of all."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.models.pointer_net.test_model import make, sample
from zoo.data.seeding import generator
from zoo.models.pointer_net import TSP, PointerDecoder, TransformerEncoder, nets
from zoo.models.pointer_net import model as pointer_net
from zoo.models.pointer_net.nets import mean_near


def narrowed(task="tsp", *, see: int | None = 4, tell: int | None = 2, **arguments):
    model = make(task, neighbourhood=0.3, **arguments).eval()
    model.encoder.neighbours, model.decoder.neighbours = see, tell
    return model


def built(model, x: Tensor, choose) -> tuple[Tensor, Tensor]:
    """Logits of all steps, and the orders."""
    logits = []

    def record(step_logits, mask):
        logits.append(step_logits.masked_fill(~mask, -torch.inf))
        return choose(step_logits, mask)

    torch.manual_seed(0)
    order, _ = model.build(x, model.encode(x), record, 3)
    return torch.stack(logits, 2), order


@pytest.mark.parametrize("task", ["tsp", "cvrp", "open_tour"])
@pytest.mark.parametrize("query", ["first_last", "lstm"])
@pytest.mark.parametrize("feedforward", [0, 16])
@pytest.mark.parametrize("narrow", [False, True])
def test_distances_as_they_are_needed_give_the_same(task, query, feedforward, narrow, monkeypatch):
    model = (narrowed if narrow else make)(task, query=query, feedforward=feedforward).eval()
    x = model.task.generate(3, 7, generator("cpu", 0))
    with torch.no_grad():
        logits, order = built(model, x, sample)
        scored = model.score(x, model.encode(x), order)
        monkeypatch.setattr(pointer_net, "WHOLE", 0)
        monkeypatch.setattr(nets, "AT_ONCE", 40)  # two rows
        assert isinstance(model.distances(x), nets.Rows)
        again, same = built(model, x, sample)
        assert torch.equal(order, same)
        torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.score(x, model.encode(x), order), scored, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits, scored, rtol=1e-4, atol=1e-4)
        memory, index = model.encode(x), order[:, :, 1]
        one_hot = torch.nn.functional.one_hot(index, x.shape[1]).float()
        torch.testing.assert_close(model.decoder.ending(memory, one_hot), model.decoder.ending(memory, index))


class Largest(TorchDispatchMode):
    """The most numbers in a tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [t.untyped_storage().nbytes() // 4 for t in tree_leaves(result) if isinstance(t, Tensor)]
        self.numel = max([self.numel, *sizes])
        return result


def test_evaluation_makes_nothing_as_large_as_all_distances(monkeypatch):
    monkeypatch.setattr(nets, "AT_ONCE", 2**13)
    model, n = narrowed(), 600
    x = torch.rand(1, n, 2)
    with Largest() as largest:
        order, _ = model.greedy(x, 1)
    assert model.task.valid(x, order).all() and 2**13 <= largest.numel < n * n / 4
    with Largest() as largest:
        model.task.relation(x)
    assert largest.numel >= n * n


@torch.no_grad()
def test_an_element_sees_its_neighbours_only():
    encoder = TransformerEncoder(features=2, width=16, heads=2, layers=1, feedforward=16, neighbours=3)
    x = torch.tensor([[[0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [0.9, 0.9], [1.0, 0.9], [0.9, 1.0]]])
    moved = x.clone()
    moved[0, 3:] = 0.7 + 0.1 * torch.rand(3, 2)
    before, after = (encoder(each, TSP().relation(each)) for each in (x, moved))
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])
    encoder.neighbours = 6
    every = encoder(x, TSP().relation(x))
    encoder.neighbours = None
    torch.testing.assert_close(every, encoder(x, TSP().relation(x)))


@torch.no_grad()
def test_what_is_far_from_the_last_has_the_least_logit():
    model = narrowed(see=None, tell=2)
    x = torch.rand(4, 9, 2)
    logits, order = built(model, x, sample)
    distances = model.task.relation(x)
    for step in range(1, 9):
        last = order[:, :, step - 1]
        for b in range(4):
            for s in range(3):
                left = order[b, s, step:]
                near = left[distances[b, last[b, s], left].argsort()[:2]]
                far = sorted(set(left.tolist()) - set(near.tolist()))
                assert (logits[b, s, step - 1, far] == -10).all() and (logits[b, s, step - 1, near] > -10).all()


def test_distances_are_told_relative_to_the_neighbourhood():
    model = narrowed()
    x = torch.rand(3, 30, 2)
    told = model.distances(x)
    torch.testing.assert_close(mean_near(told).mean(1), torch.full((3,), 0.3))
    torch.testing.assert_close(model.distances(5 * x), told)
    for few in (torch.zeros(2, 4, 2), torch.zeros(2, 1, 2)):
        assert (model.distances(few) == 0).all() and model.greedy(few)[1].eq(0).all()
    loss = model.train().self_label(x)["loss"]
    assert loss.isfinite() and torch.autograd.grad(loss, model.encoder.inputs.weight)[0].isfinite().all()


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="neighbours must be at least 1, got 0"):
        TransformerEncoder(features=2, neighbours=0)
    with pytest.raises(ValueError, match="neighbours must be at least 1, got 0"):
        PointerDecoder(neighbours=0)
    with pytest.raises(ValueError, match="neighbourhood must be positive or null, got 0"):
        make(neighbourhood=0.0)
