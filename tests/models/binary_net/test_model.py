"""Networks of chosen weights: what is drawn, what is learned, and the packed file."""

import pytest
import torch
import torch.nn.functional as F

import zoo
from zoo.config import to_config
from zoo.errors import ZooError
from zoo.models.binary_net import BinaryMLP, BinaryNet, BrickNet, packing
from zoo.relaxations import RLOO, DisARM, GumbelSoftmax, STArgmax, StraightThrough
from zoo.training import AdamW


def make(kind="mlp", relaxation=None, **options) -> BinaryNet:
    if kind == "mlp":
        network, shape = BinaryMLP(features=12, outputs=3, hidden=[9, 8], **options), [3, 2, 2]
    else:
        network, shape = BrickNet(outputs=3, widths=[4, 8, 6], **{"fragments": 2, "bricks": 5} | options), [1, 8, 8]
    return BinaryNet(network=network, relaxation=relaxation or STArgmax(), optimizer=AdamW(), shape=shape)


def test_the_weights_that_a_network_without_choices_has():
    bricks = make("bricks", bricks=2)
    assert bricks.stored < bricks.real == make("bricks", bricks=0).stored
    assert make().real == make().stored == make(weights="real").stored


def trained(model: BinaryNet, steps: int = 20, lr: float = 0.02) -> BinaryNet:
    """After some steps, so that nothing is as it was made."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    x, y = torch.randn(64, *model.shape), torch.randint(3, (64,))
    for _ in range(steps):
        loss = model.training_step((x, y), 0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.network.clip()
    return model.eval()


@pytest.mark.parametrize("relaxation", [STArgmax(), StraightThrough(), GumbelSoftmax(tau=0.5), RLOO(), DisARM()])
@pytest.mark.parametrize("kind", ["mlp", "bricks"])
def test_every_estimator_trains_and_in_the_end_weights_are_chosen(kind, relaxation):
    model = make(kind, relaxation)
    before = {name: value.clone() for name, value in model.network.named_parameters()}
    trained(model, 3)
    assert all((value != before[name]).any() for name, value in model.network.named_parameters())
    seen = []

    def choose(distribution):
        seen.append(model.most_probable(distribution))
        return seen[-1]

    x = torch.randn(4, *model.shape)
    torch.testing.assert_close(model.network(x, choose).log_softmax(-1), model(x))
    assert len(seen) == (3 if kind == "mlp" else 2)
    assert all(set(value.unique().tolist()) <= {0.0, 1.0} for value in seen)


def test_a_weight_is_drawn_as_one_with_its_probability():
    model = make(relaxation=StraightThrough())
    weight = model.network.weights[0]
    with torch.no_grad():
        weight.copy_(torch.linspace(-1, 1, weight.numel()).view_as(weight))
    runs = 4000
    total = sum(model.network.signs(weight, lambda law: law.sample()) for _ in range(runs))
    p = (4.0 * weight).sigmoid()
    error = 2 * (p * (1 - p) / runs).sqrt()
    assert ((total / runs - (2 * p - 1)).abs() / error).max() < 4.5


def test_stored_weights_stay_within_one():
    model = trained(make(), 40, lr=0.1)
    assert all(weight.abs().max() <= 1 for weight in model.network.weights)
    assert any((weight.abs() == 1).any() for weight in model.network.weights)


def test_bricks_make_whole_filters():
    model = make("bricks").eval()
    layer = model.network.layers[0]
    x = torch.randn(3, 4, 8, 8)
    filters = (layer.bricks[layer.logits.argmax(-1)] * layer.scales[..., None, None, None]).flatten(1, 2)
    assert filters.shape == (8, 4, 3, 3)
    torch.testing.assert_close(layer(x, model.most_probable), F.conv2d(x, filters, padding=1), atol=1e-5, rtol=1e-5)


def test_the_real_twin_has_the_same_shape_and_draws_nothing():
    twin, model = make(weights="real"), make()
    assert [w.shape for w in twin.network.weights] == [w.shape for w in model.network.weights]
    trained(twin, 3)
    conv = make("bricks", bricks=0)
    assert trained(conv, 3)(torch.randn(2, 1, 8, 8)).shape == (2, 3)
    for other in (twin, conv):
        with pytest.raises(ZooError, match="nothing to pack"):
            packing.pack(other.network)
        assert "not choices" in type(other).without_effect(to_config(other))


@pytest.mark.parametrize("kind", ["mlp", "bricks"])
def test_the_packed_file_predicts_the_same(kind, tmp_path):
    model = trained(make(kind))
    (tmp_path / "small.packed").write_bytes(packing.pack(model.network))
    packed = packing.load(tmp_path / "small.packed")
    x = torch.randn(50, *model.shape)
    torch.testing.assert_close(packed(x).log_softmax(-1), model(x), atol=1e-4, rtol=1e-4)
    assert torch.equal(packed(x).argmax(-1), model(x).argmax(-1))


def test_a_weight_takes_a_bit():
    """Of ten thousand weights and more nearly nothing else is in the file."""
    network = BinaryMLP(features=784, outputs=10, hidden=[256])
    assert len(packing.pack(network)) < (784 * 256 + 256 * 10) / 8 + 8 * 266 + 1000
    for bits in (1, 3, 9):
        values = torch.randint(2**bits, (5, 7))
        packed = packing.bits_of(values, bits)
        assert len(packed) == -(-35 * bits // 8) and torch.equal(packing.from_bits(packed, bits, [5, 7]), values)


def test_damaged_files_are_refused(tmp_path):
    content = packing.pack(make().network)
    for bad in (b"", content[:100], content[:-40], b"x" + content, content.replace(b"zoo-packed-1", b"zoo-packed-2")):
        with pytest.raises(ZooError, match="not a packed network"):
            packing.unpack(bad)
    for old, new in ((b"[9, 12]", b"[9, 99]"), (b"[9, 12]", b"[-9,12]"), (b"mlp", b"abc")):
        with pytest.raises(ZooError, match="not a packed network"):
            packing.unpack(content.replace(old, new))
    with pytest.raises(ZooError, match="cannot be read"):
        packing.load(tmp_path / "nothing")


def test_it_is_loaded_as_it_was_saved(tmp_path):
    model = trained(make("bricks"))
    loaded = zoo.from_pretrained(zoo.save_pretrained(model, tmp_path / "binary_net.test"))
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(loaded(x), model(x))


def test_a_margin_is_a_squared_hinge():
    model = make()
    model.margin = 1.0
    value = model.cost(torch.tensor([[2.0, -3.0, 0.5]]), torch.tensor([0]))
    assert value.item() == pytest.approx((0 + 0 + 1.5**2) / 3)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: BinaryMLP(features=0, outputs=2), "features must be at least 1"),
        (lambda: BinaryMLP(features=2, outputs=2, dropout=[0.5]), "dropout must be two numbers"),
        (lambda: BrickNet(widths=[6, 8], fragments=4), "fragments that divide"),
        (lambda: BrickNet(bricks=-1), "bricks >= 0"),
        (lambda: BrickNet(widths=[8]), "two widths"),
        (lambda: BrickNet(shape=[30]), "need larger images"),
        (lambda: BrickNet(shape=[1, 3, 28]), "need larger images"),
    ],
)
def test_mistakes(build, message):
    with pytest.raises(ValueError, match=message):
        build()
