"""Every experiment from end to end, as small as it can be: through the command line, and once more from Python."""

import ast
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.conftest import ROOT, SMALL_AGENT
from tests.speech import write_digits
from zoo.cli import main
from zoo.cli.arguments import options_of
from zoo.cli.lab import experiments
from zoo.config.explaining import explain_arguments
from zoo.errors import ZooError
from zoo.lab import common, compare, optima, tsplib
from zoo.models.pointer_net.tours import writing
from zoo.models.pointer_net.tours.finding import Row
from zoo.models.pointer_net.tours.reading import read

pytestmark = pytest.mark.filterwarnings("ignore")  # of training, which has tests of its own

ACTOR_CRITIC = (
    "seeds=1",
    "epochs=1",
    *SMALL_AGENT,
    "data.eval_episodes=2",
    "data.test_episodes=2",
    "trainer.log_every_n_steps=4",
)
IMAGES = ("trainer.limit_train_batches=10", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1")
SPEECH = (
    "epochs=1",
    "data.batch_size=10",
    "trainer.limit_train_batches=4",
    "trainer.accelerator=cpu",
    "data.judged=20",
    "model.speaker_encoder.width=8",
    "model.residual_encoder.width=8",
    "model.decoder.width=8",
)
TINY = {
    "compare": ("relaxations=reinmax", "epochs=1", "model.iwae_samples=2", "trainer.log_every_n_steps=5", *IMAGES),
    "compare_pointer": ("signals=self_label,rloo", "seconds=0.05", "seeds=1", "tested=20"),
    "compare_rl": ("envs=CartPole-v1", "heads=[linear]", "relaxations=exact,softmax", *ACTOR_CRITIC),
    "compare_speaker": ("relaxations=softmax", "seeds=1", *SPEECH),
    "explore": ("relaxations=softmax", "taus=1", "early=100", *ACTOR_CRITIC),
    "factored": ("sizes=3x3", "relaxations=rloo", *ACTOR_CRITIC),
    "fidelity": ("takes=2", "similarity=false"),
    "gradients_pointer": ("size=4", "steps=2", "draws=32"),
    "listen": ("relaxations=softmax", "similarity=false", *SPEECH),
    "optima": ("size=5", "instances=20", "audit=3"),
    "planted": (
        "kind=xor",
        "relaxations=simple",
        "seeds=1",
        "epochs=1",
        "data.passes=1",
        "model.predictor.hidden=[8]",
        "model.baselines=[]",
    ),
    "reproduce": ("polynomial", "methods=ReinMax", "epochs=1", "data.steps=5"),
    "tsplib": ("seconds=0.01",),
    "without_replacement": ("samples=2", "size=4", "steps=1", "repeats=2"),
}
"""What makes each small. Those of ``gradients`` and ``cells`` have tests of their own."""
PLACES = {
    "explore": ("folder={}/runs", "picture={}/made.png"),
    "fidelity": ("output={}/fidelity.md",),
    "gradients_pointer": ("out={}",),
    "listen": ("folder={}", "runs={}/runs"),
    "optima": ("output={}/made.npz",),
    "reproduce": ("runs={}/runs", "out={}"),
    "tsplib": ("folder={}", "instances={}/instances"),
}
MADE = {
    "compare": ("relaxations.md", "samples.png"),
    "compare_pointer": ("pointer_net.md", "pointer_net.json"),
    "compare_rl": ("actor_critic.md",),
    "compare_speaker": ("speaker.md", "softmax_voices.png", "softmax_mean_vector.wav"),
    "explore": ("made.png",),
    "factored": (),
    "fidelity": ("fidelity.md",),
    "gradients_pointer": ("gradients.md", "gradients.png"),
    "listen": ("listen.md", "listen/softmax_drawn.flac", "listen/blend.flac"),
    "optima": ("made.npz",),
    "planted": ("planted_xor.md", "xor_0.csv"),
    "reproduce": ("polynomial.md", "polynomial.png"),
    "tsplib": ("tsplib.md", "tsplib.json"),
    "without_replacement": ("without_replacement.md",),
}
ROWS = {
    "compare": "| 2 x 8 | `reinmax` |",
    "compare_pointer": "| self label |",
    "compare_rl": "| `softmax` |",
    "compare_speaker": "| `softmax` | mean vector |",
    "fidelity": "| through the vocoder | ",
    "gradients_pointer": "| RLOO |",
    "listen": "| `softmax` |",
    "planted": "| `simple` |",
    "reproduce": "| ReinMax |",
    "tsplib": "| network + local search |",
    "without_replacement": "| 2 | unordered set |",
}


def shortest(matrix: np.ndarray, **_: object) -> np.ndarray:
    """The optimal tour by trying them all, in place of the packages that need not be there."""
    tours = [np.array((0, *rest)) for rest in itertools.permutations(range(1, len(matrix)))]
    return min(tours, key=lambda tour: matrix[tour, np.roll(tour, -1)].sum())


@pytest.fixture(autouse=True)
def solvers(monkeypatch):
    monkeypatch.setattr(optima, "fast_tour", shortest)
    monkeypatch.setattr(optima, "exact_tour", shortest)


def instances_of_tsplib(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is taken for TSPLIB's, and one that has only the name of one."""
    (folder / "instances").mkdir()
    for instance, step in (("known", 11), ("burma14", 13)):
        rows = [f"{i} {i * i % 7} {i * i % step}" for i in range(14)]
        head = [f"NAME: {instance}", "DIMENSION: 14", "EDGE_WEIGHT_TYPE: EUC_2D", "NODE_COORD_SECTION"]
        (folder / "instances" / f"{instance}.tsp").write_text("\n".join([*head, *rows]))
    entry = [30, writing.digest(read(folder / "instances" / "known.tsp"))]
    (folder / "optima.json").write_text(json.dumps({"known": entry, "burma14": [3323, "0" * 16]}))
    monkeypatch.setattr(writing, "OPTIMA", folder / "optima.json")


LONGER = ("fidelity", "listen", "compare", "compare_rl", "compare_speaker", "gradients_pointer", "reproduce")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in LONGER else ()) for n in TINY])
def test_an_experiment_runs(name, tmp_path, monkeypatch, mnist_root, capsys):
    data = mnist_root
    if name in ("compare_speaker", "fidelity", "listen"):
        data = str(tmp_path / "data")
        speakers = {"george": 100.0, "yweweler": 180.0}
        if name == "fidelity":
            speakers |= {"jackson": 90.0, "lucas": 130.0, "nicolas": 150.0, "theo": 115.0}
        write_digits(Path(data) / "fsdd" / "recordings", speakers, takes=11)
    if name == "tsplib":
        instances_of_tsplib(tmp_path, monkeypatch)
    monkeypatch.setenv("ZOO_DATA_DIR", data)
    places = [place.format(tmp_path) for place in PLACES.get(name, ("folder={}",))]
    monkeypatch.setattr(sys, "argv", ["zoo", "lab", name, *TINY[name], *places])
    main()
    for file in MADE[name]:
        assert (tmp_path / file).stat().st_size > 0
    if name in ROWS:
        (table,) = tmp_path.glob("*.md")
        assert ROWS[name] in table.read_text()
    if name in ("explore", "factored"):
        assert capsys.readouterr().out.count("\n| ") == 2
    if before := sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.ckpt")):
        main()  # what is there is not trained again
        assert before == sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.ckpt"))


def test_every_experiment_is_tested_has_a_door_and_explains_itself():
    assert {*TINY, "gradients", "cells", "variants"} == set(experiments())
    for name, path in experiments().items():
        module = ast.parse(path.read_text())
        text = ast.get_docstring(module)
        assert f"python scripts/{name}.py" in text
        door = (ROOT / "scripts" / f"{name}.py").read_text()
        assert f'main("lab", "{name}")' in door and door.startswith(f'"""{text.splitlines()[0]}"""')


def test_a_door_is_a_few_lines():
    for path in (ROOT / "scripts").glob("*.py"):
        lines = path.read_text().splitlines()
        assert lines[1:-1] == ["", "from zoo.cli import main", "", 'if __name__ == "__main__":']


@pytest.mark.parametrize("name", ["gradients", "variants", *TINY])
def test_every_option_of_an_experiment_is_explained(name):
    from importlib import import_module

    experiment = import_module(f"zoo.lab.{name}").experiment
    assert all(option.about for option in options_of(experiment))
    takes_overrides = "overrides" in experiment.__code__.co_varnames
    assert takes_overrides == ("overrides" in explain_arguments(experiment))


def test_an_experiment_from_python(tmp_path):
    lengths = optima.experiment(size=4, instances=6, audit=2, output=tmp_path / "tsp4.npz")
    assert lengths.shape == (6,) and (np.load(tmp_path / "tsp4.npz")["length"] == lengths.astype(np.float32)).all()


def test_a_table_of_tsplib_is_of_one_version(tmp_path, monkeypatch):
    instances_of_tsplib(tmp_path, monkeypatch)
    solved = []

    def found(*_: object, **__: object) -> list[Row]:
        solved.append(zoo.__version__)
        return [Row("network", np.arange(14), 33.0 + 3 * len(solved), 0.1)]

    monkeypatch.setattr(tsplib, "find", found)
    for version, gap in (("0.0.1", "20.000%"), ("0.0.2", "30.000%"), ("0.0.2", "30.000%"), ("0.0.1", "20.000%")):
        monkeypatch.setattr(zoo, "__version__", version)
        text = tsplib.experiment(instances=tmp_path / "instances", folder=tmp_path)
        assert f"| network | {gap} | {gap} |" in text
    assert solved == ["0.0.1", "0.0.2"]  # and of one instance: the other has a name alone


def test_a_wrong_name_is_found_before_anything_is_trained(tmp_path):
    with pytest.raises(ZooError, match=r"no 'relx' for relaxations=. Did you mean 'relax'"):
        compare.experiment(relaxations=["rloo", "relx"], folder=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_command_beside_a_table():
    options = {"seeds": 2, "names": ("p", "q"), "quick": True, "none": None, "off": False}
    made_by = common.command("x", "first", overrides=["a=[1]"], **options)
    assert made_by == "python scripts/x.py first seeds=2 names=p,q quick=true 'a=[1]'"
