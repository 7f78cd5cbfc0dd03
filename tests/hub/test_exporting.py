"""The inference path of every model, as a file of its own."""

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

import zoo
from zoo import hub
from zoo.config import from_config
from zoo.config.composition import compose, plain
from zoo.errors import ZooError


def make(arch: str):
    """A model of the architecture with the weights it starts training from."""
    return from_config(plain(compose([f"model={arch}", "run=unused"]))["model"])


LONGER = ("pointer_net", "language_model")


@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=pytest.mark.slow if arch in LONGER else ()) for arch in hub.list_models()]
)
def test_every_architecture_computes_the_same_from_a_file(tmp_path, arch):
    model = make(arch)
    path = zoo.export(model, tmp_path / "model.pt2")
    assert model.training  # as it was before
    inputs = model.example_input_array
    inputs = inputs if type(inputs) is tuple else (inputs,)
    model.eval()
    exported = torch.export.load(path).module()
    for batch in (1, 7):
        some = tree_map(lambda value, batch=batch: value[torch.arange(batch) % len(value)], inputs)
        torch.testing.assert_close(tree_leaves(exported(*tree_leaves(some))), tree_leaves(model(*some)))


def test_a_model_that_computes_something_else_is_not_written(tmp_path):
    class Fickle(torch.nn.Module):
        """Different from call to call in a way that tracing cannot see."""

        calls = 0
        example_input_array = torch.ones(2, 3)

        def forward(self, x):
            type(self).calls += 1
            return x * float(type(self).calls)

    with pytest.raises(ZooError, match="computes something else"):
        zoo.export(Fickle(), tmp_path / "model.pt2")
    assert not any(tmp_path.iterdir())


def test_mistakes(tmp_path):
    with pytest.raises(ZooError, match="no pretrained model"):
        zoo.export("cat_vea", tmp_path / "model.pt2")
    model = make("cat_vae")
    with pytest.raises(ZooError, match="cannot be exported"):
        zoo.export(model, tmp_path / "model.pt2", inputs=(torch.zeros(2, 3),))
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="cannot write"):
        zoo.export(model, tmp_path / "file/model.pt2")
