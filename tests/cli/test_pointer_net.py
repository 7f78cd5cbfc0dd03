"""The pointer network through the command line: trained, stopped, resumed, scored, published; and files of points."""

import shutil

import pytest
import torch

import zoo
from tests.conftest import ROOT
from zoo import hub
from zoo.cli import main
from zoo.cli.eval import evaluate
from zoo.cli.options import pretrained
from zoo.cli.publish import publish
from zoo.cli.solve import ARCHS, of_tours, solve
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


@pytest.mark.parametrize(
    "data, objective", [*((data, "expectation") for data in TASKS), *((data, "self_label") for data in ("tsp", "cvrp"))]
)
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
8 10.4 0
9 1.04e1 10
10 0 10
11 0 5
EOF
"""


def test_a_tour_of_a_file(checkpoint, tmp_path, capsys, monkeypatch):
    file, written = tmp_path / "five.tsp", [tmp_path / "a" / name for name in ("tour.png", "five.tour")]
    file.write_text(TSPLIB)
    outputs = ",".join(map(str, written))
    arguments = [f"checkpoint={checkpoint[0]}", f"points={file}", "seconds=0", f"output={outputs}"]
    monkeypatch.setattr("sys.argv", ["solve.py", *arguments])
    main("solve")
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines[0].split(), key=int) == ["7", "8", "9", "10", "11"]
    assert lines[1] == "five, 5 points, EUC_2D"
    rows = {line[2:36].strip(): line for line in lines if "CPU-s" in line}
    assert [*rows][:4] == ["network", "network + local search", "nearest neighbour", "farthest insertion"]
    lengths = {name: float(line[36:50]) for name, line in rows.items()}
    assert lengths["network + local search"] == 40  # around the rectangle, by whole numbers
    winners = [name for name, line in rows.items() if line.startswith("*")]
    assert len(winners) == 1 and lengths[winners[0]] == min(lengths.values())
    assert written[0].stat().st_size > 5000 and "TYPE : TOUR" in written[1].read_text()


@pytest.mark.parametrize(
    "text",
    ["1,1\n1,1\n", "2,2\n2,2\n2,2\n3,3\n3,3\n", "0,0\n1e9,1e9\n", "0,0\n0,1\n0,2\n"],
)
def test_points_in_one_place_or_line_have_tours(text, checkpoint, tmp_path):
    file = tmp_path / "points.csv"
    file.write_text(text)
    tour = solve(checkpoint[0], file, starts=9, seconds=0.0)
    assert sorted(tour) == [str(i + 1) for i in range(len(text.split()))]


def test_a_matrix_has_a_tour(checkpoint, tmp_path):
    file = tmp_path / "matrix.tsp"
    head = "NAME: m\nTYPE: TSP\nDIMENSION: 4\nEDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: UPPER_ROW\n"
    file.write_text(head + "EDGE_WEIGHT_SECTION\n9 1 9 9 1 1\n")
    assert len(solve(checkpoint[0], file, seconds=0.0, output=[tmp_path / "a.svg"])) == 4


def test_a_network_without_room_is_left_out_and_another_size_said(checkpoint, tmp_path, monkeypatch, caplog, capsys):
    file = tmp_path / "points.csv"
    file.write_text("".join(f"{i % 7},{i % 11}\n" for i in range(60)))
    monkeypatch.setattr("zoo.models.pointer_net.tours.finding.free_memory", lambda: 1e4)
    solve("pointer_net.tsp20", file, seconds=0.0)
    said = [record.getMessage() for record in caplog.records]
    assert any("was trained on 20 points" in text for text in said)
    assert any("it is left out" in text for text in said)
    assert "network" not in capsys.readouterr().out
    solve("pointer_net.tsp20", file, seconds=0.05)
    assert "farthest insertion, repaired by network" in capsys.readouterr().out


def test_the_help_names_the_networks_that_can_solve():
    models = pretrained(*ARCHS, fits=of_tours)
    assert "pointer_net.tsp20" in models and "sort10" not in models and "cvrp20" not in models


def test_what_cannot_be_solved(checkpoint, tmp_path, monkeypatch):
    file = tmp_path / "points.csv"
    file.write_text("1,2\n3,4\n")
    with pytest.raises(ZooError, match="not a pointer network for tours"):
        solve(checkpoint[1], file)
    with pytest.raises(ZooError, match="cannot read points"):
        solve(checkpoint[0], tmp_path)
    for arguments, message in (
        (["checkpoint=x"], "say which points"),
        (["speed=2"], "there is no option 'speed'"),
        (["starts=0"], "starts=0 is not valid"),
        (["symmetries=9"], "symmetries=9 is not valid"),
        (["seconds=-1"], "seconds=-1 is not valid"),
        (["seconds=inf"], "seconds=inf is not valid"),
        ([f"checkpoint={checkpoint[0]}", f"points={file}", "output="], "output= needs a value"),
        ([f"checkpoint={checkpoint[0]}", f"points={file}", "output=a.gif"], "its ending says what it is to be"),
        ([f"checkpoint={checkpoint[0]}", f"points={file}", f"output={tmp_path}/"], "its ending says what"),
    ):
        monkeypatch.setattr("sys.argv", ["solve.py", *arguments])
        with pytest.raises(SystemExit, match=message):
            main("solve")


def test_data_of_another_task_are_refused_in_an_evaluation(checkpoint):
    with pytest.raises(ZooError, match="is for TSP, the data are instances of Sorting"):
        evaluate(hub.read("pointer_net.tsp20"), {"data": "sort", "data.test_instances": 4})


def test_a_beam_wider_than_there_are_tours_finds_the_best():
    scores = evaluate(
        hub.read("pointer_net.tsp20"), {"data.size": 5, "data.test_instances": 50, "model.eval_beam": 100}
    )
    assert scores["validity"] == 1
    assert scores["beam_cost"] == pytest.approx(scores["best_cost"], rel=0.01) and scores["beam_cost"] > 2
