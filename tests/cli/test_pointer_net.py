"""The pointer network through the command line: trained, stopped, resumed, scored, published; and files of points."""

import shutil

import numpy as np
import pytest
import torch

import zoo
from tests.conftest import ROOT
from zoo import hub
from zoo.cli import main
from zoo.cli.eval import evaluate
from zoo.cli.publish import publish
from zoo.cli.solve import read_points, solve
from zoo.config.composition import compose, plain
from zoo.errors import ZooError
from zoo.models.pointer_net import TASKS, TSP, PointerDecoder, PointerNet, Sorting, TransformerEncoder
from zoo.relaxations import StraightThrough
from zoo.training import AdamW
from zoo.training.runs import RunFolder
from zoo.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = (
    "model=pointer_net",
    "logger=csv",
    "epochs=2",
    "data.size=6",
    "data.batch_size=8",
    "data.epoch_batches=6",
    "data.val_instances=8",
    "data.test_instances=16",
    "model.encoder.width=16",
    "model.encoder.layers=1",
    "model.encoder.heads=2",
    "model.decoder.heads=2",
    "trainer.log_every_n_steps=2",
    "trainer.enable_progress_bar=false",
)


def config(*overrides: str) -> dict:
    composed = compose([*SMALL, *overrides])
    composed.run = "unused"
    return plain(composed)


@pytest.mark.parametrize("objective", ["expectation", "self_label"])
@pytest.mark.parametrize("data", TASKS)
def test_every_task_trains(data, objective, tmp_path):
    options = config(f"data={data}", "data.size=6", "epochs=1", f"model.objective={objective}")
    train(options, tmp_path, command="")
    run = RunFolder(tmp_path)
    assert run.read_results()["metrics"]["test/validity"] == 1
    assert (run.pictures / "pointers.png").stat().st_size > 5000
    if data == "tsp":
        assert (run.pictures / "tours.png").stat().st_size > 5000


@pytest.mark.parametrize("objective", [["model.objective=self_label", "model.polish=4"], ["relaxation.samples=2"]])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, objective):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = config("checkpoint_every_n_steps=4", *objective)
    train(options, whole, command="")
    shutil.copytree(whole, parts)
    newest = max((parts / "checkpoints").glob("step-*.ckpt"))
    newest.unlink()  # what is left is from the middle of the second epoch
    (parts / "results.json").unlink()
    train(options, parts, command="")
    assert newest.is_file()
    first, second = (
        torch.load(max((folder / "checkpoints").glob("step-*.ckpt")), weights_only=True)["state_dict"]
        for folder in (whole, parts)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_published_and_scored(tmp_path, monkeypatch):
    train(config(), tmp_path / "run", command="")
    monkeypatch.setattr(hub.registry, "resource", lambda name: tmp_path if name == "checkpoints" else ROOT / name)
    options = ["model.eval_symmetries=2", "model.eval_samples=3", "model.eval_beam=2"]
    folder = publish(RunFolder(tmp_path / "run"), "pointer_net.test", options)
    card = (folder / "README.md").read_text()
    for name in ("augmented_cost", "sampled_cost", "beam_cost", "nearest_neighbour_cost", "validity"):
        assert name in card
    scores = evaluate(hub.read(str(folder)), {"data.test_instances": 4})
    assert scores["validity"] == 1 and scores["best_cost"] <= scores["cost"]


# Files of points ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    def folder(task: type) -> str:
        model = PointerNet(
            task=task(),
            encoder=TransformerEncoder(features=task.features, width=16, layers=1, heads=2),
            decoder=PointerDecoder(width=16, heads=2),
            relaxation=StraightThrough(),
            optimizer=AdamW(),
        )
        return str(zoo.save_pretrained(model, tmp_path_factory.mktemp("models") / "pointer_net.test"))

    return folder(TSP), folder(Sorting)


TSPLIB = """NAME : five
TYPE : TSP
DIMENSION : 5
EDGE_WEIGHT_TYPE : EUC_2D
NODE_COORD_SECTION
7 0 0
8 10.5 0
9 1.05e1 10
10 0 10
11 0 5
EOF
"""


def test_a_tour_of_a_file(checkpoint, tmp_path, capsys, monkeypatch):
    file = tmp_path / "five.tsp"
    file.write_text(TSPLIB)
    arguments = [f"checkpoint={checkpoint[0]}", f"points={file}", "polish=50", f"output={tmp_path / 'a' / 'tour.png'}"]
    monkeypatch.setattr("sys.argv", ["solve.py", *arguments])
    main("solve")
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines[0].split(), key=int) == ["7", "8", "9", "10", "11"]
    assert float(lines[1].split()[-1]) == pytest.approx(41)  # around the rectangle
    assert (tmp_path / "a" / "tour.png").stat().st_size > 5000


@pytest.mark.parametrize(
    "text", ["x,y\n1,2\n3,4\n5,6\n", "1;2\n3;4\n\n5;6", "1 2\n3\t4\n5 6\n", "\ufeff1,2\n3,4\n5,6\n"]
)
def test_kinds_of_csv(text, tmp_path):
    file = tmp_path / "points.csv"
    file.write_text(text, encoding="utf-8")
    names, points = read_points(file)
    assert names == ["1", "2", "3"] and np.array_equal(points, [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize("text", ["1,1\n1,1\n", "2,2\n2,2\n2,2\n3,3\n3,3\n", "0,0\n1e9,1e9\n", "0,0\n0,1\n0,2\n"])
def test_points_in_one_place_or_line_have_tours(text, checkpoint, tmp_path):
    file = tmp_path / "points.csv"
    file.write_text(text)
    options = {"checkpoint": checkpoint[0], "symmetries": 8, "starts": 9, "polish": 0}
    tour = solve(points=file, output=tmp_path / "tour.png", **options)
    assert sorted(tour) == [str(i + 1) for i in range(len(text.split()))]


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.csv", "", "has 0 points"),
        ("a.csv", "x,y\n1,2\n", "has 1 point;"),
        ("a.csv", "1,2\n3,nan\n", "line 2: a coordinate must be finite, got nan"),
        ("a.csv", "1,2\n3,inf\n", "line 2: a coordinate must be finite"),
        ("a.csv", "1,2\n3,four\n", "line 2: 'four' is no number"),
        ("a.csv", "1,2\n3,4,5\n", "line 2: expected two coordinates, found 3 fields"),
        ("a.csv", "1,2\nx,y\n", "line 2: 'x' is no number"),
        ("a.tsp", TSPLIB.replace("11 0 5\n", ""), "says DIMENSION 5 but has 4 points"),
        ("a.tsp", TSPLIB.replace("11 0 5", "11 0"), "line 10: expected a number and two coordinates"),
        ("a.tsp", TSPLIB.replace("11 0 5", "11 0 nan"), "line 10: a coordinate must be finite"),
        ("a.tsp", TSPLIB.replace("EUC_2D", "EXPLICIT"), "EDGE_WEIGHT_TYPE EXPLICIT"),
        ("a.tsp", TSPLIB.replace("TYPE : TSP", "TYPE : ATSP"), "is of TYPE ATSP"),
        ("a.tsp", "hello", "needs a NODE_COORD_SECTION"),
    ],
)
def test_files_that_are_no_points(name, text, message, tmp_path):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ZooError, match=message):
        read_points(file)


def test_what_cannot_be_solved(checkpoint, tmp_path, monkeypatch):
    file = tmp_path / "points.csv"
    file.write_text("1,2\n3,4\n")
    options = {"symmetries": 1, "starts": 1, "polish": 0, "output": tmp_path / "tour.png"}
    with pytest.raises(ZooError, match="not a pointer network for tours"):
        solve(checkpoint=checkpoint[1], points=file, **options)
    with pytest.raises(ZooError, match="cannot read points"):
        solve(checkpoint=checkpoint[0], points=tmp_path, **options)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ZooError, match="cannot read points"):
        read_points(tmp_path / "binary.csv")
    for arguments, message in (
        (["checkpoint=x"], "say which points"),
        (["speed=2"], "there is no option 'speed'"),
        (["starts=0"], "starts=0 is not valid"),
    ):
        monkeypatch.setattr("sys.argv", ["solve.py", *arguments])
        with pytest.raises(SystemExit, match=message):
            main("solve")
