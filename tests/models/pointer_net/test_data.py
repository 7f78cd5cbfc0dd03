"""Instances: of many sizes, from files, spread in clusters."""

import numpy as np
import pytest
import torch

from zoo.data.seeding import TEST, generator
from zoo.errors import ZooError
from zoo.models.pointer_net import TASKS, TSP, Instances, Knapsack, PickupDelivery
from zoo.models.pointer_net.files import count, load, near, split


def test_each_training_batch_has_a_size_of_its_own():
    data = Instances(task=TSP(), size=[5, 9], batch_size=4, epoch_batches=40, val_instances=2, test_instances=2)
    sizes = [x.shape[1] for x, _ in data.train_dataloader()]
    assert set(sizes) == {5, 6, 7, 8, 9}
    assert sizes == [x.shape[1] for x, _ in data.train_dataloader()]  # a function of the seed and the batch
    assert [x.shape for x, _ in data.val_dataloader()] == [(2, 9, 2)]
    pairs = Instances(task=PickupDelivery(), size=[3 + 1, 9], batch_size=2, epoch_batches=20)
    assert {x.shape[1] - 1 for x, _ in pairs.train_dataloader()} <= {4, 6, 8}


@pytest.mark.parametrize("size", [0, [9, 5], [], [1, 2, 3], [0, 4]])
def test_sizes_out_of_range(size):
    with pytest.raises(ValueError, match="size must be"):
        Instances(task=TSP(), size=size)


def test_clusters_are_clusters():
    g = generator("cpu", 0)
    spread = {
        points: torch.cdist(x, x).add(torch.eye(50)).amin(-1).mean().item()
        for points in ("uniform", "clustered", "mixed")
        if (x := TSP(points=points).generate(200, 50, g)).shape == (200, 50, 2) and x.min() >= 0 and x.max() <= 1
    }
    assert spread["clustered"] < 0.6 * spread["uniform"] and spread["clustered"] < spread["mixed"] < spread["uniform"]
    assert TSP(points="clustered").standard_optimum(TSP().standard(3, 20, TEST, "cpu"), TEST).isnan().all()


def test_instances_of_every_kind_of_file(tmp_path):
    x = np.random.RandomState(0).uniform(size=(3, 6, 2))
    np.savez(tmp_path / "a.npz", x=x, optimum=np.arange(3.0))
    rows = [f"{name},{a},{b}" for name, points in zip("pqr", x[:, :4]) for a, b in points]
    (tmp_path / "b.csv").write_text("\n".join(["instance,x,y", *rows, ""]))
    lines = [f"{i} {100 * a} {100 * b}" for i, (a, b) in enumerate(x[0], 1)]
    head = ["DIMENSION: 6", "EDGE_WEIGHT_TYPE: EUC_2D", "NODE_COORD_SECTION"]
    (tmp_path / "c.tsp").write_text("\n".join([*head, *lines, "EOF"]))
    four, six = load(tmp_path, TSP())
    assert four[0].shape == (3, 4, 2) and torch.allclose(four[0], torch.from_numpy(x[:, :4]).float())
    assert six[0].shape == (4, 6, 2) and six[1][:3].tolist() == [0, 1, 2] and six[1][3].isnan()
    assert torch.allclose(six[0][3], TSP().normal(torch.from_numpy(x[:1]))[0].float(), atol=1e-6)
    data = Instances(
        task=TSP(), batch_size=5, epoch_batches=9, val_instances=2, path=str(tmp_path), test_path=str(tmp_path)
    )
    assert {tuple(x.shape) for x, _ in data.train_dataloader()} == {(5, 4, 2), (5, 6, 2)}
    assert sum(len(x) for x, _ in data.val_dataloader()) == 2 and sum(len(x) for x, _ in data.test_dataloader()) == 7
    with pytest.raises(ZooError, match="has 7 instances"):
        Instances(task=TSP(), val_instances=7, path=str(tmp_path)).train_dataloader()


def test_files_that_hold_no_instances(tmp_path):
    good = np.zeros((2, 3, 2))
    for name, arrays, message in (
        ("none", {"y": good}, "has no array x, only y"),
        ("empty", {"x": good[:, :0]}, "needs at least 1 element"),
        ("flat", {"x": good[0]}, r"x must be numbers \(count, elements, features\)"),
        ("text", {"x": np.array([[["a"]]])}, "x must be numbers"),
        ("wide", {"x": np.zeros((2, 3, 5))}, r"must be \(batch, elements, 2\)"),
        ("nan", {"x": good + np.nan}, "is not finite"),
        ("short", {"x": good, "optimum": np.zeros(1)}, "optimum must be 2 numbers"),
    ):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(ZooError, match=message):
            load(tmp_path / f"{name}.npz", TSP())
    (tmp_path / "torn.npz").write_bytes((tmp_path / "none.npz").read_bytes()[:50])
    (tmp_path / "pickle.npz").write_bytes(b"")
    np.savez(tmp_path / "object.npz", x=np.array([{}], dtype=object))
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("torn.npz", "cannot read"),
        ("pickle.npz", "cannot read"),
        ("object.npz", "cannot read"),
        ("missing.npz", "cannot read"),
        ("empty", "has no files of instances"),
        ("a.txt", "instances are in files"),
    ):
        with pytest.raises(ZooError, match=message):
            load(tmp_path / name, TSP())
    for text, message in (
        ("", "needs a heading with the column instance and those of TSP, x, y; it has none"),
        ("instance,x\n1,2\n", "needs a heading"),
        ("instance,x,y\n1,2\n", "row 2: expected 3 fields"),
        ("instance,x,y\n1,2,_\n", "'_' is not a number"),
        ("instance,x,y\n", "has no instances"),
    ):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(ZooError, match=message):
            load(tmp_path / "a.csv", TSP())
    (tmp_path / "heavy.csv").write_text("value,weight,is_stop,instance\n0,0,1,1\n1,0.005,0,1\n")
    with pytest.raises(ZooError, match="whole numbers of units"):
        load(tmp_path / "heavy.csv", Knapsack())
    assert TASKS["knapsack"] is Knapsack


def test_weights_of_a_file_that_float32_may_have_rounded_are_refused(tmp_path):
    x = np.array([[[0.0, 0, 1], [2**24 - 1, 1, 0], [5, 1, 0]]])
    task = Knapsack(capacity=2**26, units=1)
    np.savez(tmp_path / "a.npz", x=x)
    ((read, _),) = load(tmp_path / "a.npz", task)
    assert task.weights(read).tolist() == [[0, 2**24 - 1, 5]]
    x[0, 1, 0] = 2**24 + 1  # which float32 does not have
    np.savez(tmp_path / "a.npz", x=x)
    with pytest.raises(ZooError, match="at most 16,777,215 units"):
        load(tmp_path / "a.npz", task)


def test_places_far_from_zero_keep_their_distances(tmp_path):
    g = np.random.default_rng(0)
    unit = g.random((2, 5, 6))
    for task, places in ((TSP(), [0, 1]), (TASKS["pickup_delivery"](), [0, 1, 2, 3]), (TASKS["cvrp"](), [0, 1])):
        x = unit[..., : task.features].copy()
        far = x.copy()
        far[..., places] += 5_000_000 * np.array([1, -1, 1, -1])[: len(places)]
        torch.testing.assert_close(near(torch.from_numpy(x), task), torch.from_numpy(x), rtol=0, atol=0)
        moved = near(torch.from_numpy(far), task).numpy()
        rest = [i for i in range(task.features) if i not in places]
        assert np.array_equal(moved[..., rest], x[..., rest])
        for axis in (0, 1):
            own, theirs = (v[..., places[axis::2]] for v in (moved, x))
            assert np.allclose(own, theirs - theirs.min((1, 2), keepdims=True), atol=1e-8)
    np.savez(tmp_path / "grid.npz", x=unit[..., :2] + 5_000_000)
    ((x, _),) = load(tmp_path / "grid.npz", TSP())
    assert np.allclose(
        torch.cdist(x, x), np.linalg.norm(unit[:, :, None, :2] - unit[:, None, :, :2], axis=-1), atol=1e-5
    )


@pytest.mark.parametrize("first", range(1, 6))
def test_so_many_instances_validate_whatever_their_sizes(first):
    groups = [(torch.zeros(1, n, 2), torch.zeros(1)) for n in range(5, 11)]
    before, after = split(groups, first)
    assert (count(before), count(after)) == (first, 6 - first)
